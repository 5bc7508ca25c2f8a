//! What the admin listener shows: names and labels that do not come from input.

mod document;

use std::collections::BTreeSet;

use crate::support::{Request, System};

/// Names of series without their labels, and the values of each label.
fn labels(text: &str) -> BTreeSet<(String, String)> {
    let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('{'));
    let pairs = series.filter_map(|(_, rest)| rest.split_once('}')).flat_map(|(labels, _)| labels.split(','));
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').unwrap();
        (name.to_owned(), value.trim_matches('"').to_owned())
    };
    pairs.map(pair).collect()
}

#[test]
fn t130_metrics_are_there_and_no_label_comes_from_input() {
    let system = System::get();
    let service = system.new_service();
    let key = system.workspace.create_with_keys(&service).primary;
    let way = System::way();
    for request in [
        Request::score(&service).bearer(&key),
        Request::score(&service).bearer("sgk_a-label-if-it-were-one"),
        Request::score("label-if-it-were-one").header("x-request-id", "label-if-it-were-one"),
        Request::score(&service).method("BREW").host("label-if-it-were-one"),
    ] {
        way.send(&request);
    }
    let text = system.up.admin("/metrics").text().to_owned();
    for name in [
        "scoregate_decisions_total{mode=\"key\",outcome=\"allow\",reason=\"ok\"}",
        "scoregate_decisions_total{mode=\"key\",outcome=\"deny\",reason=\"unknown_key\"}",
        "scoregate_decisions_total{mode=\"none\",outcome=\"deny\",reason=\"unknown_service\"}",
        "scoregate_decision_seconds_count",
        "scoregate_snapshot_revision",
        "scoregate_snapshot_epoch",
        "scoregate_snapshot_age_seconds",
        "scoregate_feed_connected 1",
        "scoregate_services{mode=\"key\"}",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "no {name} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    for secret in [&service, &key, "label-if-it-were-one", "BREW"] {
        assert!(!text.contains(secret), "{secret}");
    }
    let names: BTreeSet<_> = labels(&text).into_iter().map(|(name, _)| name).collect();
    let known = ["credential", "le", "listener", "mode", "outcome", "reason", "state"];
    assert!(names.iter().all(|name| known.contains(&name.as_str())), "{names:?}");
}

#[test]
fn t130_metrics_are_on_the_admin_listener_only() {
    let system = System::get();
    let workspace = system.up.addresses.socket("workspace");
    let answers = Request::get("/metrics").send(workspace);
    assert!(matches!(answers.status, 401 | 404), "{}", answers.status);
    let check_port = system.up.addresses.socket("ext_authz");
    let answer = Request::get("/metrics").try_send_http2(check_port).unwrap();
    assert!(!String::from_utf8_lossy(&answer.body).contains("scoregate_"));
}

#[test]
fn t129_no_secret_is_in_logs_metrics_or_metadata() {
    let system = System::get();
    let (keyed, tokened) = (system.new_service(), system.new_service());
    let keys = system.workspace.create_with_keys(&keyed);
    system.workspace.create_with_tokens(&tokened);
    let token = system.workspace.token(&tokened);
    let wrong = "sgk_0123456789-wrong-but-secret";
    let way = System::way();
    let (_, reason) = way.send_and_look(&Request::score(&keyed).bearer(&keys.primary));
    assert_eq!(reason, "ok");
    way.send_and_look(&Request::score(&tokened).bearer(&token));
    way.send_and_look(&Request::score(&keyed).bearer(wrong));
    way.send_and_look(&Request::score(&keyed).bearer(&token));
    way.send_and_look(&Request::score(&tokened).bearer(&keys.secondary));
    system.workspace.regenerate(&keyed, "Primary");
    let owner = std::fs::read_to_string(system.data_dir.join("owner-credential")).unwrap();
    let pepper = std::fs::read_to_string(system.data_dir.join("pepper")).unwrap();
    let metrics = system.up.admin("/metrics").text().to_owned();
    let written = [system.up.process.log(), way.envoy.log(), metrics];
    let signature = token.rsplit('.').next().unwrap();
    for secret in [&keys.primary, &keys.secondary, signature, wrong, owner.trim(), pepper.trim()] {
        // The prefix that all keys have says nothing; what comes next does.
        let telling = &secret.trim_start_matches("sgk_")[..8];
        assert!(written.iter().all(|text| !text.contains(telling)), "{telling}");
    }
}
