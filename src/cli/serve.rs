//! What the long-running commands have in common: flags, start, readiness, signals, end.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::GlobalArgs;
use super::output::say;
use crate::admin::Health;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, ConfigError, ProcessConfig, Shape, Sources};
use crate::fault;
use crate::listen::ListenAddress;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::telemetry;

/// Flags of every long-running command.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Directory that holds all state [default: ./scoregate-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address of metrics, /livez, /readyz and gRPC health [default: 127.0.0.1:9192]
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<String>,
    /// When all is ready, write the addresses to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub addresses_file: Option<PathBuf>,
    /// Allow listeners without TLS that other machines can reach
    #[arg(long)]
    insecure: bool,
}

impl ServeArgs {
    /// Adds these flags to the sources of configuration.
    pub(super) fn apply(&self, sources: Sources) -> Sources {
        sources
            .flag("--data-dir", "data_dir", self.data_dir.clone())
            .flag("--admin-listen", "admin.listen", self.admin_listen.clone())
            .flag("--insecure", "insecure", self.insecure.then_some(true))
    }
}

/// Flags of commands that run a gate.
#[derive(Debug, Args)]
pub(super) struct GateFlags {
    /// Address of the check port, `host:port` or `unix:PATH`; may be repeated [default: 127.0.0.1:9191]
    #[arg(long, value_name = "ADDR")]
    ext_authz_listen: Vec<String>,
    /// Name of this gate, unique in the workspace [default: the host's name]
    #[arg(long)]
    name: Option<String>,
}

impl GateFlags {
    /// Adds these flags to the sources of configuration.
    pub(super) fn apply(&self, sources: Sources) -> Sources {
        let addresses = (!self.ext_authz_listen.is_empty()).then(|| self.ext_authz_listen.clone());
        sources.flag("--ext-authz-listen", "gate.ext_authz_listen", addresses).flag(
            "--name",
            "gate.name",
            self.name.clone(),
        )
    }
}

/// Configuration as it was read, and the sources for the messages about it.
pub(super) struct Loaded {
    /// As it was read.
    pub shape: Shape,
    /// From where.
    pub sources: Sources,
    /// What every process has.
    pub process: ProcessConfig,
    /// Directory of all state.
    pub data_dir: PathBuf,
}

/// Reads the configuration.
pub(super) fn load(
    global: &GlobalArgs,
    apply: impl FnOnce(Sources) -> Sources,
) -> Result<Loaded, ConfigError> {
    let sources = apply(global.sources());
    let shape = sources.read()?;
    let process = config::log_and_shutdown(&shape, &sources)?;
    let data_dir = shape.data_dir.as_deref().unwrap_or("scoregate-data").into();
    Ok(Loaded { shape, sources, process, data_dir })
}

/// Why a process did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Configuration; nothing was bound.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A socket.
    #[error(transparent)]
    Bind(#[from] crate::listen::BindError),
    /// The workspace's store or secrets.
    #[error("the workspace cannot start")]
    Workspace(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The gate.
    #[error("the gate cannot start")]
    Gate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Something that the system refused.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

/// What every part of a process is given.
#[derive(Clone)]
pub(super) struct Process {
    /// How it ends.
    pub shutdown: Shutdown,
    /// What it counts.
    pub metrics: Metrics,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Process {
    /// Starts logging, and a runtime; runs `start` on it, then waits for a signal and ends in order.
    ///
    /// Checks do not run here but on runtimes of their own: two threads do for feed, disk, REST and admin.
    pub(super) fn run<F>(config: &ProcessConfig, start: F) -> Result<ExitCode, ServeError>
    where
        F: AsyncFnOnce(Self) -> Result<(), ServeError>,
    {
        telemetry::start(config);
        fault::warn();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let failed = |source| ServeError::Io { what: "cannot start a runtime".to_owned(), source };
        let runtime = runtime.map_err(failed)?;
        let process =
            Self { shutdown: Shutdown::default(), metrics: Metrics::default(), clock: Arc::new(SystemClock) };
        let code = runtime.block_on(async {
            let mut signals = Signals::new().map_err(failed)?;
            tokio::select! {
                started = start(process.clone()) => started?,
                name = signals.next() => {
                    tracing::info!(signal = name, "ends before it was ready");
                    return Ok(ExitCode::SUCCESS);
                }
            }
            let name = signals.next().await;
            tracing::info!(signal = name, "leaves service; another signal ends it at once");
            Ok(end(&process.shutdown, config, &mut signals).await)
        });
        runtime.shutdown_background();
        code
    }
}

async fn end(shutdown: &Shutdown, config: &ProcessConfig, signals: &mut Signals) -> ExitCode {
    tokio::select! {
        in_time = shutdown.run(config.drain_delay, config.deadline) => {
            if in_time {
                return ExitCode::SUCCESS;
            }
            tracing::warn!(deadline = ?config.deadline, "ends with work unfinished");
            ExitCode::FAILURE
        }
        name = signals.next() => {
            tracing::warn!(signal = name, "ends at once");
            ExitCode::FAILURE
        }
    }
}

/// What ends a process.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on, the signals do nothing but show here.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The name of the next one.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Where a process really listens, for programs that start one on ports that the system chooses.
#[derive(Debug, Default, Serialize)]
pub(super) struct Addresses {
    /// The first check port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ext_authz: Option<String>,
    /// All check ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ext_authz_all: Vec<String>,
    /// The policy feed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feed: Option<String>,
    /// Base URL of the workspace's REST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// Base URL of the admin listener.
    pub admin: String,
    /// Where other gates may read this one's policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<String>,
    /// Path of the workspace in Azure's tree of resources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_scope: Option<String>,
    /// URL of the discovery document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery: Option<String>,
}

impl Addresses {
    /// Writes them, complete or not at all.
    pub(super) fn write(&self, path: &Path) -> Result<(), ServeError> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        let temporary = path.with_extension("new");
        std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path)).map_err(|source| {
            ServeError::Io { what: format!("cannot write the addresses file `{}`", path.display()), source }
        })
    }

    /// Shows them to the person who started the process.
    pub(super) fn show(&self) {
        let lines = [
            ("ext_authz", (!self.ext_authz_all.is_empty()).then(|| self.ext_authz_all.join(", "))),
            ("workspace", self.workspace.clone()),
            ("feed", self.feed.clone()),
            ("admin", Some(self.admin.clone())),
            ("peers", self.peers.clone()),
        ];
        say(concat!("scoregate ", env!("CARGO_PKG_VERSION"), " is ready"));
        for (name, address) in lines {
            if let Some(address) = address {
                say(&format!("  {name:<10} {address}"));
            }
        }
    }
}

/// The URL of a listener; that of a Unix socket serves to be shown only.
pub(super) fn url_of(address: &ListenAddress, has_tls: bool) -> String {
    match address {
        ListenAddress::Tcp(address) if has_tls => format!("https://{address}"),
        ListenAddress::Tcp(address) => format!("http://{address}"),
        unix @ ListenAddress::Unix(_) => unix.to_string(),
    }
}

/// Waits until a part of the process is ready. The reason why it is not is logged once, if that takes a while.
pub(super) async fn until_ready(health: &Health) {
    let patience = std::time::Duration::from_secs(5);
    if tokio::time::timeout(patience, health.ready()).await.is_err() {
        if let Err(reason) = health.is_ready() {
            tracing::warn!(reason, "still not ready");
        }
        health.ready().await;
    }
}
