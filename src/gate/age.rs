//! How old the policy in force is, told once whenever that becomes another matter.

use std::sync::Arc;
use std::time::Duration;

use scoregate_authz::UnixTime;
use tokio::time::MissedTickBehavior;

use super::keeper::Keeper;
use super::metrics::PolicyMetrics;
use crate::admin::Health;
use crate::clock::Clock;
use crate::shutdown::Shutdown;

const TICK: Duration = Duration::from_secs(1);
/// A workspace that is there confirms policy every 5 s.
const EXPECTED: Duration = Duration::from_secs(60);
/// How far the workspace's clock may be ahead before it is mentioned.
const MAX_AHEAD: Duration = Duration::from_secs(60);

/// What is to be said of policy's age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    /// Nothing.
    Fresh,
    /// It was confirmed in the future.
    Ahead,
    /// Nobody has confirmed it lately.
    Unconfirmed,
    /// Half of the time that it may be used has passed.
    Old,
    /// Nothing is decided by it any more.
    Stale,
}

impl Age {
    fn of(issued_at: UnixTime, now: UnixTime, max: Option<Duration>) -> Self {
        let age = now.saturating_sub(issued_at);
        match max {
            Some(max) if age > max => Self::Stale,
            Some(max) if age > max / 2 => Self::Old,
            _ if age > EXPECTED => Self::Unconfirmed,
            _ if issued_at.saturating_sub(now) > MAX_AHEAD => Self::Ahead,
            _ => Self::Fresh,
        }
    }
}

/// Looks at the age.
#[derive(Debug)]
pub(crate) struct AgeWatch {
    pub(crate) keeper: Arc<Keeper>,
    /// `None` for ever.
    pub(crate) max_age: Option<Duration>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: PolicyMetrics,
    pub(crate) health: Health,
}

impl AgeWatch {
    /// Until the shutdown stops.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        self.metrics.limited(self.max_age);
        let mut told = Age::Fresh;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => told = self.look(told),
                () = shutdown.stopping() => return,
            }
        }
    }

    fn look(&self, told: Age) -> Age {
        let Some(proven) = self.keeper.proven() else { return told };
        let now = self.clock.now();
        let age = Age::of(proven.issued_at, now, self.max_age);
        if age != told {
            tell(age, now.saturating_sub(proven.issued_at), self.max_age);
            let is_stale = age == Age::Stale;
            self.metrics.stale(is_stale);
            self.health.remark(is_stale.then(|| "the policy is too old to decide by".to_owned()));
        }
        age
    }
}

fn tell(now: Age, age: Duration, max: Option<Duration>) {
    let age = Duration::from_secs(age.as_secs());
    match now {
        Age::Fresh => tracing::info!("the policy is confirmed again"),
        Age::Ahead => {
            tracing::warn!(
                "the policy was confirmed in the future: a clock is wrong, here or at the workspace"
            );
        }
        Age::Unconfirmed => tracing::warn!(?age, ?max, "nobody has confirmed the policy lately"),
        Age::Old => tracing::error!(?age, ?max, "the policy is old: past its maximum age nothing is decided"),
        Age::Stale => {
            tracing::error!(?age, ?max, "the policy is too old: nothing is decided until it is confirmed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(1_000, 1_000, Age::Fresh)]
    #[case(1_060, 1_000, Age::Fresh)]
    #[case(1_061, 1_000, Age::Ahead)]
    #[case(1_000, 1_060, Age::Fresh)]
    #[case(1_000, 1_061, Age::Unconfirmed)]
    #[case(1_000, 2_800, Age::Unconfirmed)]
    #[case(1_000, 2_801, Age::Old)]
    #[case(1_000, 4_600, Age::Old)]
    #[case(1_000, 4_601, Age::Stale)]
    fn age_by_signed_time(#[case] issued: u64, #[case] now: u64, #[case] expected: Age) {
        let seconds = Duration::from_secs;
        assert_eq!(Age::of(seconds(issued), seconds(now), Some(seconds(3_600))), expected);
    }

    #[test]
    fn without_a_maximum_nothing_is_stale() {
        let (issued, now) = (Duration::from_secs(1), Duration::from_hours(1_000));
        assert_eq!(Age::of(issued, now, None), Age::Unconfirmed);
    }
}
