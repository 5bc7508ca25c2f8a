//! From the queue to the collector. A collector that is slow, hangs or is away costs spans, which are counted.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};

use crate::backoff::Backoff;
use crate::config::TraceConfig;
use crate::gate::dial::dial;
use crate::gate::feed::words;
use crate::metrics::Metrics;
use crate::random;
use crate::shutdown::Shutdown;

/// Spans that are sent at once, at most.
const BATCH: usize = 512;
/// From a batch that was not full to the next one: spans gather meanwhile.
const PAUSE: Duration = Duration::from_millis(500);
/// For a batch, connecting included.
const LIMIT: Duration = Duration::from_secs(5);
/// For what is left when everything else has stopped: less than `shutdown.deadline`, which is 10 s by default.
const PARTING: Duration = Duration::from_secs(2);

/// Of spans.
#[derive(Debug, Clone, Default)]
pub(super) struct SpanMetrics {
    exported: Counter,
    pub(super) dropped: Counter,
}

impl SpanMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let this = Self::default();
        metrics.register(|registry| {
            registry.register("spans_exported", "Spans that the collector has taken", this.exported.clone());
            let help = "Spans that were dropped: the collector is away, too slow, or refused them";
            registry.register("spans_dropped", help, this.dropped.clone());
        });
        this
    }
}

/// Sends what is in the queue.
#[derive(Debug)]
pub(super) struct Exporter {
    config: TraceConfig,
    resource: Resource,
    queue: mpsc::Receiver<Span>,
    metrics: SpanMetrics,
}

impl Exporter {
    pub(super) fn new(
        config: TraceConfig,
        gate: &str,
        queue: mpsc::Receiver<Span>,
        metrics: SpanMetrics,
    ) -> Self {
        let attributes = [
            ("service.name", "scoregate"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", gate),
        ];
        let attributes = attributes.map(|(key, value)| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) }),
            ..KeyValue::default()
        });
        let resource = Resource { attributes: attributes.into(), ..Resource::default() };
        Self { config, resource, queue, metrics }
    }

    /// Runs until no check can come any more and everything is sent, or the time for that is over.
    pub(super) async fn run(mut self, shutdown: Shutdown) {
        let parting = async {
            shutdown.stopping().await;
            sleep(PARTING).await;
        };
        tokio::select! {
            () = self.send_all(&shutdown) => return,
            () = parting => {}
        }
        tracing::warn!("the collector did not take the last spans in time");
    }

    async fn send_all(&mut self, shutdown: &Shutdown) {
        let mut backoff = Backoff::new();
        let mut client = self.connect();
        // An outage of a day is not a line every few seconds.
        let mut told = None;
        loop {
            let mut spans = Vec::new();
            let count = self.queue.recv_many(&mut spans, BATCH).await;
            if count == 0 {
                return;
            }
            let pause = match self.send(&mut client, spans).await {
                Ok(rejected) => {
                    let rejected = rejected.min(count as u64);
                    self.metrics.exported.inc_by(count as u64 - rejected);
                    self.metrics.dropped.inc_by(rejected);
                    if told.take().is_some() {
                        tracing::info!(collector = %self.config.collector, "the collector takes spans again");
                    }
                    backoff.reset();
                    if count == BATCH { Duration::ZERO } else { PAUSE }
                }
                Err(error) => {
                    self.metrics.dropped.inc_by(count as u64);
                    if told.as_ref() != Some(&error) {
                        tracing::warn!(collector = %self.config.collector, error, "spans are dropped");
                        told = Some(error);
                    }
                    // One that went away without a word would stay.
                    client = self.connect();
                    backoff.next(random::fraction())
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = shutdown.stopping() => {}
            }
        }
    }

    /// Sends a batch; how many of it the collector rejected.
    async fn send(&self, client: &mut TraceServiceClient<Channel>, spans: Vec<Span>) -> Result<u64, String> {
        let scope = InstrumentationScope { name: "scoregate".to_owned(), ..InstrumentationScope::default() };
        let scope_spans = ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() };
        let resource_spans = ResourceSpans {
            resource: Some(self.resource.clone()),
            scope_spans: vec![scope_spans],
            ..ResourceSpans::default()
        };
        let request = ExportTraceServiceRequest { resource_spans: vec![resource_spans] };
        let answered = timeout(LIMIT, client.export(request)).await;
        let response = answered.map_err(|_| format!("no answer within {LIMIT:?}"))?;
        let response = response.map_err(|status| words(&status))?.into_inner();
        let rejected = response.partial_success.map_or(0, |partial| partial.rejected_spans);
        Ok(u64::try_from(rejected).unwrap_or(0))
    }

    /// Connects with the first batch.
    fn connect(&self) -> TraceServiceClient<Channel> {
        let (to, tls) = (self.config.collector.clone(), self.config.tls.as_ref().map(Arc::clone));
        let connector = tower::service_fn(move |_| dial(to.clone(), tls.clone()));
        // Only a name: the connector knows where to go, and the collector sees its own.
        let endpoint = Endpoint::from_static("http://collector").origin(self.config.origin.clone());
        TraceServiceClient::new(endpoint.connect_with_connector_lazy(connector))
    }
}
