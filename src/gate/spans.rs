//! One span for each check that is sampled, for an OpenTelemetry collector.
//!
//! A check that is not sampled costs a look at one header. One that is puts its span into a queue and goes on; what is
//! behind the queue, and whether that works, concerns no check.

mod export;
mod parent;

use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, SpanFlags, Status};
use prometheus_client::metrics::counter::Counter;
use scoregate_authz::{Decision, UnixTime, Verdict};
use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;

use self::export::{Exporter, SpanMetrics};
use self::parent::Parent;
use super::request::HttpView;
use super::request_ids::request_id;
use crate::config::TraceConfig;
use crate::metrics::Metrics;
use crate::proto::envoy::service::auth::v3::CheckResponse;
use crate::proto::envoy::service::auth::v3::check_response::HttpResponse;
use crate::random;
use crate::shutdown::Shutdown;

/// Spans that wait to be sent: some 10 MB of memory. Beyond them spans are dropped.
const QUEUE: usize = 8192;

/// Makes spans of checks. Each worker has a clone; without a collector it makes none.
#[derive(Debug, Clone)]
pub(super) struct Spans(Option<Recorder>);

#[derive(Debug, Clone)]
struct Recorder {
    /// Of the checks that are no part of a trace.
    sample_ratio: f64,
    queue: mpsc::Sender<Span>,
    dropped: Counter,
}

impl Spans {
    /// Begins to send spans, within the runtime that calls, until the shutdown stops and no worker has a clone any more.
    pub(super) fn start(
        config: Option<TraceConfig>,
        gate: &str,
        metrics: &Metrics,
        shutdown: &Shutdown,
    ) -> Self {
        let Some(config) = config else { return Self(None) };
        let metrics = SpanMetrics::register(metrics);
        let (queue, spans) = mpsc::channel(QUEUE);
        let recorder =
            Recorder { sample_ratio: config.sample_ratio, queue, dropped: metrics.dropped.clone() };
        shutdown.spawn(Exporter::new(config, gate, spans, metrics).run(shutdown.clone()));
        Self(Some(recorder))
    }

    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Takes note of a check that began then and took so long.
    pub(super) fn note(
        &self,
        metadata: &MetadataMap,
        request: Option<HttpView<'_>>,
        verdict: &Verdict,
        response: &CheckResponse,
        begun: UnixTime,
        took: Duration,
    ) {
        let Some(recorder) = &self.0 else { return };
        let parent = Parent::of(metadata, request);
        if !recorder.samples(parent) {
            return;
        }
        let Ok(place) = recorder.queue.try_reserve() else {
            recorder.dropped.inc();
            return;
        };
        let state = parent.and_then(|_| parent::state(metadata, request));
        place.send(Span {
            trace_state: state.unwrap_or_default().to_owned(),
            start_time_unix_nano: nanoseconds(begun),
            end_time_unix_nano: nanoseconds(begun + took),
            attributes: attributes(verdict, response, request),
            status: status(verdict),
            ..part_of(parent)
        });
    }
}

impl Recorder {
    fn samples(&self, parent: Option<Parent>) -> bool {
        match parent {
            Some(parent) => parent.is_sampled(),
            None => self.sample_ratio > 0.0 && random::fraction() < self.sample_ratio,
        }
    }
}

/// A span of the parent's trace, or of a new one.
fn part_of(parent: Option<Parent>) -> Span {
    let sampled = 1;
    let flags = match parent {
        Some(parent) => u32::from(parent.flags) | SpanFlags::ContextIsRemoteMask as u32,
        None => sampled,
    };
    Span {
        trace_id: parent.map_or_else(random::bytes, |parent| parent.trace_id).to_vec(),
        span_id: random::bytes::<8>().to_vec(),
        parent_span_id: parent.map(|parent| parent.span_id.to_vec()).unwrap_or_default(),
        flags: flags | SpanFlags::ContextHasIsRemoteMask as u32,
        name: "scoregate.check".to_owned(),
        kind: SpanKind::Server.into(),
        ..Span::default()
    }
}

/// Nothing that the caller wrote but what is left of the request's id, and nothing of a credential.
fn attributes(verdict: &Verdict, response: &CheckResponse, request: Option<HttpView<'_>>) -> Vec<KeyValue> {
    let reason = verdict.decision.reason();
    let service = verdict.service.as_ref();
    let shadow_reason = match &verdict.decision {
        Decision::Allow(permit) => permit.would_be(),
        Decision::Deny(_) | Decision::Undecided(_) => None,
    };
    let text = |text: &str| Value::StringValue(text.to_owned());
    let attributes = [
        ("scoregate.outcome", Some(text(reason.outcome()))),
        ("scoregate.reason", Some(text(reason.metric_label()))),
        ("scoregate.shadow_reason", shadow_reason.map(|reason| text(reason.code()))),
        ("scoregate.service", service.map(|service| text(service.name().as_str()))),
        (
            "scoregate.auth_mode",
            service.and_then(|service| service.auth_mode()).map(|mode| text(mode.as_str())),
        ),
        ("scoregate.revision", i64::try_from(verdict.revision).ok().map(Value::IntValue)),
        ("http.response.status_code", http_status(response).map(Value::IntValue)),
        (
            "scoregate.request_id",
            request.and_then(|request| request_id(request.header("x-request-id")?)).map(Value::StringValue),
        ),
    ];
    let present = attributes.into_iter().filter_map(|(key, value)| Some((key, value?)));
    present
        .map(|(key, value)| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        })
        .collect()
}

/// What the caller is answered by the gate: nothing, where the model answers.
fn http_status(response: &CheckResponse) -> Option<i64> {
    match response.http_response.as_ref()? {
        HttpResponse::OkResponse(_) => None,
        HttpResponse::DeniedResponse(refusal) | HttpResponse::ErrorResponse(refusal) => {
            Some(refusal.status.as_ref()?.code.into())
        }
    }
}

/// A refusal is what the gate is for; that it could not decide is an error.
fn status(verdict: &Verdict) -> Option<Status> {
    let Decision::Undecided(reason) = &verdict.decision else { return None };
    Some(Status { code: StatusCode::Error.into(), message: reason.code().to_owned() })
}

/// Since 1970, up to the year 2554.
fn nanoseconds(time: UnixTime) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UndecidedAnswer;
    use crate::gate::answer::Answers;
    use crate::gate::fixtures::{key_service, open_service, peppers, snapshot, version};
    use crate::proto::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
    use crate::proto::envoy::service::auth::v3::{AttributeContext, CheckRequest};
    use rstest::rstest;
    use scoregate_authz::{CredentialHeaders, Policy, PortRule, Rules, TargetSource};

    const BEGUN: UnixTime = UnixTime::from_secs(1_000);

    fn recorder(sample_ratio: f64) -> (Spans, mpsc::Receiver<Span>) {
        let (queue, spans) = mpsc::channel(1);
        (Spans(Some(Recorder { sample_ratio, queue, dropped: Counter::default() })), spans)
    }

    /// Takes note of a check of this service, with a `traceparent` of the call and one of the request, if not empty.
    fn note(spans: &Spans, service: &str, of_call: &str, of_request: &str) {
        let mut metadata = MetadataMap::new();
        let mut headers = vec![("x-request-id", "id-1"), ("tracestate", "of=request")];
        if !of_call.is_empty() {
            metadata.insert("traceparent", of_call.parse().unwrap());
            metadata.insert("tracestate", "of=call".parse().unwrap());
        }
        if !of_request.is_empty() {
            headers.push(("traceparent", of_request));
        }
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let http = HttpRequest { headers, path: "/score?secret".to_owned(), ..HttpRequest::default() };
        let context_extensions = [("service".to_owned(), service.to_owned())].into();
        let attributes = AttributeContext { request: Some(Request { http: Some(http) }), context_extensions };
        let request = CheckRequest { attributes: Some(attributes) };
        let view = HttpView::new(&request);
        let rules = Rules {
            target: TargetSource::ContextExtensions,
            ports: PortRule::Any,
            credential_headers: CredentialHeaders::default(),
            clock_skew: Duration::ZERO,
            peppers: peppers(),
        };
        let snapshot = snapshot(version(1, 42), &[key_service("forecast", 1), open_service("demo")]);
        let policy = if service == "stale" { Policy::Stale(&snapshot) } else { Policy::Current(&snapshot) };
        let verdict = scoregate_authz::check(&rules, policy, view.as_ref(), BEGUN, &(), &mut ());
        let answers = Answers::new("r", &CredentialHeaders::default(), UndecidedAnswer::DeniedResponse);
        let response = answers.answer(&verdict, view);
        spans.note(&metadata, view, &verdict, &response, BEGUN, Duration::from_micros(7));
    }

    const OF_CALL: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const OF_REQUEST: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const NOT_SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    #[rstest]
    #[case::of_the_call(OF_CALL, "", Some("of=call"))]
    #[case::of_the_request("", OF_REQUEST, Some("of=request"))]
    #[case::of_the_call_first(OF_CALL, OF_REQUEST, Some("of=call"))]
    #[case::not_sampled_by_envoy(NOT_SAMPLED, OF_REQUEST, None)]
    #[case::not_sampled_by_the_caller("", NOT_SAMPLED, None)]
    #[case::malformed("00-secret", OF_REQUEST, None)]
    #[case::nothing("", "", None)]
    fn parent_decides(#[case] of_call: &str, #[case] of_request: &str, #[case] state: Option<&str>) {
        let (recorder, mut spans) = recorder(0.0);
        note(&recorder, "demo", of_call, of_request);
        let span = spans.try_recv().ok();
        assert_eq!(span.as_ref().map(|span| span.trace_state.as_str()), state);
        if let Some(span) = span {
            let parent = if of_call.is_empty() { of_request } else { of_call };
            assert_eq!(format!("00-{}-{}-01", digits(&span.trace_id), digits(&span.parent_span_id)), parent);
            assert_eq!(span.flags, 0x301, "sampled, and its parent is elsewhere");
        }
    }

    fn digits(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[rstest]
    #[case(0.0, "", 0)]
    #[case(1.0, "", 1)]
    #[case::malformed(1.0, "00-secret", 1)]
    #[case::of_a_trace_that_is_not_sampled(1.0, NOT_SAMPLED, 0)]
    fn ratio_is_for_checks_of_no_trace(#[case] ratio: f64, #[case] of_call: &str, #[case] count: usize) {
        let (recorder, mut spans) = recorder(ratio);
        note(&recorder, "demo", of_call, "");
        let spans: Vec<_> = std::iter::from_fn(|| spans.try_recv().ok()).collect();
        assert_eq!(spans.len(), count);
        assert!(spans.iter().all(|span| span.parent_span_id.is_empty() && span.trace_id != [0; 16]));
    }

    #[test]
    fn full_queue_drops_and_counts() {
        let (recorder, mut spans) = recorder(1.0);
        for _ in 0..3 {
            note(&recorder, "demo", "", "");
        }
        assert_eq!(recorder.0.as_ref().unwrap().dropped.get(), 2);
        assert!(spans.try_recv().is_ok() && spans.try_recv().is_err());
    }

    #[rstest]
    #[case(
        "demo",
        "scoregate.outcome=allow scoregate.reason=open scoregate.service=demo \
         scoregate.auth_mode=disabled scoregate.revision=42 scoregate.request_id=id-1"
    )]
    #[case(
        "forecast",
        "scoregate.outcome=deny scoregate.reason=missing_credential scoregate.service=forecast \
         scoregate.auth_mode=key scoregate.revision=42 http.response.status_code=401 scoregate.request_id=id-1"
    )]
    #[case(
        "stale",
        "scoregate.outcome=undecided scoregate.reason=stale_policy scoregate.revision=42 \
         http.response.status_code=503 scoregate.request_id=id-1"
    )]
    fn span_says_what_was_decided(#[case] service: &str, #[case] expected: &str) {
        let (recorder, mut spans) = recorder(0.0);
        note(&recorder, service, OF_CALL, "");
        let span = spans.try_recv().unwrap();
        let shown = |attribute: &KeyValue| match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
            Value::StringValue(text) => format!("{}={text}", attribute.key),
            Value::IntValue(number) => format!("{}={number}", attribute.key),
            other => panic!("{other:?}"),
        };
        assert_eq!(span.attributes.iter().map(shown).collect::<Vec<_>>().join(" "), expected);
        assert_eq!(
            (span.start_time_unix_nano, span.end_time_unix_nano),
            (1_000_000_000_000, 1_000_000_007_000)
        );
        assert_eq!(span.status.is_some(), service == "stale", "a refusal is no error");
    }
}
