//! The workspace's own metrics.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use scoregate_authz::{AuthMode, UnixTime};

use super::domain::OperationState;
use super::rotation::unix_time;
use super::signing_keys::{SigningKeyState, SigningKeys};
use crate::metrics::{AtomicHistogram, Metrics, OF_CHANGES};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModeLabels {
    mode: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

/// Counters and gauges, resolved at the start.
#[derive(Debug, Clone)]
pub(super) struct Series {
    disabled: Gauge,
    key: Gauge,
    token: Gauge,
    pub(super) gates_connected: Gauge,
    /// 1 while the store works, 0 while it does not.
    pub(super) store_up: Gauge,
    pub(super) changes: Counter,
    pub(super) keys_listed: Counter,
    pub(super) tokens_issued: Counter,
    pub(super) tokens_reused: Counter,
    pub(super) nacks: Counter,
    /// From a commit to the last ack.
    pub(super) change_enforced: AtomicHistogram,
    /// By state, in the order of [`SigningKeyState::WORDS`].
    signing_keys: [Gauge; 3],
    signing_key_age: Gauge<f64, AtomicU64>,
    pub(super) usage_reports: Counter,
    succeeded: Counter,
    timed_out: Counter,
}

impl Series {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let services = Family::<ModeLabels, Gauge>::default();
        let operations = Family::<StateLabels, Counter>::default();
        let signing_keys = Family::<StateLabels, Gauge>::default();
        let keys_in = |state| signing_keys.get_or_create(&StateLabels { state }).clone();
        let of_mode = |mode: AuthMode| services.get_or_create(&ModeLabels { mode: mode.as_str() }).clone();
        let of_state =
            |state: OperationState| operations.get_or_create(&StateLabels { state: state.as_str() }).clone();
        let series = Self {
            disabled: of_mode(AuthMode::Disabled),
            key: of_mode(AuthMode::Key),
            token: of_mode(AuthMode::Token),
            gates_connected: Gauge::default(),
            store_up: Gauge::default(),
            changes: Counter::default(),
            keys_listed: Counter::default(),
            tokens_issued: Counter::default(),
            tokens_reused: Counter::default(),
            nacks: Counter::default(),
            usage_reports: Counter::default(),
            change_enforced: AtomicHistogram::new(OF_CHANGES),
            signing_keys: SigningKeyState::WORDS.map(keys_in),
            signing_key_age: Gauge::default(),
            succeeded: of_state(OperationState::Succeeded),
            timed_out: of_state(OperationState::TimedOut),
        };
        series.store_up.set(1);
        metrics.register(|registry| {
            let registry = registry.sub_registry_with_prefix("workspace");
            registry.register(
                "services",
                "Services by authentication mode; `disabled` ones are open",
                services,
            );
            registry.register(
                "gates_connected",
                "Gates that have the policy feed open",
                series.gates_connected.clone(),
            );
            registry.register(
                "store_up",
                "1 while the database works; while it does not, changes are refused",
                series.store_up.clone(),
            );
            registry.register("changes", "Committed changes", series.changes.clone());
            registry.register(
                "keys_listed",
                "Times that the keys of a service were shown",
                series.keys_listed.clone(),
            );
            registry.register("tokens_issued", "Tokens signed", series.tokens_issued.clone());
            registry.register("tokens_reused", "Tokens handed out again", series.tokens_reused.clone());
            registry.register("nacks", "Snapshots and changes that gates refused", series.nacks.clone());
            registry.register(
                "usage_reports",
                "Reports of gates on which keys and tokens are in use",
                series.usage_reports.clone(),
            );
            registry.register(
                "change_enforced_seconds",
                "Time from the commit of a change to the last ack of the gates that were connected then; above 60 s where one \
                 did not confirm it",
                series.change_enforced.clone(),
            );
            registry.register(
                "signing_keys",
                "Signing keys by state: `published` to gates, `signing`, `retired` until their last token has expired",
                signing_keys,
            );
            registry.register(
                "signing_key_age_seconds",
                "For how long the present signing key has signed",
                series.signing_key_age.clone(),
            );
            registry.register("operations", "Finished operations by state", operations);
        });
        series
    }

    /// Shows how many signing keys are in each state, and for how long the one that signs does.
    pub(super) fn show_signing_keys(&self, keys: &SigningKeys, now: UnixTime) {
        for (gauge, word) in self.signing_keys.iter().zip(SigningKeyState::WORDS) {
            let count = keys.all().iter().filter(|key| key.state.as_str() == word).count();
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let age = now.saturating_sub(unix_time(keys.signing().state.since()));
        self.signing_key_age.set(age.as_secs_f64());
    }

    /// Services of a mode.
    pub(super) fn services(&self, mode: AuthMode) -> &Gauge {
        match mode {
            AuthMode::Disabled => &self.disabled,
            AuthMode::Key => &self.key,
            AuthMode::Token => &self.token,
        }
    }

    /// Counts the end of an operation.
    pub(super) fn ended(&self, state: OperationState) {
        match state {
            OperationState::Running => {}
            OperationState::Succeeded => drop(self.succeeded.inc()),
            OperationState::TimedOut => drop(self.timed_out.inc()),
        }
    }
}
