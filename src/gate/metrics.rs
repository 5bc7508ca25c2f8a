//! What a gate counts. Every series is resolved at the start: a check adds to atomics and looks up no label.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use scoregate_authz::{
    AuthMode, Decision, DenyReason, Permit, Reason, Service, Slot, Snapshot, UnixTime, Verdict,
};

use crate::clock::Clock;
use crate::metrics::{AtomicHistogram, Metrics, OF_CHANGES, OF_CHECKS};

/// What every gate counts, wherever its policy is from.
#[derive(Debug, Clone)]
pub(crate) struct GateMetrics {
    pub(crate) checks: CheckMetrics,
    pub(crate) uses: UseMetrics,
    pub(crate) policy: PolicyMetrics,
    /// Open connections to the check port.
    pub(crate) connections: Gauge,
}

impl GateMetrics {
    pub(crate) fn register(metrics: &Metrics, clock: Arc<dyn Clock>) -> Self {
        metrics.register(|registry| {
            let connections = Gauge::default();
            registry.register("connections", "Open connections to the check port", connections.clone());
            Self {
                checks: CheckMetrics::register(registry),
                uses: UseMetrics::register(registry),
                policy: PolicyMetrics::register(registry, clock),
                connections,
            }
        })
    }
}

/// The auth mode of the service that a decision is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Auth(AuthMode),
    /// Its policy is invalid.
    Invalid,
    /// No service was found.
    None,
}

impl Mode {
    const ALL: [Self; 5] = [
        Self::Auth(AuthMode::Disabled),
        Self::Auth(AuthMode::Key),
        Self::Auth(AuthMode::Token),
        Self::Invalid,
        Self::None,
    ];

    fn of(service: Option<&Service>) -> Self {
        service.map_or(Self::None, |service| service.auth_mode().map_or(Self::Invalid, Self::Auth))
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Auth(mode) => mode.as_str(),
            Self::Invalid => "invalid",
            Self::None => "none",
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Auth(AuthMode::Disabled) => 0,
            Self::Auth(AuthMode::Key) => 1,
            Self::Auth(AuthMode::Token) => 2,
            Self::Invalid => 3,
            Self::None => 4,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    mode: &'static str,
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CredentialLabel {
    credential: &'static str,
}

/// Of the checks.
#[derive(Debug, Clone)]
pub(crate) struct CheckMetrics {
    /// By reason and mode: see [`CheckMetrics::decided`].
    decisions: Arc<[(Reason, [Counter; 5])]>,
    /// By the reason for which shadow alone did not refuse.
    shadowed: Arc<[(DenyReason, Counter)]>,
    pub(crate) seconds: AtomicHistogram,
    /// Panics in the code that decides.
    pub(crate) panics: Counter,
    /// Requests whose caller had given up before the check began.
    pub(crate) expired: Counter,
}

impl CheckMetrics {
    fn register(registry: &mut Registry) -> Self {
        let family = Family::<DecisionLabels, Counter>::default();
        let counters = |reason: Reason| {
            Mode::ALL.map(|mode| {
                let (outcome, reason) = (reason.outcome(), reason.metric_label());
                family.get_or_create_owned(&DecisionLabels { mode: mode.as_str(), outcome, reason })
            })
        };
        let decisions = Reason::all().map(|reason| (reason, counters(reason))).collect();
        let shadowed = Family::<ReasonLabel, Counter>::default();
        let in_shadow = |reason: DenyReason| {
            let label = ReasonLabel { reason: Reason::Deny(reason).metric_label() };
            (reason, shadowed.get_or_create_owned(&label))
        };
        let this = Self {
            decisions,
            shadowed: DenyReason::ALL.iter().copied().filter(is_of_a_credential).map(in_shadow).collect(),
            seconds: AtomicHistogram::new(OF_CHECKS),
            panics: Counter::default(),
            expired: Counter::default(),
        };
        registry.register("decisions", "Decisions by auth mode of the service, outcome and reason", family);
        let help =
            "Requests that were let through because their service is in shadow, by why they would be refused";
        registry.register("shadowed", help, shadowed);
        registry.register("decision_seconds", "Time from a request to its answer", this.seconds.clone());
        registry.register("check_panics", "Panics in the code that decides", this.panics.clone());
        registry.register("checks_expired", "Checks whose deadline had passed already", this.expired.clone());
        this
    }

    /// Counts a verdict.
    pub(crate) fn decided(&self, verdict: &Verdict) {
        let reason = verdict.decision.reason();
        // Some thirty short comparisons: cheaper than any hash.
        if let Some((_, by_mode)) = self.decisions.iter().find(|(known, _)| *known == reason) {
            by_mode[Mode::of(verdict.service.as_deref()).index()].inc();
        }
        if let Decision::Allow(permit) = &verdict.decision
            && let Some(reason) = permit.would_be()
            && let Some((_, counter)) = self.shadowed.iter().find(|(known, _)| *known == reason)
        {
            counter.inc();
        }
    }
}

/// Whether shadow can be in place of it.
fn is_of_a_credential(reason: &DenyReason) -> bool {
    !matches!(reason, DenyReason::UnknownService | DenyReason::AmbiguousPath | DenyReason::NoHttp)
}

/// Of credentials that were good.
#[derive(Debug, Clone, Default)]
pub(crate) struct UseMetrics {
    primary: Counter,
    secondary: Counter,
    token: Counter,
}

impl UseMetrics {
    fn register(registry: &mut Registry) -> Self {
        let family = Family::<CredentialLabel, Counter>::default();
        let counter = |credential| family.get_or_create_owned(&CredentialLabel { credential });
        let this = Self {
            primary: counter(Slot::Primary.as_str()),
            secondary: counter(Slot::Secondary.as_str()),
            token: counter("token"),
        };
        registry.register("credential_uses", "Requests allowed by a key of this slot, or by a token", family);
        this
    }

    /// Counts what earned a permit.
    pub(crate) fn used(&self, permit: &Permit) {
        match (permit.key_slot(), permit.subject()) {
            (Some(Slot::Primary), _) => self.primary.inc(),
            (Some(Slot::Secondary), _) => self.secondary.inc(),
            (None, Some(_)) => self.token.inc(),
            (None, None) => 0,
        };
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModeLabel {
    mode: &'static str,
}

/// The auth modes of which services are counted, and `None` for invalid policies.
const COUNTED: [Option<AuthMode>; 4] =
    [Some(AuthMode::Disabled), Some(AuthMode::Key), Some(AuthMode::Token), None];

/// Of the snapshot in force.
#[derive(Debug, Clone)]
pub(crate) struct PolicyMetrics {
    epoch: Gauge,
    revision: Gauge,
    /// As in [`COUNTED`].
    services: [Gauge; COUNTED.len()],
    contested_places: Gauge,
    stale: Gauge,
    /// In seconds; 0 for any age.
    max_age: Gauge<f64, AtomicU64>,
    age: SnapshotAge,
}

impl PolicyMetrics {
    fn register(registry: &mut Registry, clock: Arc<dyn Clock>) -> Self {
        let family = Family::<ModeLabel, Gauge>::default();
        let services = COUNTED.map(|mode| {
            let mode = mode.map_or(Mode::Invalid, Mode::Auth).as_str();
            family.get_or_create_owned(&ModeLabel { mode })
        });
        let age = SnapshotAge { confirmed: Arc::default(), clock };
        let this = Self {
            epoch: Gauge::default(),
            revision: Gauge::default(),
            services,
            contested_places: Gauge::default(),
            stale: Gauge::default(),
            max_age: Gauge::default(),
            age,
        };
        registry.register("snapshot_epoch", "Epoch of the snapshot in force", this.epoch.clone());
        registry.register("snapshot_revision", "Revision of the snapshot in force", this.revision.clone());
        registry.register(
            "snapshot_age_seconds",
            "Time since the workspace, or the policy file, last confirmed the snapshot in force; NaN without one",
            this.age.clone(),
        );
        registry.register(
            "snapshot_stale",
            "1 while the snapshot in force is too old to decide by",
            this.stale.clone(),
        );
        registry.register(
            "snapshot_max_age_seconds",
            "Age past which nothing is decided by a snapshot; 0 for any age",
            this.max_age.clone(),
        );
        registry.register("services", "Services by auth mode; `disabled` is open to anybody", family);
        registry.register(
            "contested_places",
            "Places, by host and path prefix, that a service claims and another one has",
            this.contested_places.clone(),
        );
        this
    }

    /// Shows a snapshot that came into force.
    pub(crate) fn applied(&self, snapshot: &Snapshot) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.epoch.set(gauge(snapshot.version().epoch));
        self.revision.set(gauge(snapshot.version().revision));
        self.contested_places.set(gauge(snapshot.contested_places().count() as u64));
        for (mode, services) in COUNTED.into_iter().zip(&self.services) {
            services.set(gauge(snapshot.services_in(mode) as u64));
        }
    }

    /// Policy may be this old; `None` for any age.
    pub(crate) fn limited(&self, max_age: Option<Duration>) {
        self.max_age.set(max_age.map_or(0.0, |max_age| max_age.as_secs_f64()));
    }

    /// Whether the snapshot is too old to decide by.
    pub(crate) fn stale(&self, stale: bool) {
        self.stale.set(i64::from(stale));
    }

    /// The workspace said at this time that the snapshot is what it has.
    pub(crate) fn confirmed(&self, at: UnixTime) {
        self.age.confirmed.store(u64::try_from(at.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Grows by itself: it is computed when it is read.
#[derive(Debug, Clone)]
struct SnapshotAge {
    /// In Unix milliseconds; zero before the first snapshot.
    confirmed: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
}

impl EncodeMetric for SnapshotAge {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let age = match self.confirmed.load(Ordering::Relaxed) {
            0 => f64::NAN,
            confirmed => self.clock.now().saturating_sub(Duration::from_millis(confirmed)).as_secs_f64(),
        };
        encoder.encode_gauge(&age)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// Of the feed.
#[derive(Debug, Clone)]
pub(crate) struct FeedMetrics {
    /// 1 while the workspace answers.
    pub(crate) connected: Gauge,
    /// Snapshots and changes that were refused.
    pub(crate) refused: Counter,
    /// Attempts to connect again.
    pub(crate) reconnects: Counter,
    /// From the commit of a change, by the workspace's clock, to its being in force and on disk, by this machine's.
    change_applied: AtomicHistogram,
    /// This machine's clock less the workspace's, in seconds.
    clock_skew: Gauge<f64, AtomicU64>,
    clock: Arc<dyn Clock>,
}

impl FeedMetrics {
    pub(crate) fn register(metrics: &Metrics, clock: Arc<dyn Clock>) -> Self {
        let this = Self {
            connected: Gauge::default(),
            refused: Counter::default(),
            reconnects: Counter::default(),
            change_applied: AtomicHistogram::new(OF_CHANGES),
            clock_skew: Gauge::default(),
            clock,
        };
        metrics.register(|registry| {
            registry.register("feed_connected", "1 while the policy feed is connected", this.connected.clone());
            registry.register("feed_refused", "Snapshots and changes that were refused", this.refused.clone());
            registry.register("feed_reconnects", "Times the feed was connected anew", this.reconnects.clone());
            registry.register(
                "change_applied_seconds",
                "Time from the commit of a change, by the workspace's clock, to its being in force and on disk, by the gate's",
                this.change_applied.clone(),
            );
            registry.register(
                "clock_skew_seconds",
                "The gate's clock less the workspace's, and the way of a message between them; 0 before the first",
                this.clock_skew.clone(),
            );
        });
        this
    }

    /// A change that was committed then is in force and on disk now.
    pub(crate) fn applied(&self, committed_at: Option<&prost_types::Timestamp>) {
        if let Some(at) = committed_at.and_then(unix_time) {
            // Where this clock is behind the workspace's: no time at all, and not a negative one.
            self.change_applied.observe(self.clock.now().saturating_sub(at));
        }
    }

    /// The workspace said at this time of its own what has just arrived.
    pub(crate) fn heard(&self, sent_at: Option<&prost_types::Timestamp>) {
        if let Some(at) = sent_at.and_then(unix_time) {
            self.clock_skew.set(self.clock.now().as_secs_f64() - at.as_secs_f64());
        }
    }
}

fn unix_time(time: &prost_types::Timestamp) -> Option<UnixTime> {
    let nanos = u32::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(time.seconds).ok()?, nanos))
}

impl FeedMetrics {
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.get() == 1
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Of the sources beside the feed: what came of reading them.
#[derive(Debug, Clone)]
pub(crate) struct SourceMetrics {
    /// Their policy came into force.
    pub(crate) taken: Counter,
    /// Theirs is that in force, confirmed later than was known.
    pub(crate) confirmed: Counter,
    /// Theirs is that in force, and nothing else is new.
    pub(crate) known: Counter,
    /// Theirs is older, foreign or not proven.
    pub(crate) refused: Counter,
    /// Nothing that could be policy came.
    pub(crate) failed: Counter,
}

impl SourceMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let family = Family::<OutcomeLabel, Counter>::default();
        let counter = |outcome| family.get_or_create_owned(&OutcomeLabel { outcome });
        let this = Self {
            taken: counter("taken"),
            confirmed: counter("confirmed"),
            known: counter("known"),
            refused: counter("refused"),
            failed: counter("failed"),
        };
        let help = "Times that a source of policy beside the feed was read, by what came of it";
        metrics.register(|registry| registry.register("policy_source_reads", help, family));
        this
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use rstest::rstest;

    fn registered() -> (Metrics, GateMetrics, Arc<ManualClock>) {
        let (metrics, clock) = (Metrics::default(), Arc::new(ManualClock::at(1_000)));
        let gate = GateMetrics::register(&metrics, clock.clone());
        (metrics, gate, clock)
    }

    #[test]
    fn decided_counts_by_mode_outcome_and_reason() {
        let (metrics, gate, _) = registered();
        gate.checks.decided(&Verdict::internal());
        let expected = r#"scoregate_decisions_total{mode="none",outcome="undecided",reason="internal"} 1"#;
        assert!(metrics.render().contains(expected), "{}", metrics.render());
    }

    #[test]
    fn mode_indexes_are_their_places() {
        for (index, mode) in Mode::ALL.into_iter().enumerate() {
            assert_eq!(mode.index(), index);
        }
    }

    #[test]
    fn histogram_is_cumulative_and_complete() {
        let (metrics, gate, _) = registered();
        for micros in [1, 3, 50_000] {
            gate.checks.seconds.observe(Duration::from_micros(micros));
        }
        let text = metrics.render();
        for line in [
            r#"scoregate_decision_seconds_bucket{le="0.000001"} 1"#,
            r#"scoregate_decision_seconds_bucket{le="0.01"} 2"#,
            r#"scoregate_decision_seconds_bucket{le="+Inf"} 3"#,
            "scoregate_decision_seconds_count 3",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn t109_age_grows_while_nothing_is_confirmed() {
        let (metrics, gate, clock) = registered();
        assert!(metrics.render().contains("scoregate_snapshot_age_seconds NaN"));
        gate.policy.confirmed(clock.now());
        clock.advance(Duration::from_secs(90));
        assert!(metrics.render().contains("scoregate_snapshot_age_seconds 90.0"), "{}", metrics.render());
    }

    fn registered_feed() -> (Metrics, FeedMetrics) {
        let metrics = Metrics::default();
        let feed = FeedMetrics::register(&metrics, Arc::new(ManualClock::at(1_000)));
        (metrics, feed)
    }

    fn at(seconds: i64, nanos: i32) -> prost_types::Timestamp {
        prost_types::Timestamp { seconds, nanos }
    }

    #[test]
    fn applied_counts_the_time_from_the_commit() {
        let (metrics, feed) = registered_feed();
        feed.applied(Some(&at(999, 980_000_000)));
        // The workspace's clock is ahead.
        feed.applied(Some(&at(1_003, 0)));
        feed.applied(None);
        let text = metrics.render();
        for line in [
            r#"scoregate_change_applied_seconds_bucket{le="0.001"} 1"#,
            r#"scoregate_change_applied_seconds_bucket{le="0.02"} 2"#,
            "scoregate_change_applied_seconds_count 2",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[rstest]
    #[case(at(998, 500_000_000), "1.5")]
    #[case(at(1_002, 0), "-2.0")]
    // Times that are none.
    #[case(at(-1, 0), "0.0")]
    #[case(at(1, 2_000_000_000), "0.0")]
    fn clock_skew_is_positive_where_the_gate_is_ahead(
        #[case] sent_at: prost_types::Timestamp,
        #[case] expected: &str,
    ) {
        let (metrics, feed) = registered_feed();
        feed.heard(Some(&sent_at));
        let line = format!("scoregate_clock_skew_seconds {expected}\n");
        assert!(metrics.render().contains(&line), "{}", metrics.render());
    }
}
