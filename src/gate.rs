//! The gate: answers Envoy's `ext_authz` calls from memory, and keeps that memory in step with the workspace.
//!
//! Checks run on threads of their own ([`worker`]); the feed, the disk and the admin routes run elsewhere, so that
//! neither disturbs the other. What they share is one atomic snapshot.

mod age;
mod answer;
mod check;
mod connection;
mod dial;
mod disk;
mod explain;
mod feed;
mod fixed;
#[cfg(test)]
mod fixtures;
mod in_force;
mod keeper;
mod metrics;
mod peers;
mod port;
mod recent;
mod record;
mod refusals;
mod request;
mod request_ids;
mod shadow;
mod sources;
#[cfg(any(feature = "otlp", test))]
mod spans;
#[cfg(not(any(feature = "otlp", test)))]
#[path = "gate/no_spans.rs"]
mod spans;
mod state;
mod usage;
mod worker;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use scoregate_authz::{Peppers, Rules, Snapshot, StateHash, Version};
use tokio::sync::watch;

use self::age::AgeWatch;
use self::check::{CheckService, Decider};
use self::disk::Disk;
use self::feed::Feed;
use self::fixed::FixedKeeper;
use self::in_force::InForce;
use self::keeper::{Keeper, Trust};
use self::metrics::{FeedMetrics, GateMetrics, SourceMetrics};
use self::port::CheckPort;
use self::refusals::{RecentRefusals, RefusalLog};
use self::shadow::Shadows;
use self::sources::Sourcing;
use self::spans::Spans;
use self::state::Proven;
use self::usage::Usage;
use self::worker::Workers;
use crate::admin::Health;
use crate::clock::Clock;
use crate::config::GateConfig;
use crate::http_server;
use crate::listen::Listener;
use crate::metrics::Metrics;
use crate::policy_file::FixedPolicy;
use crate::random;
use crate::shutdown::Shutdown;
use crate::statement::TrustedPolicyKeys;

pub use self::answer::Answers;
pub use self::disk::DirectoryError;
pub use self::request::HttpView;
pub use self::sources::{InvalidPolicySource, PolicySource};

/// Why a gate does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory of the last good policy cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The credential for the feed has characters that no header can have.
    #[error("the credential for the policy feed is not one line of visible characters")]
    Credential,
    /// The system gives no threads.
    #[error("cannot start the threads that decide")]
    Workers(#[source] io::Error),
    /// Reflection was asked for and its descriptors are not in order.
    #[error("cannot offer gRPC reflection")]
    Reflection(#[source] tonic_reflection::server::Error),
}

/// Why there is no policy to be had from a gate's directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPolicy {
    #[error("there is no policy in `{}`: is it the data directory of a gate?", .0.display())]
    Nothing(PathBuf),
    #[error("the policy in `{}` is not good", path.display())]
    Bad {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The last good policy in a gate's data directory, where nothing is changed: the gate may be running. It is not one to
/// decide by.
///
/// # Errors
/// There is none, it is damaged, or none of the keys proves it; with `None`, the directory is believed.
pub(crate) fn last_good_policy(path: &Path, keys: Option<&TrustedPolicyKeys>) -> Result<Snapshot, NoPolicy> {
    if !path.is_dir() {
        return Err(NoPolicy::Nothing(path.to_owned()));
    }
    let peppers = Peppers::of_nobody(&[0; 32]);
    // A gate that folds its log replaces two files, one after the other: between them they do not fit.
    let look = || disk::look(path, &peppers);
    let found = look().or_else(|_| look());
    let bad = |source| NoPolicy::Bad { path: path.to_owned(), source };
    let (snapshot, statement) =
        found.map_err(|error| bad(error.into()))?.ok_or_else(|| NoPolicy::Nothing(path.to_owned()))?;
    match keys {
        None => Ok(snapshot),
        Some(keys) => {
            let proven = Proven::new(snapshot, statement, keys).map_err(|error| bad(error.into()))?;
            Ok(Snapshot::clone(&proven.snapshot))
        }
    }
}

/// The sockets of a gate, bound before it starts.
#[derive(Debug)]
pub struct Listeners {
    /// The check port.
    pub check_ports: Vec<Listener>,
    /// Where other gates may read its policy.
    pub peers: Option<Listener>,
}

/// A gate that runs. It ends with the shutdown.
#[derive(Debug)]
pub struct GateHandle {
    decider: Arc<Decider>,
    clock: Arc<dyn Clock>,
    refusals: RecentRefusals,
    policy: Followed,
}

/// Where policy comes to be in force.
#[derive(Debug)]
struct Followed {
    in_force: Arc<InForce>,
    applied: watch::Receiver<Option<Version>>,
    usage: Arc<Usage>,
    /// For the admin listener.
    routes: Router,
}

impl GateHandle {
    /// `POST /explain` and `GET /refusals`, for the admin listener.
    pub fn admin_routes(&self) -> Router {
        explain::routes(Arc::clone(&self.decider), Arc::clone(&self.clock))
            .merge(recent::routes(self.refusals.clone()))
            .merge(self.policy.routes.clone())
    }

    /// The version in force; `None` before the first.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Option<Version>> {
        self.policy.applied.clone()
    }
}

/// The version and state of a copy of policy, if it is complete and one of these keys signed it. For the fuzz target.
#[must_use]
pub fn read_copy(
    bytes: Vec<u8>,
    peppers: &Peppers,
    trusted: &TrustedPolicyKeys,
) -> Option<(Version, StateHash)> {
    let (snapshot, statement) = disk::read_copy(bytes, peppers).ok()?.build().ok()?;
    let proven = Proven::new(snapshot, statement, trusted).ok()?;
    Some((proven.snapshot.version(), proven.snapshot.state_hash()))
}

/// Starts a gate on sockets that are bound already, within the runtime that calls.
///
/// Ready as soon as it has a snapshot, from its disk, from the workspace, or from a file in its place, until the shutdown
/// begins.
///
/// # Errors
/// What keeps it from working at all. A bad state on disk or a workspace that is away do not.
pub async fn start(
    mut config: GateConfig,
    mut listeners: Listeners,
    health: Health,
    metrics: &Metrics,
    clock: Arc<dyn Clock>,
    shutdown: &Shutdown,
) -> Result<GateHandle, StartError> {
    let others = port::other_services(&health, config.reflection).map_err(StartError::Reflection)?;
    let gate_metrics = GateMetrics::register(metrics, Arc::clone(&clock));
    let process = Process { health, metrics, clock: Arc::clone(&clock), shutdown };
    let policy = match config.fixed_policy.take() {
        Some(policy) => follow_file(policy, &config, &gate_metrics, &process),
        None => follow_workspace(&mut config, listeners.peers.take(), &gate_metrics, &process).await?,
    };
    let rules = Rules {
        target: config.target,
        ports: config.ports,
        credential_headers: config.credential_headers,
        clock_skew: config.clock_skew,
        peppers: config.peppers,
    };
    let answers = Arc::new(Answers::new(&config.realm, &rules.credential_headers, config.undecided));
    let decider = Decider::new(rules, Arc::clone(&policy.in_force), config.proof_cache_capacity);
    let decider = Arc::new(decider);
    let refusals = RecentRefusals::of_workers(config.workers.max(1));
    let spans = Spans::start(config.traces.take(), &config.name, metrics, shutdown);
    let ports = refusals.rings().map(|ring| {
        let (decider, answers, clock) = (Arc::clone(&decider), Arc::clone(&answers), Arc::clone(&clock));
        let (checks, usage) = (gate_metrics.checks.clone(), Arc::clone(&policy.usage));
        let (refusals, spans) = (RefusalLog::new(ring), spans.clone());
        let checks = CheckService::new(decider, answers, clock, checks, usage, refusals, spans);
        CheckPort::new(checks, others.clone())
    });
    let workers = Workers::start(ports, config.max_connection_age, gate_metrics.connections, shutdown)
        .map_err(StartError::Workers)?;
    if let Some(tls) = config.tls.clone() {
        shutdown.spawn(tls.follow(shutdown.clone()));
    }
    for listener in listeners.check_ports {
        shutdown.spawn(worker::accept(listener, config.tls.clone(), workers.clone(), shutdown.clone()));
    }
    let shadows = Shadows::new(Arc::clone(&policy.in_force), Arc::clone(&clock), metrics);
    shutdown.spawn(shadows.tell(policy.applied.clone(), shutdown.clone()));
    shutdown.spawn(report_readiness(policy.applied.clone(), process.health, shutdown.clone()));
    Ok(GateHandle { decider, clock, refusals, policy })
}

/// What the parts of a gate share with the process.
struct Process<'a> {
    health: Health,
    metrics: &'a Metrics,
    clock: Arc<dyn Clock>,
    shutdown: &'a Shutdown,
}

/// Policy of a file. Nothing is asked of the disk but that file, and nothing of the network.
fn follow_file(
    policy: FixedPolicy,
    config: &GateConfig,
    metrics: &GateMetrics,
    process: &Process<'_>,
) -> Followed {
    let keeper = FixedKeeper::new(
        &policy,
        config.peppers.clone(),
        process.health.clone(),
        metrics.policy.clone(),
        process.metrics,
        Arc::clone(&process.clock),
    );
    process.shutdown.spawn(Arc::clone(&keeper).follow(policy, process.shutdown.clone()));
    let usage = Arc::new(Usage::new(keeper.in_force(), metrics.uses.clone()));
    Followed { in_force: keeper.in_force(), applied: keeper.applied(), usage, routes: keeper.routes() }
}

/// Policy of a workspace: from the disk at first, then from the feed, or from other sources while that is away.
async fn follow_workspace(
    config: &mut GateConfig,
    peers: Option<Listener>,
    metrics: &GateMetrics,
    process: &Process<'_>,
) -> Result<Followed, StartError> {
    let shutdown = process.shutdown;
    let feed_metrics = FeedMetrics::register(process.metrics, Arc::clone(&process.clock));
    let source_metrics = SourceMetrics::register(process.metrics);
    let credential = config.credential.as_ref().map(feed::bearer);
    let credential = credential.map(|bearer| bearer.ok_or(StartError::Credential)).transpose()?;
    let disk = Disk::open(&config.data_dir)?;
    let keeper = {
        let trust = Trust {
            peppers: config.peppers.clone(),
            policy_keys: config.policy_keys.clone(),
            max_age: config.max_policy_age,
        };
        let metrics = metrics.policy.clone();
        let reading = tokio::task::spawn_blocking(move || Keeper::new(disk, trust, metrics));
        Arc::new(reading.await.map_err(|error| StartError::Workers(error.into()))?)
    };
    let usage = Arc::new(Usage::new(keeper.in_force(), metrics.uses.clone()));
    if let Some(listener) = peers {
        let router = peers::router(Arc::clone(&keeper));
        shutdown.spawn(http_server::serve(listener, config.peer_tls.take(), router, shutdown.clone()));
    }
    let sources = std::mem::take(&mut config.policy_sources);
    let source_tls = config.source_tls.as_ref();
    let sourcing =
        Sourcing::new(sources, source_tls, Arc::clone(&keeper), feed_metrics.clone(), source_metrics);
    shutdown.spawn(sourcing.run(shutdown.clone()));
    let watch = AgeWatch {
        keeper: Arc::clone(&keeper),
        max_age: config.max_policy_age,
        clock: Arc::clone(&process.clock),
        metrics: metrics.policy.clone(),
        health: process.health.clone(),
    };
    shutdown.spawn(watch.run(shutdown.clone()));
    let feed = Feed {
        gate: config.name.clone(),
        process: random::process_number(),
        address: config.feed.clone(),
        tls: config.feed_tls.clone(),
        credential,
        keeper: Arc::clone(&keeper),
        usage: Arc::clone(&usage),
        metrics: feed_metrics,
        silence: feed::SILENCE,
    };
    shutdown.spawn(feed.run(shutdown.clone()));
    Ok(Followed { in_force: keeper.in_force(), applied: keeper.applied(), usage, routes: Router::new() })
}

/// Ready with the first snapshot, and no more once the process leaves service. Nothing in between changes that: a gate
/// whose workspace is away decides as before.
async fn report_readiness(mut applied: watch::Receiver<Option<Version>>, health: Health, shutdown: Shutdown) {
    let has_policy = tokio::select! {
        biased;
        () = shutdown.draining() => false,
        policy = applied.wait_for(Option::is_some) => policy.is_ok(),
    };
    if has_policy {
        health.report(Ok(())).await;
    }
    shutdown.draining().await;
    health.report(Err("draining".to_owned())).await;
}
