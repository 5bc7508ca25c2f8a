//! Services in shadow are told of, so that nobody forgets them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use scoregate_authz::{ServiceName, ServiceUid, UnixTime, Version};
use tokio::sync::watch;

use super::in_force::InForce;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// How often it is looked whether a shadow has ended.
const LOOK: Duration = Duration::from_secs(1);
/// Services that are named in the log at one time.
const NAMED: usize = 10;

/// The services that are in shadow now, by the gate's own clock.
#[derive(Debug, Clone)]
pub(crate) struct Shadows {
    in_force: Arc<InForce>,
    clock: Arc<dyn Clock>,
}

type InShadow = BTreeMap<ServiceUid, (ServiceName, UnixTime)>;

impl Shadows {
    pub(crate) fn new(in_force: Arc<InForce>, clock: Arc<dyn Clock>, metrics: &Metrics) -> Self {
        let this = Self { in_force, clock };
        metrics.register(|registry| {
            let help = "Services in shadow: refused credentials are let through";
            registry.register("services_shadow", help, this.clone());
        });
        this
    }

    /// Writes a line for each service that is in shadow at the start, or comes into it, or leaves it.
    pub(crate) async fn tell(self, mut applied: watch::Receiver<Option<Version>>, shutdown: Shutdown) {
        let mut told = InShadow::new();
        loop {
            let now = self.now();
            tell_of(&told, &now);
            told = now;
            tokio::select! {
                changed = applied.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK) => {}
                () = shutdown.stopping() => return,
            }
        }
    }

    fn now(&self) -> InShadow {
        let (snapshot, now) = (self.in_force.snapshot(), self.clock.now());
        let shadows = snapshot.iter().flat_map(|snapshot| snapshot.shadows());
        let active = shadows.filter_map(|service| {
            let until = now + service.shadow_left(now)?;
            Some((service.uid().clone(), (service.name().clone(), until)))
        });
        active.collect()
    }
}

fn tell_of(told: &InShadow, now: &InShadow) {
    let news: Vec<_> = now.iter().filter(|(uid, shadow)| told.get(*uid) != Some(*shadow)).collect();
    for (_, (service, until)) in news.iter().take(NAMED) {
        let until = i64::try_from(until.as_secs()).ok().and_then(|until| Timestamp::from_second(until).ok());
        tracing::warn!(
            %service,
            until = until.map(tracing::field::display),
            "in shadow: who has no good credential is let through, and counted"
        );
    }
    if news.len() > NAMED {
        tracing::warn!(services = news.len() - NAMED, "more services are in shadow");
    }
    for (_, (service, _)) in told.iter().filter(|(uid, _)| !now.contains_key(*uid)).take(NAMED) {
        tracing::info!(%service, "not in shadow any more: credentials are enforced");
    }
}

/// Counted when it is read: a shadow ends by itself.
impl EncodeMetric for Shadows {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.encode_gauge(&i64::try_from(self.now().len()).unwrap_or(i64::MAX))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}
