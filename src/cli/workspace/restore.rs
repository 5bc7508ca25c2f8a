//! `scoregate workspace restore`: a workspace from a backup.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::exit::CliError;
use crate::cli::output::say;
use crate::cli::serve::{ServeError, load};
use crate::cli::{GlobalArgs, on_runtime};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, DataDir};
use crate::workspace::{Restore, Restored};

/// Largest epoch that JSON's readers do not round.
const MAX_EPOCH: u64 = 1 << 53;

/// Flags of `workspace restore`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RestoreArgs {
    /// The backup
    file: PathBuf,
    /// Data directory for the workspace, with the master key, pepper and policy key of the one that was backed up, unless
    /// they are configured [default: ./scoregate-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Put it in the place of the workspace that is there, whose database is kept in a folder beside
    #[arg(long)]
    replace: bool,
    /// Leave tokens good that were issued until now, and with them those that were revoked after the backup
    #[arg(long)]
    keep_tokens: bool,
    /// Make the new epoch higher than this one, as well. Needed only where gates refuse the restored workspace as going
    /// backwards, because a clock was ahead at an earlier restore
    #[arg(long, value_name = "EPOCH", value_parser = clap::value_parser!(u64).range(..MAX_EPOCH))]
    epoch_above: Option<u64>,
}

impl RestoreArgs {
    /// Restores.
    pub(in crate::cli) fn run(self, global: &GlobalArgs) -> Result<ExitCode, CliError> {
        let loaded = load(global, |sources| sources.flag("--data-dir", "data_dir", self.data_dir.clone()));
        let loaded = loaded.map_err(ServeError::from)?;
        let config = config::workspace_as_it_is(&loaded.shape, &loaded.sources, &loaded.data_dir);
        let config = config.map_err(ServeError::from)?;
        let _lock =
            DataDir::lock(&loaded.data_dir).map_err(config::ConfigError::from).map_err(ServeError::from)?;
        let Self { file, replace, keep_tokens, epoch_above, .. } = self;
        let restore = Restore { file, replace, keep_tokens, epoch_above };
        let restored = on_runtime(restore.run(&config, SystemClock.now()))?;
        let restored = restored.map_err(|error| CliError::Backup(error.into()))?;
        tell(&restored, keep_tokens);
        Ok(ExitCode::SUCCESS)
    }
}

fn tell(restored: &Restored, keep_tokens: bool) {
    let Restored { version, backed_up, made_at, services, .. } = restored;
    say(&format!(
        "restored {services} services as of version {backed_up}, {made_at}; now at version {version}"
    ));
    say("keys and principals are those of the backup: what was regenerated or deleted since has come back");
    say(match keep_tokens {
        true => "tokens are kept: those that were revoked since the backup may be good again",
        false => "tokens that were issued before now are refused: clients fetch new ones",
    });
    if let Some(folder) = &restored.replaced {
        say(&format!("the database that was there is in {}", folder.display()));
    }
    if let Some(id) = &restored.other_policy_key {
        say(&format!(
            "the policy key is not `{id}`, which the workspace had: gates must trust the one that is configured now"
        ));
    }
}
