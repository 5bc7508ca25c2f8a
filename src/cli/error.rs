//! What goes wrong with a command, and what to do about it.

use std::io;
use std::path::PathBuf;

use super::exit::Exit;

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The base URL cannot be one.
    #[error("`{url}` is no URL of a workspace: write it as `http://HOST:PORT` (--workspace, SCOREGATE_WORKSPACE)")]
    WorkspaceUrl {
        /// As it was given.
        url: String,
    },
    /// No credential was given.
    #[error(
        "no credential: set SCOREGATE_CREDENTIAL, or name its file with --credential-file \
         (the owner's is `owner-credential` in the workspace's data directory)"
    )]
    NoCredential,
    /// The credential has characters that no credential has.
    #[error("the credential has characters that cannot be sent: check SCOREGATE_CREDENTIAL or --credential-file")]
    OddCredential,
    /// A file that cannot be read.
    #[error("cannot read `{path}`", path = .path.display())]
    ReadFile {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The client cannot be set up.
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
    /// Nobody answers.
    #[error(
        "cannot reach the workspace at `{base}`: is `scoregate up` running there? \
         (SCOREGATE_WORKSPACE or --workspace says where it is)"
    )]
    Unreachable {
        /// Its base URL.
        base: String,
        /// What happened.
        #[source]
        source: reqwest::Error,
    },
    /// 401.
    #[error(
        "the workspace does not accept the credential: check SCOREGATE_CREDENTIAL or --credential-file \
         (a lost owner credential is replaced with `scoregate principal reset-owner`)"
    )]
    Unauthenticated,
    /// Another 4xx.
    #[error("the workspace refused (HTTP {status}): {message}")]
    Refused {
        /// The status.
        status: u16,
        /// In the workspace's words.
        message: String,
    },
    /// A status that is no answer to what was asked.
    #[error("the workspace at `{base}` failed (HTTP {status}): {message}")]
    Failed {
        /// Its base URL.
        base: String,
        /// The status.
        status: u16,
        /// In its words.
        message: String,
    },
    /// An answer that a workspace does not give.
    #[error("what answers at `{base}` is no scoregate workspace: {problem}")]
    NoWorkspace {
        /// Its base URL.
        base: String,
        /// What is odd.
        problem: &'static str,
    },
    /// It was done, but not confirmed by every gate.
    #[error("not confirmed by every gate: {0}")]
    NotEnforced(String),
    /// The output cannot be written.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

impl CliError {
    /// How the process is to end.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::WorkspaceUrl { .. } | Self::NoCredential | Self::OddCredential => Exit::Configuration,
            Self::Unauthenticated | Self::Refused { .. } => Exit::Refused,
            Self::NotEnforced(_) => Exit::NotEnforced,
            Self::ReadFile { .. }
            | Self::Client(_)
            | Self::Unreachable { .. }
            | Self::Failed { .. }
            | Self::NoWorkspace { .. }
            | Self::Output(_) => Exit::Failure,
        }
    }
}
