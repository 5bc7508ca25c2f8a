//! A gate without a workspace: its policy is a file, which it looks at again and again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use scoregate_authz::{Peppers, Snapshot, Version};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::in_force::InForce;
use super::metrics::PolicyMetrics;
use crate::admin::Health;
use crate::causes::with_causes;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::policy_file::{FileError, FixedPolicy, Seen};
use crate::shutdown::Shutdown;

/// Between two looks. A file that has changed is taken when two looks found the same: it may have been half written.
const INTERVAL: Duration = Duration::from_secs(1);
/// Looking takes at most this part of the time, however long the file is.
const REST: u32 = 50;

/// Of the file.
#[derive(Debug, Clone, Default)]
struct FileMetrics {
    /// 1 while the file as it is now is in force.
    good: Gauge,
    loads: Counter,
    refused: Counter,
    /// The first 48 bits of its SHA-256, which a number of OpenMetrics holds exactly.
    hash: Gauge,
}

impl FileMetrics {
    fn register(metrics: &Metrics) -> Self {
        metrics.register(|registry| {
            let this = Self::default();
            let good = "1 while the policy file as it is now is in force, 0 while an older one is";
            registry.register("policy_file_good", good, this.good.clone());
            registry.register("policy_file_loads", "Policy files that came into force", this.loads.clone());
            registry.register("policy_file_refused", "Policy files that were refused", this.refused.clone());
            let hash = "First 48 bits of the SHA-256 of the policy file in force, as a number";
            registry.register("policy_file_hash", hash, this.hash.clone());
            this
        })
    }

    fn loaded(&self, hash: &[u8; 32]) {
        self.good.set(1);
        self.loads.inc();
        self.hash.set(hash[..6].iter().fold(0, |number, byte| (number << 8) | i64::from(*byte)));
    }

    fn refused(&self) {
        self.good.set(0);
        self.refused.inc();
    }
}

/// What is in force, for those who ask.
#[derive(Debug)]
struct Shown {
    file: String,
    sha256: String,
    revision: u64,
    state_hash: String,
    /// Why the file as it is now is not in force.
    problem: Option<String>,
}

/// Keeps the policy of a file in force.
#[derive(Debug)]
pub(crate) struct FixedKeeper {
    in_force: Arc<InForce>,
    applied: watch::Sender<Option<Version>>,
    shown: Mutex<Shown>,
    peppers: Peppers,
    clock: Arc<dyn Clock>,
    policy_metrics: PolicyMetrics,
    file_metrics: FileMetrics,
    health: Health,
}

impl FixedKeeper {
    /// Puts a good file in force.
    pub(crate) fn new(
        policy: &FixedPolicy,
        peppers: Peppers,
        health: Health,
        policy_metrics: PolicyMetrics,
        metrics: &Metrics,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let this = Self {
            in_force: Arc::default(),
            applied: watch::Sender::new(None),
            shown: Mutex::new(shown(policy)),
            peppers,
            clock,
            policy_metrics,
            file_metrics: FileMetrics::register(metrics),
            health,
        };
        this.take(policy);
        Arc::new(this)
    }

    /// Where checks read.
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force)
    }

    /// The version in force.
    pub(crate) fn applied(&self) -> watch::Receiver<Option<Version>> {
        self.applied.subscribe()
    }

    /// `GET /policy`, for the admin listener: which file is in force, and whether it is the one that is there.
    pub(crate) fn routes(self: &Arc<Self>) -> Router {
        Router::new().route("/policy", get(show)).with_state(Arc::clone(self))
    }

    /// Looks at the file, until the shutdown stops.
    pub(crate) async fn follow(self: Arc<Self>, policy: FixedPolicy, shutdown: Shutdown) {
        let follow = async {
            let mut follower = Follower { path: policy.path, seen: policy.seen, changed: None };
            loop {
                let begun = Instant::now();
                let keeper = Arc::clone(&self);
                let looked = tokio::task::spawn_blocking(move || {
                    follower.look(&keeper);
                    follower
                });
                // It is not cancelled, so this is a panic, which is logged: what is in force stays.
                let Ok(back) = looked.await else { return };
                follower = back;
                tokio::time::sleep(INTERVAL.max(begun.elapsed() * REST)).await;
            }
        };
        tokio::select! {
            () = follow => {}
            () = shutdown.stopping() => {}
        }
    }

    fn take(&self, policy: &FixedPolicy) {
        let snapshot = &policy.snapshot;
        self.in_force.put(Arc::new(Snapshot::clone(snapshot)));
        self.policy_metrics.applied(snapshot);
        self.policy_metrics.confirmed(self.clock.now());
        self.file_metrics.loaded(&policy.hash);
        *self.shown() = shown(policy);
        self.health.remark(None);
        self.applied.send_replace(Some(snapshot.version()));
        let (sha256, revision) = (policy.hash_text(), snapshot.version().revision);
        tracing::info!(file = %policy.path.display(), sha256, revision, services = snapshot.services().count(), "the policy file is in force");
    }

    fn refuse(&self, error: &FileError) {
        let problem = with_causes(error);
        self.file_metrics.refused();
        tracing::error!(problem, "the policy file is refused: what was in force before stays in force");
        self.health
            .remark(Some(format!("the policy file is refused, and an older one is in force: {problem}")));
        self.shown().problem = Some(problem);
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(policy: &FixedPolicy) -> Shown {
    Shown {
        file: policy.path.display().to_string(),
        sha256: policy.hash_text(),
        revision: policy.snapshot.version().revision,
        state_hash: format!("{:?}", policy.snapshot.state_hash()),
        problem: None,
    }
}

async fn show(State(keeper): State<Arc<FixedKeeper>>) -> Json<Value> {
    let shown = keeper.shown();
    Json(json!({
        "file": shown.file,
        "sha256": shown.sha256,
        "revision": shown.revision,
        "stateHash": shown.state_hash,
        "problem": shown.problem,
    }))
}

/// What was seen of the file.
#[derive(Debug)]
struct Follower {
    path: std::path::PathBuf,
    /// By the last reading, whether it was good or not.
    seen: Seen,
    /// By the last look, where that was something else.
    changed: Option<Seen>,
}

impl Follower {
    fn look(&mut self, keeper: &FixedKeeper) {
        let now = self.seen.again();
        if now == self.seen {
            self.changed = None;
            if keeper.shown().problem.is_none() {
                keeper.policy_metrics.confirmed(keeper.clock.now());
            }
            return;
        }
        if self.changed.as_ref() != Some(&now) {
            self.changed = Some(now);
            return;
        }
        self.changed = None;
        let revision = keeper.shown().revision + 1;
        match FixedPolicy::read(&self.path, revision, &keeper.peppers, &mut self.seen) {
            Ok(policy) => keeper.take(&policy),
            Err(error) => keeper.refuse(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::gate::metrics::GateMetrics;

    struct Rig {
        keeper: Arc<FixedKeeper>,
        follower: Follower,
        metrics: Metrics,
        clock: Arc<ManualClock>,
        directory: tempfile::TempDir,
    }

    impl Rig {
        async fn start() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("policy.yaml");
            std::fs::write(&path, policy("one")).unwrap();
            let peppers = Peppers::of_nobody(&[1; 32]);
            let read = FixedPolicy::read(&path, 1, &peppers, &mut Seen::default()).unwrap();
            let (metrics, clock) = (Metrics::default(), Arc::new(ManualClock::at(1_000)));
            let policy_metrics = GateMetrics::register(&metrics, clock.clone()).policy;
            let health = Health::not_ready("test").await;
            let keeper = FixedKeeper::new(&read, peppers, health, policy_metrics, &metrics, clock.clone());
            let follower = Follower { path: read.path.clone(), seen: read.seen, changed: None };
            Self { keeper, follower, metrics, clock, directory }
        }

        fn write(&self, text: &str) {
            std::fs::write(self.directory.path().join("policy.yaml"), text).unwrap();
        }

        fn look(&mut self) {
            self.follower.look(&self.keeper);
        }

        fn services(&self) -> Vec<String> {
            let snapshot = self.keeper.in_force().snapshot().unwrap();
            snapshot.services().map(|service| service.name().to_string()).collect()
        }

        fn has_metric(&self, line: &str) -> bool {
            self.metrics.render().lines().any(|found| found == line)
        }
    }

    fn policy(name: &str) -> String {
        format!("version: scoregate/v1\nservices: [{{ name: {name}, authMode: disabled }}]\n")
    }

    #[tokio::test]
    async fn look_takes_a_change_that_two_looks_found() {
        let mut rig = Rig::start().await;
        assert!(rig.has_metric("scoregate_policy_file_loads_total 1"));
        rig.write(&policy("two"));
        rig.look();
        assert_eq!(rig.services(), ["one"], "it may be half written");
        rig.write(&policy("three"));
        rig.look();
        assert_eq!(rig.services(), ["one"], "it was");
        rig.look();
        assert_eq!(rig.services(), ["three"]);
        assert_eq!(rig.keeper.applied().borrow().unwrap(), Version { epoch: 0, revision: 2 });
        assert!(rig.has_metric("scoregate_policy_file_loads_total 2"));
        assert!(rig.has_metric("scoregate_snapshot_revision 2"));
    }

    #[tokio::test]
    async fn look_keeps_what_is_in_force_while_the_file_is_bad() {
        let mut rig = Rig::start().await;
        rig.write("version: scoregate/v1\nservices: [\n");
        for _ in 0..5 {
            rig.look();
        }
        assert_eq!(rig.services(), ["one"]);
        assert!(rig.has_metric("scoregate_policy_file_refused_total 1"), "{}", rig.metrics.render());
        assert!(rig.has_metric("scoregate_policy_file_good 0"));
        assert!(rig.keeper.shown().problem.as_ref().unwrap().contains("line 2"));
        std::fs::remove_file(rig.directory.path().join("policy.yaml")).unwrap();
        rig.look();
        rig.look();
        assert!(rig.has_metric("scoregate_policy_file_refused_total 2"));
        assert_eq!(rig.services(), ["one"]);
        rig.write(&policy("one"));
        rig.look();
        rig.look();
        assert!(rig.has_metric("scoregate_policy_file_good 1"));
        assert_eq!(rig.keeper.shown().problem, None);
    }

    #[tokio::test]
    async fn age_grows_only_while_the_file_is_not_what_is_in_force() {
        let mut rig = Rig::start().await;
        rig.clock.advance(Duration::from_secs(90));
        rig.look();
        assert!(rig.has_metric("scoregate_snapshot_age_seconds 0.0"), "{}", rig.metrics.render());
        rig.write("");
        rig.look();
        rig.look();
        rig.clock.advance(Duration::from_secs(90));
        rig.look();
        assert!(rig.has_metric("scoregate_snapshot_age_seconds 90.0"), "{}", rig.metrics.render());
        assert!(!rig.keeper.in_force().is_stale(rig.clock.now()), "age is no reason to decide nothing");
    }
}
