//! Which service a request is for: what the route says, and nothing that a caller can send.

use serde_json::json;

use crate::support::{Envoy, EnvoyOptions, Gate, Request, Seen, System, WorkspaceProcess};

#[test]
fn t017_the_route_decides_and_headers_do_not() {
    let system = System::get();
    let (service, other) = (system.new_service(), system.new_service());
    let key = system.workspace.create_with_keys(&service).primary;
    let other_key = system.workspace.create_with_keys(&other).primary;
    let claims = |request: Request| {
        request
            .host(&format!("{other}.example.com"))
            .header("x-service", &other)
            .header("service", &other)
            .header("x-envoy-auth-service", &other)
            .header("x-scoregate-service", &other)
    };
    for way in System::ways() {
        let seen = Seen::of(&way.send(&claims(Request::score(&service).bearer(&key))));
        assert_eq!(seen.all("x-scoregate-service"), [&service], "{}", way.name);
        let answer = way.send(&claims(Request::score(&service).bearer(&other_key)));
        assert_eq!(answer.status, 401, "{}", way.name);
    }
}

#[test]
fn t034_headers_about_the_path_have_no_influence() {
    let system = System::get();
    let (keyed, open) = (system.new_service(), system.new_service());
    system.workspace.create_with_keys(&keyed);
    system.workspace.create_open(&open);
    let elsewhere = format!("/api/v1/service/{open}/score");
    for name in
        ["x-envoy-original-path", "x-original-url", "x-rewrite-url", "x-forwarded-uri", "x-forwarded-prefix"]
    {
        for way in System::ways() {
            let answer = way.send(&Request::score(&keyed).header(name, &elsewhere));
            assert_eq!(answer.status, 401, "{name}, {}", way.name);
        }
    }
    for name in ["x-forwarded-host", "x-forwarded-proto", "forwarded"] {
        let answer = System::way().send(&Request::score(&keyed).header(name, "host=localhost"));
        assert_eq!(answer.status, 401, "{name}");
    }
}

#[test]
fn t124_an_unknown_service_looks_like_a_wrong_key() {
    let system = System::get();
    let (known, tokened, unknown) = (system.new_service(), system.new_service(), system.new_service());
    system.workspace.create_with_keys(&known);
    system.workspace.create_with_tokens(&tokened);
    let wrong = |service: &str| Request::score(service).bearer("sgk_not-a-key-of-anybody-at-all");
    for way in System::ways() {
        let refused = way.send(&wrong(&known));
        assert_eq!(refused.all("www-authenticate"), [r#"Bearer realm="scoregate", error="invalid_token""#]);
        let without = way.send(&Request::score(&known));
        assert_eq!(without.all("www-authenticate"), [r#"Bearer realm="scoregate""#]);
        for service in [tokened.as_str(), &unknown, "has-no-route-at-all"] {
            assert_eq!(
                way.send(&wrong(service)).comparable(),
                refused.comparable(),
                "{service}, {}",
                way.name
            );
            let anonymous = way.send(&Request::score(service));
            assert_eq!(anonymous.comparable(), without.comparable(), "{service}, {}", way.name);
        }
    }
}

#[test]
fn t022_an_unknown_service_is_named_in_no_metric() {
    let system = System::get();
    for name in ["a-name-that-nobody-has", "another-name-that-nobody-has"] {
        assert_eq!(
            System::way().send(&Request::score(name).bearer("whatever-it-is-that-is-sent")).status,
            401
        );
    }
    let metrics = system.up.admin("/metrics");
    assert!(!metrics.text().contains("that-nobody-has"));
    assert!(
        metrics
            .text()
            .contains(r#"scoregate_decisions_total{mode="none",outcome="deny",reason="unknown_service"}"#)
    );
}

#[test]
fn t025_a_deleted_service_is_denied_from_then_on() {
    let system = System::get();
    let service = system.new_service();
    let key = system.workspace.create_with_keys(&service).primary;
    let request = Request::score(&service).bearer(&key);
    let way = System::way();
    assert_eq!(way.send(&request).status, 200);
    system.workspace.delete(&service);
    let (answer, reason) = way.send_and_look(&request);
    assert_eq!((answer.status, reason.as_str()), (401, "unknown_service"));
    let new_key = system.workspace.create_with_keys(&service).primary;
    assert_eq!(way.send(&request).status, 401, "the key of the one before it");
    assert_eq!(way.send(&Request::score(&service).bearer(&new_key)).status, 200);
}

#[test]
fn t100b_a_token_of_a_deleted_service_does_not_pass_for_its_successor() {
    let system = System::get();
    let service = system.new_service();
    let way = System::way();
    system.workspace.create_with_tokens(&service);
    let old = Request::score(&service).bearer(&system.workspace.token(&service));
    assert_eq!(way.send(&old).status, 200);
    system.workspace.delete(&service);
    system.workspace.create_with_tokens(&service);
    let (answer, reason) = way.send_and_look(&old);
    assert_eq!((answer.status, reason.as_str()), (401, "wrong_service"));
    let new = Request::score(&service).bearer(&system.workspace.token(&service));
    assert_eq!(way.send(&new).status, 200);
}

#[test]
fn t018_a_gate_by_host_and_path_knows_a_service_by_every_spelling_of_its_host() {
    let workspace = WorkspaceProcess::start(&[]);
    let gate = Gate::start_with(&workspace, "gate-1", &[("SCOREGATE__GATE__TARGET", "host_path")]);
    let client = workspace.client();
    let places = json!({ "hosts": ["models.example.com"], "pathPrefixes": ["/v1"] });
    client.create("forecast", &json!({ "scoregate": places }));
    let key = client.keys("forecast").primary;
    let any_host = EnvoyOptions::new(&gate.check_address(), System::model()).edit(
        "- match: { prefix: / }\n                direct_response: { status: 404 }",
        "- match: { prefix: / }\n                route: { cluster: model }",
    );
    let as_they_come = any_host.clone().edit("strip_any_host_port: true", "strip_any_host_port: false");
    for envoy in [Envoy::start(&any_host), Envoy::start(&as_they_come)] {
        let score = |host: &str, path: &str| Request::get(path).host(host).bearer(&key).send(envoy.address);
        for host in
            ["models.example.com", "MODELS.Example.COM", "models.example.com.", "models.example.com:8443"]
        {
            assert_eq!(
                Seen::of(&score(host, "/v1/score")).all("x-scoregate-service"),
                ["forecast"],
                "{host}"
            );
        }
        for host in [
            "evilmodels.example.com",
            "example.com",
            "models.example.com.evil.test",
            "models.example.com@evil",
            "[::1]:80",
        ] {
            let status = score(host, "/v1/score").status;
            assert!(matches!(status, 400 | 401), "{host}: {status}");
        }
        for path in ["/v2/score", "/v10/score", "/v1/../v2/score"] {
            assert_eq!(score("models.example.com", path).status, 401, "{path}");
        }
    }
}
