//! Keeps the policy in force: one snapshot in memory, the same on disk, and never an older one than before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use scoregate_authz::{Peppers, Snapshot, UnixTime, Version};
use tokio::sync::watch;

use super::disk::{Disk, HighWater};
use super::in_force::InForce;
use super::metrics::PolicyMetrics;
use super::state::{self, Assembly, Proven, RefusedPolicy};
use crate::causes::with_causes;
use crate::fault;
use crate::proto::scoregate::policy::v1 as wire;
use crate::statement::{TrustedPolicyKeys, Unproven};

/// How often the disk hears that the workspace still has the same, at most.
const CONFIRMATION_INTERVAL: Duration = Duration::from_secs(60);

/// Contested places and invalid policies that are named in the log, of each snapshot.
const NAMED_PROBLEMS: usize = 10;

/// What policy is believed, and for how long.
#[derive(Debug)]
pub(crate) struct Trust {
    pub(crate) peppers: Peppers,
    pub(crate) policy_keys: TrustedPolicyKeys,
    /// `None` for ever.
    pub(crate) max_age: Option<Duration>,
}

/// The policy in force and where it is kept. Its methods write to the disk: they are for threads that may wait.
#[derive(Debug)]
pub(crate) struct Keeper {
    trust: Trust,
    metrics: PolicyMetrics,
    in_force: Arc<InForce>,
    /// What is in force, with the latest that proves it.
    proven: ArcSwapOption<Proven>,
    applied: watch::Sender<Option<Version>>,
    /// INVARIANT: locked by whoever changes what is in force, from the look at it to the end.
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    disk: Disk,
    /// The greatest version that this gate ever acknowledged, and whose.
    high_water: Option<HighWater>,
    /// Whether what is in force is on disk.
    durable: bool,
    /// When the disk last heard of it, by the clock of the workspace.
    written: UnixTime,
}

impl Kept {
    /// Whether what is known of the state in force differs enough from what the disk says of it: also after the workspace's
    /// clock was set back, and with the first word under a new policy key, which may soon be the only one that is trusted.
    fn is_worth_a_mark(&self, proven: &Proven) -> bool {
        proven.issued_at.abs_diff(self.written) >= CONFIRMATION_INTERVAL
            || self.high_water.as_ref().is_none_or(|mark| !mark.is_signed_like(proven))
    }
}

/// What became of a snapshot or change: it is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// And survives a restart: it may be acknowledged.
    Durable(Version),
    /// But the disk failed. It is tried again at the next word of the workspace.
    InMemory,
}

/// What became of a copy that was read elsewhere than from the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copied {
    /// It is in force.
    Taken(Version),
    /// It is what was in force, confirmed later than was known here.
    Confirmed,
    /// It is what was in force, and tells nothing new.
    Known,
}

/// Why a heartbeat confirms nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unconfirmed {
    /// What the workspace has is not what is in force here.
    #[error("the workspace is at version {theirs} and this gate is at {ours}, or in another state")]
    Differs { theirs: Version, ours: Version },
    /// Nobody who is trusted said so.
    #[error(transparent)]
    Unproven(#[from] Unproven),
}

impl Keeper {
    /// Takes what is on disk into force, if it is good.
    pub(crate) fn new(mut disk: Disk, trust: Trust, metrics: PolicyMetrics) -> Self {
        let found = disk.read(&trust);
        let state = found.state.unwrap_or_else(|error| {
            tracing::error!(
                error = with_causes(&error),
                "the last good policy on disk is refused: there is none until the workspace or another source has it"
            );
            None
        });
        let written = state.as_ref().map_or(Duration::ZERO, |proven| proven.issued_at);
        let kept = Kept { disk, high_water: found.high_water, durable: state.is_some(), written };
        let this = Self {
            trust,
            metrics,
            in_force: Arc::default(),
            proven: ArcSwapOption::empty(),
            applied: watch::Sender::new(None),
            kept: Mutex::new(kept),
        };
        if let Some(proven) = state {
            tracing::info!(version = %proven.snapshot.version(), "policy was read from disk");
            this.put_in_force(&proven);
        }
        this
    }

    /// Where checks read.
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force)
    }

    /// Under which key digests are understood.
    pub(crate) fn peppers(&self) -> &Peppers {
        &self.trust.peppers
    }

    /// What is in force, with its proof; `None` before the first.
    pub(crate) fn proven(&self) -> Option<Arc<Proven>> {
        self.proven.load_full()
    }

    /// The version in force; `None` before the first.
    pub(crate) fn applied(&self) -> watch::Receiver<Option<Version>> {
        self.applied.subscribe()
    }

    /// What this gate says of itself. What is in force but not on disk is not said: it is to be sent again.
    pub(crate) fn hello(&self, gate: &str) -> wire::Hello {
        let kept = self.kept();
        let held = self.in_force.snapshot().filter(|_| kept.durable);
        let version = held.as_ref().map_or(Version::default(), |snapshot| snapshot.version());
        wire::Hello {
            gate: gate.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            workspace: held.as_ref().map_or(String::new(), |snapshot| snapshot.workspace().to_owned()),
            epoch: version.epoch,
            revision: version.revision,
            state_hash: held.map_or(Vec::new(), |snapshot| snapshot.state_hash().0.to_vec()),
            pepper_ids: self.trust.peppers.ids().map(str::to_owned).collect(),
            policy_key_ids: self.trust.policy_keys.ids().map(str::to_owned).collect(),
            process: 0,
        }
    }

    /// Whether a snapshot that begins with this part may come into force.
    pub(crate) fn admit(&self, part: &wire::SnapshotPart) -> Result<(), RefusedPolicy> {
        self.admit_with(&self.kept(), part)
    }

    fn admit_with(&self, kept: &Kept, part: &wire::SnapshotPart) -> Result<(), RefusedPolicy> {
        let found = state::version_of(part);
        let statement = part.statement.as_ref();
        self.trust.policy_keys.prove(&part.workspace, found, &part.state_hash, statement)?;
        if let Some(held) = self.in_force.snapshot() {
            check_lineage(&part.workspace, found, held.workspace(), held.version())?;
            if found == held.version() && part.state_hash != held.state_hash().0 {
                return Err(RefusedPolicy::OtherHistory(found));
            }
        }
        match &kept.high_water {
            Some(mark) => check_lineage(&part.workspace, found, &mark.workspace, mark.version()),
            None => Ok(()),
        }
    }

    /// Puts a complete snapshot in force and on disk.
    pub(crate) fn take_snapshot(&self, assembly: Assembly) -> Result<Taken, RefusedPolicy> {
        let proven = self.believe(assembly.build()?)?;
        let mut kept = self.kept();
        // Another source may have been quicker.
        self.check_not_older(&proven)?;
        if let Some(before) = self.in_force.snapshot() {
            proven.snapshot.succeed(&before);
        }
        Ok(self.take(&mut kept, &proven, None))
    }

    /// Puts a copy of a snapshot in force and on disk, if it is later than what is in force.
    pub(crate) fn take_copy(&self, assembly: Assembly) -> Result<Copied, RefusedPolicy> {
        if let Some(copied) = self.weigh(&assembly.head())? {
            return Ok(copied);
        }
        match self.take_snapshot(assembly)? {
            Taken::Durable(version) => Ok(Copied::Taken(version)),
            Taken::InMemory => Ok(Copied::Taken(self.applied.borrow().unwrap_or_default())),
        }
    }

    /// What a copy is worth that begins like this; `None` if the rest of it has to be read for that.
    pub(crate) fn weigh(&self, head: &wire::SnapshotPart) -> Result<Option<Copied>, RefusedPolicy> {
        self.admit(head)?;
        let is_held = self.proven().is_some_and(|held| held.snapshot.version() == state::version_of(head));
        if is_held { self.confirm_by_copy(head).map(Some) } else { Ok(None) }
    }

    /// A copy of what is in force, as `admit` has found: at best it is known to have been the latest for longer.
    fn confirm_by_copy(&self, head: &wire::SnapshotPart) -> Result<Copied, RefusedPolicy> {
        let mut kept = self.kept();
        let stated = self.trust.policy_keys.verify(head.statement.as_ref())?;
        let held = self.proven().filter(|held| held.snapshot.version() == stated.version);
        let Some(held) = held.filter(|held| held.issued_at < stated.issued_at) else {
            return Ok(Copied::Known);
        };
        let statement = head.statement.clone().unwrap_or_default();
        self.prolong(&mut kept, &Proven { statement, issued_at: stated.issued_at, ..Proven::clone(&held) });
        Ok(Copied::Confirmed)
    }

    /// Puts a change in force and on disk.
    pub(crate) fn take_change(&self, change: &wire::Change) -> Result<Taken, RefusedPolicy> {
        if fault::skips_change() {
            return Ok(Taken::Durable(state::leads_to(change)));
        }
        let mut kept = self.kept();
        let held = self.in_force.snapshot().ok_or(RefusedPolicy::NothingToChange)?;
        let snapshot = state::follow(&held, change.clone(), &self.trust.peppers)?;
        let proven = self.believe((snapshot, change.statement.clone()))?;
        Ok(self.take(&mut kept, &proven, Some(change)))
    }

    /// The workspace has nothing newer than this. `Some` if something became durable that was not before.
    pub(crate) fn confirm(&self, heartbeat: &wire::Heartbeat) -> Result<Option<Taken>, Unconfirmed> {
        let mut kept = self.kept();
        let theirs = Version { epoch: heartbeat.epoch, revision: heartbeat.revision };
        let held = self.proven();
        let ours = held.as_ref().map_or(Version::default(), |held| held.snapshot.version());
        let same = held.filter(|held| {
            held.snapshot.version() == theirs && held.snapshot.state_hash().0 == *heartbeat.state_hash
        });
        let held = same.ok_or(Unconfirmed::Differs { theirs, ours })?;
        let (workspace, statement) = (held.snapshot.workspace(), heartbeat.statement.as_ref());
        let issued_at = self.trust.policy_keys.prove(workspace, theirs, &heartbeat.state_hash, statement)?;
        let statement = statement.cloned().ok_or(Unproven::Missing)?;
        let proven = Proven { statement, issued_at, ..Proven::clone(&held) };
        let was_durable = kept.durable;
        self.prolong(&mut kept, &proven);
        Ok((!was_durable).then(|| outcome(&kept, &proven)))
    }

    /// Folds a log that has grown long into a snapshot.
    pub(crate) fn tidy(&self) {
        let mut kept = self.kept();
        let Some(proven) = self.proven() else { return };
        if kept.durable && kept.disk.is_log_long() {
            let written = kept.disk.keep_snapshot(&proven);
            note(&mut kept, &proven, written);
        }
    }

    fn believe(
        &self,
        (snapshot, statement): (Snapshot, Option<wire::Statement>),
    ) -> Result<Proven, RefusedPolicy> {
        Ok(Proven::new(snapshot, statement, &self.trust.policy_keys)?)
    }

    fn check_not_older(&self, proven: &Proven) -> Result<(), RefusedPolicy> {
        let Some(held) = self.in_force.snapshot() else { return Ok(()) };
        let snapshot = &proven.snapshot;
        check_lineage(snapshot.workspace(), snapshot.version(), held.workspace(), held.version())
    }

    fn take(&self, kept: &mut Kept, proven: &Proven, change: Option<&wire::Change>) -> Taken {
        // First in force: a full disk must not keep a revoked key alive.
        self.put_in_force(proven);
        let version = proven.snapshot.version();
        let written = match change {
            // What is on disk must be what the change starts from.
            Some(change) if kept.durable => {
                tracing::debug!(%version, "a change is in force");
                kept.disk.keep_change(change, proven)
            }
            _ => {
                let entries = proven.snapshot.entries().len();
                tracing::info!(%version, entries, "a snapshot is in force");
                kept.disk.keep_snapshot(proven)
            }
        };
        note(kept, proven, written);
        outcome(kept, proven)
    }

    /// What is in force was the latest at a later time than was known.
    fn prolong(&self, kept: &mut Kept, proven: &Proven) {
        self.confirmed(proven);
        if !kept.durable {
            let written = kept.disk.keep_snapshot(proven);
            note(kept, proven, written);
        } else if kept.is_worth_a_mark(proven) {
            let moved = kept.disk.keep_high_water(proven);
            note(kept, proven, moved);
        }
    }

    fn put_in_force(&self, proven: &Proven) {
        let snapshot = &proven.snapshot;
        self.in_force.put(fault::in_force(snapshot));
        self.confirmed(proven);
        self.metrics.applied(snapshot);
        warn_of_problems(snapshot);
        self.applied.send_replace(Some(snapshot.version()));
    }

    fn confirmed(&self, proven: &Proven) {
        if let Some(max_age) = self.trust.max_age {
            self.in_force.limit(proven.issued_at + max_age);
        }
        self.metrics.confirmed(proven.issued_at);
        self.proven.store(Some(Arc::new(proven.clone())));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is busy until the work is done, as with a slow disk.
    #[cfg(test)]
    pub(crate) fn busy_while(&self, work: impl FnOnce()) {
        let _kept = self.kept();
        work();
    }
}

fn note(kept: &mut Kept, proven: &Proven, written: std::io::Result<()>) {
    kept.durable = written.is_ok();
    match written {
        Ok(()) => {
            kept.written = proven.issued_at;
            kept.high_water = Some(HighWater::new(proven));
        }
        Err(error) => tracing::error!(
            %error,
            version = %proven.snapshot.version(),
            "policy is in force but cannot be written to disk, and so is not acknowledged"
        ),
    }
}

fn outcome(kept: &Kept, proven: &Proven) -> Taken {
    if kept.durable { Taken::Durable(proven.snapshot.version()) } else { Taken::InMemory }
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
    let invalid = snapshot.invalid_services().filter_map(|service| Some((service, service.problem()?)));
    for (service, problem) in invalid.take(NAMED_PROBLEMS) {
        tracing::warn!(service = %service.name(), %problem, "nothing can be decided for this service");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::fixtures::{
        self, ISSUED_AT, change, give, heartbeat, keeper, key_service, open_service, statement_at,
        statement_by, trust, version,
    };
    use crate::statement::PolicyKey;

    /// Each change would otherwise leave another copy of what it replaced.
    #[test]
    fn t118_snapshots_are_freed_once_nobody_reads_them() {
        let data = tempfile::tempdir().unwrap();
        let keeper = keeper(data.path(), trust());
        let before: Vec<_> = (0..50).map(|number| open_service(&format!("svc-{number:02}"))).collect();
        give(&keeper, version(1, 1), &before);
        let replaced = Arc::downgrade(&keeper.proven().unwrap().snapshot);
        let read = keeper.in_force().snapshot();

        let mut after = before;
        after[7] = key_service("svc-07", 1);
        let taken = keeper.take_change(&change(1, 1, 2, vec![after[7].clone()], &after)).unwrap();
        assert_eq!(taken, Taken::Durable(version(1, 2)));
        assert!(replaced.upgrade().is_some(), "a check still reads it");
        drop(read);
        assert!(replaced.upgrade().is_none());
    }

    fn believing(keys: &[&PolicyKey]) -> Trust {
        let policy_keys = TrustedPolicyKeys::new(keys.iter().map(|key| key.public())).unwrap();
        Trust { policy_keys, ..trust() }
    }

    fn another_key() -> PolicyKey {
        PolicyKey::from_pem(&PolicyKey::generate().unwrap()).unwrap()
    }

    /// The old key may be taken from the gate as soon as the workspace signs with the new one.
    #[test]
    fn the_first_word_under_a_new_policy_key_is_on_disk_at_once() {
        let data = tempfile::tempdir().unwrap();
        let (old, new) = (fixtures::policy_key(), another_key());
        let (at, policy) = (version(1, 7), [key_service("one", 1)]);
        let both = keeper(data.path(), believing(&[&old, &new]));
        give(&both, at, &policy);
        let statement = statement_by(&new, at, &policy, ISSUED_AT + Duration::from_secs(1));
        both.confirm(&heartbeat(at, &policy, statement)).unwrap();
        drop(both);

        let again = keeper(data.path(), believing(&[&new]));
        assert_eq!(again.proven().map(|held| held.snapshot.version()), Some(at));
        let older = {
            let mut part = fixtures::parts(version(1, 6), &policy, 1).remove(0);
            part.statement = Some(statement_by(&new, version(1, 6), &policy, ISSUED_AT));
            part
        };
        assert!(matches!(again.admit(&older), Err(RefusedPolicy::Backwards { .. })));
    }

    /// What nobody whom it trusts has signed is no policy, but that it went so far still holds.
    #[test]
    fn a_mark_holds_whoever_signed_it() {
        let data = tempfile::tempdir().unwrap();
        let (new, policy) = (another_key(), [key_service("one", 1)]);
        give(&keeper(data.path(), trust()), version(1, 7), &policy);
        let again = keeper(data.path(), believing(&[&new]));
        assert!(again.proven().is_none());
        let begins = |revision| {
            let at = version(1, revision);
            let mut part = fixtures::parts(at, &policy, 1).remove(0);
            part.statement = Some(statement_by(&new, at, &policy, ISSUED_AT));
            part
        };
        assert!(matches!(again.admit(&begins(6)), Err(RefusedPolicy::Backwards { .. })));
        assert_eq!(again.admit(&begins(7)), Ok(()));
    }

    /// Each heartbeat would otherwise cost a wait for the disk.
    #[test]
    fn confirmations_reach_the_disk_once_a_minute_whichever_way_the_clock_went() {
        let (at, policy) = (version(1, 7), [key_service("one", 1)]);
        let minute = CONFIRMATION_INTERVAL;
        let almost = minute - Duration::from_millis(1);
        let (forward, back) = (ISSUED_AT + minute, ISSUED_AT.saturating_sub(minute));
        for (issued_at, on_disk) in [
            (ISSUED_AT + almost, ISSUED_AT),
            (ISSUED_AT.saturating_sub(almost), ISSUED_AT),
            (forward, forward),
            (back, back),
        ] {
            let data = tempfile::tempdir().unwrap();
            let first = keeper(data.path(), trust());
            give(&first, at, &policy);
            first.confirm(&heartbeat(at, &policy, statement_at(at, &policy, issued_at))).unwrap();
            assert_eq!(first.proven().unwrap().issued_at, issued_at);
            drop(first);
            assert_eq!(keeper(data.path(), trust()).proven().unwrap().issued_at, on_disk);
        }
    }
}
