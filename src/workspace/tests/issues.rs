use std::time::Duration;

use jiff::Timestamp;

use super::fixture::{Fixture, flags, new_service, now};
use crate::workspace::{
    IssueCount, IssueEvent, NewService, Origin, Principal, PrincipalIssues, Role, Workspace, timestamp,
};

fn principal(name: &str) -> Principal {
    Principal { name: name.to_owned(), role: Role::Contributor, created_at: Timestamp::UNIX_EPOCH }
}

async fn token_service(workspace: &Workspace, name: &str) {
    let new = NewService { auth: flags(false, true), ..new_service(name) };
    workspace.create_service(&Origin::local(), new).await.unwrap();
}

async fn issues(workspace: &Workspace, name: &str) -> Vec<PrincipalIssues> {
    workspace.issues(name).await.unwrap().principals
}

#[tokio::test]
async fn issues_are_counted_by_service_and_principal() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let start = timestamp(now(&fixture));
    token_service(&workspace, "svc").await;
    token_service(&workspace, "other").await;
    let (one, two) = (principal("one"), principal("two"));
    let first = workspace.issue_token("svc", &one, None).unwrap();
    fixture.clock.advance(Duration::from_secs(5));
    let again = workspace.issue_token("svc", &one, None).unwrap();
    let short = workspace.issue_token("svc", &one, Some(Duration::from_secs(2))).unwrap();
    let listed = workspace.list_keys("svc", &two).unwrap();
    let events = [&first.issue, &again.issue, &short.issue, &listed.issue].map(|issue| issue.event);
    use IssueEvent::{KeysListed, TokenIssued, TokenReused};
    assert_eq!(events, [TokenIssued, TokenReused, TokenIssued, KeysListed]);
    assert_eq!(listed.issue.uid, workspace.service("svc").await.unwrap().uid);
    let last = start + jiff::SignedDuration::from_secs(5);
    let of_one = PrincipalIssues {
        principal: "one".to_owned(),
        keys: None,
        tokens: Some(IssueCount { count: 3, last }),
    };
    let of_two = PrincipalIssues {
        principal: "two".to_owned(),
        keys: Some(IssueCount { count: 1, last }),
        tokens: None,
    };
    assert_eq!(issues(&workspace, "svc").await, [of_one, of_two]);
    assert_eq!(issues(&workspace, "other").await, []);
    assert_eq!(workspace.issues("svc").await.unwrap().since, start);
    for (name, count) in [("keys_listed", 1), ("tokens_issued", 2), ("tokens_reused", 1)] {
        let line = format!("scoregate_workspace_{name}_total {count}");
        assert_eq!(fixture.metrics_line(&format!("scoregate_workspace_{name}_total")), line);
    }
}

#[tokio::test]
async fn what_is_refused_is_no_issue() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    workspace.create_service(&Origin::local(), new_service("svc")).await.unwrap();
    assert!(workspace.issue_token("svc", &principal("one"), None).is_err());
    assert!(workspace.list_keys("none", &principal("one")).is_err());
    workspace.keys("svc").unwrap();
    assert_eq!(issues(&workspace, "svc").await, []);
}

#[tokio::test]
async fn deleted_services_and_principals_are_forgotten() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let origin = &Origin::local();
    for name in ["one", "two"] {
        workspace.create_principal(origin, name, Role::Contributor).await.unwrap();
        for service in ["svc", "other"] {
            let _ = workspace.create_service(origin, new_service(service)).await;
            workspace.list_keys(service, &principal(name)).unwrap();
        }
    }
    workspace.delete_principal(origin, "one").await.unwrap();
    let names: Vec<_> = issues(&workspace, "svc").await.into_iter().map(|one| one.principal).collect();
    assert_eq!(names, ["two"]);
    workspace.delete_service(origin, "svc").await.unwrap();
    workspace.create_service(origin, new_service("svc")).await.unwrap();
    assert_eq!(issues(&workspace, "svc").await, []);
    workspace.delete_principal(origin, "two").await.unwrap();
    assert_eq!(workspace.inner.issues.len(), 0);
}
