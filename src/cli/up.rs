//! `scoregate up`: workspace and gate in one process.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use secrecy::{ExposeSecret, SecretString};

use super::GlobalArgs;
use super::gate::{bind, start_gate, without_policy};
use super::output::say;
use super::serve::{Addresses, GateFlags, Loaded, Process, ServeArgs, ServeError, load, until_ready};
use super::workspace::{RunningWorkspace, WorkspaceFlags, WorkspaceListeners, start_workspace};
use crate::config::{self, DataDir, Embedded, Problem, WorkspaceConfig, write_secret};
use crate::listen::{ListenAddress, Listener};
use crate::workspace::{Origin, Role, Workspace, WorkspaceError};

/// Flags of `up`.
#[derive(Debug, Args)]
pub(super) struct UpArgs {
    #[command(flatten)]
    serve: ServeArgs,
    #[command(flatten)]
    workspace: WorkspaceFlags,
    #[command(flatten)]
    gate: GateFlags,
}

/// Name of the principal of the gate in this process.
const OWN_GATE: &str = "up-gate";

/// Runs until a signal ends it.
pub(super) fn run(global: &GlobalArgs, args: &UpArgs) -> Result<ExitCode, ServeError> {
    let loaded = load(global, |sources| args.gate.apply(args.workspace.apply(args.serve.apply(sources))))?;
    let rehearsal = config::workspace_rehearsal(&loaded.shape, &loaded.sources, &loaded.data_dir)?;
    if rehearsal.feed_tls.is_some() && loaded.shape.gate.feed_tls.ca_file.is_none() {
        let missing =
            Problem::Missing("the CA of `workspace.feed_tls`: the gate of this process connects to it, too");
        return Err(loaded.sources.error("gate.feed_tls.ca_file", missing).into());
    }
    // Its credential is not there before the workspace is.
    let gate_rehearsal = gate_config(&loaded, SecretString::default(), &rehearsal)?;
    let data_dir = DataDir::lock(&loaded.data_dir).map_err(config::ConfigError::from)?;
    Process::run(&loaded.process, async |process: Process| {
        // All sockets before any secret or database is made: a start that fails on one leaves none behind.
        let admin = Listener::bind(&rehearsal.admin_listen).await?;
        let listeners = WorkspaceListeners::bind(&rehearsal).await?;
        let sockets = bind(&gate_rehearsal).await?;
        let config = config::workspace(&loaded.shape, &loaded.sources, &data_dir)?;
        let workspace = start_workspace(&config, listeners, &process).await?;
        let credential = own_credential(&workspace.workspace, data_dir.path()).await?;
        let mut gate_config = gate_config(&loaded, credential, &config)?;
        gate_config.feed = connectable(&workspace.feed).into();
        // The process is ready when its gate is, which has its policy from the workspace.
        let health = without_policy().await.with_remarks_of(&workspace.health);
        let gate = start_gate(gate_config, sockets, admin, health, &process).await?;
        until_ready(&gate.health).await;
        let addresses = Addresses {
            ext_authz: gate.check_ports.first().cloned(),
            ext_authz_all: gate.check_ports,
            admin: gate.admin,
            peers: gate.peers,
            ..workspace.addresses()
        };
        if let Some(file) = &args.serve.addresses_file {
            addresses.write(file)?;
        }
        addresses.show();
        show_next_step(&workspace, data_dir.path());
        Ok(())
    })
}

fn gate_config(
    loaded: &Loaded,
    credential: SecretString,
    workspace: &WorkspaceConfig,
) -> Result<config::GateConfig, config::ConfigError> {
    let own = loaded.data_dir.join("gate");
    let (pepper, policy_key) = (workspace.pepper.clone(), workspace.policy_key.public());
    let embedded = Embedded { credential, pepper, policy_key };
    config::gate(&loaded.shape, &loaded.sources, &own, Some(embedded))
}

/// The credential of the gate in this process, made where it is missing or not accepted any more: somebody may have
/// deleted the principal or the database.
async fn own_credential(workspace: &Workspace, data_dir: &Path) -> Result<SecretString, ServeError> {
    let path = data_dir.join("gate-credential");
    let failed = |error: WorkspaceError| ServeError::Workspace(error.into());
    if let Ok(text) = std::fs::read_to_string(&path) {
        let kept = SecretString::from(text);
        let principal = workspace.authenticate(kept.expose_secret());
        if principal.is_some_and(|principal| principal.role == Role::Gate) {
            return Ok(kept);
        }
    }
    match workspace.delete_principal(&Origin::local(), OWN_GATE).await {
        Ok(()) | Err(WorkspaceError::UnknownPrincipal(_)) => {}
        Err(error) => return Err(failed(error)),
    }
    let created = workspace.create_principal(&Origin::local(), OWN_GATE, Role::Gate).await;
    let (_, credential) = created.map_err(failed)?;
    write_secret(&path, credential.expose_secret())
        .map_err(|source| ServeError::Io { what: format!("cannot write `{}`", path.display()), source })?;
    Ok(credential)
}

/// Where this machine reaches a listener: one that listens on all addresses is reached on the loopback one.
fn connectable(address: &ListenAddress) -> ListenAddress {
    match address {
        ListenAddress::Tcp(address) if address.ip().is_unspecified() => {
            let loopback = if address.is_ipv4() {
                std::net::Ipv4Addr::LOCALHOST.into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            };
            ListenAddress::Tcp(std::net::SocketAddr::new(loopback, address.port()))
        }
        other => other.clone(),
    }
}

fn show_next_step(workspace: &RunningWorkspace, data_dir: &Path) {
    say("\nnext, in another terminal:");
    say(&format!("  export SCOREGATE_WORKSPACE={}", workspace.url));
    say(&format!("  export SCOREGATE_CREDENTIAL=$(cat {})", data_dir.join("owner-credential").display()));
    if workspace.url.starts_with("https:") {
        say("  export SCOREGATE_CA_FILE=...  # unless a public CA signed the certificate");
    }
    say("  scoregate service create my-model");
}
