use std::time::Duration;

use jiff::SignedDuration;
use rstest::rstest;
use scoregate_authz::{Slot, Version};
use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

use super::fixture::{Fixture, Served, TestGate, flags, new_service, now, until};
use crate::proto::scoregate::policy::v1 as wire;
use crate::workspace::{NewKey, NewService, Origin, Patch, Presence, Role, timestamp};
use wire::gate_message::Message as GateMessage;
use wire::workspace_message::Message;

fn change(message: Message) -> wire::Change {
    match message {
        Message::Change(change) => change,
        other => panic!("{other:?}"),
    }
}

fn names(change: &wire::Change) -> Vec<&str> {
    change.entries.iter().map(|entry| entry.name.as_str()).collect()
}

#[tokio::test]
async fn a_new_gate_gets_everything_and_then_each_change() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let workspace = &served.workspace;
    workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let mut gate = served.gate("g").await;
    assert!(matches!(gate.take().await, Message::SnapshotPart(_)));
    let keys = workspace.keys("first").unwrap();
    assert_eq!(gate.decide("first", keys.secondary.expose(), now(&fixture)), "ok");
    let (second, _) = workspace.create_service(&Origin::local(), new_service("second")).await.unwrap();
    let message = change(gate.take().await);
    assert_eq!(names(&message), ["second"]);
    assert_eq!((message.from_revision, message.revision), (second.revision - 1, second.revision));
    served.stop().await;
}

#[tokio::test]
async fn t111_a_workspace_without_services_sends_a_complete_snapshot() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let mut gate = served.gate("g").await;
    gate.take().await;
    let snapshot = gate.snapshot.as_ref().unwrap();
    assert_eq!(snapshot.services().count(), 0);
    assert_eq!(snapshot.entries().len(), 1, "the verification key");
    served.stop().await;
}

#[rstest]
#[case::silence(b"")]
#[case::half_a_preface(b"PRI * HTTP/2.0\r\n")]
#[case::a_preface_alone(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")]
#[tokio::test]
async fn t014_a_connection_without_a_request_is_closed(#[case] sent: &[u8]) {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let address = served.address.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(sent).await.unwrap();
    // The clock runs ahead whenever nothing happens.
    tokio::time::pause();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await;
    let _ = read.expect("still open");
    tokio::time::resume();
    served.stop().await;
}

#[tokio::test]
async fn a_gate_that_was_away_gets_only_what_changed() {
    let fixture = Fixture::new();
    let before = Served::start(&fixture).await;
    for name in ["first", "second", "third"] {
        before.workspace.create_service(&Origin::local(), new_service(name)).await.unwrap();
    }
    let mut gate = before.gate("g").await;
    gate.take().await;
    let held = gate.snapshot.clone();
    let from = gate.version().revision;
    drop(gate);
    before.workspace.regenerate_key(&Origin::local(), "first", Slot::Primary, NewKey::Random).await.unwrap();
    before.stop().await;

    let after = Served::start(&fixture).await;
    after.workspace.regenerate_key(&Origin::local(), "first", Slot::Primary, NewKey::Random).await.unwrap();
    after.workspace.delete_service(&Origin::local(), "second").await.unwrap();
    let mut gate = after.gate_holding("g", held).await;
    let message = change(gate.take().await);
    assert_eq!((message.from_revision, message.revision), (from, from + 3));
    let entries: Vec<_> = message.entries.iter().map(|entry| (entry.name.as_str(), entry.deleted)).collect();
    assert_eq!(entries, [("first", false), ("", true)]);
    served_state_is(&after, &gate);
    after.stop().await;
}

fn served_state_is(served: &Served, gate: &TestGate) {
    assert_eq!(served.workspace.image().state_hash(), gate.snapshot.as_ref().unwrap().state_hash());
}

#[tokio::test]
async fn t025_a_deleted_service_is_gone_at_the_gate() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let (made, _) = served.workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let keys = served.workspace.keys("first").unwrap();
    let mut gate = served.gate("g").await;
    gate.follow_to(made.revision).await;
    assert_eq!(gate.decide("first", keys.primary.expose(), now(&fixture)), "ok");
    let operation = served.workspace.delete_service(&Origin::local(), "first").await.unwrap().unwrap();
    gate.follow_to(operation.revision).await;
    assert_eq!(gate.decide("first", keys.primary.expose(), now(&fixture)), "unknown_service");
    served.stop().await;
}

#[tokio::test]
async fn a_gate_that_has_everything_gets_a_heartbeat_only() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let mut gate = served.gate("g").await;
    gate.take().await;
    let mut again = served.gate_holding("g", gate.snapshot.clone()).await;
    match again.next().await.unwrap() {
        Message::Heartbeat(heartbeat) => {
            let version = Version { epoch: heartbeat.epoch, revision: heartbeat.revision };
            assert_eq!(version, gate.version());
            assert_eq!(heartbeat.state_hash, gate.snapshot.unwrap().state_hash().0);
        }
        other => panic!("{other:?}"),
    }
    served.stop().await;
}

#[tokio::test]
async fn a_gate_of_another_workspace_gets_everything() {
    let elsewhere = Fixture::new();
    let other = Served::start(&elsewhere).await;
    let mut gate = other.gate("g").await;
    gate.take().await;
    other.stop().await;
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let mut gate = served.gate_holding("g", gate.snapshot).await;
    assert!(matches!(gate.next().await.unwrap(), Message::SnapshotPart(_)));
    served.stop().await;
}

#[tokio::test]
async fn a_refused_change_is_followed_by_a_complete_snapshot() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let mut gate = served.gate("g").await;
    gate.take().await;
    let Version { epoch, revision } = gate.version();
    let nack = wire::Nack { epoch, revision, reason: "the state hash differs".to_owned() };
    gate.say(GateMessage::Nack(nack)).await;
    assert!(matches!(gate.take().await, Message::SnapshotPart(_)));
    let status = served.workspace.gates().remove(0);
    assert_eq!(status.last_nack.unwrap().reason, "the state hash differs");
    served.stop().await;
}

#[tokio::test]
async fn a_change_that_policy_does_not_show_has_no_entries() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let (made, _) = served.workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let mut gate = served.gate("g").await;
    gate.follow_to(made.revision).await;
    let patch = Patch { description: Some(Some("text".to_owned())), ..Patch::default() };
    served.workspace.update_service(&Origin::local(), "first", patch).await.unwrap();
    assert_eq!(change(gate.take().await).entries, []);
    served.stop().await;
}

#[tokio::test]
async fn digests_are_in_policy_in_key_mode_only() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let (made, _) = served.workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let mut gate = served.gate("g").await;
    gate.follow_to(made.revision).await;
    let patch = Patch { auth: flags(false, true), ..Patch::default() };
    served.workspace.update_service(&Origin::local(), "first", patch).await.unwrap();
    let message = change(gate.take().await);
    let policy =
        <wire::ServicePolicy as prost::Message>::decode(message.entries[0].content.as_slice()).unwrap();
    assert_eq!(policy.auth_mode(), wire::AuthMode::Token);
    assert_eq!((policy.primary, policy.secondary), (None, None));
    served.stop().await;
}

#[rstest]
#[case(Role::Owner)]
#[case(Role::Reader)]
#[tokio::test]
async fn the_feed_is_for_gates_only(#[case] role: Role) {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let (_, credential) = served.workspace.create_principal(&Origin::local(), "someone", role).await.unwrap();
    let refused = TestGate::connect(&served.address, credential.expose_secret(), "g", None).await;
    assert_eq!(refused.err().unwrap().code(), Code::PermissionDenied);
    served.stop().await;
}

#[tokio::test]
async fn the_feed_without_an_accepted_credential_is_refused() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let refused = TestGate::connect(&served.address, "sgc_nobody", "g", None).await;
    assert_eq!(refused.err().unwrap().code(), Code::Unauthenticated);
    served.stop().await;
}

#[tokio::test]
async fn a_newer_connection_replaces_the_older() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let mut older = served.gate("g").await;
    older.take().await;
    let mut newer = served.gate("g").await;
    newer.take().await;
    let ended = loop {
        if let Err(status) = older.next().await {
            break status;
        }
    };
    assert_eq!(ended.code(), Code::Aborted);
    newer.ack().await;
    until("the newer one is it", async || {
        let gates = served.workspace.gates();
        gates.len() == 1 && gates[0].enforces == Some(newer.version())
    })
    .await;
    served.stop().await;
}

#[tokio::test]
async fn a_name_is_not_taken_over_by_another_principal() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let mut owner = served.gate("g").await;
    owner.take().await;
    let (_, credential) =
        served.workspace.create_principal(&Origin::local(), "another", Role::Gate).await.unwrap();
    let other = TestGate::connect(&served.address, credential.expose_secret(), "g", None).await;
    let refused = other.unwrap().next().await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    served.workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    assert_eq!(names(&change(owner.take().await)), ["first"]);
    served.stop().await;
}

#[tokio::test]
async fn a_gate_whose_principal_is_deleted_is_cut_off() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let mut gate = served.gate("g").await;
    gate.take().await;
    let principal = served.workspace.principals().remove(0);
    served.workspace.delete_principal(&Origin::local(), &principal.name).await.unwrap();
    let ended = loop {
        if let Err(status) = gate.next().await {
            break status;
        }
    };
    assert_eq!(ended.code(), Code::Aborted);
    served.stop().await;
}

#[tokio::test]
async fn a_gate_whose_principal_was_deleted_before_its_hello_gets_nothing() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let origin = Origin::local();
    let (_, credential) = served.workspace.create_principal(&origin, "gone", Role::Gate).await.unwrap();
    let silent = TestGate::silent(&served.address, credential.expose_secret(), None).await;
    served.workspace.delete_principal(&origin, "gone").await.unwrap();
    let mut gate = silent.unwrap();
    gate.hello("g").await;
    assert_eq!(gate.next().await.unwrap_err().code(), Code::Unauthenticated);
    assert!(served.workspace.gates().is_empty());
    served.stop().await;
}

#[tokio::test]
async fn an_acknowledgement_of_what_was_not_sent_does_not_count() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let mut gate = served.gate("g").await;
    gate.take().await;
    gate.say(GateMessage::Ack(wire::Ack { epoch: 1, revision: 1000 })).await;
    gate.say(GateMessage::Ack(wire::Ack { epoch: 2, revision: 1 })).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(served.workspace.gates()[0].enforces, None);
    served.stop().await;
}

#[tokio::test]
async fn a_second_hello_ends_the_feed() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let mut gate = served.gate("g").await;
    gate.take().await;
    gate.say(GateMessage::Hello(wire::Hello::default())).await;
    let ended = loop {
        if let Err(status) = gate.next().await {
            break status;
        }
    };
    assert_eq!(ended.code(), Code::InvalidArgument);
    served.stop().await;
}

#[tokio::test]
async fn a_gate_without_a_name_is_refused() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let mut gate = served.gate("").await;
    assert_eq!(gate.next().await.unwrap_err().code(), Code::InvalidArgument);
    served.stop().await;
}

#[tokio::test]
async fn many_changes_reach_a_gate_in_order_and_without_gaps() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let mut gate = served.gate("g").await;
    gate.take().await;
    let workspace = served.workspace.clone();
    let writer = tokio::spawn(async move {
        let mut last = 0;
        for number in 0..60 {
            let new = NewService { auth: flags(false, false), ..new_service(&format!("svc{number}")) };
            last = workspace.create_service(&Origin::local(), new).await.unwrap().0.revision;
        }
        last
    });
    // Each change must follow the one before it and lead to the hash that it says, or the snapshot refuses it.
    gate.follow_to(61).await;
    assert_eq!(writer.await.unwrap(), gate.version().revision);
    served_state_is(&served, &gate);
    served.stop().await;
}

#[tokio::test]
async fn known_gates_say_who_enforces_what() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let workspace = &served.workspace;
    let mut gate = served.gate("behind").await;
    gate.take().await;
    gate.ack().await;
    until("it has confirmed", async || workspace.gates()[0].enforces.is_some()).await;
    let connected_at = timestamp(now(&fixture));
    fixture.clock.advance(Duration::from_secs(5));
    for name in ["first", "second"] {
        workspace.create_service(&Origin::local(), new_service(name)).await.unwrap();
        fixture.clock.advance(Duration::from_secs(5));
    }
    let nack = wire::Nack { epoch: 1, revision: 3, reason: "no".to_owned() };
    gate.say(GateMessage::Nack(nack)).await;
    until("it has refused", async || workspace.gates()[0].last_nack.is_some()).await;
    let status = workspace.known_gates().remove(0);
    assert_eq!(status.presence, Presence::Connected { since: connected_at });
    assert_eq!((status.version.as_deref(), status.principal.as_deref()), (Some("test"), Some("gate-0")));
    assert!(status.remote.unwrap().starts_with("127.0.0.1:"));
    assert_eq!((status.enforces, status.enforces_since), (Some(gate.version()), Some(connected_at)));
    assert_eq!(
        (status.lacks, status.behind_since),
        (Some(2), Some(connected_at + SignedDuration::from_secs(5)))
    );
    assert_eq!(status.last_nack.unwrap().at, timestamp(now(&fixture)));

    drop(gate);
    until("it is away", async || workspace.gates().is_empty()).await;
    let away = workspace.known_gates().remove(0);
    assert_eq!(away.presence, Presence::Away { since: timestamp(now(&fixture)) });
    assert_eq!(away.lacks, Some(2));
    fixture.clock.advance(Duration::from_secs(300));
    assert!(workspace.known_gates().is_empty());
    served.stop().await;
}

#[tokio::test]
async fn gates_from_before_a_restart_are_expected() {
    let fixture = Fixture::new();
    let before = Served::start(&fixture).await;
    let mut gate = before.gate("g").await;
    gate.take().await;
    until("it is noted", async || !before.workspace.gates().is_empty()).await;
    before.stop().await;
    let after = fixture.open().await;
    let expected = after.known_gates().remove(0);
    let until = timestamp(now(&fixture) + Duration::from_secs(30));
    assert_eq!((expected.name.as_str(), expected.presence), ("g", Presence::Expected { until }));
    assert_eq!((expected.version, expected.enforces), (None, None));
}

#[tokio::test]
async fn the_time_from_a_commit_to_the_last_ack_is_measured() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let workspace = &served.workspace;
    let mut gates = [served.gate("a").await, served.gate("b").await];
    for gate in &mut gates {
        gate.take().await;
        gate.ack().await;
    }
    let count = || fixture.metrics_line("scoregate_workspace_change_enforced_seconds_count");
    let name = "scoregate_workspace_change_enforced_seconds_count";
    let (made, _) = workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    for (gate, (delay, counted)) in gates.iter_mut().zip([(15, 0), (75, 1)]) {
        gate.follow_to(made.revision).await;
        fixture.clock.advance(Duration::from_millis(delay));
        gate.ack().await;
        until("the ack is in", async || {
            let version = Some(gate.version());
            workspace.gates().iter().filter(|status| status.enforces == version).count() == counted + 1
        })
        .await;
        assert_eq!(count(), format!("{name} {counted}"));
    }
    let bucket = |le: &str| {
        let name = format!("scoregate_workspace_change_enforced_seconds_bucket{{le=\"{le}\"}}");
        fixture.metrics_line(&name).rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!((bucket("0.05"), bucket("0.1")), ("0".to_owned(), "1".to_owned()));
    served.stop().await;
}
