//! `scoregate policy`: policy files of gates without a workspace.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::exit::CliError;
use super::key::peppers;
use super::output::{hint, say};
use crate::causes::with_causes;
use crate::policy_file::{self, FixedPolicy, SCHEMA};
use crate::statement::TrustedPolicyKeys;
use crate::{config, gate};

/// Commands about policy files.
#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Check a file as `gate --policy` would, without starting anything
    Check(CheckArgs),
    /// Write the last good policy of a gate as a file for `gate --policy`: with key digests, without keys
    Export(ExportArgs),
    /// Print the JSON schema of policy files, for editors
    Schema,
}

/// Flags of `policy check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The file
    file: PathBuf,
    /// File with the pepper that key digests must be under; may be repeated [default: any pepper will do]
    #[arg(long, value_name = "FILE")]
    pepper_file: Vec<PathBuf>,
}

/// Flags of `policy export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The gate's data directory, or that of `up`; the gate may be running
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// File with a public policy key that must have signed it; may be repeated [default: the directory is believed]
    #[arg(long, value_name = "FILE")]
    policy_key_file: Vec<PathBuf>,
}

/// Carries it out.
///
/// # Errors
/// What the files or the output have against it.
pub(super) fn run(command: &PolicyCommand) -> Result<ExitCode, CliError> {
    match command {
        PolicyCommand::Check(args) => args.run(),
        PolicyCommand::Export(args) => args.run(),
        PolicyCommand::Schema => write(SCHEMA),
    }
    .map(|()| ExitCode::SUCCESS)
}

impl CheckArgs {
    fn run(&self) -> Result<(), CliError> {
        let peppers = peppers(&self.pepper_file)?;
        let policy = FixedPolicy::check(&self.file, peppers.as_ref())?;
        say(&policy.summary());
        Ok(())
    }
}

impl ExportArgs {
    fn run(&self) -> Result<(), CliError> {
        let keys = self.policy_key_file.iter().map(|path| config::policy_key_file(path));
        let keys: Vec<_> =
            keys.collect::<Result<_, _>>().map_err(|problem| CliError::failed(problem.to_string()))?;
        let snapshot =
            gate::last_good_policy(&gate_directory(&self.data_dir), TrustedPolicyKeys::new(keys).as_ref());
        let snapshot = snapshot.map_err(|error| CliError::failed(with_causes(&error)))?;
        let exported = policy_file::export(&snapshot).map_err(|error| CliError::failed(error.to_string()))?;
        exported.left_out.iter().for_each(|sentence| hint(&format!("warning: {sentence}")));
        write(&exported.yaml)
    }
}

/// `up` keeps its gate's state one level below.
fn gate_directory(data_dir: &Path) -> PathBuf {
    let below = data_dir.join("gate");
    if below.is_dir() { below } else { data_dir.to_owned() }
}

fn write(text: &str) -> Result<(), CliError> {
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}
