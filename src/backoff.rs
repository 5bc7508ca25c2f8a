//! How long to wait before the next attempt.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// Exponential, with full jitter: many gates that lost one workspace do not come back to it at one moment.
#[derive(Debug)]
pub(crate) struct Backoff {
    bound: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self::up_to(LONGEST)
    }

    /// With another longest delay.
    pub(crate) fn up_to(longest: Duration) -> Self {
        Self { bound: FIRST, longest }
    }

    /// The next delay: a fraction, at least 0 and below 1, of a bound that doubles up to the longest.
    pub(crate) fn next(&mut self, fraction: f64) -> Duration {
        let delay = self.bound.mul_f64(fraction);
        self.bound = (self.bound * 2).min(self.longest);
        delay
    }

    /// All is well: begin anew.
    pub(crate) fn reset(&mut self) {
        self.bound = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t113_delays_double_up_to_a_bound_and_are_random() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.next(0.5), Duration::from_millis(50));
        assert_eq!(backoff.next(0.5), Duration::from_millis(100));
        assert_eq!(backoff.next(0.0), Duration::ZERO);
        let last = (0..20).map(|_| backoff.next(0.99)).last();
        assert_eq!(last, Some(LONGEST.mul_f64(0.99)));
        backoff.reset();
        assert_eq!(backoff.next(0.5), Duration::from_millis(50));
    }
}
