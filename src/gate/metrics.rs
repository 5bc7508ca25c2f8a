//! What a gate counts. Every series is resolved at the start: a check adds to atomics and looks up no label.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use scoregate_authz::{AuthMode, Reason, Service, Snapshot, UnixTime, Verdict};

use crate::clock::Clock;
use crate::metrics::Metrics;

/// All metrics of a gate.
#[derive(Debug, Clone)]
pub(crate) struct GateMetrics {
    pub(crate) checks: CheckMetrics,
    pub(crate) policy: PolicyMetrics,
    pub(crate) feed: FeedMetrics,
    pub(crate) sources: SourceMetrics,
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
                policy: PolicyMetrics::register(registry, clock),
                feed: FeedMetrics::register(registry),
                sources: SourceMetrics::register(registry),
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

/// Of the checks.
#[derive(Debug, Clone)]
pub(crate) struct CheckMetrics {
    /// By reason and mode: see [`CheckMetrics::decided`].
    decisions: Arc<[(Reason, [Counter; 5])]>,
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
        let this = Self {
            decisions,
            seconds: AtomicHistogram::default(),
            panics: Counter::default(),
            expired: Counter::default(),
        };
        registry.register("decisions", "Decisions by auth mode of the service, outcome and reason", family);
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
    }
}

/// Upper bounds of the buckets, in nanoseconds: 1 us to 10 ms.
const BUCKETS: [u64; 12] = [
    1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 5_000_000, 10_000_000,
];

/// A histogram without a lock, of durations.
#[derive(Debug, Clone, Default)]
pub(crate) struct AtomicHistogram(Arc<HistogramCells>);

#[derive(Debug, Default)]
struct HistogramCells {
    nanoseconds: AtomicU64,
    buckets: [AtomicU64; BUCKETS.len()],
    above: AtomicU64,
}

impl AtomicHistogram {
    pub(crate) fn observe(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|bound| nanoseconds <= *bound);
        let cell = bucket.map_or(&self.0.above, |bucket| &self.0.buckets[bucket]);
        cell.fetch_add(1, Ordering::Relaxed);
        self.0.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl EncodeMetric for AtomicHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        let counts = self.0.buckets.iter().map(|count| count.load(Ordering::Relaxed));
        let mut buckets: Vec<_> =
            BUCKETS.iter().zip(counts).map(|(bound, count)| (seconds(*bound), count)).collect();
        buckets.push((f64::INFINITY, self.0.above.load(Ordering::Relaxed)));
        let total = buckets.iter().map(|(_, count)| count).sum();
        let sum = seconds(self.0.nanoseconds.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, total, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
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
            age,
        };
        registry.register("snapshot_epoch", "Epoch of the snapshot in force", this.epoch.clone());
        registry.register("snapshot_revision", "Revision of the snapshot in force", this.revision.clone());
        registry.register(
            "snapshot_age_seconds",
            "Time since the workspace last confirmed the snapshot in force; NaN without one",
            this.age.clone(),
        );
        registry.register(
            "snapshot_stale",
            "1 while the snapshot in force is too old to decide by",
            this.stale.clone(),
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
#[derive(Debug, Clone, Default)]
pub(crate) struct FeedMetrics {
    /// 1 while the workspace answers.
    pub(crate) connected: Gauge,
    /// Snapshots and changes that were refused.
    pub(crate) refused: Counter,
    /// Attempts to connect again.
    pub(crate) reconnects: Counter,
}

impl FeedMetrics {
    fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register("feed_connected", "1 while the policy feed is connected", this.connected.clone());
        registry.register("feed_refused", "Snapshots and changes that were refused", this.refused.clone());
        registry.register("feed_reconnects", "Times the feed was connected anew", this.reconnects.clone());
        this
    }
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
    fn register(registry: &mut Registry) -> Self {
        let family = Family::<OutcomeLabel, Counter>::default();
        let counter = |outcome| family.get_or_create_owned(&OutcomeLabel { outcome });
        let this = Self {
            taken: counter("taken"),
            confirmed: counter("confirmed"),
            known: counter("known"),
            refused: counter("refused"),
            failed: counter("failed"),
        };
        registry.register(
            "policy_source_reads",
            "Times that a source of policy beside the feed was read, by what came of it",
            family,
        );
        this
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

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
}
