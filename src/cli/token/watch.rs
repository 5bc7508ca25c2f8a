//! `scoregate token get --watch`: keeps a fresh token in a file.
//!
//! The workspace is asked at the time to refresh, and each minute before: it hands the same token out again while that is
//! good, and another one at once when it revoked the first. While it is away, the token stays: it lives far longer.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use scoregate_authz::ServiceName;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{Content, issue, time};
use crate::backoff::Backoff;
use crate::cli::GlobalArgs;
use crate::cli::connection::ConnectionArgs;
use crate::cli::exit::CliError;
use crate::cli::serve::{ServeError, Signals, load};
use crate::clock::{Clock, SystemClock};
use crate::config::write_secret;
use crate::random;
use crate::telemetry;

/// Between two questions: at most, so that a revoked token is replaced soon; and at least, whatever the clocks say.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// Runs until a signal ends it; the token stays in the file.
///
/// # Errors
/// The file cannot be there or cannot be written, or the workspace refuses the first token. What comes later is logged,
/// and tried again.
pub(super) async fn run(
    global: &GlobalArgs,
    service: ServiceName,
    file: PathBuf,
    connection: ConnectionArgs,
) -> Result<(), CliError> {
    let failed = |source| ServeError::Io { what: "cannot wait for signals".to_owned(), source };
    let mut signals = Signals::new().map_err(failed)?;
    telemetry::start(&load(global, |sources| sources).map_err(ServeError::from)?.process);
    check_place(&file)?;
    let mut watch = Watch { service, file, connection, held: None };
    tokio::select! {
        ended = watch.keep() => ended.map(|never| match never {}),
        signal = signals.next() => {
            tracing::info!(signal, file = %watch.file.display(), "ends; the token stays in the file");
            Ok(())
        }
    }
}

/// What is there must be a file of its own: a link would be replaced, not what it leads to, and following it would write
/// a secret where somebody else says.
fn check_place(file: &Path) -> Result<(), CliError> {
    let no_place = |problem| Err(CliError::NoPlace { path: file.to_owned(), problem });
    let directory = match file.parent() {
        None => return no_place("is no name of a file"),
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    };
    if !directory.is_dir() {
        return no_place("cannot be written: its directory does not exist");
    }
    match file.symlink_metadata() {
        Ok(found) if found.is_symlink() => no_place("is a symbolic link: name the file itself"),
        Ok(found) if found.is_dir() => no_place("is a directory: name a file in it"),
        Ok(found) if !found.is_file() => no_place("is not a regular file"),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(CliError::WriteFile { path: file.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

struct Watch {
    service: ServiceName,
    file: PathBuf,
    connection: ConnectionArgs,
    /// What is in the file, once this process wrote it.
    held: Option<Held>,
}

struct Held {
    token: SecretString,
    /// As the workspace gave it.
    times: Value,
}

impl Held {
    fn seconds(&self, member: &str) -> Duration {
        Duration::from_secs(self.times[member].as_u64().unwrap_or_default())
    }

    fn time(&self, member: &str) -> String {
        time(&self.times[member])
    }
}

impl Watch {
    async fn keep(&mut self) -> Result<Infallible, CliError> {
        let mut backoff = Backoff::up_to(*INTERVALS.end());
        let mut failures = 0_u32;
        loop {
            let wait = match self.renew().await {
                Ok(()) => {
                    if std::mem::take(&mut failures) > 0 {
                        tracing::info!(service = %self.service, "the workspace gives tokens again");
                    }
                    backoff.reset();
                    self.until_next()
                }
                Err(error) if self.held.is_none() && !error.is_passing() => return Err(error),
                Err(error) => {
                    failures += 1;
                    let wait = backoff.next(random::fraction());
                    self.tell(&error, wait);
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks for a token, and writes it if it is another one. The credential is read anew, so that it can be replaced.
    async fn renew(&mut self) -> Result<(), CliError> {
        let (client, _) = self.connection.open().await?;
        let mut answer = issue(&client, &self.service, Content::Nothing).await?;
        let Value::String(token) = answer["accessToken"].take() else {
            return Err(CliError::failed("the workspace's answer has no token"));
        };
        let token = SecretString::from(token);
        let is_same = |held: &Held| held.token.expose_secret() == token.expose_secret();
        if self.held.as_ref().is_some_and(is_same) {
            return Ok(());
        }
        let failed = |source| CliError::WriteFile { path: self.file.clone(), source };
        write_secret(&self.file, token.expose_secret()).map_err(failed)?;
        let held = self.held.insert(Held { token, times: answer });
        let (expires, refresh_after) = (held.time("expiryOn"), held.time("refreshAfter"));
        tracing::info!(service = %self.service, file = %self.file.display(), expires, refresh_after, "token written");
        Ok(())
    }

    /// A tenth more or less: many watchers that began at one moment do not stay together.
    fn until_next(&self) -> Duration {
        let refresh_after = self.held.as_ref().map(|held| held.seconds("refreshAfter")).unwrap_or_default();
        let due = refresh_after.saturating_sub(SystemClock.now());
        due.clamp(*INTERVALS.start(), *INTERVALS.end()).mul_f64(0.9 + 0.2 * random::fraction())
    }

    fn tell(&self, error: &CliError, wait: Duration) {
        let token = self.fate(error);
        let error: &dyn std::error::Error = error;
        tracing::warn!(service = %self.service, error, token, retry_in = ?wait, "no new token");
    }

    /// What a failure means for the token in the file.
    fn fate(&self, error: &CliError) -> String {
        let Some(held) = &self.held else { return "none was written yet".to_owned() };
        match error {
            // There is no such service any more, or it is not in token mode.
            CliError::Refused { status: 404 | 409, .. } => "gates refuse the one in the file".to_owned(),
            _ if held.seconds("expiryOn") <= SystemClock.now() => {
                "the one in the file has expired".to_owned()
            }
            _ => format!("the one in the file is good until {}", held.time("expiryOn")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn place_of_a_file_is_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        symlink(at("file"), at("link")).unwrap();
        symlink(at("nothing"), at("dangling")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let cases = [
            ("new", None),
            ("file", None),
            ("directory", Some("is a directory: name a file in it")),
            ("link", Some("is a symbolic link: name the file itself")),
            ("dangling", Some("is a symbolic link: name the file itself")),
            ("socket", Some("is not a regular file")),
            ("missing/file", Some("cannot be written: its directory does not exist")),
        ];
        for (name, expected) in cases {
            let problem = match check_place(&at(name)) {
                Ok(()) => None,
                Err(CliError::NoPlace { problem, .. }) => Some(problem),
                Err(other) => panic!("{name}: {other}"),
            };
            assert_eq!(problem, expected, "{name}");
        }
        assert!(check_place(Path::new("here")).is_ok());
        assert!(check_place(Path::new("/")).is_err());
    }
}
