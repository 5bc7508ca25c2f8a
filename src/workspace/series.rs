//! The workspace's own metrics.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use scoregate_authz::AuthMode;

use super::domain::OperationState;
use crate::metrics::Metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModeLabels {
    mode: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

/// Counters and gauges, resolved at the start.
#[derive(Debug, Clone, Default)]
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
    succeeded: Counter,
    timed_out: Counter,
}

impl Series {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let services = Family::<ModeLabels, Gauge>::default();
        let operations = Family::<StateLabels, Counter>::default();
        let of_mode = |mode: AuthMode| services.get_or_create(&ModeLabels { mode: mode.as_str() }).clone();
        let of_state =
            |state: OperationState| operations.get_or_create(&StateLabels { state: state.as_str() }).clone();
        let series = Self {
            disabled: of_mode(AuthMode::Disabled),
            key: of_mode(AuthMode::Key),
            token: of_mode(AuthMode::Token),
            succeeded: of_state(OperationState::Succeeded),
            timed_out: of_state(OperationState::TimedOut),
            ..Self::default()
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
            registry.register("operations", "Finished operations by state", operations);
        });
        series
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
