//! How long changes take to be enforced: from a commit to the last word of the gates that were connected then.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scoregate_authz::{UnixTime, Version};

use crate::metrics::AtomicHistogram;

/// After this time a change is counted as one that took longer than all buckets. A gate that is away still decides as
/// before: that it disconnected does not make a change enforced.
const PATIENCE: Duration = Duration::from_secs(60);
/// Commits that are remembered. Beyond them it is only known that a gate is behind for longer.
const REMEMBERED: usize = 10_000;

/// Commits on their way to the gates.
#[derive(Debug)]
pub(super) struct Propagation {
    enforced: AtomicHistogram,
    commits: Mutex<Commits>,
}

#[derive(Debug, Default)]
struct Commits {
    /// All of late, oldest first.
    recent: VecDeque<(Version, UnixTime)>,
    /// Those that not every gate has confirmed, oldest first.
    pending: VecDeque<Pending>,
}

#[derive(Debug)]
struct Pending {
    version: Version,
    at: UnixTime,
    missing: HashSet<String>,
}

impl Propagation {
    /// Begins with what the store held at this time.
    pub(super) fn new(enforced: AtomicHistogram, version: Version, now: UnixTime) -> Self {
        let commits = Commits { recent: [(version, now)].into(), pending: VecDeque::new() };
        Self { enforced, commits: Mutex::new(commits) }
    }

    /// A commit, with the gates that are connected at this moment.
    pub(super) fn committed(&self, version: Version, at: UnixTime, gates: Vec<String>) {
        let mut commits = self.commits();
        push(&mut commits.recent, (version, at));
        if !gates.is_empty() {
            push(&mut commits.pending, Pending { version, at, missing: gates.into_iter().collect() });
        }
    }

    /// A gate enforces this.
    pub(super) fn acknowledged(&self, gate: &str, version: Version, now: UnixTime) {
        self.commits().pending.retain_mut(|pending| {
            let was_last =
                version >= pending.version && pending.missing.remove(gate) && pending.missing.is_empty();
            if was_last {
                self.enforced.observe(now.saturating_sub(pending.at));
            }
            !was_last
        });
    }

    /// Counts those that were not enforced in time.
    pub(super) fn give_up(&self, now: UnixTime) {
        let mut commits = self.commits();
        while let Some(oldest) = commits.pending.front() {
            let age = now.saturating_sub(oldest.at);
            if age <= PATIENCE {
                break;
            }
            self.enforced.observe(age);
            commits.pending.pop_front();
        }
    }

    /// When the first commit was made that is not in this version; `None` if it is the latest.
    pub(super) fn first_after(&self, version: Version) -> Option<UnixTime> {
        let commits = self.commits();
        let first = commits.recent.partition_point(|(committed, _)| *committed <= version);
        commits.recent.get(first).map(|(_, at)| *at)
    }

    fn commits(&self) -> MutexGuard<'_, Commits> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == REMEMBERED {
        queue.pop_front();
    }
    queue.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Metrics, OF_CHANGES};

    fn at(revision: u64) -> Version {
        Version { epoch: 1, revision }
    }

    fn millis(millis: u64) -> UnixTime {
        Duration::from_millis(millis)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn propagation() -> (Metrics, Propagation) {
        let (metrics, histogram) = (Metrics::default(), AtomicHistogram::new(OF_CHANGES));
        metrics.register(|registry| registry.register("enforced", "How long", histogram.clone()));
        (metrics, Propagation::new(histogram, at(1), millis(0)))
    }

    fn has(metrics: &Metrics, line: &str) -> bool {
        metrics.render().lines().any(|found| found == line)
    }

    #[test]
    fn a_change_is_enforced_with_the_last_ack_of_those_that_were_connected() {
        let (metrics, propagation) = propagation();
        propagation.committed(at(2), millis(1000), names(&["a", "b"]));
        propagation.committed(at(3), millis(1000), names(&["a", "b"]));
        propagation.committed(at(4), millis(1000), Vec::new());
        propagation.acknowledged("a", at(3), millis(1001));
        propagation.acknowledged("late", at(3), millis(1002));
        propagation.acknowledged("a", at(3), millis(1003));
        assert!(has(&metrics, "scoregate_enforced_count 0"));
        propagation.acknowledged("b", at(2), millis(1004));
        assert!(has(&metrics, r#"scoregate_enforced_bucket{le="0.005"} 1"#), "{}", metrics.render());
        propagation.acknowledged("b", at(4), millis(1015));
        assert!(has(&metrics, r#"scoregate_enforced_bucket{le="0.01"} 1"#));
        assert!(has(&metrics, r#"scoregate_enforced_bucket{le="0.02"} 2"#));
        assert!(has(&metrics, "scoregate_enforced_count 2"));
    }

    #[test]
    fn a_change_that_is_never_confirmed_took_longer_than_all() {
        let (metrics, propagation) = propagation();
        propagation.committed(at(2), millis(0), names(&["gone"]));
        propagation.give_up(PATIENCE);
        assert!(has(&metrics, "scoregate_enforced_count 0"));
        propagation.give_up(PATIENCE + millis(1));
        assert!(has(&metrics, r#"scoregate_enforced_bucket{le="60.0"} 0"#), "{}", metrics.render());
        assert!(has(&metrics, r#"scoregate_enforced_bucket{le="+Inf"} 1"#));
        propagation.acknowledged("gone", at(2), PATIENCE * 2);
        assert!(has(&metrics, "scoregate_enforced_count 1"), "once");
    }

    #[test]
    fn first_after_tells_since_when_a_version_is_old() {
        let (_, propagation) = propagation();
        for revision in 2..=4 {
            propagation.committed(at(revision), millis(revision * 1000), Vec::new());
        }
        assert_eq!(propagation.first_after(at(4)), None);
        assert_eq!(propagation.first_after(at(2)), Some(millis(3000)));
        assert_eq!(propagation.first_after(at(0)), Some(millis(0)), "at least since the start");
    }
}
