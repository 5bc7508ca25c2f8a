//! The log of refused requests: a line each, but never more than a log can take.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use scoregate_authz::{Decision, Verdict};

use super::request::HttpView;

/// Lines per second, and as many at once.
const RATE: u32 = 10;
const MAX_REQUEST_ID_LENGTH: usize = 128;

/// Writes a line for each refused request, up to [`RATE`] per second, and says how many it left out.
#[derive(Debug)]
pub(crate) struct RefusalLog(Mutex<Bucket>);

impl RefusalLog {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Bucket::full(Instant::now())))
    }

    /// Takes note of a verdict. Only a refusal costs anything.
    pub(crate) fn note(&self, verdict: &Verdict, request: Option<HttpView<'_>>) {
        match verdict.decision {
            Decision::Allow(_) => return,
            Decision::Deny(_) | Decision::Undecided(_) => {}
        }
        let admitted = self.0.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
        let Some(left_out) = admitted else { return };
        let reason = verdict.decision.reason();
        tracing::info!(
            outcome = reason.outcome(),
            reason = reason.metric_label(),
            service = verdict.service.as_ref().map(|service| service.name().as_str()),
            request_id = request.map(request_id),
            revision = verdict.revision,
            left_out,
            "refused"
        );
    }
}

/// `x-request-id`, which the client may have made up: only what such an id consists of.
fn request_id(request: HttpView<'_>) -> String {
    let id = request.header("x-request-id").unwrap_or_default();
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    id.iter().filter(|byte| allowed(byte)).take(MAX_REQUEST_ID_LENGTH).map(|byte| char::from(*byte)).collect()
}

/// A token bucket.
#[derive(Debug)]
struct Bucket {
    tokens: u32,
    refilled: Instant,
    left_out: u64,
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self { tokens: RATE, refilled: now, left_out: 0 }
    }

    /// How many were left out before this one, or `None` if this one is left out too.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        const PER_TOKEN: Duration = Duration::from_millis(1000 / RATE as u64);
        let earned = now.saturating_duration_since(self.refilled).as_millis() / PER_TOKEN.as_millis();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(earned).min(RATE);
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
        let mut bucket = Bucket::full(start);
        let admitted = (0..100).filter(|_| bucket.admit(start).is_some()).count();
        assert_eq!(admitted, RATE as usize);
        assert_eq!(bucket.admit(start + Duration::from_secs(1)), Some(90));
        assert_eq!(bucket.admit(start + Duration::from_secs(1)), Some(0));
    }
}
