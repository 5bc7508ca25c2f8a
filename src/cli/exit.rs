//! Exit codes: what a script can tell apart.

use std::process::ExitCode;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Success,
    /// 1: it failed: the workspace is out of reach or in trouble, a file cannot be read, a start did not succeed.
    Failure,
    /// 2: the command line is wrong. `clap` ends the process with it.
    Usage,
    /// 3: the workspace refused (4xx): the credential, the role, or what was asked for.
    Refused,
    /// 4: it was done, but not every gate confirmed in time that it enforces it.
    NotEnforced,
    /// 64: the configuration is wrong (`EX_USAGE` of `sysexits.h`).
    Configuration,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::NotEnforced => 4,
            Self::Configuration => 64,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}
