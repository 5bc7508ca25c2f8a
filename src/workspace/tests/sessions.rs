use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rstest::rstest;
use scoregate_authz::TokenAlgorithm;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tonic::Code;

use super::fixture::{Fixture, START, Served, TestGate, flags, new_service, now};
use crate::workspace::{NewService, Origin, Principal, Role, Workspace};

const TYPE: &str = "scoregate-session+jwt";
const HOUR: Duration = Duration::from_hours(1);

fn segment(token: &str, number: usize) -> Value {
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(number).unwrap()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn open(workspace: &Workspace, credential: &SecretString) -> String {
    let (_, session) = workspace.open_session(credential.expose_secret()).unwrap().unwrap();
    session.token.expose_secret().to_owned()
}

/// A workspace with a reader and their session token.
async fn with_session(fixture: &Fixture) -> (Workspace, Principal, SecretString, String) {
    let workspace = fixture.open().await;
    let (reader, credential) =
        workspace.create_principal(&Origin::local(), "rita", Role::Reader).await.unwrap();
    let token = open(&workspace, &credential);
    (workspace, reader, credential, token)
}

#[rstest]
#[tokio::test]
async fn a_session_token_stands_for_its_principal(
    #[values(TokenAlgorithm::Es256, TokenAlgorithm::Rs256, TokenAlgorithm::EdDsa)] algorithm: TokenAlgorithm,
) {
    let mut fixture = Fixture::new();
    fixture.config.token_algorithm = algorithm;
    let (workspace, reader, _, token) = with_session(&fixture).await;
    assert_eq!(workspace.authenticate_client(&token), Some(reader.clone()));
    assert_eq!(workspace.authenticate_client(&token), Some(reader), "from memory");
}

#[tokio::test]
async fn a_session_token_says_what_azures_clients_read() {
    let fixture = Fixture::new();
    let (workspace, _, credential, token) = with_session(&fixture).await;
    let kid = workspace.jwks()["keys"][0]["kid"].clone();
    assert_eq!(segment(&token, 0), json!({ "alg": "ES256", "kid": kid, "typ": TYPE }));
    let mut claims = segment(&token, 1);
    let mark = claims.as_object_mut().unwrap().remove("cred").unwrap();
    assert_eq!(mark.as_str().unwrap().len(), 22);
    let expected = json!({
        "iss": workspace.issuer(),
        "aud": format!("urn:scoregate:workspace:{}", workspace.id()),
        "sub": "rita",
        "tid": workspace.id().to_string(),
        "iat": START,
        "nbf": START,
        "exp": START + HOUR.as_secs(),
    });
    assert_eq!(claims, expected);
    let (_, session) = workspace.open_session(credential.expose_secret()).unwrap().unwrap();
    assert_eq!(session.expires_at, START + HOUR.as_secs());
    assert!(!format!("{session:?}").contains(&token));
}

#[tokio::test]
async fn the_same_token_is_given_while_half_an_hour_of_it_remains() {
    let fixture = Fixture::new();
    let (workspace, reader, credential, first) = with_session(&fixture).await;
    fixture.clock.advance(HOUR / 2);
    assert_eq!(open(&workspace, &credential), first);
    fixture.clock.advance(Duration::from_secs(1));
    let second = open(&workspace, &credential);
    assert_ne!(second, first);
    assert_eq!(workspace.authenticate_client(&first), Some(reader.clone()), "to its end");
    fixture.clock.advance(HOUR / 2);
    assert_eq!(workspace.authenticate_client(&first), None);
    assert_eq!(workspace.authenticate_client(&second), Some(reader));
}

#[tokio::test]
async fn principals_have_sessions_of_their_own() {
    let fixture = Fixture::new();
    let (workspace, ..) = with_session(&fixture).await;
    let (owner, credential) =
        workspace.create_principal(&Origin::local(), "olga", Role::Owner).await.unwrap();
    let token = open(&workspace, &credential);
    assert_eq!(workspace.authenticate_client(&token), Some(owner));
}

#[tokio::test]
async fn a_session_ends_at_its_second() {
    let fixture = Fixture::new();
    let (workspace, _, _, token) = with_session(&fixture).await;
    fixture.clock.advance(HOUR - Duration::from_millis(1));
    assert!(workspace.authenticate_client(&token).is_some());
    fixture.clock.advance(Duration::from_millis(1));
    assert_eq!(workspace.authenticate_client(&token), None);
}

#[tokio::test]
async fn a_session_ends_with_its_principal() {
    let fixture = Fixture::new();
    let (workspace, _, _, token) = with_session(&fixture).await;
    assert!(workspace.authenticate_client(&token).is_some());
    workspace.delete_principal(&Origin::local(), "rita").await.unwrap();
    assert_eq!(workspace.authenticate_client(&token), None);
    workspace.create_principal(&Origin::local(), "rita", Role::Reader).await.unwrap();
    assert_eq!(workspace.authenticate_client(&token), None, "that is somebody else");
}

#[tokio::test]
async fn a_session_ends_with_the_credential_that_it_was_made_from() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let lost = workspace.ensure_owner().await.unwrap().unwrap();
    let token = open(&workspace, &lost);
    let unseen = token.clone();
    assert!(workspace.authenticate_client(&token).is_some());
    let new = workspace.reset_owner(&Origin::local()).await.unwrap();
    assert_eq!(workspace.authenticate_client(&token), None);
    assert!(workspace.open_session(lost.expose_secret()).unwrap().is_none());
    assert!(workspace.authenticate_client(&open(&workspace, &new)).is_some());
    drop(workspace);
    assert_eq!(fixture.open().await.authenticate_client(&unseen), None, "not from memory only");
}

#[tokio::test]
async fn a_session_outlives_a_restart() {
    let fixture = Fixture::new();
    let (workspace, reader, _, token) = with_session(&fixture).await;
    drop(workspace);
    assert_eq!(fixture.open().await.authenticate_client(&token), Some(reader));
}

#[tokio::test]
async fn a_session_is_no_credential() {
    let fixture = Fixture::new();
    let (workspace, _, _, token) = with_session(&fixture).await;
    assert!(workspace.open_session(&token).unwrap().is_none(), "or it could be prolonged for ever");
    assert_eq!(workspace.authenticate(&token), None);
}

#[tokio::test]
async fn sessions_are_for_neither_nobody_nor_gates() {
    let fixture = Fixture::new();
    let (workspace, ..) = with_session(&fixture).await;
    let (_, gate) = workspace.create_principal(&Origin::local(), "gate", Role::Gate).await.unwrap();
    for credential in ["", "rita", "sgc_0123456789012345678901234567890", gate.expose_secret()] {
        assert!(workspace.open_session(credential).unwrap().is_none(), "{credential}");
    }
}

#[tokio::test]
async fn sessions_do_not_open_the_feed() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let (_, credential) =
        served.workspace.create_principal(&Origin::local(), "rita", Role::Reader).await.unwrap();
    let token = open(&served.workspace, &credential);
    let refused = TestGate::connect(&served.address, &token, "g", None).await;
    assert_eq!(refused.err().unwrap().code(), Code::Unauthenticated);
    served.stop().await;
}

#[tokio::test]
async fn t092_session_tokens_open_no_gate() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let service = NewService { auth: flags(false, true), ..new_service("first") };
    let (_, operation) = served.workspace.create_service(&Origin::local(), service).await.unwrap();
    let (_, credential) =
        served.workspace.create_principal(&Origin::local(), "rita", Role::Owner).await.unwrap();
    let mut gate = served.gate("g").await;
    gate.follow_to(operation.revision).await;
    assert_eq!(gate.decide("first", &open(&served.workspace, &credential), now(&fixture)), "wrong_type");
    served.stop().await;
}

#[tokio::test]
async fn tokens_of_services_are_no_sessions() {
    let fixture = Fixture::new();
    let (workspace, reader, ..) = with_session(&fixture).await;
    let service = NewService { auth: flags(false, true), ..new_service("first") };
    workspace.create_service(&Origin::local(), service).await.unwrap();
    let token = workspace.issue_token("first", &reader, None).unwrap().token;
    assert_eq!(workspace.authenticate_client(&token), None);
}

#[rstest]
#[case::issuer("iss", "https://other.example".into())]
#[case::audience("aud", "urn:scoregate:workspace:00000000-0000-0000-0000-000000000000".into())]
#[case::several_audiences("aud", json!(["urn:scoregate:workspace:x"]))]
#[case::principal("sub", "olga".into())]
#[case::nobody("sub", "nobody".into())]
#[case::credential("cred", "AAAAAAAAAAAAAAAAAAAAAA".into())]
#[case::expired("exp", START.into())]
#[case::not_yet("nbf", (START + 6).into())]
#[case::no_expiry("exp", Value::Null)]
#[case::expiry_as_text("exp", "9999999999".into())]
#[tokio::test]
async fn a_claim_that_is_not_as_it_should_be_is_refused(#[case] claim: &str, #[case] value: Value) {
    let fixture = Fixture::new();
    let (workspace, reader, _, token) = with_session(&fixture).await;
    workspace.create_principal(&Origin::local(), "olga", Role::Owner).await.unwrap();
    let signing_keys = workspace.inner.signing_keys.load_full();
    let signing_key = &signing_keys.signing().key;
    let mut claims = segment(&token, 1);
    let same = signing_key.sign(TYPE, &claims).unwrap();
    assert_eq!(workspace.authenticate_client(&same), Some(reader), "signed anew as it is");
    claims[claim] = value;
    let forged = signing_key.sign(TYPE, &claims).unwrap();
    assert_eq!(workspace.authenticate_client(&forged), None);
}

#[rstest]
#[case("scoregate+jwt")]
#[case("JWT")]
#[case("")]
#[case("SCOREGATE-SESSION+JWT")]
#[tokio::test]
async fn another_type_is_refused(#[case] token_type: &str) {
    let fixture = Fixture::new();
    let (workspace, _, _, token) = with_session(&fixture).await;
    let forged =
        workspace.inner.signing_keys.load().signing().key.sign(token_type, &segment(&token, 1)).unwrap();
    assert_eq!(workspace.authenticate_client(&forged), None);
}

#[tokio::test]
async fn a_header_or_signature_that_is_not_the_keys_is_refused() {
    let fixture = Fixture::new();
    let (workspace, _, _, token) = with_session(&fixture).await;
    let parts: Vec<&str> = token.split('.').collect();
    let with_header = |member: &str, value: Value| {
        let mut header = segment(&token, 0);
        header[member] = value;
        format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), parts[1], parts[2])
    };
    let forged = [
        with_header("alg", "none".into()),
        with_header("alg", "HS256".into()),
        with_header("alg", "RS256".into()),
        with_header("kid", "another".into()),
        with_header("jwk", json!({})),
        with_header("crit", json!([])),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{token}.x"),
        format!("{token}="),
        format!("{token} "),
        token[..token.len() - 2].to_owned(),
        "..".to_owned(),
        "x".repeat(1_000_000),
    ];
    for token in forged {
        assert_eq!(workspace.authenticate_client(&token), None, "{token:.100}");
    }
}

#[tokio::test]
async fn sessions_of_another_workspace_are_refused() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let (_workspace, _, _, token) = with_session(&fixture).await;
    let (other, ..) = with_session(&other).await;
    assert_eq!(other.authenticate_client(&token), None);
}
