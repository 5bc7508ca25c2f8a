//! Which workspace a command speaks to, as whom, and how it shows what it hears.

use std::path::{Path, PathBuf};

use clap::Args;
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::client::{Client, Trust, is_exposed};
use super::exit::CliError;
use super::output::{OutputFormat, Printer};
use crate::config::without_user;

/// The environment variable that holds the credential itself.
const CREDENTIAL_VARIABLE: &str = "SCOREGATE_CREDENTIAL";

/// Flags of every command to a workspace.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct ConnectionArgs {
    /// Base URL of the workspace's REST, or `unix:PATH`
    #[arg(long, value_name = "URL", env = "SCOREGATE_WORKSPACE", default_value = "http://127.0.0.1:8181")]
    workspace: String,
    /// File with the credential [default: the credential in SCOREGATE_CREDENTIAL]
    #[arg(long, value_name = "FILE")]
    credential_file: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArgs,
    /// A table for people, JSON or JSON lines for programs
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Flags of every command that may speak TLS.
#[derive(Debug, Clone, Args)]
pub(super) struct TlsArgs {
    /// Certificate of the CA to trust for `https`, in PEM [default: those of the system]
    #[arg(long, value_name = "FILE", env = "SCOREGATE_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// Certificate to show where clients need one, in PEM
    #[arg(long, value_name = "FILE", env = "SCOREGATE_CERTIFICATE_FILE", requires = "key_file")]
    certificate_file: Option<PathBuf>,
    /// Its key, in PEM
    #[arg(long, value_name = "FILE", env = "SCOREGATE_KEY_FILE", requires = "certificate_file")]
    key_file: Option<PathBuf>,
    /// Send credentials to another machine over plain `http` too: the network itself is trusted
    #[arg(long, env = "SCOREGATE_INSECURE")]
    insecure: bool,
}

impl TlsArgs {
    /// Whom they trust, and what they prove.
    ///
    /// # Errors
    /// A file cannot be read or does not hold what it should.
    pub(super) fn trust(&self) -> Result<Trust, CliError> {
        let identity = self.certificate_file.as_deref().zip(self.key_file.as_deref());
        Trust::new(self.ca_file.as_deref(), identity)
    }

    /// Whether a credential may go there.
    ///
    /// # Errors
    /// Whoever is on the way could read it.
    pub(super) fn guard(&self, base: &str) -> Result<(), CliError> {
        if self.insecure || !is_exposed(base) {
            return Ok(());
        }
        Err(CliError::Exposed { base: without_user(base) })
    }
}

impl ConnectionArgs {
    /// Connects.
    ///
    /// # Errors
    /// No or a bad credential, a bad URL, or nobody there who accepts it.
    pub(super) async fn open(&self) -> Result<(Client, Printer), CliError> {
        let trust = self.tls.trust()?;
        self.tls.guard(&self.workspace)?;
        let credential = credential(self.credential_file.as_deref())?;
        let client = Client::connect(&self.workspace, &credential, trust).await?;
        Ok((client, Printer::new(self.output)))
    }
}

/// That of the file, or of the environment.
///
/// # Errors
/// There is none, or the file cannot be read.
pub(super) fn credential(file: Option<&Path>) -> Result<SecretString, CliError> {
    let text = match file {
        Some(path) => read_secret(path)?,
        None => Zeroizing::new(credential_variable().ok_or(CliError::NoCredential)?),
    };
    match text.trim() {
        "" => Err(CliError::NoCredential),
        credential => Ok(credential.into()),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "clap reads variables for flags only, and a secret is no flag: everybody sees command lines"
)]
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
