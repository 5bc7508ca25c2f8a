use std::time::Duration;

use rstest::rstest;
use scoregate_authz::{MAX_SHADOW, Slot};
use serde_json::json;

use super::fixture::{Fixture, START, Served, flags, new_service, now};
use crate::workspace::{
    AuditFilter, NewKey, NewService, Origin, Patch, ServiceFilter, Workspace, WorkspaceError, timestamp,
};

const HOUR: Duration = Duration::from_hours(1);
const WRONG: &str = "a-key-that-nobody-has";
const GAUGE: &str = "scoregate_workspace_services_shadow";

fn for_an_hour() -> Patch {
    Patch { shadow_for: Some(Some(HOUR)), ..Patch::default() }
}

async fn update(workspace: &Workspace, patch: Patch) -> Result<(), WorkspaceError> {
    workspace.update_service(&Origin::local(), "svc", patch).await.map(drop)
}

async fn shadow_until(workspace: &Workspace) -> Option<u64> {
    let read = workspace.service("svc").await.unwrap().shadow_until;
    let listed = workspace.services(&ServiceFilter::default(), 1, None).await.unwrap().items.remove(0);
    assert_eq!(read, listed.shadow_until);
    read.map(|until| until.as_second().unsigned_abs())
}

#[tokio::test]
async fn shadow_reaches_the_gates_and_ends_by_itself() {
    let fixture = Fixture::new();
    let served = Served::start(&fixture).await;
    let workspace = &served.workspace;
    workspace.create_service(&Origin::local(), new_service("svc")).await.unwrap();
    let mut gate = served.gate("g").await;
    gate.take().await;
    assert_eq!(gate.decide("svc", WRONG, now(&fixture)), "unknown_key");
    update(workspace, for_an_hour()).await.unwrap();
    gate.take().await;
    assert_eq!(shadow_until(workspace).await, Some(START + 3600));
    assert_eq!(gate.decide("svc", WRONG, now(&fixture)), "shadow");
    assert_eq!(fixture.metrics_line(GAUGE), format!("{GAUGE} 1"));
    // A key changes, and the shadow stays.
    workspace.regenerate_key(&Origin::local(), "svc", Slot::Primary, NewKey::Random).await.unwrap();
    gate.take().await;
    assert_eq!(gate.decide("svc", WRONG, now(&fixture)), "shadow");
    fixture.clock.advance(HOUR);
    assert_eq!(gate.decide("svc", WRONG, now(&fixture)), "unknown_key");
    assert_eq!(fixture.metrics_line(GAUGE), format!("{GAUGE} 0"));
    assert_eq!(shadow_until(workspace).await, None);
    served.stop().await;
}

#[tokio::test]
async fn shadow_is_ended_by_hand_and_when_the_service_is_opened() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let new = NewService { shadow_for: Some(HOUR), ..new_service("svc") };
    workspace.create_service(&Origin::local(), new).await.unwrap();
    assert_eq!(shadow_until(&workspace).await, Some(START + 3600));
    update(&workspace, Patch { shadow_for: Some(None), ..Patch::default() }).await.unwrap();
    assert_eq!(shadow_until(&workspace).await, None);
    update(&workspace, for_an_hour()).await.unwrap();
    let tags = Patch { tags: Some([].into()), ..Patch::default() };
    update(&workspace, tags).await.unwrap();
    assert_eq!(shadow_until(&workspace).await, Some(START + 3600), "what is not mentioned stays");
    update(&workspace, Patch { auth: flags(false, false), ..Patch::default() }).await.unwrap();
    update(&workspace, Patch { auth: flags(true, false), ..Patch::default() }).await.unwrap();
    assert_eq!(shadow_until(&workspace).await, None);
}

#[rstest]
#[case(Duration::ZERO, false)]
#[case(Duration::from_secs(1), true)]
#[case(MAX_SHADOW, true)]
#[case(MAX_SHADOW + Duration::from_secs(1), false)]
#[tokio::test]
async fn shadow_is_bounded(#[case] length: Duration, #[case] good: bool) {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    workspace.create_service(&Origin::local(), new_service("svc")).await.unwrap();
    let patch = Patch { shadow_for: Some(Some(length)), ..Patch::default() };
    assert_eq!(update(&workspace, patch).await.is_ok(), good);
}

#[tokio::test]
async fn shadow_of_an_open_service_is_refused() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let new = NewService { auth: flags(false, false), ..new_service("svc") };
    let shadowed = NewService { shadow_for: Some(HOUR), ..new.clone() };
    assert!(workspace.create_service(&Origin::local(), shadowed).await.is_err());
    workspace.create_service(&Origin::local(), new).await.unwrap();
    let refused = update(&workspace, for_an_hour()).await.unwrap_err();
    assert!(refused.to_string().contains("nothing to let through"), "{refused}");
    // The way from open to closed: closed, but in shadow first.
    update(&workspace, Patch { auth: flags(true, false), ..for_an_hour() }).await.unwrap();
    assert_eq!(shadow_until(&workspace).await, Some(START + 3600));
}

#[tokio::test]
async fn shadow_survives_a_restart_and_is_recorded() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    workspace.create_service(&Origin::local(), new_service("svc")).await.unwrap();
    update(&workspace, for_an_hour()).await.unwrap();
    let record = workspace.audit(&AuditFilter::default(), 1, None).await.unwrap().items.remove(0).record;
    let until = timestamp(Duration::from_secs(START + 3600)).to_string();
    assert_eq!(record.details["shadowUntil"], json!({ "before": null, "after": until }));
    assert_eq!(record.details["changed"], json!(["shadowUntil"]));
    drop(workspace);
    let mut fixture = fixture;
    fixture.metrics = crate::metrics::Metrics::default();
    let workspace = fixture.open().await;
    assert_eq!(shadow_until(&workspace).await, Some(START + 3600));
    assert_eq!(fixture.metrics_line(GAUGE), format!("{GAUGE} 1"));
    workspace.delete_service(&Origin::local(), "svc").await.unwrap();
    assert_eq!(fixture.metrics_line(GAUGE), format!("{GAUGE} 0"));
}
