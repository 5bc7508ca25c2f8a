//! `scoregate workspace backup`: a copy of the database, while the workspace runs or not.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::exit::CliError;
use crate::cli::output::say;
use crate::cli::serve::{ServeError, load};
use crate::cli::{GlobalArgs, on_runtime};
use crate::clock::{Clock, SystemClock};
use crate::config;
use crate::workspace::back_up;

/// Flags of `workspace backup`.
#[derive(Debug, Args)]
pub(in crate::cli) struct BackupArgs {
    /// File to write, with mode 0600: complete, or not there
    file: PathBuf,
    /// Data directory of the workspace, which may be running [default: ./scoregate-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Replace FILE if it is there
    #[arg(long)]
    overwrite: bool,
}

impl BackupArgs {
    /// Writes the backup.
    pub(in crate::cli) fn run(&self, global: &GlobalArgs) -> Result<ExitCode, CliError> {
        let loaded = load(global, |sources| sources.flag("--data-dir", "data_dir", self.data_dir.clone()));
        let loaded = loaded.map_err(ServeError::from)?;
        let config = config::workspace_as_it_is(&loaded.shape, &loaded.sources, &loaded.data_dir);
        let config = config.map_err(ServeError::from)?;
        let made = on_runtime(back_up(&config, &self.file, self.overwrite, SystemClock.now()))?;
        let made = made.map_err(|error| CliError::Backup(error.into()))?;
        say(&format!("backed up version {} to {} ({} bytes)", made.version, self.file.display(), made.bytes));
        say("master key, pepper and policy key are not in it: keep copies of them, and apart from it");
        Ok(ExitCode::SUCCESS)
    }
}
