//! Every answer of the gate, replayed through Envoy: what a client sees of it.

use std::sync::LazyLock;

use scoregate::config::UndecidedAnswer;
use scoregate::gate::Answers;
use scoregate::proto::envoy::config::core::v3::HeaderValueOption;
use scoregate::proto::envoy::service::auth::v3::check_response::HttpResponse;
use scoregate::proto::envoy::service::auth::v3::{CheckResponse, DeniedHttpResponse};
use scoregate_authz::{CredentialHeaders, Reason, UndecidedReason};
use serde_json::{Value, json};

use crate::support::stub::{self, Stub};
use crate::support::{Answer, Connection, Envoy, EnvoyOptions, Request, Seen, System, wait_until};

/// Answers with `denied_response` where it is undecided, and with `error_response`.
static DENYING: LazyLock<Stub> = LazyLock::new(|| Stub::start(UndecidedAnswer::DeniedResponse));
static FAILING: LazyLock<Stub> = LazyLock::new(|| Stub::start(UndecidedAnswer::ErrorResponse));

static ENVOY: LazyLock<Envoy> = LazyLock::new(|| {
    let websocket = (
        "stat_prefix: scoring",
        "stat_prefix: scoring\n          upgrade_configs: [{ upgrade_type: websocket }]",
    );
    Envoy::start(&options(&DENYING).edit(websocket.0, websocket.1))
});

fn options(stub: &Stub) -> EnvoyOptions {
    EnvoyOptions::new(&stub.address.to_string(), System::model())
}

fn path(label: &str) -> String {
    format!("/api/v1/service/{}/{label}", stub::SERVICE)
}

fn as_grpc(request: Request) -> Request {
    request.method("POST").header("content-type", "application/grpc").header("te", "trailers")
}

#[test]
fn every_reason_looks_the_same_to_clients_as_ever() {
    let settings = {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("golden");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_sort_maps(true);
        settings
    };
    for reason in Reason::all() {
        let label = reason.metric_label();
        let answers =
            Answers::new("scoregate", &CredentialHeaders::default(), UndecidedAnswer::DeniedResponse);
        let request = Request::get(&path(label)).bearer("whatever-was-sent");
        let golden = json!({
            "check_response": check_response(&answers.answer(&stub::verdict(reason), None)),
            "http_client": client(&request.send(ENVOY.address)),
            "grpc_client": client(&as_grpc(request).send_http2(ENVOY.address)),
        });
        settings.bind(|| insta::assert_json_snapshot!(label, golden));
    }
}

fn check_response(response: &CheckResponse) -> Value {
    let (arm, content) = match response.http_response.as_ref().unwrap() {
        HttpResponse::OkResponse(ok) => {
            let remove = &ok.headers_to_remove;
            ("ok_response", json!({ "headers": set_headers(&ok.headers), "headers_to_remove": remove }))
        }
        HttpResponse::DeniedResponse(denied) => ("denied_response", refusal(denied)),
        HttpResponse::ErrorResponse(error) => ("error_response", refusal(error)),
    };
    let fields = &response.dynamic_metadata.as_ref().unwrap().fields;
    let metadata =
        fields.iter().map(|(name, value)| (name.clone(), plain(value))).collect::<serde_json::Map<_, _>>();
    json!({ "status": response.status.as_ref().unwrap().code, arm: content, "dynamic_metadata": metadata })
}

fn refusal(refusal: &DeniedHttpResponse) -> Value {
    let status = refusal.status.as_ref().unwrap().code;
    json!({ "status": status, "headers": set_headers(&refusal.headers), "body": refusal.body })
}

fn set_headers(headers: &[HeaderValueOption]) -> Vec<String> {
    let line = |option: &HeaderValueOption| {
        let header = option.header.as_ref().unwrap();
        format!("{}: {} ({})", header.key, header.value, option.append_action().as_str_name())
    };
    headers.iter().map(line).collect()
}

fn plain(value: &prost_types::Value) -> Value {
    match value.kind.as_ref().unwrap() {
        prost_types::value::Kind::StringValue(text) => json!(text),
        prost_types::value::Kind::NumberValue(number) => json!(number),
        other => panic!("{other:?} in the metadata"),
    }
}

/// What a client sees, and what the model server saw if it was asked.
fn client(answer: &Answer) -> Value {
    let varies = ["date", "x-request-id", "x-envoy-upstream-service-time", "content-length"];
    let headers = answer.headers.iter().filter(|(name, _)| !varies.contains(&name.as_str()));
    let headers: Vec<_> = headers.map(|(name, value)| format!("{name}: {value}")).collect();
    if answer.header("x-envoy-upstream-service-time").is_none() {
        return json!({ "status": answer.status, "headers": headers, "body": answer.text() });
    }
    let seen = Seen::of(answer);
    let model = json!({ "identity": seen.identity(), "authorization": seen.all("authorization") });
    json!({ "status": answer.status, "headers": headers, "model_server_saw": model })
}

#[test]
fn t123_grpc_callers_get_a_grpc_status_and_a_short_message() {
    for (content_type, is_grpc) in
        [("application/grpc", true), ("application/grpc+proto", true), ("application/grpc-web", false)]
    {
        let request = Request::new("POST", &path("unknown_key")).header("content-type", content_type);
        let answer = request.send_http2(ENVOY.address);
        if is_grpc {
            assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("16")), "{content_type}");
            let message = answer.header("grpc-message").unwrap();
            assert!(message.is_ascii() && message.len() < 100 && !message.contains('{'), "{message}");
            assert_eq!(answer.text(), "", "{content_type}");
        } else {
            assert_eq!((answer.status, answer.header("grpc-status")), (401, None), "{content_type}");
            assert_eq!(answer.json()["error"]["code"], "Unauthorized");
        }
    }
    let grpc_status = |label| {
        as_grpc(Request::get(&path(label))).send_http2(ENVOY.address).header("grpc-status").map(str::to_owned)
    };
    assert_eq!(grpc_status("no_policy").as_deref(), Some("14"));
    assert_eq!(grpc_status("ambiguous_path").as_deref(), Some("13"));
}

#[test]
fn t122_undecided_as_a_denial_is_503_whatever_the_failure_mode() {
    for failure_mode in ["failure_mode_allow: false", "failure_mode_allow: true"] {
        let envoy = Envoy::start(&options(&DENYING).edit("failure_mode_allow: false", failure_mode));
        for reason in UndecidedReason::ALL {
            let answer = Request::get(&path(reason.code())).send(envoy.address);
            assert_eq!(
                (answer.status, answer.all("www-authenticate").len()),
                (503, 0),
                "{reason:?}, {failure_mode}"
            );
        }
        assert_eq!(count(&envoy, "denied"), UndecidedReason::ALL.len() as u64);
        assert_eq!(count(&envoy, "error"), 0);
    }
}

#[test]
fn t122_undecided_as_an_error_opens_only_where_the_operator_said_so() {
    for (failure_mode, status) in [("failure_mode_allow: false", 503), ("failure_mode_allow: true", 200)] {
        let envoy = Envoy::start(&options(&FAILING).edit("failure_mode_allow: false", failure_mode));
        for reason in UndecidedReason::ALL {
            let answer = Request::get(&path(reason.code())).send(envoy.address);
            assert_eq!(answer.status, status, "{reason:?}, {failure_mode}");
        }
        assert_eq!(count(&envoy, "error"), UndecidedReason::ALL.len() as u64);
        let denied = Request::get(&path("unknown_key")).send(envoy.address);
        assert_eq!(denied.status, 401, "a denial stays one, {failure_mode}");
    }
}

/// A counter of Envoy's filter.
fn count(envoy: &Envoy, what: &str) -> u64 {
    let stats = envoy.stats("ext_authz");
    let name = format!("http.scoring.ext_authz.scoregate.{what}");
    *stats.get(&name).unwrap_or_else(|| panic!("no {name} in {stats:?}"))
}

#[test]
fn t125_head_is_decided_once_and_has_no_body() {
    let refused = Request::new("HEAD", &path("missing_credential")).send(ENVOY.address);
    assert_eq!((refused.status, refused.body.len()), (401, 0));
    let allowed = Request::new("HEAD", &path("ok")).header("x", "head").send(ENVOY.address);
    assert_eq!((allowed.status, allowed.body.len()), (200, 0));
    assert_eq!(DENYING.checks_with_method(&path("ok"), "HEAD"), 1);
}

#[test]
fn t125_websocket_is_decided_once_before_the_upgrade() {
    let upgrade = |label| {
        let request = Request::get(&format!("{}?websocket=/{label}", path("upgrade")));
        request.header("connection", "upgrade").header("upgrade", "websocket")
    };
    let refused = upgrade("unknown_key").send(ENVOY.address);
    assert_eq!(refused.status, 401);
    let mut connection = Connection::open(ENVOY.address).unwrap();
    assert_eq!(connection.send(&upgrade("open")).unwrap().status, 101);
    for message in [b"first".as_slice(), b"and again"] {
        assert_eq!(connection.exchange(message).unwrap(), message);
    }
    wait_until("the check", || DENYING.checks(&upgrade("open").target).len() == 1);
}
