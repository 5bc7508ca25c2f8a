//! Services in shadow: their refused credentials are let through for a while. Told of, so that nobody forgets them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use scoregate_authz::{EntryId, UnixTime};

use super::Workspace;
use super::domain::ServiceRecord;
use super::image::Image;
use super::policy;
use crate::clock::Clock;
use crate::metrics::Metrics;

/// Services that are named in the log at the start.
const NAMED: usize = 10;

/// The services in shadow, of all that policy has.
#[derive(Debug, Clone)]
pub(super) struct Shadows {
    /// Name and end by the id of the entry. Those that have ended are taken out from time to time.
    known: Arc<Mutex<BTreeMap<EntryId, (String, UnixTime)>>>,
    clock: Arc<dyn Clock>,
}

impl Shadows {
    /// Those of an image. Each is told of: it is as good as open.
    pub(super) fn new(image: &Image, clock: Arc<dyn Clock>, metrics: &Metrics) -> Self {
        let this = Self { known: Arc::default(), clock };
        for entry in image.live() {
            this.follow(&entry.row.id, &entry.row.name, Some(&entry.row.content));
        }
        metrics.register(|registry| {
            let help = "Services in shadow: gates let refused credentials through";
            registry.sub_registry_with_prefix("workspace").register("services_shadow", help, this.clone());
        });
        this.ended();
        for (service, until) in this.known().values().take(NAMED) {
            let until = display(*until);
            tracing::warn!(
                service,
                until,
                "in shadow: who has no good credential is let through, and counted"
            );
        }
        match this.known().len() {
            0 => {}
            services => tracing::warn!(services, "services in shadow: their credentials are not enforced"),
        }
        this
    }

    /// Takes over what an entry is now; `None` if it is gone.
    pub(super) fn follow(&self, id: &EntryId, name: &str, content: Option<&[u8]>) {
        match content.and_then(|content| policy::shadow_until(id, content)) {
            Some(until) => drop(self.known().insert(id.clone(), (name.to_owned(), until))),
            None => drop(self.known().remove(id)),
        }
    }

    /// The names of those that have ended since the last call.
    fn ended(&self) -> Vec<String> {
        let now = self.clock.now();
        let mut known = self.known();
        let ended: Vec<_> = known.extract_if(.., |_, (_, until)| *until <= now).collect();
        ended.into_iter().map(|(_, (name, _))| name).collect()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<EntryId, (String, UnixTime)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counted when it is read: a shadow ends by itself.
impl EncodeMetric for Shadows {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let now = self.clock.now();
        let active = self.known().values().filter(|(_, until)| *until > now).count();
        encoder.encode_gauge(&i64::try_from(active).unwrap_or(i64::MAX))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl Workspace {
    /// Tells of the shadows that have ended.
    pub(super) fn end_shadows(&self) {
        for service in self.inner.shadows.ended() {
            tracing::info!(service, "not in shadow any more: credentials are enforced");
        }
    }
}

/// Tells of a change of a service's shadow.
pub(super) fn tell(record: &ServiceRecord, before: Option<Timestamp>) {
    match record.shadow_until {
        same if same == before => {}
        Some(until) => tracing::warn!(
            service = %record.name,
            uid = %record.uid,
            %until,
            "in shadow: who has no good credential is let through, and counted"
        ),
        None => {
            tracing::info!(service = %record.name, uid = %record.uid, "not in shadow any more: credentials are enforced");
        }
    }
}

fn display(time: UnixTime) -> String {
    super::timestamp(time).to_string()
}
