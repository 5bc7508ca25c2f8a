use std::time::Duration;

use scoregate_authz::{PlainKey, Slot};
use uuid::Uuid;

use super::fixture::{Fixture, Served, new_service, now, until};
use crate::workspace::{
    NewKey, Operation, OperationState, Origin, Patch, Presence, Workspace, WorkspaceError,
};

async fn state(workspace: &Workspace, operation: &Operation) -> OperationState {
    workspace.operation(operation.id).await.unwrap().state
}

async fn until_ended(workspace: &Workspace, operation: &Operation) -> Operation {
    until("the operation ends", async || state(workspace, operation).await != OperationState::Running).await;
    workspace.operation(operation.id).await.unwrap()
}

#[tokio::test]
async fn without_gates_it_has_succeeded_at_once() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let operation =
        workspace.regenerate_key(&Origin::local(), "first", Slot::Primary, NewKey::Random).await.unwrap();
    assert_eq!(operation.operation_type, "RegenerateKeys");
    assert_eq!((operation.state, operation.error.as_ref()), (OperationState::Succeeded, None));
    assert!(operation.ended_at.is_some());
    assert_eq!(workspace.operation(operation.id).await.unwrap(), operation);
}

/// What one of them confirms says nothing of the other, which has the old key while it is displaced.
#[tokio::test]
async fn regenerate_is_not_confirmed_by_gates_that_share_a_name() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let workspace = &served.workspace;
    workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let mut alive = Vec::new();
    // A newer process is what a restart looks like; one that comes back is not.
    for (process, expected) in
        [(1, OperationState::Succeeded), (2, OperationState::Succeeded), (1, OperationState::Running)]
    {
        let mut gate = served.gate_of("a", process).await;
        gate.take().await;
        gate.ack().await;
        let operation =
            workspace.regenerate_key(&Origin::local(), "first", Slot::Primary, NewKey::Random).await.unwrap();
        gate.follow_to(operation.revision).await;
        gate.ack().await;
        alive.push(gate);
        let ended = workspace.operation_within(operation.id, Duration::from_millis(500)).await.unwrap();
        assert_eq!(ended.state, expected, "{process}");
    }
    let presence = workspace.known_gates()[0].presence;
    assert!(matches!(presence, Presence::Shared { .. }), "{presence:?}");
    served.stop().await;
}

#[tokio::test]
async fn of_an_unknown_id_is_an_error() {
    let fixture = Fixture::new();
    let error = fixture.open().await.operation(Uuid::nil()).await.unwrap_err();
    assert!(matches!(error, WorkspaceError::UnknownOperation(_)), "{error}");
}

#[tokio::test]
async fn t061_regenerate_succeeds_when_no_gate_accepts_the_old_key() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let workspace = &served.workspace;
    workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let mut gates = [served.gate("a").await, served.gate("b").await];
    for gate in &mut gates {
        gate.take().await;
        gate.ack().await;
    }
    for _ in 0..20 {
        let old = workspace.keys("first").unwrap();
        let operation =
            workspace.regenerate_key(&Origin::local(), "first", Slot::Primary, NewKey::Random).await.unwrap();
        assert_eq!(operation.state, OperationState::Running);
        let new = workspace.keys("first").unwrap();
        for gate in &mut gates {
            assert_eq!(state(workspace, &operation).await, OperationState::Running);
            gate.follow_to(operation.revision).await;
            gate.ack().await;
        }
        assert_eq!(until_ended(workspace, &operation).await.state, OperationState::Succeeded);
        for gate in &gates {
            assert_eq!(gate.decide("first", old.primary.expose(), now(&fixture)), "unknown_key");
            assert_eq!(gate.decide("first", new.primary.expose(), now(&fixture)), "ok");
            assert_eq!(gate.decide("first", old.secondary.expose(), now(&fixture)), "ok");
        }
    }
    served.stop().await;
}

#[tokio::test]
async fn a_gate_that_does_not_confirm_is_named_after_the_time() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let workspace = &served.workspace;
    workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let (mut quick, mut slow) = (served.gate("quick").await, served.gate("slow").await);
    let gone = served.gate("gone").await;
    quick.take().await;
    slow.take().await;
    until("all are connected", async || workspace.gates().len() == 3).await;
    let operation =
        workspace.regenerate_key(&Origin::local(), "first", Slot::Secondary, NewKey::Random).await.unwrap();
    quick.follow_to(operation.revision).await;
    quick.ack().await;
    // It decides from memory still, and so it is waited for.
    drop(gone);
    until("it is gone", async || workspace.gates().len() == 2).await;
    fixture.clock.advance(Duration::from_millis(9900));
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(state(workspace, &operation).await, OperationState::Running);
    fixture.clock.advance(Duration::from_millis(100));
    let ended = until_ended(workspace, &operation).await;
    assert_eq!(ended.state, OperationState::TimedOut);
    insta::assert_snapshot!(ended.error.unwrap(), @"the secondary key of `first` has changed, but these gates have not confirmed it within 10 s and may decide as before until they do: `gone`, `slow`");
    // Too late: what has ended stays as it ended.
    slow.follow_to(operation.revision).await;
    slow.ack().await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(state(workspace, &operation).await, OperationState::TimedOut);
    served.stop().await;
}

#[tokio::test]
async fn a_gate_that_connects_meanwhile_is_waited_for() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let workspace = &served.workspace;
    let (made, _) = workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let mut first = served.gate("first").await;
    first.follow_to(made.revision).await;
    let old = first.snapshot.clone();
    let operation =
        workspace.regenerate_key(&Origin::local(), "first", Slot::Primary, NewKey::Random).await.unwrap();
    let mut second = served.gate_holding("second", old).await;
    second.follow_to(operation.revision).await;
    first.follow_to(operation.revision).await;
    first.ack().await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(state(workspace, &operation).await, OperationState::Running);
    second.ack().await;
    assert_eq!(until_ended(workspace, &operation).await.state, OperationState::Succeeded);
    served.stop().await;
}

#[tokio::test]
async fn it_goes_on_after_a_restart() {
    let fixture = Fixture::new();
    let before = Served::start(&fixture).await;
    let (made, _) = before.workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let mut gate = before.gate("g").await;
    gate.follow_to(made.revision).await;
    let operation = before
        .workspace
        .regenerate_key(&Origin::local(), "first", Slot::Primary, NewKey::Random)
        .await
        .unwrap();
    before.stop().await;

    let after = Served::start(&fixture).await;
    assert_eq!(state(&after.workspace, &operation).await, OperationState::Running);
    let mut gate = after.gate_holding("g", gate.snapshot).await;
    gate.follow_to(operation.revision).await;
    gate.ack().await;
    assert_eq!(until_ended(&after.workspace, &operation).await.state, OperationState::Succeeded);
    after.stop().await;
}

#[tokio::test]
async fn it_goes_on_after_a_restart_with_a_gate_that_has_it_already() {
    let fixture = Fixture::new();
    let before = Served::start(&fixture).await;
    let (made, _) = before.workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let mut gate = before.gate("g").await;
    gate.follow_to(made.revision).await;
    let operation = before
        .workspace
        .regenerate_key(&Origin::local(), "first", Slot::Primary, NewKey::Random)
        .await
        .unwrap();
    gate.follow_to(operation.revision).await;
    before.stop().await;
    let after = Served::start(&fixture).await;
    let _gate = after.gate_holding("g", gate.snapshot).await;
    assert_eq!(until_ended(&after.workspace, &operation).await.state, OperationState::Succeeded);
    after.stop().await;
}

#[tokio::test]
async fn it_has_timed_out_after_a_restart_that_took_too_long() {
    let fixture = Fixture::new();
    let before = Served::start(&fixture).await;
    before.workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let mut gate = before.gate("g").await;
    gate.take().await;
    let operation = before
        .workspace
        .regenerate_key(&Origin::local(), "first", Slot::Primary, NewKey::Random)
        .await
        .unwrap();
    before.stop().await;
    fixture.clock.advance(Duration::from_secs(60));
    let after = fixture.open().await;
    let ended = after.operation(operation.id).await.unwrap();
    assert_eq!(ended.state, OperationState::TimedOut);
    assert!(ended.error.unwrap().ends_with("`g`"));
}

#[tokio::test]
async fn after_a_restart_the_gates_from_before_are_waited_for() {
    let fixture = Fixture::new();
    let before = Served::start(&fixture).await;
    let (made, _) = before.workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let mut gate = before.gate("g").await;
    gate.follow_to(made.revision).await;
    let left = before.gate("left").await;
    until("both are connected", async || before.workspace.gates().len() == 2).await;
    drop(left);
    until("one is gone", async || before.workspace.gates().len() == 1).await;
    before.stop().await;

    let after = Served::start(&fixture).await;
    let operation = after
        .workspace
        .regenerate_key(&Origin::local(), "first", Slot::Primary, NewKey::Random)
        .await
        .unwrap();
    assert_eq!(operation.state, OperationState::Running, "`g` has the old key still");
    let mut gate = after.gate_holding("g", gate.snapshot).await;
    gate.follow_to(operation.revision).await;
    gate.ack().await;
    assert_eq!(until_ended(&after.workspace, &operation).await.state, OperationState::Succeeded);
    after.stop().await;

    fixture.clock.advance(Duration::from_secs(1));
    let later = fixture.open().await;
    fixture.clock.advance(Duration::from_secs(30));
    let operation =
        later.regenerate_key(&Origin::local(), "first", Slot::Primary, NewKey::Random).await.unwrap();
    assert_eq!(operation.state, OperationState::Succeeded, "`g` has not come back in time");
}

#[tokio::test]
async fn ended_ones_are_forgotten_after_a_week() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let (_, operation) = workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    fixture.clock.advance(Duration::from_hours(7 * 24));
    workspace.prune_operations().await;
    assert!(workspace.operation(operation.id).await.is_ok());
    fixture.clock.advance(Duration::from_secs(1));
    workspace.prune_operations().await;
    assert!(workspace.operation(operation.id).await.is_err());
}

#[tokio::test]
async fn a_change_that_tells_gates_nothing_waits_for_what_was_told_before_only() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let workspace = &served.workspace;
    let (service, _) = workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let mut gate = served.gate("a").await;
    gate.take().await;
    gate.ack().await;
    until("the gate has confirmed", async || {
        workspace.gates().iter().all(|gate| gate.enforces == Some(workspace.image().version()))
    })
    .await;
    let tags = Patch { tags: Some([("a".to_owned(), "b".to_owned())].into()), ..Patch::default() };
    let update = workspace.update_service_at_gates(&Origin::local(), &service.name, tags).await;
    assert_eq!(update.unwrap().1.state, OperationState::Succeeded);

    // The same key once more, as after an answer that was lost: the gate has not heard of the first time yet.
    let chosen = || NewKey::Chosen(PlainKey::choose("chosen-by-the-caller").unwrap());
    let origin = Origin::local();
    let first = workspace.regenerate_key(&origin, "first", Slot::Primary, chosen()).await.unwrap();
    let again = workspace.regenerate_key(&origin, "first", Slot::Primary, chosen()).await.unwrap();
    assert_eq!((first.state, again.state), (OperationState::Running, OperationState::Running));
    gate.follow_to(first.revision).await;
    gate.ack().await;
    assert_eq!(until_ended(workspace, &again).await.state, OperationState::Succeeded);
    served.stop().await;
}
