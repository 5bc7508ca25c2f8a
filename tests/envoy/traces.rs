//! Spans of checks: in the traces of callers and of Envoy, and no check's concern.

mod collector;

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use rstest::rstest;

pub(crate) use self::collector::Collector;
use self::collector::text;
use crate::fixed;
use crate::support::{
    Authority, Checks, Envoy, EnvoyOptions, FEATURED, Request, Scoregate, System, new_path,
    text as path_text, wait_until,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// A check takes much less, and what a collector is waited for much more.
const SOON: Duration = Duration::from_secs(1);

/// Arguments of a gate with a policy file.
fn arguments() -> Vec<String> {
    let directory = fixed::directory();
    let file = directory.join("policy.yaml");
    std::fs::write(&file, fixed::policy(&directory, fixed::KEY)).unwrap();
    fixed::arguments(&directory, &file)
}

/// A gate with the feature `otlp`.
pub(crate) fn traced_gate(endpoint: &str, environment: &[(&str, &str)]) -> Scoregate {
    let arguments = [arguments(), ["--name", "gate-1"].map(str::to_owned).to_vec()].concat();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let endpoint = [("SCOREGATE__TELEMETRY__OTLP_ENDPOINT", endpoint)];
    Scoregate::start_program(&FEATURED, "gate", &arguments, &[&endpoint, environment].concat())
}

fn checks(gate: &Scoregate) -> Checks {
    Checks::connect(gate.addresses.text("ext_authz"))
}

/// An Envoy with the part of its configuration that is shipped for this.
fn tracing_envoy(gate: &Scoregate, collector: &Collector) -> Envoy {
    let shipped = include_str!("../../envoy/parts/tracing.yaml");
    let (tracing, cluster) = shipped.split_once("---\n").unwrap();
    let begin = |text: &'static str, mark: &str| &text[text.find(mark).unwrap()..];
    let (filters, clusters) = ("          http_filters:\n", "  clusters:\n");
    let tracing = begin(tracing, "          tracing:").replace("value: 1 }", "value: 100 }");
    let tracing = format!("{tracing}{filters}");
    let address = format!("address: 127.0.0.1, port_value: {}", collector.address.port());
    let cluster = begin(cluster, "  - name: collector")
        .replace("address: collector.observability, port_value: 4317", &address);
    let options = EnvoyOptions::new(gate.addresses.text("ext_authz"), System::model())
        .edit(filters, tracing.leak())
        .edit(clusters, format!("{clusters}{cluster}\n").leak());
    Envoy::start(&options)
}

fn traceparent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-00f067aa0ba902b7-{flags}")
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_in(trace: &str) -> impl Fn(&&Span) -> bool {
    move |span| hexadecimal(&span.trace_id) == trace
}

#[test]
fn a_sampled_check_is_one_span_below_envoys_and_others_are_none() {
    let collector = Collector::start();
    let gate = traced_gate(&collector.endpoint(), &[]);
    let envoy = tracing_envoy(&gate, &collector);
    let traces = ["1", "2", "3"].map(|last| format!("{}{last}", &TRACE[..31]));
    let before = Instant::now();
    let send = |trace: &str, flags: &str, key: &str| {
        let request = Request::score("forecast").target("/api/v1/service/forecast/score?secret=in-the-query");
        let request = request.header("traceparent", traceparent(trace, flags));
        request.header("tracestate", "vendor=state").bearer(key).send(envoy.address).status
    };
    assert_eq!(send(&traces[0], "00", fixed::KEY), 200);
    assert_eq!(send(&traces[1], "01", fixed::KEY), 200);
    assert_eq!(send(&traces[2], "01", "a-key-of-nobody"), 401);
    let spans = collector.wait_for("scoregate", 2);
    let took = before.elapsed();
    // Envoy's come from its workers at any time.
    let of_envoy = |trace: &str| {
        wait_until("spans of Envoy", || collector.spans_of("envoy").iter().filter(is_in(trace)).count() >= 2);
        let spans = collector.spans_of("envoy");
        let call = spans.iter().filter(is_in(trace)).find(|span| span.name.contains("Authorization.Check"));
        call.unwrap_or_else(|| panic!("{spans:?}")).clone()
    };
    for (trace, outcome, reason, status) in
        [(&traces[1], "allow", "ok", None), (&traces[2], "deny", "unknown_key", Some("401"))]
    {
        let span: Vec<_> = spans.iter().filter(is_in(trace)).collect();
        let [span] = span[..] else { panic!("one span of {trace}: {span:?}") };
        let call = of_envoy(trace);
        assert_eq!(hexadecimal(&span.parent_span_id), hexadecimal(&call.span_id));
        assert_eq!((span.name.as_str(), span.kind()), ("scoregate.check", SpanKind::Server));
        assert_eq!((span.trace_state.as_str(), &span.status), ("vendor=state", &None));
        let attribute = |name: &str| text(&span.attributes, name);
        assert_eq!(attribute("scoregate.outcome").as_deref(), Some(outcome));
        assert_eq!(attribute("scoregate.reason").as_deref(), Some(reason));
        assert_eq!(attribute("scoregate.service").as_deref(), Some("forecast"));
        assert_eq!(attribute("scoregate.auth_mode").as_deref(), Some("key"));
        assert_eq!(attribute("scoregate.revision").as_deref(), Some("1"));
        assert_eq!(attribute("http.response.status_code").as_deref(), status);
        assert_eq!(attribute("scoregate.request_id").map(|id| id.len()), Some(36), "one of Envoy's");
        assert!(call.start_time_unix_nano <= span.start_time_unix_nano, "it began after Envoy's");
        assert!(span.end_time_unix_nano <= call.end_time_unix_nano, "it ended before Envoy's");
        let lasted = Duration::from_nanos(span.end_time_unix_nano - span.start_time_unix_nano);
        assert!(lasted > Duration::ZERO && lasted < took, "{lasted:?}");
    }
    wait_until("the count", || gate.metric("scoregate_spans_exported_total") == 2.0);
    assert_eq!(collector.spans_of("scoregate").len(), 2, "none of the check that was not sampled");
    assert_eq!(gate.metric("scoregate_spans_dropped_total"), 0.0);
    for secret in [fixed::KEY, "a-key-of-nobody", "in-the-query", "/score"] {
        let said = format!("{:?}", collector.spans_of("scoregate"));
        assert!(!said.contains(secret), "{secret} in {said}");
    }
    assert!(collector.everything().contains("gate-1"), "the gate's name is the instance");
}

#[test]
fn checks_of_no_trace_are_spans_as_often_as_configured() {
    let collector = Collector::start();
    let all = traced_gate(&collector.endpoint(), &[("SCOREGATE__TELEMETRY__SAMPLE_RATIO", "1")]);
    let none = traced_gate(&collector.endpoint(), &[]);
    for gate in [&none, &all] {
        let checks = checks(gate);
        assert_eq!([checks.status("forecast", fixed::KEY), checks.status("unknown", fixed::KEY)], [200, 401]);
    }
    let spans = collector.wait_for("scoregate", 2);
    assert!(spans.iter().all(|span| span.parent_span_id.is_empty()));
    assert_ne!(spans[0].trace_id, spans[1].trace_id);
    assert_eq!(text(&spans[1].attributes, "scoregate.service"), None);
    wait_until("the count", || all.metric("scoregate_spans_exported_total") == 2.0);
    assert_eq!(none.metric("scoregate_spans_exported_total"), 0.0);
}

/// What a collector does that is of no use.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    Away,
    Hangs,
}

#[rstest]
#[case::away(Trouble::Away)]
#[case::hangs(Trouble::Hangs)]
fn a_collector_in_trouble_delays_no_check_and_what_is_dropped_is_counted(#[case] trouble: Trouble) {
    let endpoint = match trouble {
        Trouble::Away => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            format!("http://{}", listener.local_addr().unwrap())
        }
        Trouble::Hangs => Collector::hanging().endpoint(),
    };
    let mut gate = traced_gate(&endpoint, &[("SCOREGATE__TELEMETRY__SAMPLE_RATIO", "1")]);
    let checks = checks(&gate);
    let deadline = Instant::now() + Duration::from_secs(8);
    let (mut slowest, mut asked) = (Duration::ZERO, 0);
    while gate.metric("scoregate_spans_dropped_total") == 0.0 || asked < 200 {
        let begun = Instant::now();
        assert_eq!(checks.status("forecast", fixed::KEY), 200);
        slowest = slowest.max(begun.elapsed());
        asked += 1;
        assert!(begun < deadline, "nothing is counted after {asked} checks");
    }
    assert!(slowest < SOON, "{slowest:?}");
    assert_eq!(gate.metric("scoregate_spans_exported_total"), 0.0);
    assert_eq!(gate.process.log().matches("spans are dropped").count(), 1, "{}", gate.process.log());
    let begun = Instant::now();
    assert!(gate.stop().success(), "{}", gate.process.log());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn the_last_spans_are_sent_before_the_end() {
    let collector = Collector::start();
    let environment =
        [("SCOREGATE__TELEMETRY__SAMPLE_RATIO", "1"), ("SCOREGATE__SHUTDOWN__DRAIN_DELAY", "0s")];
    let mut gate = traced_gate(&collector.endpoint(), &environment);
    let checks = checks(&gate);
    assert_eq!(checks.status("forecast", fixed::KEY), 200);
    collector.wait_for("scoregate", 1);
    // Within the pause between two batches.
    assert_eq!(checks.status("forecast", fixed::KEY), 200);
    assert!(gate.stop().success());
    assert_eq!(collector.spans_of("scoregate").len(), 2);
}

#[test]
fn gate_and_collector_prove_themselves_to_each_other() {
    let authority = Authority::new();
    let collector =
        Collector::with_tls(&authority.identity(&["collector.observability"]), authority.ca.as_path());
    let identity = authority.identity(&["gate-1"]);
    let environment = [
        ("SCOREGATE__TELEMETRY__OTLP_TLS__CA_FILE", path_text(&authority.ca)),
        ("SCOREGATE__TELEMETRY__OTLP_TLS__CERTIFICATE_FILE", path_text(&identity.certificate)),
        ("SCOREGATE__TELEMETRY__OTLP_TLS__KEY_FILE", path_text(&identity.key)),
        ("SCOREGATE__TELEMETRY__OTLP_TLS__SERVER_NAME", "collector.observability"),
        ("SCOREGATE__TELEMETRY__SAMPLE_RATIO", "1"),
    ];
    let endpoint = format!("https://{}", collector.address);
    let gate = traced_gate(&endpoint, &environment);
    assert_eq!(checks(&gate).status("forecast", fixed::KEY), 200);
    collector.wait_for("scoregate", 1);

    // Without a certificate of its own.
    let unknown = traced_gate(&endpoint, &[&environment[..1], &environment[3..]].concat());
    assert_eq!(checks(&unknown).status("forecast", fixed::KEY), 200);
    wait_until("the refusal", || unknown.metric("scoregate_spans_dropped_total") == 1.0);
    assert_eq!(collector.spans_of("scoregate").len(), 1);
}

#[rstest]
#[case::no_endpoint(&[("SAMPLE_RATIO", "0.1")], "otlp_endpoint", "needed, and not set")]
#[case::no_scheme(&[("OTLP_ENDPOINT", "127.0.0.1:4317")], "otlp_endpoint", "neither `https://HOST:PORT`")]
#[case::no_port(&[("OTLP_ENDPOINT", "http://localhost")], "otlp_endpoint", "neither `https://HOST:PORT`")]
#[case::with_path(&[("OTLP_ENDPOINT", "http://localhost:4317/v1")], "otlp_endpoint", "neither `https")]
#[case::plain(&[("OTLP_ENDPOINT", "http://collector:4317")], "otlp_endpoint", "otlp_insecure = true")]
#[case::no_ca(&[("OTLP_ENDPOINT", "https://collector:4317")], "otlp_tls.ca_file", "needed, and not set")]
#[case::too_much(
    &[("OTLP_ENDPOINT", "http://localhost:4317"), ("SAMPLE_RATIO", "1.5")],
    "sample_ratio",
    "1.5 is not between 0 and 1"
)]
#[case::no_number(
    &[("OTLP_ENDPOINT", "http://localhost:4317"), ("SAMPLE_RATIO", "often")],
    "sample_ratio",
    "often"
)]
fn wrong_configuration_is_refused(
    #[case] settings: &[(&str, &str)],
    #[case] key: &str,
    #[case] problem: &str,
) {
    let variables = settings.iter().map(|(key, value)| (format!("SCOREGATE__TELEMETRY__{key}"), value));
    let output = Command::new(FEATURED.as_path())
        .arg("gate")
        .args(arguments())
        .args(["--addresses-file", new_path("addresses.json").to_str().unwrap()])
        .envs(variables)
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{message}");
    let key = format!("`telemetry.{key}` (");
    assert!(message.contains(&key) && message.contains(problem), "{message}");
}
