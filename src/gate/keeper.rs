//! Keeps the policy in force: one snapshot in memory, the same on disk, and never an older one than before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use scoregate_authz::{Peppers, Snapshot, Version};
use tokio::sync::watch;

use super::disk::{Disk, HighWater};
use super::metrics::PolicyMetrics;
use super::state::{self, Assembly, RefusedPolicy};
use crate::causes::with_causes;
use crate::clock::Clock;
use crate::proto::scoregate::policy::v1 as wire;

/// How often the disk hears that the workspace still has the same, at most.
const CONFIRMATION_INTERVAL: Duration = Duration::from_secs(60);

/// Contested places and invalid policies that are named in the log, of each snapshot.
const NAMED_PROBLEMS: usize = 10;

/// The policy in force and where it is kept. Its methods write to the disk: they are for threads that may wait.
#[derive(Debug)]
pub(crate) struct Keeper {
    peppers: Peppers,
    clock: Arc<dyn Clock>,
    metrics: PolicyMetrics,
    snapshot: Arc<ArcSwapOption<Snapshot>>,
    applied: watch::Sender<Option<Version>>,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    disk: Disk,
    /// The greatest version that this gate ever acknowledged, and whose.
    high_water: Option<HighWater>,
    /// Whether what is in force is on disk.
    durable: bool,
}

/// What became of a snapshot or change: it is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// And survives a restart: it may be acknowledged.
    Durable(Version),
    /// But the disk failed. It is tried again at the next word of the workspace.
    InMemory,
}

/// What the workspace has is not what is in force here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the workspace is at version {theirs} and this gate is at {ours}, or in another state")]
pub(crate) struct Differs {
    pub(crate) theirs: Version,
    pub(crate) ours: Version,
}

impl Keeper {
    /// Takes what is on disk into force, if it is good.
    pub(crate) fn new(
        mut disk: Disk,
        peppers: Peppers,
        clock: Arc<dyn Clock>,
        metrics: PolicyMetrics,
    ) -> Self {
        let found = disk.read(&peppers);
        let state = found.state.unwrap_or_else(|error| {
            tracing::error!(
                error = with_causes(&error),
                "the last good policy on disk is refused: there is none until the workspace sends one"
            );
            None
        });
        let durable = state.is_some();
        let kept = Kept { disk, high_water: found.high_water, durable };
        let this = Self {
            peppers,
            clock,
            metrics,
            snapshot: Arc::default(),
            applied: watch::Sender::new(None),
            kept: Mutex::new(kept),
        };
        if let Some(snapshot) = state {
            let confirmed = this.kept().high_water.as_ref().map(HighWater::confirmed_at);
            tracing::info!(version = %snapshot.version(), "policy was read from disk");
            this.metrics.confirmed(confirmed.unwrap_or(Duration::from_millis(1)));
            this.put_in_force(&Arc::new(snapshot));
        }
        this
    }

    /// Where checks read the snapshot in force.
    pub(crate) fn snapshot(&self) -> Arc<ArcSwapOption<Snapshot>> {
        Arc::clone(&self.snapshot)
    }

    /// The version in force; `None` before the first.
    pub(crate) fn applied(&self) -> watch::Receiver<Option<Version>> {
        self.applied.subscribe()
    }

    /// What this gate says of itself. What is in force but not on disk is not said: it is to be sent again.
    pub(crate) fn hello(&self, gate: &str) -> wire::Hello {
        let durable = self.kept().durable;
        let held = self.snapshot.load_full().filter(|_| durable);
        let version = held.as_ref().map_or(Version::default(), |snapshot| snapshot.version());
        wire::Hello {
            gate: gate.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            workspace: held.as_ref().map_or(String::new(), |snapshot| snapshot.workspace().to_owned()),
            epoch: version.epoch,
            revision: version.revision,
            state_hash: held.map_or(Vec::new(), |snapshot| snapshot.state_hash().0.to_vec()),
            pepper_ids: self.peppers.ids().map(str::to_owned).collect(),
        }
    }

    /// Whether a snapshot that begins with this part may come into force.
    pub(crate) fn admit(&self, part: &wire::SnapshotPart) -> Result<(), RefusedPolicy> {
        let found = state::version_of(part);
        let held = self.snapshot.load();
        if let Some(held) = held.as_deref() {
            check_lineage(&part.workspace, found, held.workspace(), held.version())?;
            if found == held.version() && part.state_hash != held.state_hash().0 {
                return Err(RefusedPolicy::OtherHistory(found));
            }
        }
        match &self.kept().high_water {
            Some(mark) => check_lineage(&part.workspace, found, &mark.workspace, mark.version()),
            None => Ok(()),
        }
    }

    /// Puts a complete snapshot in force and on disk.
    pub(crate) fn take_snapshot(&self, assembly: Assembly) -> Result<Taken, RefusedPolicy> {
        let snapshot = Arc::new(assembly.build(&self.peppers)?);
        self.put_in_force(&snapshot);
        tracing::info!(version = %snapshot.version(), entries = snapshot.entries().len(), "a snapshot is in force");
        let mut kept = self.kept();
        Ok(self.keep(&mut kept, &snapshot, None))
    }

    /// Puts a change in force and on disk.
    pub(crate) fn take_change(&self, change: &wire::Change) -> Result<Taken, RefusedPolicy> {
        let held = self.snapshot.load_full().ok_or(RefusedPolicy::NothingToChange)?;
        let snapshot = Arc::new(state::follow(&held, change.clone(), &self.peppers)?);
        // First in force: a full disk must not keep a revoked key alive.
        self.put_in_force(&snapshot);
        tracing::debug!(version = %snapshot.version(), "a change is in force");
        let mut kept = self.kept();
        Ok(self.keep(&mut kept, &snapshot, Some(change)))
    }

    /// The workspace has nothing newer than this. `Some` if something became durable that was not before.
    pub(crate) fn confirm(&self, heartbeat: &wire::Heartbeat) -> Result<Option<Taken>, Differs> {
        let theirs = Version { epoch: heartbeat.epoch, revision: heartbeat.revision };
        let held = self.snapshot.load_full();
        let ours = held.as_ref().map_or(Version::default(), |held| held.version());
        let same =
            held.filter(|held| held.version() == theirs && held.state_hash().0 == *heartbeat.state_hash);
        let snapshot = same.ok_or(Differs { theirs, ours })?;
        let now = self.clock.now();
        self.metrics.confirmed(now);
        let mut kept = self.kept();
        if !kept.durable {
            return Ok(Some(self.keep(&mut kept, &snapshot, None)));
        }
        let last = kept.high_water.as_ref().map_or(Duration::ZERO, HighWater::confirmed_at);
        if now.saturating_sub(last) >= CONFIRMATION_INTERVAL {
            let moved = kept.disk.keep_high_water(&snapshot, now);
            self.note(&mut kept, &snapshot, moved);
        }
        Ok(None)
    }

    /// Folds a log that has grown long into a snapshot.
    pub(crate) fn tidy(&self) {
        let Some(snapshot) = self.snapshot.load_full() else { return };
        let mut kept = self.kept();
        if kept.durable && kept.disk.is_log_long() {
            let written = kept.disk.keep_snapshot(&snapshot, self.clock.now());
            self.note(&mut kept, &snapshot, written);
        }
    }

    fn put_in_force(&self, snapshot: &Arc<Snapshot>) {
        self.snapshot.store(Some(Arc::clone(snapshot)));
        self.metrics.applied(snapshot);
        warn_of_problems(snapshot);
        self.applied.send_replace(Some(snapshot.version()));
    }

    fn keep(&self, kept: &mut Kept, snapshot: &Snapshot, change: Option<&wire::Change>) -> Taken {
        let now = self.clock.now();
        self.metrics.confirmed(now);
        let written = match change {
            // What is on disk must be what the change starts from.
            Some(change) if kept.durable => kept.disk.keep_change(change, snapshot, now),
            _ => kept.disk.keep_snapshot(snapshot, now),
        };
        self.note(kept, snapshot, written);
        if kept.durable { Taken::Durable(snapshot.version()) } else { Taken::InMemory }
    }

    fn note(&self, kept: &mut Kept, snapshot: &Snapshot, written: std::io::Result<()>) {
        kept.durable = written.is_ok();
        match written {
            Ok(()) => {
                let mark = HighWater::new(snapshot.workspace(), snapshot.version(), self.clock.now());
                kept.high_water = Some(mark);
            }
            Err(error) => tracing::error!(
                %error,
                version = %snapshot.version(),
                "policy is in force but cannot be written to disk, and so is not acknowledged"
            ),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_lineage(workspace: &str, found: Version, ours: &str, reached: Version) -> Result<(), RefusedPolicy> {
    if workspace != ours {
        return Err(RefusedPolicy::ForeignWorkspace { found: workspace.to_owned(), ours: ours.to_owned() });
    }
    if found < reached { Err(RefusedPolicy::Backwards { found, reached }) } else { Ok(()) }
}

fn warn_of_problems(snapshot: &Snapshot) {
    for (host, prefix, uid) in snapshot.contested_places().take(NAMED_PROBLEMS) {
        tracing::warn!(host, prefix, %uid, "the service does not get this place: an older one has it");
    }
    let invalid = snapshot.services().filter_map(|service| Some((service, service.problem()?)));
    for (service, problem) in invalid.take(NAMED_PROBLEMS) {
        tracing::warn!(service = %service.name(), %problem, "nothing can be decided for this service");
    }
}
