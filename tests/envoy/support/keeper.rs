//! Ends what this test process started, however it ends: statics are never dropped, and a test may be killed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Hears of processes as lines `+ PID` and `- PID`. When its input ends, so has the test process.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
running=
while read -r change pid; do
    others=
    for other in $running; do [ "$other" = "$pid" ] || others="$others $other"; done
    [ "$change" = + ] && running="$others $pid" || running=$others
done
for pid in $running; do kill -s KILL "$pid" 2>/dev/null; done
rm -rf "$1"
"#;

struct Keeper {
    /// Never waited for: it ends after this process.
    _script: Child,
    folder: PathBuf,
    input: Mutex<ChildStdin>,
}

static KEEPER: LazyLock<Keeper> = LazyLock::new(|| {
    let folder = tempfile::Builder::new().prefix("scoregate-e2e-").tempdir().unwrap().keep();
    let mut script = Command::new("sh")
        .args(["-c", SCRIPT, "keeper"])
        .arg(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let input = Mutex::new(script.stdin.take().unwrap());
    Keeper { _script: script, folder, input }
});

/// The folder of this run.
pub(super) fn folder() -> &'static Path {
    &KEEPER.folder
}

/// A process that must not outlive this one.
pub(super) fn started(pid: u32) {
    tell('+', pid);
}

/// A process that has ended: its id may be somebody else's from now on.
pub(super) fn ended(pid: u32) {
    tell('-', pid);
}

fn tell(change: char, pid: u32) {
    let mut input = KEEPER.input.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(input, "{change} {pid}").unwrap();
}
