//! `scoregate workspace`: the control plane by itself.

mod backup;
mod restore;

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use secrecy::ExposeSecret;

use super::GlobalArgs;
use super::exit::CliError;
use super::serve::{Addresses, Process, ServeArgs, ServeError, load, until_ready, url_of};
use crate::admin::{self, Health};
use crate::config::{self, DataDir, Sources, WorkspaceConfig, write_secret};
use crate::listen::{ListenAddress, Listener};
use crate::workspace::http::{self, PublicUrls};
use crate::workspace::{Workspace, WorkspaceError};

/// Flags of `workspace`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct WorkspaceArgs {
    #[command(subcommand)]
    command: Option<WorkspaceCommand>,
    #[command(flatten)]
    serve: ServeArgs,
    #[command(flatten)]
    workspace: WorkspaceFlags,
}

/// Flags of commands that run a workspace.
#[derive(Debug, Args)]
pub(super) struct WorkspaceFlags {
    /// Address of the workspace's REST [default: 127.0.0.1:8181]
    #[arg(long, value_name = "ADDR")]
    workspace_listen: Option<String>,
    /// Address of the policy feed [default: 127.0.0.1:9193]
    #[arg(long, value_name = "ADDR")]
    feed_listen: Option<String>,
    /// Public address of Envoy, from which scoring URIs are made
    #[arg(long, value_name = "URL")]
    scoring_base_url: Option<String>,
}

impl WorkspaceFlags {
    /// Adds these flags to the sources of configuration.
    pub(super) fn apply(&self, sources: Sources) -> Sources {
        sources
            .flag("--workspace-listen", "workspace.listen", self.workspace_listen.clone())
            .flag("--feed-listen", "workspace.feed_listen", self.feed_listen.clone())
            .flag("--scoring-base-url", "workspace.scoring_base_url", self.scoring_base_url.clone())
    }
}

/// What is done with a workspace that this process does not run.
#[derive(Debug, Subcommand)]
enum WorkspaceCommand {
    /// Copy the database to a file, while the workspace runs or not
    Backup(backup::BackupArgs),
    /// Make a workspace from a backup, at a new epoch that gates follow
    Restore(restore::RestoreArgs),
}

/// Does what is asked for, or runs the workspace.
pub(super) fn run(global: &GlobalArgs, mut args: WorkspaceArgs) -> Result<ExitCode, CliError> {
    match args.command.take() {
        Some(WorkspaceCommand::Backup(command)) => command.run(global),
        Some(WorkspaceCommand::Restore(command)) => command.run(global),
        None => Ok(serve(global, &args)?),
    }
}

/// Runs until a signal ends it.
fn serve(global: &GlobalArgs, args: &WorkspaceArgs) -> Result<ExitCode, ServeError> {
    let loaded = load(global, |sources| args.workspace.apply(args.serve.apply(sources)))?;
    let rehearsal = config::workspace_rehearsal(&loaded.shape, &loaded.sources, &loaded.data_dir)?;
    let data_dir = DataDir::lock(&loaded.data_dir).map_err(config::ConfigError::from)?;
    Process::run(&loaded.process, async |process: Process| {
        let admin = Listener::bind(&rehearsal.admin_listen).await?;
        let listeners = WorkspaceListeners::bind(&rehearsal).await?;
        let config = config::workspace(&loaded.shape, &loaded.sources, &data_dir)?;
        let workspace = start_workspace(&config, listeners, &process).await?;
        let addresses =
            Addresses { admin: url_of(admin.address(), config.admin_tls.is_some()), ..workspace.addresses() };
        process.metrics.add_certificate("admin", config.admin_tls.as_ref());
        let routes = admin::router(workspace.health.clone(), process.metrics.clone());
        process.shutdown.spawn(admin::serve(
            admin,
            config.admin_tls.clone(),
            routes,
            process.shutdown.clone(),
        ));
        until_ready(&workspace.health).await;
        if let Some(file) = &args.serve.addresses_file {
            addresses.write(file)?;
        }
        addresses.show();
        Ok(())
    })
}

/// A workspace that serves.
pub(super) struct RunningWorkspace {
    /// It.
    pub workspace: Workspace,
    /// Whether it is ready.
    pub health: Health,
    /// Base URL of its REST.
    pub url: String,
    /// URL of its discovery document.
    pub discovery: String,
    /// Where its feed listens.
    pub feed: ListenAddress,
}

impl RunningWorkspace {
    /// All but the admin listener's.
    pub(super) fn addresses(&self) -> Addresses {
        Addresses {
            feed: Some(self.feed.to_string()),
            workspace: Some(self.url.clone()),
            workspace_scope: Some(self.workspace.scope().to_string()),
            discovery: Some(self.discovery.clone()),
            ..Addresses::default()
        }
    }
}

/// The sockets of a workspace, bound before it makes anything.
pub(super) struct WorkspaceListeners {
    rest: Listener,
    feed: Listener,
}

impl WorkspaceListeners {
    /// Binds them.
    pub(super) async fn bind(config: &WorkspaceConfig) -> Result<Self, ServeError> {
        let rest = Listener::bind(&config.workspace_listen).await?;
        Ok(Self { rest, feed: Listener::bind(&config.feed_listen).await? })
    }
}

/// Opens the workspace and serves it.
pub(super) async fn start_workspace(
    config: &WorkspaceConfig,
    WorkspaceListeners { rest, feed }: WorkspaceListeners,
    process: &Process,
) -> Result<RunningWorkspace, ServeError> {
    let workspace = Workspace::open(config, process.clock.clone(), &process.metrics).await;
    let workspace = workspace.map_err(|error| ServeError::Workspace(error.into()))?;
    write_owner_credential(&workspace, &config.data_dir).await?;
    write_policy_key(config)?;
    let health = Health::not_ready("the workspace is starting").await;
    let url = config.public_url.clone().unwrap_or_else(|| url_of(rest.address(), config.tls.is_some()));
    let urls = PublicUrls { base: url.clone(), scoring_base: config.scoring_base_url.clone() };
    let discovery = urls.discovery(workspace.id());
    let router = http::router(workspace.clone(), urls);
    let feed_address = feed.address().clone();
    process.metrics.add_certificate("workspace", config.tls.as_ref());
    process.metrics.add_certificate("feed", config.feed_tls.as_ref());
    let shutdown = process.shutdown.clone();
    process.shutdown.spawn(http::serve(rest, config.tls.clone(), router, shutdown.clone()));
    process.shutdown.spawn({
        let (workspace, health) = (workspace.clone(), health.clone());
        let tls = config.feed_tls.clone();
        async move { workspace.run(feed, tls, health, shutdown).await }
    });
    Ok(RunningWorkspace { workspace, health, url, discovery, feed: feed_address })
}

async fn write_owner_credential(workspace: &Workspace, data_dir: &Path) -> Result<(), ServeError> {
    let made = workspace.ensure_owner().await;
    let Some(credential) = made.map_err(|error: WorkspaceError| ServeError::Workspace(error.into()))? else {
        return Ok(());
    };
    let path = data_dir.join("owner-credential");
    write_secret(&path, credential.expose_secret())
        .map_err(|source| ServeError::Io { what: format!("cannot write `{}`", path.display()), source })
}

/// For operators to give to gates. It is no secret, and anew at each start: the key may be another one.
fn write_policy_key(config: &WorkspaceConfig) -> Result<(), ServeError> {
    let path = config.data_dir.join("policy-key.pub");
    let public = config.policy_key.public();
    tracing::info!(policy_key = public.id(), file = %path.display(), "gates need the public policy key");
    std::fs::write(&path, public.to_pem())
        .map_err(|source| ServeError::Io { what: format!("cannot write `{}`", path.display()), source })
}
