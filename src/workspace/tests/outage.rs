//! A database that goes away and comes back. What its clients see of it is in tests/test_outage.py.

use std::time::Duration;

use scoregate_authz::Slot;
use secrecy::ExposeSecret;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};

use super::fixture::{Fixture, Served, new_service, now, until};
use crate::workspace::{NewKey, OperationState, Origin, Role, Workspace, WorkspaceError};

/// The file is gone, and the workspace has noticed.
async fn lose(fixture: &Fixture, workspace: &Workspace) {
    std::fs::rename(fixture.database(), fixture.database().with_extension("away")).unwrap();
    let refused = workspace.create_service(&Origin::local(), new_service("refused")).await.unwrap_err();
    assert!(matches!(refused, WorkspaceError::Store(_)), "{refused}");
    assert!(workspace.store_problem().is_some());
}

async fn find(fixture: &Fixture, workspace: &Workspace) {
    std::fs::rename(fixture.database().with_extension("away"), fixture.database()).unwrap();
    until("the store works again", async || workspace.store_problem().is_none()).await;
}

#[tokio::test]
async fn a_failed_commit_that_was_done_is_taken_over() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let workspace = &served.workspace;
    workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    workspace.create_service(&Origin::local(), new_service("second")).await.unwrap();
    let mut gate = served.gate("gate-1").await;
    gate.take().await;
    let old = workspace.keys("first").unwrap();

    // Stands for commits of which this process has not learned that they were done.
    let elsewhere = fixture.open().await;
    elsewhere.regenerate_key(&Origin::local(), "first", Slot::Primary, NewKey::Random).await.unwrap();
    elsewhere.delete_service(&Origin::local(), "second").await.unwrap();
    let (_, credential) = elsewhere.create_principal(&Origin::local(), "ci", Role::Reader).await.unwrap();
    let new = elsewhere.keys("first").unwrap();

    lose(&fixture, workspace).await;
    find(&fixture, workspace).await;
    assert_eq!(workspace.keys("first").unwrap().primary.expose(), new.primary.expose());
    assert!(matches!(workspace.keys("second"), Err(WorkspaceError::UnknownService(_))));
    assert_eq!(workspace.authenticate(credential.expose_secret()).unwrap().name, "ci");
    gate.follow_to(elsewhere.image().version().revision).await;
    assert_eq!(gate.decide("first", new.primary.expose(), now(&fixture)), "ok");
    assert_eq!(gate.decide("first", old.primary.expose(), now(&fixture)), "unknown_key");
    served.stop().await;
}

#[tokio::test]
async fn an_operation_ends_after_the_outage() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let workspace = &served.workspace;
    workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let mut gate = served.gate("gate-1").await;
    gate.take().await;
    gate.ack().await;
    let operation =
        workspace.regenerate_key(&Origin::local(), "first", Slot::Primary, NewKey::Random).await.unwrap();
    gate.follow_to(operation.revision).await;

    lose(&fixture, workspace).await;
    gate.ack().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    find(&fixture, workspace).await;
    until("the operation has ended", async || {
        workspace.operation(operation.id).await.unwrap().state == OperationState::Succeeded
    })
    .await;
    served.stop().await;
}

/// It would not be waited for otherwise, though it may have an old key.
#[tokio::test]
async fn a_gate_that_connects_meanwhile_is_served_and_remembered() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    served.workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    lose(&fixture, &served.workspace).await;
    let mut gate = served.gate("gate-1").await;
    gate.take().await;
    assert_eq!(gate.version(), served.workspace.image().version());
    find(&fixture, &served.workspace).await;
    served.stop().await;

    let restarted = fixture.open().await;
    let operation =
        restarted.regenerate_key(&Origin::local(), "first", Slot::Primary, NewKey::Random).await.unwrap();
    assert_eq!(operation.state, OperationState::Running);
}

/// As an older copy of the file in its place would be.
#[tokio::test]
async fn a_database_of_another_moment_is_noticed_before_anything_is_changed() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let options = SqliteConnectOptions::new().filename(fixture.database());
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query("UPDATE workspace SET revision = revision - 1").execute(&mut other).await.unwrap();
    let refused = workspace.create_service(&Origin::local(), new_service("second")).await;
    assert!(matches!(refused, Err(WorkspaceError::Store(_))), "{refused:?}");
    let problem = workspace.store_problem().unwrap();
    assert!(problem.starts_with("the database is at "), "{problem}");
    assert!(matches!(workspace.service("second").await, Err(WorkspaceError::UnknownService(_))));
    assert!(matches!(workspace.keys("second"), Err(WorkspaceError::UnknownService(_))));
}

#[tokio::test]
async fn a_database_of_another_moment_is_noticed_without_a_change() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    served.workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let options = SqliteConnectOptions::new().filename(fixture.database());
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query("UPDATE workspace SET revision = revision - 1").execute(&mut other).await.unwrap();
    until("it is noticed", async || served.workspace.store_problem().is_some()).await;
    served.stop().await;
}
