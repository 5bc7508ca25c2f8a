//! The policy feed, the disk, and what checks see of both.

use std::time::Duration;

use tonic::Status;

use crate::envoy::{Encoding, request};
use crate::policy::{
    self, NOW, WORKSPACE, change, heartbeat, heartbeat_at, key, key_service, parts, tombstone,
};
use crate::rig::{CREDENTIAL, Rig};
use crate::workspace::Workspace;

const NONE: &[scoregate::proto::scoregate::policy::v1::Entry] = &[];

#[tokio::test]
async fn hello_says_who_and_what_is_held() {
    let data = tempfile::tempdir().unwrap();
    let policy = [key_service("svc", (1, 1))];
    let (rig, mut workspace, session) = Rig::with_policy(&policy, data.path()).await;
    assert_eq!(session.authorization, format!("Bearer {CREDENTIAL}"));
    assert_eq!((session.hello.gate.as_str(), session.hello.workspace.as_str()), ("gate-1", ""));
    assert_eq!((session.hello.epoch, session.hello.revision), (0, 0));
    let peppers: Vec<_> = policy::peppers().ids().map(str::to_owned).collect();
    assert_eq!(session.hello.pepper_ids, peppers);

    drop(session);
    let again = workspace.session().await.hello;
    assert_eq!((again.workspace.as_str(), again.epoch, again.revision), (WORKSPACE, 1, 1));
    assert_eq!(again.state_hash, policy::hash_of(&policy));
    rig.wait_for_metric("scoregate_feed_reconnects_total", 1.0).await;
}

#[tokio::test]
async fn t061_regenerated_key_acts_with_its_revision() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, mut session) = Rig::with_policy(&[key_service("svc", (1, 1))], data.path()).await;
    let mut envoy = rig.envoy().await;
    let now = [key_service("svc", (2, 1))];
    session.send_change(change(1, 2, &now, &now)).await;
    assert_eq!(session.ack().await, (1, 2));
    assert_eq!(envoy.with("svc", &key("svc", "primary", 1)).await.outcome(), (401, "unknown_key"));
    assert_eq!(envoy.with("svc", &key("svc", "primary", 2)).await.outcome(), (200, "ok"));
    assert_eq!(envoy.with("svc", &key("svc", "secondary", 1)).await.outcome(), (200, "ok"));
    assert_eq!(rig.metric("scoregate_snapshot_revision"), 2.0);
}

#[tokio::test]
async fn t025_deleted_service_is_gone() {
    let data = tempfile::tempdir().unwrap();
    let service = key_service("svc", (1, 1));
    let (rig, _workspace, mut session) = Rig::with_policy(std::slice::from_ref(&service), data.path()).await;
    session.send_change(change(1, 2, &[tombstone(&service)], NONE)).await;
    assert_eq!(session.ack().await, (1, 2));
    let answer = rig.envoy().await.with("svc", &key("svc", "primary", 1)).await;
    assert_eq!(answer.outcome(), (401, "unknown_service"));
}

#[tokio::test]
async fn t108_cold_start_without_a_workspace_is_undecided_and_not_ready() {
    let data = tempfile::tempdir().unwrap();
    let workspace = Workspace::start().await;
    let address = workspace.address.clone();
    workspace.stop().await;
    let rig = Rig::start(&address, data.path()).await;
    let answer = rig.envoy().await.check(request(Encoding::Raw, "svc", &[])).await;
    assert_eq!(answer.outcome(), (503, "no_policy"));
    assert!(rig.health.is_ready().is_err());
    assert_eq!(rig.metric("scoregate_feed_connected"), 0.0);
}

#[tokio::test]
async fn t109_t117_gate_decides_and_is_ready_while_the_workspace_is_away() {
    let data = tempfile::tempdir().unwrap();
    let (rig, workspace, mut session) = Rig::with_policy(&[key_service("svc", (1, 1))], data.path()).await;
    let now = [key_service("svc", (2, 1))];
    session.send_change(change(1, 2, &now, &now)).await;
    assert_eq!(session.ack().await, (1, 2));
    let address = workspace.address.clone();
    drop(session);
    workspace.stop().await;
    rig.wait_for_metric("scoregate_feed_connected", 0.0).await;
    let mut envoy = rig.envoy().await;
    assert_eq!(envoy.with("svc", &key("svc", "primary", 2)).await.outcome(), (200, "ok"));
    assert!(rig.health.is_ready().is_ok());
    assert!(rig.stop().await);

    let again = Rig::start(&address, data.path()).await;
    again.wait_until_ready().await;
    let mut envoy = again.envoy().await;
    assert_eq!(envoy.with("svc", &key("svc", "primary", 2)).await.outcome(), (200, "ok"));
    assert_eq!(envoy.with("svc", &key("svc", "primary", 1)).await.outcome(), (401, "unknown_key"));
    again.clock.advance(Duration::from_secs(60));
    assert_eq!(again.metric("scoregate_snapshot_age_seconds"), 60.0);

    let mut workspace = Workspace::start_at(&address).await;
    let session = workspace.session().await;
    assert_eq!((session.hello.epoch, session.hello.revision), (1, 2));
    session.send_heartbeat(heartbeat_at(1, 2, &now, NOW + 60)).await;
    again.wait_for_metric("scoregate_snapshot_age_seconds", 0.0).await;
}

#[tokio::test]
async fn t111_snapshot_without_services_is_applied() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, mut session) = Rig::with_policy(&[key_service("svc", (1, 1))], data.path()).await;
    session.send_parts(parts(1, 2, NONE, 1)).await;
    assert_eq!(session.ack().await, (1, 2));
    assert_eq!(rig.metric(r#"scoregate_services{mode="key"}"#), 0.0);
    rig.wait_until_ready().await;
}

#[tokio::test]
async fn t112_broken_snapshots_are_refused_and_the_next_whole_one_is_taken() {
    let data = tempfile::tempdir().unwrap();
    let before = [key_service("svc", (1, 1))];
    let (rig, _workspace, mut session) = Rig::with_policy(&before, data.path()).await;
    let services = ["svc", "two", "three", "four", "five"].map(|name| key_service(name, (2, 2)));
    let mut in_force = (200, "ok");
    for (revision, broken) in [(9, &[0, 2][..]), (10, &[0, 1, 1, 2]), (11, &[0, 2, 1])] {
        let whole = parts(1, revision, &services, 2);
        session.send_parts(broken.iter().map(|index| whole[*index].clone())).await;
        let reason = session.nack().await;
        assert!(reason.starts_with("a part of the snapshot begins at entry"), "{reason}");
        let answer = rig.envoy().await.with("svc", &key("svc", "primary", 1)).await;
        assert_eq!(answer.outcome(), in_force);
        session.send_parts(whole).await;
        assert_eq!(session.ack().await, (1, revision));
        in_force = (401, "unknown_key");
    }
    assert_eq!(rig.metric("scoregate_feed_refused_total"), 3.0);
}

#[tokio::test]
async fn t112_stream_that_breaks_within_a_snapshot_leaves_what_was() {
    let data = tempfile::tempdir().unwrap();
    let before = [key_service("svc", (1, 1))];
    let (rig, mut workspace, session) = Rig::with_policy(&before, data.path()).await;
    let services = ["svc", "two", "three"].map(|name| key_service(name, (2, 2)));
    session.send_parts(parts(1, 9, &services, 2).into_iter().take(1)).await;
    drop(session);
    let session = workspace.session().await;
    assert_eq!(session.hello.revision, 1);
    assert_eq!(rig.envoy().await.with("svc", &key("svc", "primary", 1)).await.outcome(), (200, "ok"));
}

/// Or a gate would wait for the last part for ever, and enforce what is older.
#[tokio::test]
async fn t112_snapshot_that_never_ends_ends_the_connection() {
    let data = tempfile::tempdir().unwrap();
    let before = [key_service("svc", (1, 1))];
    let (_rig, mut workspace, session) = Rig::with_policy(&before, data.path()).await;
    let services = ["svc", "two", "three"].map(|name| key_service(name, (2, 2)));
    session.send_parts(parts(1, 9, &services, 2).into_iter().take(1)).await;
    for _ in 0..4 {
        session.send_heartbeat(heartbeat(1, 9, &services)).await;
    }
    // Sooner than silence is noticed.
    let again = tokio::time::timeout(Duration::from_secs(10), workspace.session()).await.unwrap();
    assert_eq!(again.hello.revision, 1);
}

#[tokio::test]
async fn change_with_a_wrong_hash_is_refused_and_followed_by_a_snapshot() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, mut session) = Rig::with_policy(&[key_service("svc", (1, 1))], data.path()).await;
    let now = [key_service("svc", (2, 1))];
    session.send_change(change(1, 2, &now, NONE)).await;
    assert!(session.nack().await.starts_with("the state hash is"));
    session.send_change(change(2, 3, &now, &now)).await;
    session.send_heartbeat(heartbeat(1, 3, &now)).await;
    session.send_parts(parts(1, 3, &now, 1)).await;
    assert_eq!(session.ack().await, (1, 3));
    rig.wait_for(1, 3).await;
    assert_eq!(rig.metric("scoregate_feed_reconnects_total"), 0.0);
}

#[tokio::test]
async fn second_refusal_in_a_row_ends_the_connection() {
    let data = tempfile::tempdir().unwrap();
    let (_rig, mut workspace, mut session) =
        Rig::with_policy(&[key_service("svc", (1, 1))], data.path()).await;
    for _ in 0..2 {
        let mut part = parts(1, 2, NONE, 1).remove(0);
        part.state_hash = vec![1; 32];
        session.send_parts([part]).await;
        session.nack().await;
    }
    assert_eq!(workspace.session().await.hello.revision, 1);
}

#[tokio::test]
async fn heartbeat_of_another_state_makes_the_gate_ask_again() {
    let data = tempfile::tempdir().unwrap();
    let policy = [key_service("svc", (1, 1))];
    let (rig, mut workspace, session) = Rig::with_policy(&policy, data.path()).await;
    rig.clock.advance(Duration::from_secs(30));
    session.send_heartbeat(heartbeat_at(1, 1, &policy, NOW + 20)).await;
    rig.wait_for_metric("scoregate_snapshot_age_seconds", 10.0).await;
    session.send_heartbeat(heartbeat(1, 2, NONE)).await;
    assert_eq!(workspace.session().await.hello.revision, 1);
}

#[tokio::test]
async fn t113_refusals_of_the_call_are_followed_by_another_attempt() {
    let data = tempfile::tempdir().unwrap();
    let mut workspace = Workspace::start().await;
    let rig = Rig::start(&workspace.address, data.path()).await;
    for status in [
        Status::unavailable("restarting"),
        Status::unauthenticated("who are you"),
        Status::resource_exhausted("too many gates"),
    ] {
        workspace.session().await.fail(status).await;
    }
    drop(workspace.session().await);
    let mut session = workspace.session().await;
    session.send_parts(parts(1, 1, NONE, 1)).await;
    assert_eq!(session.ack().await, (1, 1));
    assert_eq!(rig.metric("scoregate_feed_reconnects_total"), 4.0);
}

#[tokio::test]
async fn t113_clock_of_the_workspace_does_not_matter() {
    let data = tempfile::tempdir().unwrap();
    let policy = [key_service("svc", (1, 1))];
    let (rig, _workspace, mut session) = Rig::with_policy(&policy, data.path()).await;
    let seconds = i64::try_from(NOW).unwrap() + 3_600;
    let mut late = heartbeat_at(1, 1, &policy, NOW + 3_600);
    late.sent_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
    rig.clock.advance(Duration::from_secs(5));
    session.send_heartbeat(late).await;
    rig.wait_for_metric("scoregate_snapshot_age_seconds", 0.0).await;
    session.send_change(change(1, 2, &[tombstone(&policy[0])], NONE)).await;
    assert_eq!(session.ack().await, (1, 2));
}

#[tokio::test]
async fn t114_nothing_older_comes_back() {
    let data = tempfile::tempdir().unwrap();
    let (old, now) = ([key_service("svc", (1, 1))], [key_service("svc", (2, 1))]);
    let (rig, mut workspace, mut session) = Rig::with_policy(&old, data.path()).await;
    session.send_change(change(1, 2, &now, &now)).await;
    assert_eq!(session.ack().await, (1, 2));

    session.send_parts(parts(1, 1, &old, 1)).await;
    assert_eq!(session.nack().await, "version 1.1 is older than 1.2, which was reached already");
    session.send_parts(parts(1, 2, &old, 1)).await;
    assert_eq!(session.nack().await, "version 1.2 with another state than the one in force");
    let mut session = workspace.session().await;
    session.send_change(change(1, 2, &old, &old)).await;
    assert_eq!(session.nack().await, "the change starts from 1.1 and the snapshot is at 1.2");
    assert_eq!(
        rig.envoy().await.with("svc", &key("svc", "primary", 1)).await.outcome(),
        (401, "unknown_key")
    );

    session.send_parts(parts(2, 1, &now, 1)).await;
    assert_eq!(session.ack().await, (2, 1), "a new epoch passes");
}

#[tokio::test]
async fn another_workspace_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let (_rig, _workspace, mut session) = Rig::with_policy(&[key_service("svc", (1, 1))], data.path()).await;
    let mut foreign = parts(5, 5, NONE, 1).remove(0);
    foreign.workspace = "ws-2".to_owned();
    foreign.statement = Some(policy::statement("ws-2", (5, 5), &foreign.state_hash));
    session.send_parts([foreign]).await;
    assert_eq!(session.nack().await, "the policy is of workspace `ws-2`, and this gate is of `ws-1`");
}

#[tokio::test]
async fn t110_bad_state_on_disk_does_not_stop_the_gate_and_its_mark_holds() {
    let data = tempfile::tempdir().unwrap();
    let (rig, workspace, session) = Rig::with_policy(&[key_service("svc", (1, 1))], data.path()).await;
    drop(session);
    workspace.stop().await;
    assert!(rig.stop().await);
    let snapshot = data.path().join("gate/snapshot");
    let mut bytes = std::fs::read(&snapshot).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&snapshot, bytes).unwrap();

    let mut workspace = Workspace::start().await;
    let rig = Rig::start(&workspace.address, data.path()).await;
    assert!(rig.health.is_ready().is_err());
    let mut session = workspace.session().await;
    assert_eq!(session.hello.revision, 0);
    session.send_parts(parts(1, 0, NONE, 1)).await;
    assert_eq!(session.nack().await, "version 1.0 is older than 1.1, which was reached already");
    session.send_parts(parts(1, 1, NONE, 1)).await;
    assert_eq!(session.ack().await, (1, 1));
    rig.wait_until_ready().await;
}

#[tokio::test]
async fn full_disk_does_not_keep_a_revoked_key_alive() {
    let data = tempfile::tempdir().unwrap();
    let (rig, _workspace, mut session) = Rig::with_policy(&[key_service("svc", (1, 1))], data.path()).await;
    let directory = data.path().join("gate");
    let away = data.path().join("away");
    std::fs::rename(&directory, &away).unwrap();
    let now = [key_service("svc", (2, 1))];
    session.send_change(change(1, 2, &now, &now)).await;
    rig.wait_for(1, 2).await;
    assert_eq!(
        rig.envoy().await.with("svc", &key("svc", "primary", 1)).await.outcome(),
        (401, "unknown_key")
    );
    std::fs::rename(&away, &directory).unwrap();
    session.send_heartbeat(heartbeat(1, 2, &now)).await;
    assert_eq!(session.ack().await, (1, 2), "acknowledged only when it is on disk");
}
