//! Refused requests: a line in the log for each, but never more than a log can take, and the last ones in memory, for
//! whoever asks "why 401?". What shadow lets through counts as refused.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

use scoregate_authz::{Decision, DenyReason, Finding, Reason, ServiceName, Slot, UnixTime, Verdict};

use super::request::HttpView;
use super::request_ids::{RequestIds, request_ids};
use crate::bucket::Bucket;

/// Lines per second and worker, and as many at once.
const RATE: u32 = 10;
/// Refusals that are remembered, by each worker: some hundred bytes each.
const REMEMBERED: usize = 1_000;

/// The steps of a decision: what was looked at, and what came of it.
pub(crate) type Steps = Vec<(&'static str, String)>;

/// A refused request. Nothing of it is a credential.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) at: UnixTime,
    pub(crate) reason: Reason,
    /// Why it would be refused, where shadow lets it through.
    pub(crate) would_be: Option<DenyReason>,
    pub(crate) service: Option<ServiceName>,
    pub(crate) finding: Option<Finding>,
    pub(crate) ids: RequestIds,
    pub(crate) revision: u64,
    /// Of those that have a line in the log.
    pub(crate) steps: Option<Steps>,
}

impl Refusal {
    /// `None` for a credential that was good.
    fn of(verdict: &Verdict, request: Option<HttpView<'_>>, at: UnixTime) -> Option<Self> {
        let would_be = match &verdict.decision {
            Decision::Allow(permit) => Some(permit.would_be()?),
            Decision::Deny(_) | Decision::Undecided(_) => None,
        };
        Some(Self {
            at,
            reason: verdict.decision.reason(),
            would_be,
            service: verdict.service.as_ref().map(|service| service.name().clone()),
            finding: verdict.finding.clone(),
            ids: request.map(request_ids).unwrap_or_default(),
            revision: verdict.revision,
            steps: None,
        })
    }

    /// The slot that had the key until it was replaced.
    pub(crate) fn key_slot(&self) -> Option<&'static str> {
        match &self.finding {
            Some(Finding::ReplacedKey(slot)) => Some(Slot::as_str(*slot)),
            _ => None,
        }
    }

    /// The signing key that the token names, if it is one of the workspace's.
    pub(crate) fn signing_key(&self) -> Option<&str> {
        match &self.finding {
            Some(Finding::SigningKey(id)) => Some(id),
            _ => None,
        }
    }

    fn log(&self, left_out: u64) {
        let message = if self.would_be.is_some() { "refused, but let through in shadow" } else { "refused" };
        tracing::info!(
            outcome = self.reason.outcome(),
            reason = self.reason.metric_label(),
            shadow_reason = self.would_be.map(DenyReason::code),
            service = self.service.as_ref().map(ServiceName::as_str),
            key_slot = self.key_slot(),
            signing_key = self.signing_key(),
            request_id = self.ids.request_id,
            trace_id = self.ids.trace_id,
            revision = self.revision,
            left_out,
            "{message}"
        );
    }
}

/// Takes note of the refusals of one worker.
#[derive(Debug)]
pub(crate) struct RefusalLog {
    bucket: Mutex<Bucket>,
    ring: Arc<Ring>,
}

impl RefusalLog {
    pub(crate) fn new(ring: Arc<Ring>) -> Self {
        Self { bucket: Mutex::new(Bucket::full(RATE, Instant::now())), ring }
    }

    /// Takes note of a verdict. Only a refusal costs anything. `explain` decides once more: it is asked as often as a line
    /// is written, up to [`RATE`] per second.
    pub(crate) fn note(
        &self,
        verdict: &Verdict,
        request: Option<HttpView<'_>>,
        now: UnixTime,
        explain: impl FnOnce() -> Option<Steps>,
    ) {
        let Some(mut refusal) = Refusal::of(verdict, request, now) else { return };
        let admitted = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
        if let Some(left_out) = admitted {
            refusal.log(left_out);
            refusal.steps = explain();
        }
        self.ring.push(refusal);
    }
}

/// The last refusals of one worker.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    refusals: Mutex<VecDeque<Arc<Refusal>>>,
    forgotten: AtomicU64,
}

impl Ring {
    /// INVARIANT: a check never waits here. While somebody looks, which takes microseconds, a refusal is not remembered.
    fn push(&self, refusal: Refusal) {
        let mut refusals = match self.refusals.try_lock() {
            Ok(refusals) => refusals,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.forgotten.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        if refusals.len() == REMEMBERED {
            refusals.pop_front();
            self.forgotten.fetch_add(1, Ordering::Relaxed);
        }
        refusals.push_back(Arc::new(refusal));
    }

    fn refusals(&self) -> MutexGuard<'_, VecDeque<Arc<Refusal>>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last refusals of all workers.
#[derive(Debug, Clone)]
pub(crate) struct RecentRefusals(Arc<[Arc<Ring>]>);

/// Some of them, and what is known of the others.
#[derive(Debug)]
pub(crate) struct Recent {
    /// The latest first.
    pub(crate) refusals: Vec<Arc<Refusal>>,
    /// How many are remembered.
    pub(crate) remembered: usize,
    /// How many were, since the start, or should have been.
    pub(crate) forgotten: u64,
}

impl RecentRefusals {
    pub(crate) fn of_workers(workers: usize) -> Self {
        Self((0..workers).map(|_| Arc::default()).collect())
    }

    /// One for each worker.
    pub(crate) fn rings(&self) -> impl Iterator<Item = Arc<Ring>> {
        self.0.iter().map(Arc::clone)
    }

    /// The last so many of which something holds.
    pub(crate) fn last(&self, most: usize, holds: impl Fn(&Refusal) -> bool) -> Recent {
        let mut refusals: Vec<_> = Vec::new();
        // Only pointers are copied while a worker cannot remember anything.
        self.0.iter().for_each(|ring| refusals.extend(ring.refusals().iter().cloned()));
        let remembered = refusals.len();
        refusals.retain(|refusal| holds(refusal));
        refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.at));
        refusals.truncate(most);
        let forgotten = self.0.iter().map(|ring| ring.forgotten.load(Ordering::Relaxed)).sum();
        Recent { refusals, remembered, forgotten }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scoregate_authz::Denial;

    fn note(log: &RefusalLog, second: u64) {
        let denial = Denial { reason: DenyReason::UnknownKey, credential_presented: true };
        let verdict = Verdict { decision: Decision::Deny(denial), ..Verdict::internal() };
        log.note(&verdict, None, UnixTime::from_secs(second), || None);
    }

    fn seconds(recent: &Recent) -> Vec<u64> {
        recent.refusals.iter().map(|refusal| refusal.at.as_secs()).collect()
    }

    #[test]
    fn the_last_refusals_of_all_workers_are_remembered() {
        let recent = RecentRefusals::of_workers(2);
        let logs: Vec<_> = recent.rings().map(RefusalLog::new).collect();
        for second in 0..1_500 {
            note(&logs[0], second);
        }
        note(&logs[1], 1_498);
        let last = recent.last(3, |_| true);
        assert_eq!(seconds(&last), [1_499, 1_498, 1_498]);
        assert_eq!((last.remembered, last.forgotten), (1_001, 500));
        assert_eq!(seconds(&recent.last(9, |refusal| refusal.at.as_secs() < 501)), [500]);
    }

    #[test]
    fn a_check_does_not_wait_for_somebody_who_looks() {
        let recent = RecentRefusals::of_workers(1);
        let ring = recent.rings().next().unwrap();
        let log = RefusalLog::new(Arc::clone(&ring));
        let looking = ring.refusals();
        note(&log, 1);
        drop(looking);
        note(&log, 2);
        let last = recent.last(9, |_| true);
        assert_eq!((seconds(&last), last.forgotten), (vec![2], 1));
    }

    #[test]
    fn steps_are_asked_for_no_more_often_than_lines_are_written() {
        let recent = RecentRefusals::of_workers(1);
        let log = RefusalLog::new(recent.rings().next().unwrap());
        let asked = std::cell::Cell::new(0);
        for _ in 0..100 {
            log.note(&Verdict::internal(), None, UnixTime::ZERO, || {
                asked.set(asked.get() + 1);
                Some(Steps::new())
            });
        }
        assert!((10..15).contains(&asked.get()), "{}", asked.get());
        let with_steps = recent.last(100, |refusal| refusal.steps.is_some());
        assert_eq!(with_steps.refusals.len(), asked.get());
    }
}
