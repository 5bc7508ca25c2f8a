//! A child process with its output in a file.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{keeper, new_path};

/// A running process. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a program, with these variables added to the environment.
    pub(crate) fn start(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        environment: &[(&str, &str)],
    ) -> Self {
        let log = new_path(&format!("{name}.log"));
        let output = File::create(&log).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        keeper::started(child.id());
        Self { name: name.to_owned(), child, log, ended: None }
    }

    /// What it has written so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, signal: &str) {
        assert!(self.ended.is_none(), "{} has ended", self.name);
        let kill = format!("kill -s {signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
    }

    /// What it holds in memory, in KiB; `None` where the system does not tell in Linux's way.
    pub(crate) fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        Some(line.trim_end_matches("kB").trim().parse().unwrap())
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
            if self.ended.is_some() {
                keeper::ended(self.child.id());
            }
        }
        self.ended
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < deadline, "{} still runs after {limit:?}:\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it says that it is ready, by whatever `probe` looks at. Its early end is a failure.
    pub(crate) fn wait_ready<T>(&mut self, mut probe: impl FnMut() -> Option<T>) -> T {
        super::wait_for(&self.name.clone(), Duration::from_secs(30), || {
            if let Some(status) = self.ended() {
                panic!("{} ended with {status}:\n{}", self.name, self.log());
            }
            probe()
        })
    }

    /// Ends it at once, without a chance to say good-bye.
    pub(crate) fn kill(&mut self) {
        if self.ended().is_none() {
            self.child.kill().unwrap();
            self.wait(Duration::from_secs(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
