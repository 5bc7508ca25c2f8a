//! `scoregate token get --watch`, against a workspace that is a process of its own and comes and goes.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(30);

/// A directory with a workspace in it, whose tokens are to be refreshed each second.
struct Place {
    directory: TempDir,
    workspace: Option<Child>,
}

impl Place {
    /// With a service `svc` in token mode.
    async fn new() -> Self {
        let mut place = Self { directory: tempfile::tempdir().unwrap(), workspace: None };
        place.start().await;
        place.run(&["service", "create", "svc", "--auth", "token"]).await;
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scoregate"));
        command.args(arguments).env_clear().current_dir(self.directory.path()).kill_on_drop(true);
        command
    }

    async fn start(&mut self) {
        let mut command = self.command(&["workspace", "--addresses-file", "addresses"]);
        for listener in ["workspace", "feed", "admin"] {
            command.args([format!("--{listener}-listen"), format!("unix:{listener}")]);
        }
        command.env("SCOREGATE__WORKSPACE__TOKEN_REFRESH_AFTER", "1s");
        command.env("SCOREGATE__SHUTDOWN__DRAIN_DELAY", "0s");
        self.workspace = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("the workspace is ready", || self.path("addresses").exists()).await;
    }

    async fn stop(&mut self) {
        assert!(end(self.workspace.take().unwrap()).await.success());
        fs::remove_file(self.path("addresses")).unwrap();
    }

    fn connected(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command.args(["--workspace", "unix:workspace"]);
        command.args(["--credential-file", "scoregate-data/owner-credential"]);
        command
    }

    async fn run(&self, arguments: &[&str]) {
        let output = self.connected(arguments).output().await.unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn watch(&self, file: &str) -> Command {
        let mut command = self.connected(&["token", "get", "svc", "--watch", file]);
        command.stderr(File::create(self.path("log")).unwrap());
        command
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    async fn until_logged(&self, text: &str) {
        let logged = tokio::time::timeout(PATIENCE, async {
            while !self.log().contains(text) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(logged.await.is_ok(), "`{text}` is not in the log:\n{}", self.log());
    }

    /// Waits for a token that is not this one.
    async fn token_after(&self, before: &str) -> String {
        let read = || fs::read_to_string(self.path("token")).unwrap_or_default();
        until("another token is in the file", || !read().is_empty() && read() != before).await;
        read()
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited for: {what}"));
}

/// Sends SIGTERM.
async fn end(mut process: Child) -> ExitStatus {
    let id = process.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    process.wait().await.unwrap()
}

fn is_token(text: &str) -> bool {
    let parts: Vec<_> = text.split('.').collect();
    // An ES256 signature is 64 bytes: one that is cut short shows.
    parts.len() == 3 && parts[2].len() == 86
}

/// Reads a file without a pause until it is told to stop; returns how many reads there were, and the first that was no
/// whole token.
fn read_on(file: PathBuf, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<(u64, Option<String>)> {
    std::thread::spawn(move || {
        let mut reads = 0;
        while !stop.load(Ordering::Relaxed) {
            let text = fs::read_to_string(&file).unwrap_or_else(|error| error.to_string());
            if !is_token(&text) {
                return (reads, Some(text));
            }
            reads += 1;
        }
        (reads, None)
    })
}

#[tokio::test]
async fn watch_replaces_the_token_at_its_time_and_never_shows_half_of_one() {
    let place = Place::new().await;
    let watch = place.watch("token").spawn().unwrap();
    let mut token = place.token_after("").await;
    let stop = Arc::new(AtomicBool::new(false));
    let reader = read_on(place.path("token"), stop.clone());
    for _ in 0..3 {
        token = place.token_after(&token).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (reads, broken) = reader.join().unwrap();
    assert_eq!(broken, None);
    assert!(reads > 100, "{reads} reads");

    assert!(end(watch).await.success());
    assert!(is_token(&fs::read_to_string(place.path("token")).unwrap()), "the last token stays");
    let mode = fs::metadata(place.path("token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let names = fs::read_dir(place.directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains(".new")).collect();
    assert!(left.is_empty(), "{left:?}");
    let log = place.log();
    assert!(log.matches("token written").count() >= 4, "{log}");
    assert!(!log.contains(&token), "a token in the log");
}

#[tokio::test]
async fn watch_keeps_the_token_while_the_workspace_is_away() {
    let mut place = Place::new().await;
    let watch = place.watch("token").spawn().unwrap();
    place.token_after("").await;
    place.stop().await;
    place.until_logged("no new token").await;
    place.until_logged("the one in the file is good until").await;
    let held = fs::read_to_string(place.path("token")).unwrap();
    assert!(is_token(&held));
    place.start().await;
    place.token_after(&held).await;
    place.until_logged("the workspace gives tokens again").await;
    assert!(end(watch).await.success());
}

#[tokio::test]
async fn watch_may_begin_before_the_workspace() {
    let mut place = Place::new().await;
    place.stop().await;
    let watch = place.watch("token").spawn().unwrap();
    place.until_logged("none was written yet").await;
    assert!(!place.path("token").exists());
    place.start().await;
    place.token_after("").await;
    assert!(end(watch).await.success());
}

#[tokio::test]
async fn watch_says_when_gates_refuse_what_is_in_the_file() {
    let place = Place::new().await;
    let watch = place.watch("token").spawn().unwrap();
    place.token_after("").await;
    place.run(&["service", "update", "svc", "--auth", "key"]).await;
    place.until_logged("gates refuse the one in the file").await;
    let refused = fs::read_to_string(place.path("token")).unwrap();
    place.run(&["service", "update", "svc", "--auth", "token"]).await;
    place.token_after(&refused).await;
    assert!(end(watch).await.success());
}

/// A wrong place is a wrong configuration; what the workspace refuses at the beginning it will refuse later.
#[tokio::test]
async fn watch_that_cannot_begin_ends_and_says_why() {
    let place = Place::new().await;
    fs::create_dir(place.path("directory")).unwrap();
    std::os::unix::fs::symlink("elsewhere", place.path("link")).unwrap();
    place.run(&["service", "create", "keyed"]).await;
    fs::write(place.path("wrong"), "not-a-credential").unwrap();

    let watching = |service: &str, file: &str| place.connected(&["token", "get", service, "--watch", file]);
    let mut nobody = place.command(&["token", "get", "svc", "--watch", "token"]);
    nobody.args(["--workspace", "unix:workspace", "--credential-file", "wrong"]);
    let mut short = watching("svc", "token");
    short.args(["--expires-in", "2s"]);
    let cases = [
        (watching("svc", "missing/token"), 64, "its directory does not exist"),
        (watching("svc", "directory"), 64, "is a directory"),
        (watching("svc", "link"), 64, "is a symbolic link"),
        (watching("none", "token"), 3, "no service is named `none`"),
        (watching("keyed", "token"), 3, "it has no tokens"),
        (nobody, 3, "does not accept the credential"),
        (short, 2, "cannot be used with"),
    ];
    for (mut command, code, part) in cases {
        let output = command.output().await.unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{command:?}: {message}");
        assert!(message.contains(part), "{command:?}: {message}");
        assert!(!place.path("token").exists(), "{command:?}");
    }
}

#[tokio::test]
async fn watch_that_cannot_write_ends_at_the_first_token() {
    let place = Place::new().await;
    // As long as a name may be, so that its neighbour's is too long: permissions do not hold root back.
    let file = "x".repeat(255);
    let output = place.connected(&["token", "get", "svc", "--watch", &file]).output().await.unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("cannot write `xxx"), "{message}");
    assert!(!place.path(&file).exists());
}
