//! How a command ends: what went wrong, what to do about it, and the exit code that a script can tell apart.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use super::serve::ServeError;
use crate::policy_file::FileError;
use crate::render::RenderError;

/// Exit codes, beside 0 for what was done and `clap`'s 2 for a wrong command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// 1: it failed: the workspace is out of reach or in trouble, a file cannot be read, a start did not succeed.
    Failure,
    /// 3: the workspace refused (4xx), or would have: the credential, the role, or what was asked for.
    Refused,
    /// 4: it was done, but not every gate confirmed in time that it enforces it.
    NotEnforced,
    /// 5: what was compared is different.
    Different,
    /// 64: the configuration is wrong (`EX_USAGE` of `sysexits.h`), or a policy file is.
    Configuration,
}

impl Exit {
    /// The number.
    #[must_use]
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Failure => 1,
            Self::Refused => 3,
            Self::NotEnforced => 4,
            Self::Different => 5,
            Self::Configuration => 64,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A long-running command.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A backup was not made, or not restored.
    #[error(transparent)]
    Backup(Box<dyn Error + Send + Sync>),
    /// The base URL cannot be one.
    #[error(
        "`{url}` is no URL of a workspace: write it as `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH` \
         (--workspace or SCOREGATE_WORKSPACE)"
    )]
    WorkspaceUrl {
        /// As it was given.
        url: String,
    },
    /// A credential would go over the network as it is.
    #[error(
        "`{base}` is on another machine and without TLS, and whoever is on the way could read the credential: use https, \
         or --insecure (SCOREGATE_INSECURE=true) if the network itself is trusted"
    )]
    Exposed {
        /// Where to.
        base: String,
    },
    /// The URL of an admin listener cannot be one.
    #[error(
        "`{url}` is no URL of an admin listener: write it as `http://HOST:PORT` or `unix:PATH` \
         (--admin or SCOREGATE_ADMIN)"
    )]
    AdminUrl {
        /// As it was given.
        url: String,
    },
    /// `doctor` was told nothing.
    #[error(
        "nothing to look at: say where the workspace (--workspace), gates (--admin), Envoy (--envoy-admin) or a service \
         (--scoring-url) are"
    )]
    NothingToLookAt,
    /// No credential was given.
    #[error(
        "no credential: set SCOREGATE_CREDENTIAL, or name its file with --credential-file \
         (the owner's is `owner-credential` in the workspace's data directory)"
    )]
    NoCredential,
    /// The credential has characters that no credential has.
    #[error("the credential cannot be sent as it is: check SCOREGATE_CREDENTIAL or --credential-file")]
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
    /// A file that cannot be where it is wanted.
    #[error("`{path}` {problem}", path = .path.display())]
    NoPlace {
        /// Where.
        path: PathBuf,
        /// Why not.
        problem: &'static str,
    },
    /// A file that cannot be written.
    #[error("cannot write `{path}`", path = .path.display())]
    WriteFile {
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
         (--workspace or SCOREGATE_WORKSPACE says where it is, and whether by `http` or `https`)"
    )]
    Unreachable {
        /// Its base URL.
        base: String,
        /// What happened.
        #[source]
        source: reqwest::Error,
    },
    /// Somebody answers, whose certificate no trusted CA signed, or for another name, or for another time.
    #[error(
        "the certificate of `{base}` is not trusted: --ca-file or SCOREGATE_CA_FILE names the CA that signed it, if that \
         is not a public one"
    )]
    Untrusted {
        /// The workspace's base URL.
        base: String,
        /// What is wrong with the certificate.
        #[source]
        source: reqwest::Error,
    },
    /// A file of CAs that has none.
    #[error("`{path}` holds no certificate in PEM (--ca-file or SCOREGATE_CA_FILE)", path = .path.display())]
    CaFile {
        /// Which.
        path: PathBuf,
    },
    /// A certificate and key that are not in PEM.
    #[error("the file `{}` and its key file do not hold a certificate and a key in PEM", path.display())]
    IdentityFiles {
        /// The certificate's.
        path: PathBuf,
    },
    /// What cannot be the name of anything, since no path could have it in it.
    #[error("nothing can have the name `{0}`")]
    NoName(String),
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
    Trouble {
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
    /// A policy file that cannot be used. Nothing was done.
    #[error(transparent)]
    PolicyFile(#[from] FileError),
    /// Routes cannot be written.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The workspace is not as the files say. No failure: the answer to a question.
    #[error("the workspace is not as the files say")]
    Different,
    /// Some of many changes were done.
    #[error("stopped: of {all} changes, {left} are not done, or not known to be done; they are listed above")]
    Unfinished {
        /// How many are left.
        left: usize,
        /// How many there were.
        all: usize,
        /// What stopped it.
        #[source]
        source: Box<CliError>,
    },
    /// The output cannot be written.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
    /// Anything else, in words.
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    /// A failure that words say best.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// How the process is to end.
    #[must_use]
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Serve(ServeError::Config(_))
            | Self::WorkspaceUrl { .. }
            | Self::Exposed { .. }
            | Self::AdminUrl { .. }
            | Self::NoPlace { .. }
            | Self::NothingToLookAt
            | Self::NoCredential
            | Self::OddCredential
            | Self::PolicyFile(_)
            | Self::Render(_)
            | Self::CaFile { .. }
            | Self::IdentityFiles { .. } => Exit::Configuration,
            Self::Unauthenticated | Self::NoName(_) | Self::Refused { .. } => Exit::Refused,
            Self::NotEnforced(_) => Exit::NotEnforced,
            Self::Different => Exit::Different,
            Self::Unfinished { source, .. } => source.exit(),
            Self::Serve(_)
            | Self::Backup(_)
            | Self::ReadFile { .. }
            | Self::WriteFile { .. }
            | Self::Client(_)
            | Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::Trouble { .. }
            | Self::NoWorkspace { .. }
            | Self::Output(_)
            | Self::Failed(_) => Exit::Failure,
        }
    }

    /// Whether nobody reads the output any more, as after `| head`. What the command is for was done.
    #[must_use]
    pub(super) fn is_unread(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether the same may work later, with nobody doing anything about it.
    #[must_use]
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Trouble { .. } => true,
            // Too slow, or too many.
            Self::Refused { status, .. } => matches!(status, 408 | 429),
            _ => false,
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::NotEnforced(_) => "\n  what helps: `scoregate gate list` shows what each gate enforces",
            Self::Trouble { status: 503, .. } => {
                "\n  what helps: the workspace's log, and `/readyz` of its admin listener, say why; the same may be done again later"
            }
            _ => "",
        }
    }

    /// Tells the person at the terminal, causes included, and says how to end.
    #[must_use]
    #[expect(clippy::print_stderr, reason = "this is the one place where a command's error is shown")]
    pub(super) fn report(&self) -> ExitCode {
        if matches!(self, Self::Different) {
            return self.exit().into();
        }
        let causes = std::iter::successors(self.source(), |error| (*error).source());
        let causes: String = causes.map(|cause| format!("\n  because: {cause}")).collect();
        eprintln!("error: {self}{causes}{}", self.advice());
        self.exit().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_readme() {
        let all = [
            (Exit::Failure, 1),
            (Exit::Refused, 3),
            (Exit::NotEnforced, 4),
            (Exit::Different, 5),
            (Exit::Configuration, 64),
        ];
        for (exit, code) in all {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }
}
