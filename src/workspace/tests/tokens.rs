use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rstest::rstest;
use scoregate_authz::{AuthMode, TokenAlgorithm};
use serde_json::{Value, json};

use super::fixture::{Fixture, START, Served, flags, new_service, now};
use crate::workspace::{
    NewService, OperationState, Origin, Patch, Principal, Role, Workspace, WorkspaceError,
};

const HOUR: u64 = 3600;

fn caller(name: &str) -> Principal {
    Principal { name: name.to_owned(), role: Role::Reader, created_at: Timestamp::UNIX_EPOCH }
}

fn token_service(name: &str) -> NewService {
    NewService { auth: flags(false, true), ..new_service(name) }
}

fn segment(token: &str, number: usize) -> Value {
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(number).unwrap()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

async fn issue(workspace: &Workspace, name: &str) -> String {
    workspace.issue_token(name, &caller("caller"), None).unwrap().token
}

#[rstest]
#[tokio::test]
async fn t107_tokens_are_accepted_by_the_core(
    #[values(TokenAlgorithm::Es256, TokenAlgorithm::Rs256, TokenAlgorithm::EdDsa)] algorithm: TokenAlgorithm,
) {
    let mut fixture = Fixture::new();
    fixture.config.token_algorithm = algorithm;
    let served = Served::start(&fixture).await;
    served.workspace.create_service(&Origin::local(), token_service("first")).await.unwrap();
    let (other, _) = served.workspace.create_service(&Origin::local(), token_service("other")).await.unwrap();
    let token = issue(&served.workspace, "first").await;
    let mut gate = served.gate("g").await;
    gate.follow_to(other.revision).await;
    assert_eq!(gate.decide("first", &token, now(&fixture)), "ok");
    assert_eq!(gate.decide("other", &token, now(&fixture)), "wrong_service");
    assert_eq!(gate.decide("first", &token, now(&fixture) + Duration::from_hours(12)), "expired");
    assert_eq!(segment(&token, 0)["alg"], algorithm.as_str());
    served.stop().await;
}

#[tokio::test]
async fn issue_says_all_that_a_gate_requires() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let (service, _) = workspace.create_service(&Origin::local(), token_service("first")).await.unwrap();
    let issued = workspace.issue_token("first", &caller("caller"), None).unwrap();
    assert_eq!((issued.refresh_after, issued.expires_at), (START + HOUR, START + 12 * HOUR));
    let header = segment(&issued.token, 0);
    let kid = workspace.jwks()["keys"][0]["kid"].clone();
    assert_eq!(header, json!({ "alg": "ES256", "kid": kid, "typ": "scoregate+jwt" }));
    let mut claims = segment(&issued.token, 1);
    assert!(claims.as_object_mut().unwrap().remove("jti").is_some());
    let expected = json!({
        "iss": format!("https://{}.scoregate.invalid", workspace.id()),
        "aud": format!("urn:scoregate:service:{}", service.uid),
        "sub": "caller",
        "iat": START,
        "nbf": START,
        "exp": START + 12 * HOUR,
    });
    assert_eq!(claims, expected);
    assert!(!format!("{issued:?}").contains(&issued.token));
}

#[tokio::test]
async fn issue_gives_the_same_token_while_it_is_fresh() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    workspace.create_service(&Origin::local(), token_service("first")).await.unwrap();
    let first = issue(&workspace, "first").await;
    fixture.clock.advance(Duration::from_secs(HOUR / 2));
    assert_eq!(issue(&workspace, "first").await, first);
    let of_another = workspace.issue_token("first", &caller("another"), None).unwrap();
    assert_ne!(of_another.token, first);
    fixture.clock.advance(Duration::from_secs(1));
    assert_ne!(issue(&workspace, "first").await, first);
    let line = fixture.metrics_line("scoregate_workspace_tokens_reused_total");
    assert_eq!(line, "scoregate_workspace_tokens_reused_total 1");
}

#[rstest]
#[case(Duration::from_secs(2), 1, 2)]
#[case(Duration::from_secs(1), 0, 1)]
#[case(Duration::from_hours(1), HOUR / 2, HOUR)]
#[case(Duration::from_hours(11), HOUR, 11 * HOUR)]
#[case(Duration::from_hours(12), HOUR, 12 * HOUR)]
#[tokio::test]
async fn issue_for_a_shorter_time(#[case] lifetime: Duration, #[case] refresh: u64, #[case] expiry: u64) {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    workspace.create_service(&Origin::local(), token_service("first")).await.unwrap();
    let issued = workspace.issue_token("first", &caller("caller"), Some(lifetime)).unwrap();
    assert_eq!((issued.refresh_after - START, issued.expires_at - START), (refresh, expiry));
}

#[rstest]
#[case(Duration::from_millis(999))]
#[case(Duration::from_secs(12 * HOUR + 1))]
#[case(Duration::MAX)]
#[tokio::test]
async fn issue_for_an_impossible_time_is_refused(#[case] lifetime: Duration) {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    workspace.create_service(&Origin::local(), token_service("first")).await.unwrap();
    match workspace.issue_token("first", &caller("caller"), Some(lifetime)).unwrap_err() {
        WorkspaceError::Invalid { field, .. } => assert_eq!(field, "expiresIn"),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn issue_for_a_service_in_another_mode_is_refused() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let error = workspace.issue_token("first", &caller("caller"), None).unwrap_err();
    assert!(matches!(error, WorkspaceError::NotInTokenMode { mode: AuthMode::Key, .. }), "{error}");
}

#[tokio::test]
async fn t102_a_revoked_token_is_denied_and_not_handed_out_again() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let workspace = &served.workspace;
    workspace.create_service(&Origin::local(), token_service("first")).await.unwrap();
    fixture.clock.advance(Duration::from_millis(300));
    let revoked = issue(workspace, "first").await;
    let to_keys = Patch { auth: flags(true, false), ..Patch::default() };
    let left = workspace.update_service(&Origin::local(), "first", to_keys).await.unwrap();
    assert_eq!(left.tokens_not_before, START + 1);
    let to_tokens = Patch { auth: flags(false, true), ..Patch::default() };
    let back = workspace.update_service(&Origin::local(), "first", to_tokens).await.unwrap();
    // Still within the second of the revocation.
    let issued = issue(workspace, "first").await;
    assert_ne!(issued, revoked);
    assert_eq!(segment(&issued, 1)["iat"], START + 1);
    let mut gate = served.gate("g").await;
    gate.follow_to(back.revision).await;
    let next_second = Duration::from_secs(START + 1);
    assert_eq!(gate.decide("first", &revoked, next_second), "revoked");
    assert_eq!(gate.decide("first", &issued, next_second), "ok");
    served.stop().await;
}

#[tokio::test]
async fn t100b_a_token_of_the_service_made_before_is_denied() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    served.workspace.create_service(&Origin::local(), token_service("first")).await.unwrap();
    let token = issue(&served.workspace, "first").await;
    served.workspace.delete_service(&Origin::local(), "first").await.unwrap();
    let (again, _) = served.workspace.create_service(&Origin::local(), token_service("first")).await.unwrap();
    assert_ne!(issue(&served.workspace, "first").await, token);
    let mut gate = served.gate("g").await;
    gate.follow_to(again.revision).await;
    assert_eq!(gate.decide("first", &token, now(&fixture)), "wrong_service");
    served.stop().await;
}

#[tokio::test]
async fn t107_a_new_signing_key_is_used_when_the_gates_have_it() {
    let mut fixture = Fixture::new();
    let before = Served::start(&fixture).await;
    before.workspace.create_service(&Origin::local(), token_service("first")).await.unwrap();
    let old_token = issue(&before.workspace, "first").await;
    before.stop().await;

    fixture.config.token_algorithm = TokenAlgorithm::EdDsa;
    let served = Served::start(&fixture).await;
    assert_eq!(served.workspace.jwks()["keys"].as_array().unwrap().len(), 2);
    let mut gate = served.gate("g").await;
    gate.take().await;
    let algorithm = async || segment(&issue(&served.workspace, "first").await, 0)["alg"].clone();
    assert_eq!(algorithm().await, "ES256", "the gates have had no time");
    fixture.clock.advance(Duration::from_secs(10));
    assert_eq!(algorithm().await, "ES256", "a gate has not acknowledged");
    gate.ack().await;
    super::fixture::until("the new key is used", async || algorithm().await == "EdDSA").await;
    let new_token = issue(&served.workspace, "first").await;
    assert_eq!(gate.decide("first", &new_token, now(&fixture)), "ok");
    assert_eq!(gate.decide("first", &old_token, now(&fixture)), "ok");
    served.stop().await;
}

#[tokio::test]
async fn t102_revoked_tokens_are_refused_by_every_gate_when_the_operation_has_ended() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let workspace = &served.workspace;
    let (made, _) = workspace.create_service(&Origin::local(), token_service("first")).await.unwrap();
    workspace.create_service(&Origin::local(), token_service("other")).await.unwrap();
    let mut gate = served.gate("g").await;
    gate.follow_to(made.revision).await;
    gate.ack().await;
    let (mut revoked, others) = (Vec::new(), issue(workspace, "other").await);
    // Again and again within one second: each time all that were issued before.
    for _ in 0..3 {
        revoked.push(issue(workspace, "first").await);
        let operation = workspace.revoke_tokens(&Origin::local(), "first").await.unwrap();
        assert_eq!(operation.state, OperationState::Running);
        gate.follow_to(operation.revision).await;
        gate.ack().await;
        super::fixture::until("it is enforced", async || {
            workspace.operation(operation.id).await.unwrap().state == OperationState::Succeeded
        })
        .await;
        let later = now(&fixture) + Duration::from_secs(4);
        assert!(revoked.iter().all(|token| gate.decide("first", token, later) == "revoked"));
        assert_eq!(gate.decide("first", &issue(workspace, "first").await, later), "ok");
        assert_eq!(gate.decide("other", &others, later), "ok");
    }
    assert_eq!(workspace.service("first").await.unwrap().tokens_not_before, START + 3);
    let unknown = workspace.revoke_tokens(&Origin::local(), "none").await.unwrap_err();
    assert!(matches!(unknown, WorkspaceError::UnknownService(_)), "{unknown}");
    served.stop().await;
}
