//! "Why 401?", shadow, and which keys are in use, through a real Envoy.

use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Checks, Gate, Request, Scoregate, Seen, System, WorkspaceProcess, wait_for, wait_until,
};

const WRONG: &str = "a-key-that-nobody-has";

fn explain(system: &System, arguments: &[&str]) -> std::process::Output {
    let admin = system.up.addresses.text("admin");
    Scoregate::run(&[&["explain", "--admin", admin], arguments].concat(), &[])
}

fn shown(system: &System, arguments: &[&str]) -> String {
    let output = explain(system, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_refused_request_is_explained_by_the_id_that_its_caller_and_the_access_log_have() {
    let system = System::get();
    let service = system.new_service();
    system.workspace.create_with_keys(&service);
    for way in System::ways() {
        let path = format!("/api/v1/service/{service}/score-{}", way.name.replace([' ', ',', '/', '.'], ""));
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let request = Request::score(&service)
            .target(&path)
            .bearer(WRONG)
            .header("x-request-id", "made-up-by-the-caller")
            .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
        let answer = way.send(&request);
        assert_eq!(answer.status, 401, "{}", way.name);
        let id = answer.header("x-request-id").expect("Envoy tells the id");
        assert_ne!(id, "made-up-by-the-caller");
        assert_eq!(way.envoy.access_log(&path)["request_id"], id, "{}", way.name);
        let text = shown(system, &["--request-id", id]);
        for part in [id, trace, "deny: unknown_key", &service, "fetch the keys again"] {
            assert!(text.contains(part), "{}: no `{part}` in {text}", way.name);
        }
        assert!(!text.contains(WRONG), "{text}");
        let by_trace = shown(system, &["--trace-id", trace, "--output", "json"]);
        let found: Value = serde_json::from_str(&by_trace).unwrap();
        assert!(found["refusals"].as_array().unwrap().iter().any(|refusal| refusal["request_id"] == id));
    }
    let last = shown(system, &["--last"]);
    assert!(last.matches("request id").count() <= 10 && last.contains("request id"), "{last}");
    let unknown = explain(system, &["--request-id", "no-such-request"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("remembers no such refusal"));
    let both = explain(system, &["--request-id", "x", "--service", &service]);
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn t130_refusals_are_on_the_admin_listener_only() {
    let system = System::get();
    assert_eq!(system.up.admin("/refusals?last=1").status, 200);
    let answer = Request::get("/refusals").send(system.up.addresses.socket("workspace"));
    assert!(matches!(answer.status, 401 | 404), "{}", answer.status);
    let answer = Request::get("/refusals").try_send_http2(system.up.addresses.socket("ext_authz")).unwrap();
    assert!(!String::from_utf8_lossy(&answer.body).contains("refusals"));
}

#[test]
fn a_key_that_was_replaced_is_told_from_an_unknown_one() {
    let system = System::get();
    let service = system.new_service();
    let old = system.workspace.create_with_keys(&service).secondary;
    assert_eq!(system.workspace.regenerate(&service, "Secondary").state, "Succeeded");
    let answer = System::way().send(&Request::score(&service).bearer(&old));
    assert_eq!(answer.status, 401);
    let text = shown(system, &["--request-id", answer.header("x-request-id").unwrap()]);
    assert!(text.contains("the key that was the secondary one until it was replaced"), "{text}");
}

#[test]
fn t120_shadow_lets_requests_through_without_their_credential_and_says_so() {
    let system = System::get();
    let service = system.new_service();
    let key = system.workspace.create_with_keys(&service).primary;
    let score = |credential: &str| Request::score(&service).bearer(credential);
    let way = System::way();
    assert_eq!(way.send(&score(WRONG)).status, 401);
    system.workspace.set_shadow(&service, Some(600));
    for way in System::ways() {
        let path = format!("/api/v1/service/{service}/shadow-{}", way.name.replace([' ', ',', '/', '.'], ""));
        let answer = way.send(&score(WRONG).target(&path).header("x-scoregate-auth-mode", "key"));
        assert_eq!(answer.status, 200, "{}", way.name);
        let seen = Seen::of(&answer);
        assert_eq!(seen.all("x-scoregate-auth-mode"), ["shadow"], "{}", way.name);
        assert!(seen.all("authorization").is_empty() && !seen.holds(WRONG), "{}", way.name);
        let logged = way.envoy.access_log(&path);
        assert_eq!((&logged["reason"], &logged["shadow_reason"]), (&"shadow".into(), &"unknown_key".into()));
    }
    assert_eq!(Seen::of(&way.send(&score(&key))).all("x-scoregate-auth-mode"), ["key"]);
    let log = system.up.process.log();
    assert!(log.contains("refused, but let through in shadow"), "{log}");
    system.workspace.set_shadow(&service, None);
    assert_eq!(way.send(&score(WRONG)).status, 401);
}

#[test]
fn a_gate_tells_which_keys_are_in_use() {
    let workspace = WorkspaceProcess::start(&[]);
    let gates = ["gate-1", "gate-2"].map(|name| Gate::start(&workspace, name));
    let client = workspace.client();
    let keys = client.create_with_keys("svc");
    for gate in &gates {
        let checks = Checks::connect(&gate.check_address());
        assert_eq!(checks.status("svc", &keys.primary), 200);
        assert_eq!(checks.status("svc", WRONG), 401);
    }
    // Each may have told of its check before the other one had its.
    wait_for("the uses", Duration::from_secs(20), || (client.uses("svc", "primary") == 2).then_some(()));
    assert_eq!(client.uses("svc", "secondary"), 0);
    assert_eq!(client.regenerate("svc", "Primary").state, "Succeeded");
    assert_eq!(client.uses("svc", "primary"), 0, "a new key has no past");
}

#[test]
fn a_service_in_shadow_is_told_of_at_each_start() {
    let mut workspace = WorkspaceProcess::start(&[]);
    let mut gate = Gate::start(&workspace, "gate-1");
    let client = workspace.client();
    client.create_with_keys("svc");
    client.set_shadow("svc", Some(600));
    let is_told = |log: &str| log.lines().any(|line| line.contains("in shadow") && line.contains("svc"));
    wait_until("the gate tells", || is_told(&gate.scoregate.process.log()));
    assert!(gate.scoregate.stop().success() && workspace.scoregate.stop().success());
    workspace.restart();
    gate.restart();
    wait_until("the gate tells again", || is_told(&gate.scoregate.process.log()));
    wait_until("the workspace tells again", || is_told(&workspace.scoregate.process.log()));
    assert_eq!(Checks::connect(&gate.check_address()).status("svc", WRONG), 200);
    assert_eq!(gate.scoregate.metric("scoregate_services_shadow"), 1.0);
    assert_eq!(workspace.scoregate.metric("scoregate_workspace_services_shadow"), 1.0);
}
