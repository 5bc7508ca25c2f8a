//! Gates and workspaces of neighbouring versions, side by side.

use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use prost::Message;
use scoregate::proto::scoregate::policy::v1 as wire;
use scoregate_authz::TargetSource;

use crate::envoy::with_http;
use crate::policy::{Signer, change, key, key_service, open_service, token_service};
use crate::rig::Rig;

const HOST: &str = "models.example.com";
/// Field 1000, a number: what a later version may have added.
const LATER_FIELD: [u8; 3] = [0xc0, 0x3e, 0x01];

fn with_later_field(mut entry: wire::Entry) -> wire::Entry {
    entry.content.extend(LATER_FIELD);
    entry
}

fn with_later_mode(mut entry: wire::Entry) -> wire::Entry {
    let mut policy = wire::ServicePolicy::decode(entry.content.as_slice()).unwrap();
    policy.auth_mode = 99;
    entry.content = policy.encode_to_vec();
    entry
}

#[tokio::test]
async fn t026_what_a_gate_does_not_know_makes_one_service_undecided_and_nothing_else() {
    let data = tempfile::tempdir().unwrap();
    let policy = [
        key_service("good", (1, 1)),
        with_later_field(key_service("field", (1, 1))),
        with_later_mode(key_service("mode", (1, 1))),
        with_later_field(open_service("open")),
        wire::Entry {
            kind: 77,
            id: "x".to_owned(),
            name: String::new(),
            content: vec![1, 2, 3],
            deleted: false,
        },
    ];
    let (rig, _workspace, mut session) = Rig::with_policy(&policy, data.path()).await;
    let mut envoy = rig.envoy().await;
    assert_eq!(envoy.with("good", &key("good", "primary", 1)).await.outcome(), (200, "ok"));
    for service in ["field", "mode", "open"] {
        let answer = envoy.with(service, &key(service, "primary", 1)).await;
        assert_eq!(answer.outcome(), (503, "invalid_policy"), "{service}");
    }
    let now = [
        policy[0].clone(),
        key_service("field", (1, 1)),
        policy[2].clone(),
        policy[3].clone(),
        policy[4].clone(),
    ];
    session.send_change(change(1, 2, &[now[1].clone()], &now)).await;
    assert_eq!(session.ack().await, (1, 2));
    assert_eq!(envoy.with("field", &key("field", "primary", 1)).await.outcome(), (200, "ok"));
}

fn at_place(mut entry: wire::Entry, prefix: &str) -> wire::Entry {
    let mut policy = wire::ServicePolicy::decode(entry.content.as_slice()).unwrap();
    (policy.hosts, policy.path_prefixes) = (vec![HOST.to_owned()], vec![prefix.to_owned()]);
    entry.content = policy.encode_to_vec();
    entry
}

/// Or the open service above it would answer for it.
#[tokio::test]
async fn t026_a_service_with_a_field_that_a_gate_does_not_know_keeps_its_place() {
    let data = tempfile::tempdir().unwrap();
    let policy = [
        at_place(open_service("site"), "/"),
        with_later_field(at_place(key_service("model", (1, 1)), "/model")),
    ];
    let (rig, workspace, _session) = Rig::with_policy(&policy, data.path()).await;
    assert!(rig.stop().await);
    let mut config = crate::rig::config(&workspace.address, data.path());
    config.target = TargetSource::HostPath;
    let rig = Rig::start_with(config).await;
    let mut envoy = rig.envoy().await;
    for (path, outcome) in [("/", (200, "open")), ("/model/score", (503, "invalid_policy"))] {
        let http = HttpRequest {
            method: "POST".to_owned(),
            path: path.to_owned(),
            host: HOST.to_owned(),
            ..HttpRequest::default()
        };
        assert_eq!(envoy.check(with_http(Some(http), "")).await.outcome(), outcome, "{path}");
    }
}

#[tokio::test]
async fn verification_key_with_a_field_that_a_gate_does_not_know_is_not_used() {
    let data = tempfile::tempdir().unwrap();
    let signer = Signer::new();
    let later = with_later_field(signer.entry());
    let policy = [token_service("svc"), later];
    let (rig, _workspace, mut session) = Rig::with_policy(&policy, data.path()).await;
    let (mut envoy, token) = (rig.envoy().await, signer.token("svc", "alice"));
    assert_eq!(envoy.with("svc", &token).await.outcome(), (503, "no_verification_key"));
    let now = [token_service("svc"), signer.entry()];
    session.send_change(change(1, 2, &now[1..], &now)).await;
    assert_eq!(session.ack().await, (1, 2));
    assert_eq!(envoy.with("svc", &token).await.outcome(), (200, "ok"));
}

#[tokio::test]
async fn message_of_a_kind_that_a_gate_does_not_know_is_skipped() {
    let data = tempfile::tempdir().unwrap();
    let policy = [key_service("svc", (1, 1))];
    let (_rig, _workspace, mut session) = Rig::with_policy(&policy, data.path()).await;
    session.send_nothing_known().await;
    let now = [key_service("svc", (2, 1))];
    session.send_change(change(1, 2, &now, &now)).await;
    assert_eq!(session.ack().await, (1, 2));
}
