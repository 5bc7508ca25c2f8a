//! `scoregate principal reset-owner`: a new credential for whoever has the data directory.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use secrecy::ExposeSecret;

use super::GlobalArgs;
use super::output::say;
use super::serve::{ServeError, load};
use crate::clock::SystemClock;
use crate::config::{self, DataDir, write_secret};
use crate::metrics::Metrics;
use crate::workspace::{Origin, Workspace};

/// Flags of `principal reset-owner`.
#[derive(Debug, Args)]
pub(super) struct ResetOwnerArgs {
    /// Data directory of the workspace, which must not be running [default: ./scoregate-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
}

/// Replaces the owner's credential.
pub(super) fn run(global: &GlobalArgs, args: &ResetOwnerArgs) -> Result<ExitCode, ServeError> {
    let loaded = load(global, |sources| sources.flag("--data-dir", "data_dir", args.data_dir.clone()))?;
    let database = loaded.data_dir.join(config::DATABASE);
    if !database.exists() {
        let source = std::io::ErrorKind::NotFound.into();
        let what = format!("there is no workspace in `{}`", loaded.data_dir.display());
        return Err(ServeError::Io { what, source });
    }
    config::workspace_rehearsal(&loaded.shape, &loaded.sources, &loaded.data_dir)?;
    let data_dir = DataDir::lock(&loaded.data_dir).map_err(config::ConfigError::from)?;
    let config = config::workspace(&loaded.shape, &loaded.sources, &data_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let failed = |source| ServeError::Io { what: "cannot start a runtime".to_owned(), source };
    let credential = runtime.map_err(failed)?.block_on(async {
        let workspace = Workspace::open(&config, Arc::new(SystemClock), &Metrics::default()).await;
        let workspace = workspace.map_err(|error| ServeError::Workspace(error.into()))?;
        workspace.reset_owner(&Origin::local()).await.map_err(|error| ServeError::Workspace(error.into()))
    })?;
    let path = data_dir.path().join("owner-credential");
    write_secret(&path, credential.expose_secret())
        .map_err(|source| ServeError::Io { what: format!("cannot write `{}`", path.display()), source })?;
    say(&format!("the owner's new credential is in {}", path.display()));
    Ok(ExitCode::SUCCESS)
}
