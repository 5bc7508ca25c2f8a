//! The time of day, which tokens end by.

use std::time::{SystemTime, UNIX_EPOCH};

/// Since 1970.
pub(crate) type Seconds = f64;

#[expect(clippy::disallowed_methods, reason = "the processes under test go by this clock")]
pub(crate) fn now() -> Seconds {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}
