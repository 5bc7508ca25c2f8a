//! What a gate tells of what it did: refusals, shadow, uses.

use std::time::Duration;

use scoregate::proto::scoregate::policy::v1::CredentialKind;
use serde_json::{Value, json};

use crate::envoy::{Encoding, request};
use crate::policy::{NOW, Signer, change, in_shadow, key, key_service, open_service, parts, token_service};
use crate::rig::Rig;

const WRONG: &str = "a-key-that-nobody-has";

async fn refusals(rig: &Rig, query: &str) -> Vec<Value> {
    let (status, body) = rig.refusals(query).await;
    assert_eq!(status, 200, "{body}");
    body["refusals"].as_array().unwrap().clone()
}

fn steps(refusal: &Value) -> String {
    refusal["steps"].to_string()
}

#[tokio::test]
async fn a_refused_request_is_found_by_its_ids() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, _session) = Rig::with_policy(&[key_service("svc", (1, 1))], data.path()).await;
    let mut envoy = rig.envoy().await;
    let bearer = format!("Bearer {WRONG}");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    for (id, service) in [("id-1", "svc"), ("id-2", "nobody"), ("id-3\n<script>", "svc")] {
        let headers =
            [("authorization", bearer.as_str()), ("x-request-id", id), ("traceparent", parent.as_str())];
        assert_eq!(envoy.check(request(Encoding::Raw, service, &headers)).await.http, 401);
    }
    let good = format!("Bearer {}", key("svc", "primary", 1));
    let good = [("authorization", good.as_str()), ("x-request-id", "id-4")];
    assert_eq!(envoy.check(request(Encoding::Raw, "svc", &good)).await.http, 200);

    let found = refusals(&rig, "?request_id=id-1").await;
    let [refusal] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(refusal["time"], "2027-01-15T08:00:00Z");
    assert_eq!((&refusal["decision"], &refusal["reason"]), (&json!("deny"), &json!("unknown_key")));
    assert_eq!((&refusal["service"], &refusal["revision"]), (&json!("svc"), &json!(1)));
    assert_eq!((&refusal["request_id"], &refusal["trace_id"]), (&json!("id-1"), &json!(trace)));
    assert!(steps(refusal).contains("neither the primary nor the secondary key"), "{refusal}");

    assert_eq!(refusals(&rig, &format!("?trace_id={}", trace.to_uppercase())).await.len(), 3);
    assert_eq!(refusals(&rig, "?request_id=id-2").await[0]["reason"], "unknown_service");
    assert_eq!(refusals(&rig, "?request_id=id-3script").await.len(), 1, "as it is in the log");
    assert_eq!(refusals(&rig, "?request_id=id-4").await, Vec::<Value>::new(), "it was allowed");
    assert_eq!(refusals(&rig, "?request_id=").await, Vec::<Value>::new());
    assert_eq!(refusals(&rig, "?last=2").await.len(), 2);
    let (_, all) = rig.refusals("").await;
    assert_eq!((&all["remembered"], &all["forgotten"]), (&json!(3), &json!(0)));
    for bad in ["?last=-1", "?last=many", "?lest=1"] {
        assert_eq!(rig.refusals(bad).await.0, 400, "{bad}");
    }
}

#[tokio::test]
async fn t129_t130_refusals_show_no_credential_and_no_key_id_that_is_not_ours() {
    let data = tempfile::tempdir().unwrap();
    let signer = Signer::new();
    let policy = [key_service("svc", (1, 1)), token_service("minted"), signer.entry()];
    let (rig, _workspace, mut session) = Rig::with_policy(&policy, data.path()).await;
    let mut envoy = rig.envoy().await;
    let token = signer.token("minted", "alice");
    let header = r#"{"alg":"ES256","kid":"<made-up>","typ":"scoregate+jwt"}"#;
    let header = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, header);
    let forged = format!("{header}.{}", token.split_once('.').unwrap().1);
    rig.clock.advance(Duration::from_secs(7_200));
    for (service, credential) in [("svc", WRONG), ("svc", &token), ("minted", &token), ("minted", &forged)] {
        envoy.with(service, credential).await;
    }
    let now = key_service("svc", (2, 1));
    let all = [now.clone(), policy[1].clone(), policy[2].clone()];
    session.send_change(change(1, 2, &[now], &all)).await;
    assert_eq!(session.ack().await, (1, 2));
    envoy.with("svc", &key("svc", "primary", 1)).await;

    let found = refusals(&rig, "").await;
    let seen: Vec<_> = found
        .iter()
        .rev()
        .map(|refusal| (refusal["reason"].as_str().unwrap(), &refusal["key_slot"], &refusal["signing_key"]))
        .collect();
    let (none, primary, k1) = (&json!(null), &json!("primary"), &json!("k1"));
    let expected = [
        ("unknown_key", none, none),
        ("wrong_credential_kind", none, none),
        ("expired", none, k1),
        ("unknown_signing_key", none, none),
        ("unknown_key", primary, none),
    ];
    assert_eq!(seen.len(), expected.len());
    assert!(expected.iter().all(|refusal| seen.contains(refusal)), "{seen:?}");
    let text = json!(found).to_string();
    let signature = token.rsplit('.').next().unwrap();
    for secret in [WRONG, signature, header.as_str(), "made-up", "primary-key-of"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn shadow_lets_through_is_seen_and_ends_without_the_workspace() {
    let data = tempfile::tempdir().unwrap();
    let service = in_shadow(&key_service("svc", (1, 1)), NOW + 60);
    let (rig, workspace, session) = Rig::with_policy(&[service, open_service("open")], data.path()).await;
    let mut envoy = rig.envoy().await;
    let answer = envoy.with("svc", WRONG).await;
    assert_eq!(answer.outcome(), (200, "shadow"));
    assert_eq!(answer.header("x-scoregate-auth-mode"), Some("shadow"));
    assert!(
        ["authorization", "x-scoregate-key-slot", "x-scoregate-subject"]
            .iter()
            .all(|header| answer.removed.iter().any(|removed| removed == header))
    );
    let right = envoy.with("svc", &key("svc", "primary", 1)).await;
    assert_eq!(right.header("x-scoregate-auth-mode"), Some("key"));
    assert_eq!(rig.metric("scoregate_services_shadow"), 1.0);
    assert_eq!(rig.metric(r#"scoregate_shadowed_total{reason="unknown_key"}"#), 1.0);
    let series = r#"scoregate_decisions_total{mode="key",outcome="allow",reason="shadow"}"#;
    assert_eq!(rig.metric(series), 1.0);
    let found = refusals(&rig, "").await;
    let [refusal] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((&refusal["decision"], &refusal["reason"]), (&json!("allow"), &json!("shadow")));
    assert_eq!(refusal["shadow_reason"], "unknown_key");
    let asked = json!({ "service": "svc", "path": "/score" }).to_string();
    let (_, explained) = rig.explain("application/json", asked.into_bytes()).await;
    assert_eq!(
        (&explained["reason"], &explained["shadow_reason"]),
        (&json!("shadow"), &json!("missing_credential"))
    );

    drop(session);
    workspace.stop().await;
    rig.clock.advance(Duration::from_secs(59));
    assert_eq!(envoy.with("svc", WRONG).await.outcome(), (200, "shadow"));
    rig.clock.advance(Duration::from_secs(1));
    assert_eq!(envoy.with("svc", WRONG).await.outcome(), (401, "unknown_key"));
    assert_eq!(rig.metric("scoregate_services_shadow"), 0.0);
}

#[tokio::test]
async fn uses_are_reported_and_survive_a_complete_snapshot() {
    let data = tempfile::tempdir().unwrap();
    let signer = Signer::new();
    let policy = [key_service("svc", (1, 1)), token_service("minted"), signer.entry()];
    let (rig, _workspace, mut session) = Rig::with_policy(&policy, data.path()).await;
    let mut envoy = rig.envoy().await;
    for _ in 0..3 {
        assert_eq!(envoy.with("svc", &key("svc", "secondary", 1)).await.http, 200);
    }
    assert_eq!(envoy.with("minted", &signer.token("minted", "alice")).await.http, 200);
    assert_eq!(envoy.with("svc", WRONG).await.http, 401);
    // It may replace the first one before the gate has looked.
    session.send_parts(parts(1, 2, &policy, 3)).await;
    assert_eq!(session.ack().await, (1, 2));
    let mut uses = session.uses().await;
    while uses.len() < 2 {
        uses.extend(session.uses().await);
    }
    uses.sort_by(|a, b| a.service_uid.cmp(&b.service_uid));
    let seen: Vec<_> = uses
        .iter()
        .map(|used| (used.service_uid.as_str(), used.kind(), used.count, used.last_used))
        .collect();
    let expected =
        [("uid-minted", CredentialKind::Token, 1, NOW), ("uid-svc", CredentialKind::SecondaryKey, 3, NOW)];
    assert_eq!(seen, expected);
    assert_eq!(rig.metric(r#"scoregate_credential_uses_total{credential="secondary"}"#), 3.0);
    assert_eq!(rig.metric(r#"scoregate_credential_uses_total{credential="token"}"#), 1.0);
}
