//! `scoregate config check`: what a start would find, without a start.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use secrecy::SecretString;

use super::GlobalArgs;
use super::output::{hint, say};
use super::serve::{ServeError, load};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Embedded};

/// Commands about configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Read file and environment, check every value, and show what is in force
    Check(CheckArgs),
}

/// Flags of `config check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Check what a gate by itself needs too: its credential and pepper files
    #[arg(long)]
    gate: bool,
}

/// Checks it.
pub(super) fn run(global: &GlobalArgs, command: &ConfigCommand) -> Result<ExitCode, ServeError> {
    let ConfigCommand::Check(args) = command;
    let loaded = load(global, |sources| sources)?;
    let workspace = config::workspace_rehearsal(&loaded.shape, &loaded.sources, &loaded.data_dir)?;
    let is_by_itself = args.gate || cfg!(not(feature = "workspace"));
    let embedded = (!is_by_itself).then(|| Embedded {
        credential: SecretString::default(),
        policy_key: workspace.policy_key.public(),
        pepper: workspace.pepper,
    });
    config::gate(&loaded.shape, &loaded.sources, &loaded.data_dir, embedded)?;
    say(&serde_json::to_string_pretty(&loaded.shape).unwrap_or_default());
    if let Some(problem) = workspace.tls.and_then(|tls| tls.untimely(SystemClock.now())) {
        hint(&format!("warning: `workspace.tls.certificate_file`: {problem}"));
    }
    Ok(ExitCode::SUCCESS)
}
