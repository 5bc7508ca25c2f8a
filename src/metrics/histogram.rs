//! A histogram of durations without a lock, which `prometheus-client` does not have.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// How long a check takes: 1 us to 10 ms.
pub(crate) const OF_CHECKS: &[Duration] = &[
    Duration::from_micros(1),
    Duration::from_micros(2),
    Duration::from_micros(5),
    Duration::from_micros(10),
    Duration::from_micros(20),
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(200),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(10),
];

/// How long a change is on its way: 1 ms to 60 s.
pub(crate) const OF_CHANGES: &[Duration] = &[
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

/// Counts durations by the bucket that they fall into.
#[derive(Debug, Clone)]
pub(crate) struct AtomicHistogram(Arc<Cells>);

#[derive(Debug)]
struct Cells {
    /// Upper bounds of the buckets, ascending.
    bounds: &'static [Duration],
    /// One for each bound, and one for what is above them all.
    buckets: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
}

impl AtomicHistogram {
    /// An empty one with these upper bounds of buckets, ascending.
    pub(crate) fn new(bounds: &'static [Duration]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::default()).collect();
        Self(Arc::new(Cells { bounds, buckets, nanoseconds: AtomicU64::default() }))
    }

    pub(crate) fn observe(&self, duration: Duration) {
        let Cells { bounds, buckets, nanoseconds } = &*self.0;
        let bucket = bounds.iter().position(|bound| duration <= *bound).unwrap_or(bounds.len());
        buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let duration = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        nanoseconds.fetch_add(duration, Ordering::Relaxed);
    }
}

impl EncodeMetric for AtomicHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let bounds = self.0.bounds.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        let counts = self.0.buckets.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let total = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(self.0.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, total, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn histogram_is_cumulative_and_complete() {
        let (metrics, histogram) = (Metrics::default(), AtomicHistogram::new(OF_CHANGES));
        metrics.register(|registry| registry.register("seconds", "How long", histogram.clone()));
        for millis in [1, 3, 60_000, 60_001] {
            histogram.observe(Duration::from_millis(millis));
        }
        let text = metrics.render();
        for line in [
            r#"scoregate_seconds_bucket{le="0.001"} 1"#,
            r#"scoregate_seconds_bucket{le="0.005"} 2"#,
            r#"scoregate_seconds_bucket{le="60.0"} 3"#,
            r#"scoregate_seconds_bucket{le="+Inf"} 4"#,
            "scoregate_seconds_count 4",
            "scoregate_seconds_sum 120.005",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn bounds_ascend() {
        for bounds in [OF_CHECKS, OF_CHANGES] {
            assert!(bounds.is_sorted_by(|a, b| a < b));
        }
    }
}
