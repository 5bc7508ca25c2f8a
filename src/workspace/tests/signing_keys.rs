//! The life of signing keys: no good token is refused through any of it, and a withdrawn key is refused at once.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rstest::rstest;
use scoregate_authz::TokenAlgorithm;
use secrecy::ExposeSecret;
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Row};

use super::fixture::{Fixture, Served, TestGate, flags, new_service, now, until};
use crate::workspace::{
    AuditFilter, NewService, OperationState, Origin, Principal, Role, SigningKeyState, SigningKeyStatus,
    Workspace, WorkspaceError, timestamp,
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
/// What the fixture's workspace gives gates to learn a key.
const ENFORCEMENT: Duration = Duration::from_secs(10);
const LIFETIME: Duration = Duration::from_hours(12);
const LEEWAY: Duration = Duration::from_secs(120);

async fn with_service(served: &Served) -> u64 {
    let new = NewService { auth: flags(false, true), ..new_service("first") };
    served.workspace.create_service(&Origin::local(), new).await.unwrap().0.revision
}

fn issue_to(workspace: &Workspace, name: &str) -> String {
    let role = Role::Reader;
    let caller = Principal { name: name.to_owned(), role, created_at: Timestamp::UNIX_EPOCH };
    workspace.issue_token("first", &caller, None).unwrap().token
}

/// A token that was never handed out before.
fn issue(workspace: &Workspace) -> String {
    issue_to(workspace, &uuid::Uuid::new_v4().to_string())
}

fn kid(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

fn states(workspace: &Workspace) -> Vec<(&'static str, &'static str)> {
    let keys = workspace.signing_keys();
    keys.iter().map(|key| (key.algorithm.as_str(), key.state.as_str())).collect()
}

fn words(workspace: &Workspace) -> Vec<&'static str> {
    workspace.signing_keys().iter().map(|key| key.state.as_str()).collect()
}

fn find(workspace: &Workspace, state: &str) -> SigningKeyStatus {
    workspace.signing_keys().into_iter().find(|key| key.state.as_str() == state).unwrap()
}

/// A system of a workspace and a gate, either of which may be started anew.
struct System {
    fixture: Fixture,
    served: Served,
    gate: TestGate,
    restarts: bool,
}

impl System {
    async fn start(fixture: Fixture, restarts: bool) -> Self {
        let served = Served::start(&fixture).await;
        let revision = with_service(&served).await;
        let mut gate = served.gate("g").await;
        gate.follow_to(revision).await;
        gate.ack().await;
        Self { fixture, served, gate, restarts }
    }

    fn workspace(&self) -> &Workspace {
        &self.served.workspace
    }

    /// Another process goes on from the store, where that is wanted.
    async fn restart(self) -> Self {
        if !self.restarts {
            return self;
        }
        let Self { fixture, served, mut gate, restarts } = self;
        served.stop().await;
        let served = Served::start(&fixture).await;
        gate = served.gate_holding("g", gate.snapshot.take()).await;
        Self { fixture, served, gate, restarts }
    }

    /// The gate takes what there is, and says so.
    async fn catch_up(&mut self) {
        let revision = self.workspace().image().version().revision;
        self.gate.follow_to(revision).await;
        self.gate.ack().await;
    }

    /// The workspace takes its steps, with the gate following, until the keys are in these states.
    async fn until_states(&mut self, expected: &[&str]) {
        for _ in 0..100 {
            self.catch_up().await;
            if words(self.workspace()) == expected {
                self.catch_up().await;
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{:?} and not {expected:?}", words(self.workspace()));
    }

    fn assert_accepted(&self, tokens: &[String]) {
        for (index, token) in tokens.iter().enumerate() {
            let decision = self.gate.decide("first", token, now(&self.fixture));
            assert_eq!(decision, "ok", "token {index} of {:?}", kid(token));
        }
    }
}

#[rstest]
#[tokio::test]
async fn t107_a_token_of_every_stage_is_good_until_it_expires(
    #[values(false, true)] restarts: bool,
    #[values(TokenAlgorithm::Es256, TokenAlgorithm::EdDsa)] next: TokenAlgorithm,
) {
    let mut system = System::start(Fixture::new(), restarts).await;
    let (_, credential) =
        system.workspace().create_principal(&Origin::local(), "rita", Role::Reader).await.unwrap();
    let session = |workspace: &Workspace| {
        let (_, session) = workspace.open_session(credential.expose_secret()).unwrap().unwrap();
        session.token.expose_secret().to_owned()
    };
    let old_session = session(system.workspace());
    let mut tokens = vec![issue(system.workspace())];

    // Published: by hand, or because of the configuration.
    if next == TokenAlgorithm::Es256 {
        system.workspace().rotate_signing_key(&Origin::local()).await.unwrap();
    } else {
        let System { mut fixture, served, gate, .. } = system;
        served.stop().await;
        fixture.config.token_algorithm = next;
        let served = Served::start(&fixture).await;
        let gate = served.gate_holding("g", gate.snapshot).await;
        system = System { fixture, served, gate, restarts };
    }
    assert_eq!(states(system.workspace()), [("ES256", "signing"), (next.as_str(), "published")]);
    tokens.push(issue(system.workspace()));
    system = system.restart().await;
    assert_eq!(words(system.workspace()), ["signing", "published"]);
    system.catch_up().await;
    tokens.push(issue(system.workspace()));
    assert!(tokens.iter().all(|token| kid(token) == kid(&tokens[0])), "the old one signs still");
    system.assert_accepted(&tokens);

    // Signing.
    system.fixture.clock.advance(ENFORCEMENT);
    system.until_states(&["retired", "signing"]).await;
    tokens.push(issue(system.workspace()));
    assert_ne!(kid(&tokens[3]), kid(&tokens[0]));
    system.assert_accepted(&tokens);
    system = system.restart().await;
    system.catch_up().await;
    assert_eq!(words(system.workspace()), ["retired", "signing"], "it does not flip back");
    tokens.push(issue(system.workspace()));
    assert_eq!(kid(&tokens[4]), kid(&tokens[3]));
    system.assert_accepted(&tokens);
    assert!(system.workspace().authenticate_client(&old_session).is_some());

    // A gate that joins late knows all keys of good tokens.
    let mut late = system.served.gate("late").await;
    late.take().await;
    for token in &tokens {
        assert_eq!(late.decide("first", token, now(&system.fixture)), "ok");
    }
    drop(late);

    // Retired, to the last second of its last token.
    system.fixture.clock.advance(LIFETIME - ENFORCEMENT - SECOND);
    system = system.restart().await;
    system.catch_up().await;
    system.assert_accepted(&tokens);
    system.fixture.clock.advance(ENFORCEMENT + LEEWAY);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(words(system.workspace()), ["retired", "signing"]);
    system.catch_up().await;
    assert_eq!(system.gate.decide("first", &tokens[2], now(&system.fixture)), "expired");

    // Dropped.
    system.fixture.clock.advance(SECOND * 10);
    system.until_states(&["signing"]).await;
    assert_eq!(system.workspace().jwks()["keys"].as_array().unwrap().len(), 1);
    assert_eq!(system.gate.decide("first", &tokens[2], now(&system.fixture)), "unknown_signing_key");
    let fresh = issue(system.workspace());
    system.assert_accepted(&[fresh]);
    system = system.restart().await;
    assert_eq!(words(system.workspace()), ["signing"]);
    system.served.stop().await;
}

#[tokio::test]
async fn t107_a_key_does_not_sign_while_a_gate_that_went_away_may_lack_it() {
    let mut system = System::start(Fixture::new(), false).await;
    let mut other = system.served.gate("other").await;
    other.take().await;
    other.ack().await;
    until("both are connected", async || system.workspace().gates().len() == 2).await;
    let operation = system.workspace().rotate_signing_key(&Origin::local()).await.unwrap();
    drop(other);
    until("one is away", async || system.workspace().gates().len() == 1).await;
    system.catch_up().await;
    system.fixture.clock.advance(ENFORCEMENT);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(words(system.workspace()), ["signing", "published"]);
    assert_eq!(find(system.workspace(), "published").waiting_for, ["other"]);
    // It comes back with what it had, and learns the key.
    let mut other = system.served.gate("other").await;
    other.follow_to(operation.revision).await;
    other.ack().await;
    system.until_states(&["retired", "signing"]).await;
    system.served.stop().await;
}

#[tokio::test]
async fn a_gate_that_stays_away_does_not_stop_a_rotation_for_ever() {
    let mut system = System::start(Fixture::new(), false).await;
    let gone = system.served.gate("gone").await;
    until("both are connected", async || system.workspace().gates().len() == 2).await;
    drop(gone);
    until("it is away", async || system.workspace().gates().len() == 1).await;
    system.workspace().rotate_signing_key(&Origin::local()).await.unwrap();
    system.fixture.clock.advance(Duration::from_secs(299));
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(words(system.workspace()), ["signing", "published"]);
    system.fixture.clock.advance(SECOND);
    system.until_states(&["retired", "signing"]).await;
    system.served.stop().await;
}

#[tokio::test]
async fn a_rotation_by_age_publishes_the_next_key_a_day_before() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    fixture.clock.advance(29 * DAY - SECOND);
    workspace.advance_signing_keys().await;
    assert_eq!(words(&workspace), ["signing"]);
    fixture.clock.advance(SECOND);
    workspace.advance_signing_keys().await;
    assert_eq!(words(&workspace), ["signing", "published"]);
    fixture.clock.advance(DAY - SECOND);
    workspace.advance_signing_keys().await;
    assert_eq!(words(&workspace), ["signing", "published"]);
    fixture.clock.advance(SECOND);
    workspace.advance_signing_keys().await;
    assert_eq!(words(&workspace), ["retired", "signing"]);
    for (state, count) in [("published", 0), ("signing", 1), ("retired", 1)] {
        let name = format!("scoregate_workspace_signing_keys{{state=\"{state}\"}}");
        assert_eq!(fixture.metrics_line(&name), format!("{name} {count}"));
    }
    fixture.clock.advance(SECOND);
    workspace.advance_signing_keys().await;
    let age = fixture.metrics_line("scoregate_workspace_signing_key_age_seconds");
    assert_eq!(age, "scoregate_workspace_signing_key_age_seconds 1.0");
}

#[tokio::test]
async fn a_rotation_by_hand_does_not_wait_for_the_day_and_makes_no_second_key() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    fixture.clock.advance(29 * DAY);
    workspace.advance_signing_keys().await;
    let published = find(&workspace, "published");
    let operation = workspace.rotate_signing_key(&Origin::local()).await.unwrap();
    assert_eq!(operation.state, OperationState::Succeeded);
    let hastened = find(&workspace, "published");
    assert_eq!(hastened.id, published.id);
    let signs_from = timestamp(now(&fixture) + ENFORCEMENT);
    assert_eq!(hastened.state, SigningKeyState::Published { since: published.state.since(), signs_from });
    // Once more, later: it does not begin to wait anew.
    fixture.clock.advance(SECOND);
    workspace.rotate_signing_key(&Origin::local()).await.unwrap();
    assert_eq!(find(&workspace, "published").state, hastened.state);
    fixture.clock.advance(ENFORCEMENT - SECOND);
    workspace.advance_signing_keys().await;
    assert_eq!(find(&workspace, "signing").id, published.id);
}

#[tokio::test]
async fn unlimited_means_never() {
    let mut fixture = Fixture::new();
    fixture.config.signing_key_rotation = None;
    let workspace = fixture.open().await;
    fixture.clock.advance(9999 * DAY);
    workspace.advance_signing_keys().await;
    assert_eq!(words(&workspace), ["signing"]);
}

#[tokio::test]
async fn a_configuration_that_is_changed_back_takes_the_published_key_with_it() {
    let mut fixture = Fixture::new();
    let first = find(&fixture.open().await, "signing").id;
    fixture.config.token_algorithm = TokenAlgorithm::EdDsa;
    assert_eq!(states(&fixture.open().await), [("ES256", "signing"), ("EdDSA", "published")]);
    fixture.config.token_algorithm = TokenAlgorithm::Es256;
    let workspace = fixture.open().await;
    assert_eq!(states(&workspace), [("ES256", "signing")]);
    assert_eq!(find(&workspace, "signing").id, first);
}

#[tokio::test]
async fn a_retired_key_outlives_the_longest_tokens_that_it_signed() {
    let mut fixture = Fixture::new();
    fixture.config.token_lifetime = Duration::from_hours(48);
    drop(fixture.open().await);
    fixture.config.token_lifetime = Duration::from_hours(2);
    let workspace = fixture.open().await;
    workspace.rotate_signing_key(&Origin::local()).await.unwrap();
    fixture.clock.advance(ENFORCEMENT);
    workspace.advance_signing_keys().await;
    let since = timestamp(now(&fixture));
    let until = timestamp(now(&fixture) + Duration::from_hours(48) + LEEWAY);
    assert_eq!(find(&workspace, "retired").state, SigningKeyState::Retired { since, until });
}

#[tokio::test]
async fn a_retired_key_outlives_sessions_where_tokens_are_short() {
    let mut fixture = Fixture::new();
    fixture.config.token_lifetime = Duration::from_secs(60);
    let workspace = fixture.open().await;
    let (_, credential) = workspace.create_principal(&Origin::local(), "rita", Role::Reader).await.unwrap();
    workspace.rotate_signing_key(&Origin::local()).await.unwrap();
    fixture.clock.advance(ENFORCEMENT);
    let (_, session) = workspace.open_session(credential.expose_secret()).unwrap().unwrap();
    workspace.advance_signing_keys().await;
    fixture.clock.advance(Duration::from_hours(1) - SECOND);
    workspace.advance_signing_keys().await;
    assert!(workspace.authenticate_client(session.token.expose_secret()).is_some());
    assert_eq!(words(&workspace), ["retired", "signing"]);
}

#[rstest]
#[case::nothing_is_published(false)]
#[case::the_next_one_is_published(true)]
#[tokio::test]
async fn t102_tokens_of_a_withdrawn_key_are_refused_and_not_handed_out_again(#[case] is_published: bool) {
    let mut system = System::start(Fixture::new(), false).await;
    let leaked = issue_to(system.workspace(), "caller");
    system.catch_up().await;
    system.assert_accepted(std::slice::from_ref(&leaked));
    if is_published {
        system.workspace().rotate_signing_key(&Origin::local()).await.unwrap();
    }
    let successor = system.workspace().signing_keys().get(1).map(|key| key.id.clone());
    let operation = system.workspace().withdraw_signing_key(&Origin::local(), &kid(&leaked)).await.unwrap();
    let next = issue_to(system.workspace(), "caller");
    assert_ne!(kid(&next), kid(&leaked), "the next one signs at once");
    assert!(successor.is_none_or(|successor| successor == kid(&next)));
    assert_eq!(words(system.workspace()), ["signing"]);
    assert_eq!(system.workspace().jwks()["keys"].as_array().unwrap().len(), 1);
    assert_eq!(operation.state, OperationState::Running, "the gate has not said that it knows");
    // Both come with one revision: no gate is ever without the one and without the other.
    system.gate.follow_to(operation.revision).await;
    assert_eq!(system.gate.decide("first", &leaked, now(&system.fixture)), "unknown_signing_key");
    system.assert_accepted(&[next]);
    system.gate.ack().await;
    until("the withdrawal is enforced", async || {
        let operation = system.workspace().operation(operation.id).await.unwrap();
        operation.state == OperationState::Succeeded
    })
    .await;
    system.restarts = true;
    system = system.restart().await;
    assert_eq!(words(system.workspace()), ["signing"]);
    assert_ne!(kid(&issue(system.workspace())), kid(&leaked));
    system.served.stop().await;
}

#[tokio::test]
async fn t107_a_withdrawal_that_a_gate_does_not_confirm_names_it() {
    let system = System::start(Fixture::new(), false).await;
    let id = find(system.workspace(), "signing").id;
    let origin = Origin { patience: Some(Duration::from_secs(3)), ..Origin::local() };
    let operation = system.workspace().withdraw_signing_key(&origin, &id).await.unwrap();
    system.fixture.clock.advance(Duration::from_secs(3));
    until("it ends", async || {
        system.workspace().operation(operation.id).await.unwrap().state == OperationState::TimedOut
    })
    .await;
    let error = system.workspace().operation(operation.id).await.unwrap().error.unwrap();
    let said = "has been withdrawn, but these gates have not confirmed it within 3 s and may decide as before until they \
        do: `g`";
    assert!(error.ends_with(said), "{error}");
    system.served.stop().await;
}

#[tokio::test]
async fn a_withdrawn_key_takes_its_sessions_and_its_private_half_with_it() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let (_, credential) = workspace.create_principal(&Origin::local(), "rita", Role::Reader).await.unwrap();
    let (_, session) = workspace.open_session(credential.expose_secret()).unwrap().unwrap();
    let session = session.token.expose_secret().to_owned();
    assert!(workspace.authenticate_client(&session).is_some());
    let rows = workspace.inner.store.signing_keys().await.unwrap();
    let sealed = &rows[0].sealed.bytes;
    workspace.withdraw_signing_key(&Origin::local(), &rows[0].id).await.unwrap();
    assert_eq!(workspace.authenticate_client(&session), None);
    let (_, session) = workspace.open_session(credential.expose_secret()).unwrap().unwrap();
    assert!(workspace.authenticate_client(session.token.expose_secret()).is_some());
    let kept = workspace.inner.store.signing_keys().await.unwrap();
    assert_eq!(kept.len(), 1);
    drop(workspace);
    fixture.execute("PRAGMA wal_checkpoint(TRUNCATE)").await;
    let contains = |part: &[u8]| fixture.bytes().windows(part.len()).any(|window| window == part);
    assert!(contains(&kept[0].sealed.bytes), "the check is able to find one");
    assert!(!contains(sealed));
}

#[tokio::test]
async fn every_key_can_be_withdrawn_and_one_is_always_left() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    workspace.rotate_signing_key(&Origin::local()).await.unwrap();
    fixture.clock.advance(ENFORCEMENT);
    workspace.advance_signing_keys().await;
    workspace.rotate_signing_key(&Origin::local()).await.unwrap();
    assert_eq!(words(&workspace), ["retired", "signing", "published"]);
    for state in ["retired", "published", "signing", "signing"] {
        let id = find(&workspace, state).id;
        workspace.withdraw_signing_key(&Origin::local(), &id).await.unwrap();
        assert!(workspace.signing_keys().iter().all(|key| key.id != id));
        let again = workspace.withdraw_signing_key(&Origin::local(), &id).await.unwrap_err();
        assert!(matches!(again, WorkspaceError::UnknownSigningKey(_)), "{again}");
        assert_eq!(words(&workspace).iter().filter(|word| **word == "signing").count(), 1);
    }
    assert_eq!(words(&workspace), ["signing"]);
}

#[tokio::test]
async fn each_step_is_in_the_audit() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    fixture.clock.advance(29 * DAY);
    workspace.advance_signing_keys().await;
    let origin = Origin { principal: "olga".to_owned(), ..Origin::local() };
    workspace.rotate_signing_key(&origin).await.unwrap();
    fixture.clock.advance(ENFORCEMENT);
    workspace.advance_signing_keys().await;
    fixture.clock.advance(LIFETIME + LEEWAY);
    workspace.advance_signing_keys().await;
    let id = find(&workspace, "signing").id;
    workspace.withdraw_signing_key(&origin, &id).await.unwrap();
    let records = workspace.audit(&AuditFilter::default(), 100, None).await.unwrap().items;
    let steps = records.iter().rev().skip(1).map(|entry| {
        let record = &entry.record;
        format!(
            "{} {} {}",
            record.origin.principal,
            record.action.as_str(),
            Value::from(record.details.clone())
        )
    });
    insta::assert_snapshot!(steps.collect::<Vec<_>>().join("\n"), @r#"
    local signing_key_created {"algorithm":"ES256","state":"signing"}
    local signing_key_created {"algorithm":"ES256","state":"published"}
    olga signing_key_hastened {"signsFrom":"2026-01-30T00:00:10Z"}
    local signing_key_retired {"until":"2026-01-30T12:02:10Z"}
    local signing_key_activated {}
    local signing_key_dropped {}
    olga signing_key_withdrawn {"state":"signing"}
    olga signing_key_created {"algorithm":"ES256","state":"signing"}
    "#);
}

/// What each step leaves in the database is the same after a commit that was reported as failed.
#[tokio::test]
async fn a_step_that_another_process_took_is_taken_over() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let elsewhere = fixture.open().await;
    let id = find(&workspace, "signing").id;
    elsewhere.withdraw_signing_key(&Origin::local(), &id).await.unwrap();
    workspace.catch_up().await.unwrap();
    assert_eq!(find(&workspace, "signing").id, find(&elsewhere, "signing").id);
}

#[tokio::test]
async fn keys_of_an_older_database_go_on_from_where_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("old.db");
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    let mut run = async |script: &'static str| sqlx::raw_sql(script).execute(&mut connection).await.unwrap();
    run(include_str!("../../../migrations/sqlite/0001_workspace.sql")).await;
    run("INSERT INTO signing_keys VALUES ('one', 'ES256', '{}', 'm', x'00', 1000, 1), \
         ('two', 'ES256', '{}', 'm', x'00', 2000, 5), ('three', 'ES256', '{}', 'm', x'00', 3000, 9)")
    .await;
    run(include_str!("../../../migrations/sqlite/0003_signing_keys.sql")).await;
    let rows = sqlx::query("SELECT kid, state, since FROM signing_keys ORDER BY revision");
    let rows = rows.fetch_all(&mut connection).await.unwrap();
    let found: Vec<(String, String, i64)> =
        rows.iter().map(|row| (row.get("kid"), row.get("state"), row.get("since"))).collect();
    let expected = [("one", "retired", 1000), ("two", "signing", 2000), ("three", "published", 3000)];
    assert_eq!(found, expected.map(|(id, state, since)| (id.to_owned(), state.to_owned(), since)));
    connection.close().await.unwrap();
}
