//! The policy in force, and until when it may be used: what checks read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwapOption, Guard};
use scoregate_authz::{Snapshot, UnixTime};

/// One snapshot, shared by all who decide. It is replaced as a whole.
#[derive(Debug)]
pub(crate) struct InForce {
    snapshot: ArcSwapOption<Snapshot>,
    /// In Unix milliseconds.
    usable_until: AtomicU64,
}

impl Default for InForce {
    /// Without policy; and what comes may be used for ever, until something else is said.
    fn default() -> Self {
        Self { snapshot: ArcSwapOption::empty(), usable_until: AtomicU64::new(u64::MAX) }
    }
}

impl InForce {
    /// Puts a snapshot in the place of the one before.
    pub(crate) fn put(&self, snapshot: Arc<Snapshot>) {
        self.snapshot.store(Some(snapshot));
    }

    /// Until when it may be used.
    pub(crate) fn limit(&self, until: UnixTime) {
        let millis = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.usable_until.store(millis, Ordering::Relaxed);
    }

    /// The snapshot, for the moment of a check.
    pub(crate) fn load(&self) -> Guard<Option<Arc<Snapshot>>> {
        self.snapshot.load()
    }

    /// The snapshot, for longer.
    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.load_full()
    }

    /// Whether it may not be used any more.
    pub(crate) fn is_stale(&self, now: UnixTime) -> bool {
        now.as_millis() > u128::from(self.usable_until.load(Ordering::Relaxed))
    }
}
