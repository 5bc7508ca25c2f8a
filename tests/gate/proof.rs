//! Only what a trusted policy key proves is believed, and not for ever.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use http::{StatusCode, Uri};
use scoregate::listen::ListenAddress;
use scoregate::proto::scoregate::policy::v1 as wire;
use scoregate::statement::{PolicyKey, PolicyPublicKey};

use crate::policy::{
    self, NOW, WORKSPACE, change, hash_of, heartbeat, heartbeat_at, key, key_service, parts,
};
use crate::rig::{MAX_POLICY_AGE, Rig, config};
use crate::workspace::Workspace;

fn foreign_key() -> PolicyKey {
    PolicyKey::from_pem(&PolicyKey::generate().unwrap()).unwrap()
}

/// What nobody whom gates trust has said of this state.
fn forgeries(revision: u64, all: &[wire::Entry]) -> Vec<(Option<wire::Statement>, &'static str)> {
    let hash = hash_of(all);
    let good = policy::statement(WORKSPACE, (1, revision), &hash);
    let of_another = policy::statement_at(&foreign_key(), WORKSPACE, (1, revision), &hash, NOW);
    let renamed = wire::Statement { key_id: good.key_id.clone(), ..of_another.clone() };
    let mut prolonged = good.clone();
    *prolonged.content.last_mut().unwrap() ^= 1;
    vec![
        (None, "there is no signed statement"),
        (Some(of_another), "which is not trusted here"),
        (Some(renamed), "the signature of the statement is not that of policy key"),
        (Some(prolonged), "the signature of the statement is not that of policy key"),
        (
            Some(policy::statement(WORKSPACE, (1, revision - 1), &hash)),
            "about another workspace, version or state",
        ),
        (Some(policy::statement("ws-2", (1, revision), &hash)), "about another workspace, version or state"),
        (
            Some(policy::statement(WORKSPACE, (1, revision), &[0; 32])),
            "about another workspace, version or state",
        ),
    ]
}

#[tokio::test]
async fn t116_snapshot_that_nobody_trusted_has_signed_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let (before, now) = ([key_service("svc", (1, 1))], [key_service("svc", (2, 1))]);
    let (rig, _workspace, mut session) = Rig::with_policy(&before, data.path()).await;
    for (revision, (statement, problem)) in (2..).zip(forgeries(9, &now)) {
        let mut forged = parts(1, 9, &now, 1);
        forged[0].statement = statement;
        session.send_parts(forged).await;
        let reason = session.nack().await;
        assert!(reason.contains(problem), "{reason}");
        let answer = rig.envoy().await.with("svc", &key("svc", "primary", 1)).await;
        assert_eq!(answer.outcome(), (200, "ok"), "{problem}");
        session.send_parts(parts(1, revision, &before, 1)).await;
        assert_eq!(session.ack().await, (1, revision), "what is proven is taken");
    }
}

#[tokio::test]
async fn t116_change_that_nobody_trusted_has_signed_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let (before, now) = ([key_service("svc", (1, 1))], [key_service("svc", (2, 1))]);
    let (rig, _workspace, mut session) = Rig::with_policy(&before, data.path()).await;
    for (revision, index) in (2..).zip(0..forgeries(2, &now).len()) {
        let (statement, problem) = forgeries(revision, &now).swap_remove(index);
        session.send_change(wire::Change { statement, ..change(revision - 1, revision, &now, &now) }).await;
        let reason = session.nack().await;
        assert!(reason.contains(problem), "{reason}");
        assert_eq!(rig.metric("scoregate_snapshot_revision").to_string(), (revision - 1).to_string());
        session.send_parts(parts(1, revision, &before, 1)).await;
        assert_eq!(session.ack().await, (1, revision));
    }
}

#[tokio::test]
async fn t116_heartbeat_that_nobody_trusted_has_signed_confirms_nothing() {
    let data = tempfile::tempdir().unwrap();
    let policy = [key_service("svc", (1, 1))];
    let (rig, mut workspace, mut session) = Rig::with_policy(&policy, data.path()).await;
    rig.clock.advance(Duration::from_secs(30));
    for (statement, problem) in forgeries(1, &policy) {
        session.send_heartbeat(wire::Heartbeat { statement, ..heartbeat(1, 1, &policy) }).await;
        let reason = session.nack().await;
        assert!(reason.contains(problem), "{reason}");
        assert_eq!(rig.metric("scoregate_snapshot_age_seconds"), 30.0);
        drop(session);
        session = workspace.session().await;
    }
}

#[tokio::test]
async fn policy_of_a_key_that_is_being_introduced_is_believed_beside_the_old_one() {
    let data = tempfile::tempdir().unwrap();
    let (new_key, policy) = (foreign_key(), [key_service("svc", (1, 1))]);
    let mut workspace = Workspace::start().await;
    let trusted = [policy::policy_key().public(), new_key.public()];
    let mut config = config(&workspace.address, data.path());
    config.policy_keys = scoregate::statement::TrustedPolicyKeys::new(trusted).unwrap();
    let _rig = Rig::start_with(config).await;
    let mut session = workspace.session().await;
    let mut ids = session.hello.policy_key_ids.clone();
    ids.sort();
    let mut expected = trusted.map(PolicyPublicKey::id);
    expected.sort();
    assert_eq!(ids, expected);
    session.send_parts(parts(1, 1, &policy, 1)).await;
    assert_eq!(session.ack().await, (1, 1));
    let statement = policy::statement_at(&new_key, WORKSPACE, (1, 2), &hash_of(&policy), NOW);
    session.send_change(wire::Change { statement: Some(statement), ..change(1, 2, &[], &policy) }).await;
    assert_eq!(session.ack().await, (1, 2));
}

#[tokio::test]
async fn t109_policy_past_its_maximum_age_decides_nothing_until_it_is_confirmed() {
    let data = tempfile::tempdir().unwrap();
    let policy = [key_service("svc", (1, 1))];
    let (rig, workspace, session) = Rig::with_policy(&policy, data.path()).await;
    let (key, mut envoy) = (key("svc", "primary", 1), rig.envoy().await);
    rig.clock.advance(MAX_POLICY_AGE);
    assert_eq!(envoy.with("svc", &key).await.outcome(), (200, "ok"), "at its maximum age");
    rig.clock.advance(Duration::from_millis(1));
    assert_eq!(envoy.with("svc", &key).await.outcome(), (503, "stale_policy"));
    assert_eq!(envoy.with("svc", "wrong").await.outcome(), (503, "stale_policy"));
    rig.wait_for_metric("scoregate_snapshot_stale", 1.0).await;
    assert!(rig.health.is_ready().is_ok(), "staleness takes no pod out of service");

    session.send_heartbeat(heartbeat_at(1, 1, &policy, NOW + MAX_POLICY_AGE.as_secs())).await;
    rig.wait_for_metric("scoregate_snapshot_stale", 0.0).await;
    assert_eq!(envoy.with("svc", &key).await.outcome(), (200, "ok"));

    rig.clock.advance(MAX_POLICY_AGE + Duration::from_secs(1));
    let (address, late) = (workspace.address.clone(), NOW + 2 * MAX_POLICY_AGE.as_secs() + 2);
    drop(session);
    workspace.stop().await;
    assert!(rig.stop().await);
    let again = Rig::start(&address, data.path()).await;
    again.clock.advance(Duration::from_secs(late - NOW));
    let answer = again.envoy().await.with("svc", &key).await;
    assert_eq!(answer.outcome(), (503, "stale_policy"), "a restart does not make it younger");
}

#[tokio::test]
async fn without_a_maximum_age_policy_is_used_for_ever() {
    let data = tempfile::tempdir().unwrap();
    let mut workspace = Workspace::start().await;
    let mut config = config(&workspace.address, data.path());
    config.max_policy_age = None;
    let rig = Rig::start_with(config).await;
    let mut session = workspace.session().await;
    session.send_parts(parts(1, 1, &[key_service("svc", (1, 1))], 1)).await;
    assert_eq!(session.ack().await, (1, 1));
    rig.clock.advance(Duration::from_hours(24 * 3650));
    let answer = rig.envoy().await.with("svc", &key("svc", "primary", 1)).await;
    assert_eq!(answer.outcome(), (200, "ok"));
}

#[tokio::test]
async fn t110_state_on_disk_that_no_trusted_key_proves_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let (rig, workspace, session) = Rig::with_policy(&[key_service("svc", (1, 1))], data.path()).await;
    let address = workspace.address.clone();
    drop(session);
    workspace.stop().await;
    assert!(rig.stop().await);
    let mut config = config(&address, data.path());
    config.policy_keys = scoregate::statement::TrustedPolicyKeys::new([foreign_key().public()]).unwrap();
    let rig = Rig::start_with(config).await;
    let answer = rig.envoy().await.with("svc", &key("svc", "primary", 1)).await;
    assert_eq!(answer.outcome(), (503, "no_policy"));
}

/// A workspace's address may be taken over by somebody who sends gates elsewhere.
#[tokio::test]
async fn t116_feed_follows_no_redirect_with_its_credential() {
    let count = || {
        let asked = Arc::new(AtomicUsize::new(0));
        (Arc::clone(&asked), move || asked.fetch_add(1, Ordering::SeqCst))
    };
    let ((thefts, theft), (redirects, redirect)) = (count(), count());
    let thief = serve(Router::new().fallback(move || async move {
        theft();
        StatusCode::OK
    }))
    .await;
    let address = serve(Router::new().fallback(move |uri: Uri| async move {
        redirect();
        (StatusCode::TEMPORARY_REDIRECT, [("location", format!("http://{thief}{}", uri.path()))])
    }))
    .await;
    let data = tempfile::tempdir().unwrap();
    let rig = Rig::start(&ListenAddress::Tcp(address), data.path()).await;
    rig.wait_for_metric("scoregate_feed_reconnects_total", 2.0).await;
    assert!(redirects.load(Ordering::SeqCst) >= 2);
    assert_eq!(thefts.load(Ordering::SeqCst), 0);
    assert!(reqwest::get(format!("http://{address}/x")).await.unwrap().status().is_success());
    assert_eq!(thefts.load(Ordering::SeqCst), 1, "a client that follows redirects gets there");
}

async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}
