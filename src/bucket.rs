//! Lines in the log that clients can cause: never more than a log can take.

use std::time::{Duration, Instant};

/// A token bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: u32,
    tokens: u32,
    refilled: Instant,
    left_out: u64,
}

impl Bucket {
    /// So many a second, and as many at once.
    pub(crate) fn full(rate: u32, now: Instant) -> Self {
        Self { rate, tokens: rate, refilled: now, left_out: 0 }
    }

    /// How many were left out before this one, or `None` if this one is left out too.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        let per_token = Duration::from_secs(1) / self.rate;
        let earned = now.saturating_duration_since(self.refilled).as_nanos() / per_token.as_nanos();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(earned).min(self.rate);
            self.refilled = now;
        }
        if self.tokens == 0 {
            self.left_out += 1;
            return None;
        }
        self.tokens -= 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admit_limits_and_says_how_many_were_left_out() {
        let start = Instant::now();
        let mut bucket = Bucket::full(10, start);
        let admitted = (0..100).filter(|_| bucket.admit(start).is_some()).count();
        assert_eq!(admitted, 10);
        assert_eq!(bucket.admit(start + Duration::from_secs(1)), Some(90));
        assert_eq!(bucket.admit(start + Duration::from_secs(1)), Some(0));
    }
}
