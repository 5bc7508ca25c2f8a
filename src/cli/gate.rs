//! `scoregate gate`: the data plane by itself.

mod list;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::GlobalArgs;
use super::exit::CliError;
use super::serve::{Addresses, GateFlags, Process, ServeArgs, ServeError, load, until_ready, url_of};
use crate::admin::{self, Health};
use crate::config::{self, DataDir, GateConfig};
use crate::gate::{self, Listeners};
use crate::listen::Listener;

/// Flags of `gate`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct GateArgs {
    #[command(subcommand)]
    pub(super) command: Option<GateCommand>,
    #[command(flatten)]
    serve: ServeArgs,
    #[command(flatten)]
    gate: GateFlags,
    /// Policy file (YAML), followed when it changes: a gate without a workspace
    #[arg(long, value_name = "FILE")]
    policy: Option<String>,
    /// Address of the workspace's policy feed [default: 127.0.0.1:9193]
    #[arg(long, value_name = "ADDR")]
    feed: Option<String>,
    /// File with the credential of a gate principal
    #[arg(long, value_name = "FILE")]
    credential_file: Option<String>,
    /// File with the workspace's pepper; may be repeated while a new one is introduced
    #[arg(long, value_name = "FILE")]
    pepper_file: Vec<String>,
    /// File with the workspace's public policy key; may be repeated while a new one is introduced
    #[arg(long, value_name = "FILE")]
    policy_key_file: Vec<String>,
    /// Where to look for policy while the feed is away, `file:PATH` or a URL; may be repeated
    #[arg(long, value_name = "SOURCE")]
    policy_source: Vec<String>,
    /// Address at which other gates may read this one's policy [default: none]
    #[arg(long, value_name = "ADDR")]
    peer_listen: Option<String>,
}

/// Commands about the gates of a workspace.
#[derive(Debug, Subcommand)]
pub(super) enum GateCommand {
    /// List the gates of a workspace: which policy each enforces, since when, and what it lacks
    List(list::ListArgs),
}

impl GateCommand {
    /// Carries it out.
    ///
    /// # Errors
    /// What the workspace, the way to it or the output has against it.
    pub(super) async fn run(self) -> Result<(), CliError> {
        match self {
            Self::List(args) => args.run().await,
        }
    }
}

/// Runs until a signal ends it.
pub(super) fn run(global: &GlobalArgs, args: &GateArgs) -> Result<ExitCode, ServeError> {
    let list = |values: &Vec<String>| (!values.is_empty()).then(|| values.clone());
    let loaded = load(global, |sources| {
        args.gate
            .apply(args.serve.apply(sources))
            .flag("--policy", "gate.policy_file", args.policy.clone())
            .flag("--feed", "gate.feed", args.feed.clone())
            .flag("--credential-file", "gate.credential_file", args.credential_file.clone())
            .flag("--pepper-file", "gate.pepper_files", list(&args.pepper_file))
            .flag("--policy-key-file", "gate.policy_key_files", list(&args.policy_key_file))
            .flag("--policy-source", "gate.policy_sources", list(&args.policy_source))
            .flag("--peer-listen", "gate.peer_listen", args.peer_listen.clone())
    })?;
    let config = config::gate(&loaded.shape, &loaded.sources, &loaded.data_dir, None)?;
    // With a file for policy there is nothing to keep.
    let data_dir = match &config.fixed_policy {
        Some(_) => None,
        None => Some(DataDir::lock(&loaded.data_dir).map_err(config::ConfigError::from)?),
    };
    let code = Process::run(&loaded.process, async |process: Process| {
        let admin = Listener::bind(&config.admin_listen).await?;
        let listeners = bind(&config).await?;
        let gate = start_gate(config, listeners, admin, without_policy().await, &process).await?;
        until_ready(&gate.health).await;
        let addresses = Addresses {
            ext_authz: gate.check_ports.first().cloned(),
            ext_authz_all: gate.check_ports,
            admin: gate.admin,
            peers: gate.peers,
            ..Addresses::default()
        };
        if let Some(file) = &args.serve.addresses_file {
            addresses.write(file)?;
        }
        addresses.show();
        Ok(())
    });
    drop(data_dir);
    code
}

/// A gate that decides.
pub(super) struct RunningGate {
    /// Whether it is ready.
    pub health: Health,
    /// Its check ports.
    pub check_ports: Vec<String>,
    /// Base URL of its admin listener.
    pub admin: String,
    /// Where other gates may read its policy.
    pub peers: Option<String>,
}

/// Binds its sockets, all but the admin listener's.
pub(super) async fn bind(config: &GateConfig) -> Result<Listeners, ServeError> {
    let mut check_ports = Vec::new();
    for address in &config.ext_authz_listen {
        check_ports.push(Listener::bind_for(address, config.socket_access).await?);
    }
    let peers = match &config.peer_listen {
        Some(address) => Some(Listener::bind(address).await?),
        None => None,
    };
    Ok(Listeners { check_ports, peers })
}

/// The health of a gate that is to be started.
pub(super) async fn without_policy() -> Health {
    Health::not_ready("no policy yet").await
}

/// Starts the gate and its admin listener, which shows `health`.
pub(super) async fn start_gate(
    config: GateConfig,
    listeners: Listeners,
    admin: Listener,
    health: Health,
    process: &Process,
) -> Result<RunningGate, ServeError> {
    let Process { shutdown, metrics, clock } = process.clone();
    let admin_tls = config.admin_tls.clone();
    metrics.add_certificate("admin", admin_tls.as_ref());
    metrics.add_certificate("ext_authz", config.tls.as_ref());
    metrics.add_certificate("peers", config.peer_tls.as_ref());
    let peers_tls = config.peer_tls.is_some();
    let addresses = listeners.check_ports.iter().map(|listener| listener.address().to_string()).collect();
    let peers = listeners
        .peers
        .as_ref()
        .map(|listener| format!("{}/policy/snapshot", url_of(listener.address(), peers_tls)));
    let started = gate::start(config, listeners, health.clone(), &metrics, clock, &shutdown).await;
    let handle = started.map_err(|error| ServeError::Gate(error.into()))?;
    let admin_url = url_of(admin.address(), admin_tls.is_some());
    let routes = admin::router(health.clone(), metrics).merge(handle.admin_routes());
    process.shutdown.spawn(admin::serve(admin, admin_tls, routes, shutdown));
    Ok(RunningGate { health, check_ports: addresses, admin: admin_url, peers })
}
