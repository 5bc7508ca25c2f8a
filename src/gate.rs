//! The gate: answers Envoy's `ext_authz` calls from memory, and keeps that memory in step with the workspace.
//!
//! Checks run on threads of their own ([`worker`]); the feed, the disk and the admin routes run elsewhere, so that
//! neither disturbs the other. What they share is one atomic snapshot.

mod age;
mod answer;
mod check;
mod connection;
mod disk;
mod explain;
mod feed;
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
mod state;
mod usage;
mod worker;

use std::io;
use std::sync::Arc;

use axum::Router;
use scoregate_authz::{Peppers, Rules, StateHash, Version};
use tokio::sync::watch;

use self::age::AgeWatch;
use self::check::{CheckService, Decider};
use self::disk::Disk;
use self::feed::Feed;
use self::keeper::{Keeper, Trust};
use self::metrics::GateMetrics;
use self::port::CheckPort;
use self::refusals::{RecentRefusals, RefusalLog};
use self::shadow::Shadows;
use self::sources::Sourcing;
use self::state::Proven;
use self::usage::Usage;
use self::worker::Workers;
use crate::admin::Health;
use crate::clock::Clock;
use crate::config::GateConfig;
use crate::http_server;
use crate::listen::Listener;
use crate::metrics::Metrics;
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
    keeper: Arc<Keeper>,
}

impl GateHandle {
    /// `POST /explain` and `GET /refusals`, for the admin listener.
    pub fn admin_routes(&self) -> Router {
        explain::routes(Arc::clone(&self.decider), Arc::clone(&self.clock))
            .merge(recent::routes(self.refusals.clone()))
    }

    /// The version in force; `None` before the first.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Option<Version>> {
        self.keeper.applied()
    }
}

/// The version and state of a copy of policy, if it is complete and one of these keys signed it. For the fuzz target.
#[must_use]
pub fn read_copy(
    bytes: Vec<u8>,
    peppers: &Peppers,
    trusted: &TrustedPolicyKeys,
) -> Option<(Version, StateHash)> {
    let (snapshot, statement) = disk::read_copy(bytes).ok()?.build(peppers).ok()?;
    let proven = Proven::new(snapshot, statement, trusted).ok()?;
    Some((proven.snapshot.version(), proven.snapshot.state_hash()))
}

/// Starts a gate on sockets that are bound already, within the runtime that calls.
///
/// Ready as soon as it has a snapshot, from its disk or from the workspace, until the shutdown begins.
///
/// # Errors
/// What keeps it from working at all. A bad state on disk or a workspace that is away do not.
pub async fn start(
    config: GateConfig,
    listeners: Listeners,
    health: Health,
    metrics: &Metrics,
    clock: Arc<dyn Clock>,
    shutdown: &Shutdown,
) -> Result<GateHandle, StartError> {
    let credential = config.credential.as_ref().map(feed::bearer);
    let credential = credential.map(|bearer| bearer.ok_or(StartError::Credential)).transpose()?;
    let others = port::other_services(&health, config.reflection).map_err(StartError::Reflection)?;
    let registry = metrics;
    let metrics = GateMetrics::register(registry, Arc::clone(&clock));
    let disk = Disk::open(&config.data_dir)?;
    let keeper = {
        let trust = Trust {
            peppers: config.peppers.clone(),
            policy_keys: config.policy_keys,
            max_age: config.max_policy_age,
        };
        let metrics = metrics.policy.clone();
        let reading = tokio::task::spawn_blocking(move || Keeper::new(disk, trust, metrics));
        Arc::new(reading.await.map_err(|error| StartError::Workers(error.into()))?)
    };
    let rules = Rules {
        target: config.target,
        ports: config.ports,
        credential_headers: config.credential_headers,
        clock_skew: config.clock_skew,
        peppers: config.peppers,
    };
    let answers = Arc::new(Answers::new(&config.realm, &rules.credential_headers, config.undecided));
    let decider = Arc::new(Decider::new(rules, keeper.in_force(), config.proof_cache_capacity));
    let usage = Arc::new(Usage::new(keeper.in_force(), metrics.uses.clone()));
    let refusals = RecentRefusals::of_workers(config.workers.max(1));
    let ports = refusals.rings().map(|ring| {
        let (decider, answers, clock) = (Arc::clone(&decider), Arc::clone(&answers), Arc::clone(&clock));
        let (checks, usage, log) = (metrics.checks.clone(), Arc::clone(&usage), RefusalLog::new(ring));
        CheckPort::new(CheckService::new(decider, answers, clock, checks, usage, log), others.clone())
    });
    let workers = Workers::start(ports, config.max_connection_age, metrics.connections, shutdown)
        .map_err(StartError::Workers)?;
    if let Some(tls) = config.tls.clone() {
        shutdown.spawn(tls.follow(shutdown.clone()));
    }
    for listener in listeners.check_ports {
        shutdown.spawn(worker::accept(listener, config.tls.clone(), workers.clone(), shutdown.clone()));
    }
    if let Some(listener) = listeners.peers {
        let router = peers::router(Arc::clone(&keeper));
        shutdown.spawn(http_server::serve(listener, config.peer_tls, router, shutdown.clone()));
    }
    let (feed_metrics, sources) = (metrics.feed.clone(), config.policy_sources);
    let sourcing = Sourcing::new(
        sources,
        config.source_tls.as_ref(),
        Arc::clone(&keeper),
        feed_metrics,
        metrics.sources,
    );
    shutdown.spawn(sourcing.run(shutdown.clone()));
    let watch = AgeWatch {
        keeper: Arc::clone(&keeper),
        max_age: config.max_policy_age,
        clock: Arc::clone(&clock),
        metrics: metrics.policy,
        health: health.clone(),
    };
    shutdown.spawn(watch.run(shutdown.clone()));
    let feed = Feed {
        gate: config.name,
        address: config.feed,
        tls: config.feed_tls,
        credential,
        keeper: Arc::clone(&keeper),
        usage,
        metrics: metrics.feed,
        silence: feed::SILENCE,
    };
    shutdown.spawn(feed.run(shutdown.clone()));
    let shadows = Shadows::new(keeper.in_force(), Arc::clone(&clock), registry);
    shutdown.spawn(shadows.tell(keeper.applied(), shutdown.clone()));
    shutdown.spawn(report_readiness(keeper.applied(), health, shutdown.clone()));
    Ok(GateHandle { decider, clock, refusals, keeper })
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
