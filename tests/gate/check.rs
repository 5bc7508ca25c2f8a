//! Checks: what comes in, and what is answered.

use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use prost::Message;
use rstest::rstest;
use serde_json::json;

use crate::envoy::{Encoding, Envoy, request, with_bearer, with_http};
use crate::policy::{Signer, change, key, key_service, open_service, token_service};
use crate::rig::Rig;

#[rstest]
#[case(Encoding::Joined)]
#[case(Encoding::Raw)]
#[tokio::test]
async fn t004_t054_key_is_found_in_both_encodings_over_both_sockets(#[case] encoding: Encoding) {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, _session) = Rig::with_policy(&[key_service("svc", (1, 1))], data.path()).await;
    for address in [&rig.tcp, &rig.unix] {
        let mut envoy = Envoy::connect(address).await;
        for slot in ["primary", "secondary"] {
            let credential = format!("Bearer {}", key("svc", slot, 1));
            let answer = envoy.check(request(encoding, "svc", &[("authorization", &credential)])).await;
            assert_eq!(answer.outcome(), (200, "ok"));
            assert_eq!(answer.header("x-scoregate-key-slot"), Some(slot));
            assert_eq!(answer.header("x-scoregate-service"), Some("svc"));
            assert!(answer.removed.contains(&"authorization".to_owned()));
        }
        let wrong =
            envoy.check(request(encoding, "svc", &[("authorization", "Bearer wrong-key-wrong-key")])).await;
        assert_eq!(wrong.outcome(), (401, "unknown_key"));
        let challenge = wrong.header("www-authenticate").unwrap();
        assert_eq!(challenge, r#"Bearer realm="scoregate", error="invalid_token""#);
    }
    assert_eq!(
        rig.metric(r#"scoregate_decisions_total{mode="key",outcome="allow",reason="ok"}"#),
        4.0,
        "series are counted once"
    );
}

#[tokio::test]
async fn token_is_proven_and_names_its_subject() {
    let (data, signer) = (tempfile::tempdir().unwrap(), Signer::new());
    let policy = [token_service("svc"), signer.entry()];
    let (rig, _workspace, _session) = Rig::with_policy(&policy, data.path()).await;
    let mut envoy = rig.envoy().await;
    let token = signer.token("svc", "alice");
    for _ in 0..2 {
        let answer = envoy.with("svc", &token).await;
        assert_eq!(answer.outcome(), (200, "ok"));
        assert_eq!(answer.header("x-scoregate-subject"), Some("alice"));
    }
    assert_eq!(envoy.with("svc", &Signer::new().token("svc", "eve")).await.reason, "bad_signature");
    rig.clock.advance(std::time::Duration::from_secs(3_605));
    assert_eq!(envoy.with("svc", &token).await.outcome(), (401, "expired"));
}

/// Neither the workspace nor what a token itself names is asked about a key.
#[tokio::test]
async fn t106_tokens_of_unknown_keys_make_a_gate_ask_nobody_and_no_series() {
    let (data, signer) = (tempfile::tempdir().unwrap(), Signer::new());
    let policy = [token_service("svc"), signer.entry()];
    let (rig, mut workspace, mut session) = Rig::with_policy(&policy, data.path()).await;
    let lure = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    lure.set_nonblocking(true).unwrap();
    let url = format!("http://{}/keys", lure.local_addr().unwrap());
    let mut envoy = rig.envoy().await;
    let good = signer.token("svc", "alice");
    assert_eq!(envoy.with("svc", &good).await.outcome(), (200, "ok"));
    let series = rig.series();
    for number in 0..1_000 {
        let token = signer.token_under(&format!("k{number:x}-"), &url, "svc");
        assert_eq!(envoy.with("svc", &token).await.outcome(), (401, "unknown_signing_key"));
        assert_eq!(lure.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
    assert_eq!(envoy.with("svc", &good).await.outcome(), (200, "ok"));
    assert_eq!(rig.series(), series);
    // What the workspace hears next is an answer to what it says next.
    session.send_change(change(1, 2, &[], &policy)).await;
    assert_eq!(session.ack().await, (1, 2));
    assert!(!workspace.has_session());
}

#[tokio::test]
async fn t001_t002_request_without_http_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, _session) = Rig::with_policy(&[open_service("svc")], data.path()).await;
    let mut envoy = rig.envoy().await;
    let without_request = CheckRequest { attributes: Some(AttributeContext::default()) };
    for request in [CheckRequest::default(), without_request, with_http(None, "svc")] {
        let answer = envoy.check(request).await;
        assert_eq!(answer.outcome(), (400, "no_http"));
        assert_eq!(answer.header("www-authenticate"), None);
    }
}

#[tokio::test]
async fn t003_t006_t007_headers_are_missing_doubled_or_contradict() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, _session) = Rig::with_policy(&[key_service("svc", (1, 1))], data.path()).await;
    let mut envoy = rig.envoy().await;
    let credential = format!("Bearer {}", key("svc", "primary", 1));

    let none = envoy.check(request(Encoding::Joined, "svc", &[])).await;
    assert_eq!(none.outcome(), (401, "missing_credential"));
    assert_eq!(none.header("www-authenticate"), Some(r#"Bearer realm="scoregate""#));

    let capitals = envoy.check(request(Encoding::Joined, "svc", &[("Authorization", &credential)])).await;
    assert_eq!(capitals.outcome(), (200, "ok"));
    let both = [("Authorization", credential.as_str()), ("authorization", &credential)];
    let doubled = envoy.check(request(Encoding::Joined, "svc", &both)).await;
    assert_eq!(doubled.outcome(), (401, "duplicate_credential"));

    let mut contradicting = request(Encoding::Joined, "svc", &[("authorization", &credential)]);
    let other = request(Encoding::Raw, "svc", &[("authorization", "Bearer another-key-another")]);
    http_of(&mut contradicting).header_map = http_of(&mut other.clone()).header_map.clone();
    assert_eq!(envoy.check(contradicting).await.outcome(), (401, "ambiguous_credential"));
}

fn http_of(request: &mut CheckRequest) -> &mut HttpRequest {
    request.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap()
}

#[tokio::test]
async fn t009_request_of_grpc_a92_is_decided() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, _session) = Rig::with_policy(&[key_service("svc", (1, 1))], data.path()).await;
    let mut bare = with_bearer("svc", &key("svc", "primary", 1));
    let http = http_of(&mut bare);
    *http = HttpRequest { header_map: http.header_map.clone(), ..HttpRequest::default() };
    assert_eq!(rig.envoy().await.check(bare).await.outcome(), (200, "ok"));
}

#[tokio::test]
async fn t121_forged_identity_headers_never_get_through() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, _session) = Rig::with_policy(&[open_service("svc")], data.path()).await;
    let forged = [("x-scoregate-subject", "admin"), ("x_scoregate_key_slot", "primary")];
    let answer = rig.envoy().await.check(request(Encoding::Raw, "svc", &forged)).await;
    assert_eq!(answer.outcome(), (200, "open"));
    for name in ["x-scoregate-subject", "x-scoregate-key-slot", "x_scoregate_key_slot"] {
        assert!(answer.removed.iter().any(|removed| removed == name), "{name}");
    }
}

#[tokio::test]
async fn t108_without_verification_keys_only_token_services_are_undecided() {
    let data = tempfile::tempdir().unwrap();
    let policy = [token_service("tok"), key_service("svc", (1, 1))];
    let (rig, _workspace, _session) = Rig::with_policy(&policy, data.path()).await;
    let mut envoy = rig.envoy().await;
    let token = Signer::new().token("tok", "alice");
    assert_eq!(envoy.with("tok", &token).await.outcome(), (503, "no_verification_key"));
    assert_eq!(envoy.with("svc", &key("svc", "primary", 1)).await.outcome(), (200, "ok"));
}

#[tokio::test]
async fn explain_tells_each_step_and_no_credential() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, _session) = Rig::with_policy(&[key_service("svc", (1, 1))], data.path()).await;
    let credential = key("svc", "secondary", 1);
    let asked = json!({
        "service": "svc", "path": "/score",
        "headers": [["authorization", format!("Bearer {credential}")]],
    });
    let (status, by_json) = rig.explain("application/json", asked.to_string().into_bytes()).await;
    let (_, by_protobuf) =
        rig.explain("application/x-protobuf", with_bearer("svc", &credential).encode_to_vec()).await;
    assert_eq!((status, &by_json), (200, &by_protobuf));
    assert!(!by_json.to_string().contains(&credential));
    insta::assert_json_snapshot!(by_json, @r#"
    {
      "decision": "allow",
      "reason": "ok",
      "revision": 1,
      "service": "svc",
      "steps": [
        {
          "detail": "read in one way only",
          "step": "path"
        },
        {
          "detail": "one, of 22 characters",
          "step": "credential"
        },
        {
          "detail": "`svc` (uid uid-svc), by context_extensions",
          "step": "service"
        },
        {
          "detail": "the secondary key",
          "step": "key"
        }
      ]
    }
    "#);
    assert_eq!(rig.metric("scoregate_decision_seconds_count"), 0.0, "an explanation is no check");
    let (status, _) = rig.explain("application/json", b"{".to_vec()).await;
    assert_eq!(status, 400);
}
