//! Which workspace a command speaks to, and as whom.

use std::path::{Path, PathBuf};

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::error::CliError;
use super::output::Format;

/// The environment variable that holds the credential itself.
pub const CREDENTIAL_VARIABLE: &str = "SCOREGATE_CREDENTIAL";

/// Arguments that every command to a workspace takes, before or after its own.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// Base URL of the workspace's REST
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "SCOREGATE_WORKSPACE",
        default_value = "http://127.0.0.1:8181"
    )]
    pub workspace: String,
    /// File with the credential; without it, `SCOREGATE_CREDENTIAL` has the credential itself
    #[arg(long, global = true, value_name = "FILE")]
    pub credential_file: Option<PathBuf>,
    /// Tables for people, JSON for programs
    #[arg(long, global = true, value_enum, default_value_t)]
    pub output: Format,
}

impl ConnectionArgs {
    /// The credential of the file, or of the environment.
    ///
    /// # Errors
    /// There is none, or the file cannot be read.
    pub(super) fn credential(&self) -> Result<SecretString, CliError> {
        let text = match &self.credential_file {
            Some(path) => read_secret(path)?,
            None => Zeroizing::new(credential_variable().ok_or(CliError::NoCredential)?),
        };
        match text.trim() {
            "" => Err(CliError::NoCredential),
            credential => Ok(credential.into()),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "clap reads variables for flags only, and a secret is no flag: \
    the command lines of all processes are there for everybody to see")]
fn credential_variable() -> Option<String> {
    std::env::var(CREDENTIAL_VARIABLE).ok()
}

/// A file's text, which is a secret.
///
/// # Errors
/// The file cannot be read.
pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<String>, CliError> {
    let text = std::fs::read_to_string(path);
    text.map(Zeroizing::new).map_err(|source| CliError::ReadFile { path: path.into(), source })
}
