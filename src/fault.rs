//! Faults that tests plant in a gate, to see that what guards against them would notice.
//!
//! Without the feature `fault-injection` all of this is compiled to nothing, and with it there is no release build. The
//! variable `SCOREGATE_FAULT` says which fault, if any.

#[cfg(all(feature = "fault-injection", not(debug_assertions)))]
compile_error!("`fault-injection` is for tests: there is no release build with it");

use std::sync::Arc;

use scoregate_authz::Snapshot;

/// Says so, loudly, if this build can plant faults.
pub(crate) fn warn() {
    #[cfg(feature = "fault-injection")]
    injected::warn();
}

/// Whether a change is to be acknowledged without being applied.
pub(crate) fn skips_change() -> bool {
    #[cfg(feature = "fault-injection")]
    return injected::skips_change();
    #[cfg(not(feature = "fault-injection"))]
    false
}

/// What is put in force in place of a snapshot.
pub(crate) fn in_force(snapshot: &Arc<Snapshot>) -> Arc<Snapshot> {
    #[cfg(feature = "fault-injection")]
    return injected::in_force(snapshot);
    #[cfg(not(feature = "fault-injection"))]
    Arc::clone(snapshot)
}

/// Before a check.
#[cfg_attr(not(feature = "fault-injection"), expect(clippy::unused_async, reason = "a fault may wait"))]
pub(crate) async fn before_check() {
    #[cfg(feature = "fault-injection")]
    injected::before_check().await;
}

/// Within a decision.
pub(crate) fn within_decision() {
    #[cfg(feature = "fault-injection")]
    injected::within_decision();
}

#[cfg(feature = "fault-injection")]
mod injected {
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, LazyLock, Mutex, PoisonError};
    use std::time::Duration;

    use scoregate_authz::Snapshot;

    const VARIABLE: &str = "SCOREGATE_FAULT";
    const FAULTS: [&str; 4] = ["skip-change", "apply-older", "slow-check", "panic-in-decision"];
    /// How often a fault shows that does not show always.
    const EVERY: u32 = 10;
    /// How far back an older snapshot lies.
    const BACK: usize = 6;

    #[expect(clippy::disallowed_methods, reason = "no configuration of the product has this")]
    static FAULT: LazyLock<String> = LazyLock::new(|| std::env::var(VARIABLE).unwrap_or_default());

    pub(super) fn warn() {
        let fault = FAULT.as_str();
        let known = fault.is_empty() || FAULTS.contains(&fault);
        tracing::error!(
            fault,
            known,
            "THIS BUILD PLANTS FAULTS. It is for tests and must never guard anything."
        );
    }

    fn is_due(fault: &str, count: &AtomicU32) -> bool {
        *FAULT == fault && count.fetch_add(1, Ordering::Relaxed) % EVERY == EVERY - 1
    }

    pub(super) fn skips_change() -> bool {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        is_due("skip-change", &COUNT)
    }

    pub(super) fn in_force(snapshot: &Arc<Snapshot>) -> Arc<Snapshot> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static PAST: Mutex<VecDeque<Arc<Snapshot>>> = Mutex::new(VecDeque::new());
        let mut past = PAST.lock().unwrap_or_else(PoisonError::into_inner);
        past.push_back(Arc::clone(snapshot));
        if past.len() > BACK {
            past.pop_front();
        }
        let oldest = past.front().filter(|_| is_due("apply-older", &COUNT));
        Arc::clone(oldest.unwrap_or(snapshot))
    }

    pub(super) async fn before_check() {
        if *FAULT == "slow-check" {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }

    #[expect(clippy::panic, reason = "this is the fault")]
    pub(super) fn within_decision() {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if is_due("panic-in-decision", &COUNT) {
            panic!("a planted fault");
        }
    }
}
