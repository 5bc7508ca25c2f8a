use std::time::Duration;

use jiff::Timestamp;
use rstest::rstest;
use scoregate_authz::{PlainKey, Slot, TokenAlgorithm};
use serde_json::json;

use super::fixture::{Fixture, flags, new_service};
use crate::listen::Peer;
use crate::workspace::{
    AuditAction, AuditEntry, AuditFilter, AuditTarget, NewKey, NewService, Origin, Patch, Principal, Role,
    Workspace, WorkspaceError, timestamp,
};

/// A request of a contributor.
fn caller() -> Origin {
    let principal =
        Principal { name: "ci".to_owned(), role: Role::Contributor, created_at: Timestamp::UNIX_EPOCH };
    let peer = Peer::Tcp("10.0.0.7:1234".parse().unwrap());
    // Nobody looks whether the principal is there.
    Origin { since: None, ..Origin::of_request(&principal, peer, uuid::Uuid::from_u128(7)) }
}

async fn all(workspace: &Workspace) -> Vec<AuditEntry> {
    workspace.audit(&AuditFilter::default(), 1000, None).await.unwrap().items
}

/// What is the same in every run.
fn line(entry: &AuditEntry) -> String {
    let AuditEntry { sequence, version, record } = entry;
    let target = match &record.target {
        AuditTarget::Service(name, _) => format!("service {name}"),
        AuditTarget::Principal(name) => format!("principal {name}"),
        other => other.kind().to_owned(),
    };
    let revision = version.map_or("-".to_owned(), |version| version.revision.to_string());
    let (by, action) = (&record.origin.principal, record.action.as_str());
    format!("{sequence} {by} {action} {target} at {revision} {}", json!(record.details))
}

/// Oldest first.
async fn lines(workspace: &Workspace) -> String {
    all(workspace).await.iter().rev().map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn each_change_leaves_one_record() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    workspace.ensure_owner().await.unwrap();
    workspace.ensure_owner().await.unwrap();
    let by = &caller();
    let (service, _) = workspace.create_service(by, new_service("svc")).await.unwrap();
    let open = NewService { auth: flags(false, false), ..new_service("open") };
    workspace.create_service(by, open).await.unwrap();
    let patch = Patch {
        description: Some(Some("text".to_owned())),
        tags: Some([("a".to_owned(), "1".to_owned())].into()),
        hosts: Some(vec!["svc.example".to_owned()]),
        attributes: json!({ "numReplicas": 2 }).as_object().unwrap().clone(),
        ..Patch::default()
    };
    workspace.update_service(by, "svc", patch.clone()).await.unwrap();
    // What is so already is no change.
    workspace.update_service(by, "svc", patch).await.unwrap();
    for auth in [flags(false, true), flags(false, false)] {
        let patch = Patch { auth, ..Patch::default() };
        workspace.update_service_at_gates(by, &service.name, patch).await.unwrap();
    }
    workspace.regenerate_key(by, "svc", Slot::Primary, NewKey::Random).await.unwrap();
    let chosen = PlainKey::choose("chosen-by-the-caller").unwrap();
    workspace.regenerate_key(by, "svc", Slot::Secondary, NewKey::Chosen(chosen)).await.unwrap();
    workspace.delete_service(by, "svc").await.unwrap();
    workspace.create_principal(by, "robot", Role::Reader).await.unwrap();
    workspace.delete_principal(by, "robot").await.unwrap();
    workspace.reset_owner(&Origin::local()).await.unwrap();
    insta::assert_snapshot!(lines(&workspace).await, @r#"
    1 local workspace_founded workspace at 0 {}
    2 local signing_key_created signing_key at 1 {"algorithm":"ES256","state":"signing"}
    3 local principal_created principal owner at - {"role":"owner"}
    4 ci service_created service svc at 2 {"authMode":"key","computeType":"AKS"}
    5 ci service_created service open at 3 {"authMode":"disabled","computeType":"AKS","opened":true}
    6 ci service_updated service svc at 4 {"changed":["description","tags","hosts","numReplicas"]}
    7 ci service_updated service svc at 5 {"authMode":{"after":"token","before":"key"},"changed":["authMode"]}
    8 ci service_updated service svc at 6 {"authMode":{"after":"disabled","before":"token"},"changed":["authMode"],"opened":true}
    9 ci key_regenerated service svc at 7 {"chosen":false,"slot":"primary"}
    10 ci key_regenerated service svc at 8 {"chosen":true,"slot":"secondary"}
    11 ci service_deleted service svc at 9 {}
    12 ci principal_created principal robot at - {"role":"reader"}
    13 ci principal_deleted principal robot at - {"role":"reader"}
    14 local owner_reset principal owner at - {"role":"owner"}
    "#);
}

#[tokio::test]
async fn services_of_one_commit_have_a_record_each() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let new = ["one", "two", "three"].map(new_service).to_vec();
    workspace.create_services(&caller(), new).await.unwrap();
    let records = all(&workspace).await;
    let names: Vec<_> = records[..3].iter().map(|entry| entry.record.target.name()).collect();
    assert_eq!(names, ["three", "two", "one"]);
    assert!(records[..3].iter().all(|entry| entry.version == records[0].version));
}

#[tokio::test]
async fn a_record_says_who_when_and_from_where_and_outlives_its_service() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let (service, _) = workspace.create_service(&caller(), new_service("svc")).await.unwrap();
    let created = all(&workspace).await.remove(0);
    assert_eq!(created.record.origin, caller());
    assert_eq!(
        (created.record.origin.role, created.record.at),
        (Some(Role::Contributor), service.created_at)
    );
    assert_eq!(created.record.origin.remote, "10.0.0.7:1234");
    assert_eq!(created.record.target, AuditTarget::Service(service.name, service.uid));
    let version = created.version.unwrap();
    assert_eq!((version.epoch, version.revision), (1, service.revision));
    workspace.delete_service(&Origin::local(), "svc").await.unwrap();
    drop(workspace);
    let after = all(&fixture.open().await).await;
    assert_eq!(after[1], created);
    assert_eq!(
        (after[0].record.action, &after[0].record.origin),
        (AuditAction::ServiceDeleted, &Origin::local())
    );
}

#[tokio::test]
async fn what_the_configuration_changes_is_recorded_once() {
    let mut fixture = Fixture::new();
    drop(fixture.open().await);
    let (before, lifetime) = (all(&fixture.open().await).await.len(), fixture.config.token_lifetime);
    assert_eq!(before, 2, "founded, and a signing key");
    fixture.config.token_lifetime = lifetime / 2;
    drop(fixture.open().await);
    fixture.config.issuer = Some("https://issuer.example".to_owned());
    drop(fixture.open().await);
    fixture.config.token_lifetime = lifetime;
    fixture.config.issuer = Some("https://other.example".to_owned());
    drop(fixture.open().await);
    fixture.config.token_algorithm = TokenAlgorithm::EdDsa;
    let workspace = fixture.open().await;
    let text = lines(&workspace).await.replace(&workspace.id().to_string(), "{id}");
    insta::assert_snapshot!(text, @r#"
    1 local workspace_founded workspace at 0 {}
    2 local signing_key_created signing_key at 1 {"algorithm":"ES256","state":"signing"}
    3 local token_lifetime_changed workspace at 2 {"tokenLifetimeSeconds":21600}
    4 local issuer_changed workspace at 3 {"issuer":{"after":"https://issuer.example","before":"https://{id}.scoregate.invalid"},"tokenLifetimeSeconds":21600}
    5 local issuer_changed workspace at 4 {"issuer":{"after":"https://other.example","before":"https://issuer.example"},"tokenLifetimeSeconds":43200}
    6 local signing_key_created signing_key at 5 {"algorithm":"EdDSA","state":"published"}
    "#);
}

#[rstest]
#[case::no_record("CREATE TRIGGER t BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END")]
#[case::no_change("CREATE TRIGGER t BEFORE INSERT ON operations BEGIN SELECT RAISE(ABORT, 'no'); END")]
#[tokio::test]
async fn a_commit_that_fails_leaves_neither_change_nor_record(#[case] trigger: &'static str) {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let by = &caller();
    let (service, _) = workspace.create_service(by, new_service("svc")).await.unwrap();
    let key = |workspace: &Workspace| workspace.keys("svc").unwrap().primary.expose().to_owned();
    let (records, before) = (all(&workspace).await, key(&workspace));
    fixture.execute(trigger).await;
    for change in ["create", "update", "regenerate", "delete"] {
        // One that does not know yet that the store does not work.
        let workspace = fixture.open().await;
        let open = Patch { auth: flags(false, false), ..Patch::default() };
        let failed = match change {
            "create" => workspace.create_service(by, new_service("new")).await.err(),
            "update" => workspace.update_service_at_gates(by, &service.name, open).await.err(),
            "regenerate" => workspace.regenerate_key(by, "svc", Slot::Primary, NewKey::Random).await.err(),
            _ => workspace.delete_service(by, "svc").await.err(),
        };
        assert!(matches!(failed, Some(WorkspaceError::Store(_))), "{change}: {failed:?}");
    }
    let workspace = fixture.open().await;
    assert_eq!(all(&workspace).await, records);
    assert!(matches!(workspace.service("new").await, Err(WorkspaceError::UnknownService(_))));
    assert_eq!((workspace.service("svc").await.unwrap(), key(&workspace)), (service, before));
    fixture.execute("DROP TRIGGER t").await;
    workspace.delete_service(by, "svc").await.unwrap();
    assert_eq!(all(&workspace).await.len(), records.len() + 1);
}

#[tokio::test]
async fn a_principal_that_cannot_be_recorded_is_not_changed() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    workspace.ensure_owner().await.unwrap();
    workspace.create_principal(&caller(), "robot", Role::Reader).await.unwrap();
    let (records, principals) = (all(&workspace).await, workspace.principals());
    fixture.execute("CREATE TRIGGER t BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END").await;
    assert!(fixture.open().await.create_principal(&caller(), "other", Role::Reader).await.is_err());
    assert!(fixture.open().await.delete_principal(&caller(), "robot").await.is_err());
    assert!(fixture.open().await.reset_owner(&Origin::local()).await.is_err());
    let workspace = fixture.open().await;
    assert_eq!((all(&workspace).await, workspace.principals()), (records, principals));
}

#[tokio::test]
async fn a_start_that_cannot_be_recorded_founds_and_changes_nothing() {
    let mut fixture = Fixture::new();
    let issuer = fixture.open().await.issuer().to_owned();
    fixture.execute("CREATE TRIGGER t BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END").await;
    fixture.config.issuer = Some("https://issuer.example".to_owned());
    assert!(fixture.try_open().await.is_err());
    fixture.config.issuer = None;
    assert_eq!(fixture.open().await.issuer(), issuer);
    fixture.execute("DELETE FROM workspace").await;
    assert!(fixture.try_open().await.is_err());
    fixture.execute("DROP TRIGGER t").await;
    assert_ne!(fixture.open().await.issuer(), issuer);
}

#[tokio::test]
async fn what_is_refused_leaves_no_record() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let by = &caller();
    workspace.ensure_owner().await.unwrap();
    let placed = NewService { hosts: vec!["svc.example".to_owned()], ..new_service("svc") };
    workspace.create_service(by, placed.clone()).await.unwrap();
    let records = all(&workspace).await;
    let mut same_place = NewService { name: "other".parse().unwrap(), ..placed.clone() };
    same_place.path_prefixes = vec!["/api/v1/service/svc".to_owned()];
    assert!(workspace.create_service(by, placed).await.is_err());
    assert!(workspace.create_service(by, same_place).await.is_err());
    let both = Patch { auth: flags(true, true), ..Patch::default() };
    assert!(workspace.update_service(by, "svc", both).await.is_err());
    assert!(workspace.regenerate_key(by, "none", Slot::Primary, NewKey::Random).await.is_err());
    assert_eq!(workspace.delete_service(by, "none").await.unwrap(), None);
    assert!(workspace.create_principal(by, "owner", Role::Reader).await.is_err());
    assert!(workspace.create_principal(by, Origin::LOCAL, Role::Reader).await.is_err());
    assert!(workspace.delete_principal(by, "owner").await.is_err());
    assert!(workspace.delete_principal(by, "none").await.is_err());
    assert_eq!(all(&workspace).await, records);
}

#[tokio::test]
async fn no_value_that_a_caller_chose_is_in_a_record() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let secret = || "hunter2-hunter2-hunter2".to_owned();
    let key = |suffix| Some(PlainKey::choose(&format!("{}{suffix}", secret())).unwrap());
    let new = NewService {
        keys: (key("-a"), key("-b")),
        description: Some(secret()),
        tags: [(secret(), secret())].into(),
        properties: [(secret(), secret())].into(),
        attributes: json!({ "computeName": secret() }).as_object().unwrap().clone(),
        ..new_service("svc")
    };
    workspace.create_service(&caller(), new).await.unwrap();
    let patch = Patch {
        description: Some(Some(secret() + "2")),
        tags: Some([(secret() + "2", secret())].into()),
        add_properties: [(secret() + "2", secret())].into(),
        attributes: json!({ "computeName": secret() + "2" }).as_object().unwrap().clone(),
        ..Patch::default()
    };
    workspace.update_service(&caller(), "svc", patch).await.unwrap();
    workspace
        .regenerate_key(&caller(), "svc", Slot::Primary, NewKey::Chosen(key("-c").unwrap()))
        .await
        .unwrap();
    let (_, credential) = workspace.create_principal(&caller(), "robot", Role::Reader).await.unwrap();
    let records = format!("{:?}", all(&workspace).await);
    assert!(records.contains("computeName") && records.contains("properties"), "{records}");
    assert!(!records.contains("hunter2"), "{records}");
    assert!(!records.contains(secrecy::ExposeSecret::expose_secret(&credential)), "{records}");
}

/// Two services that had the same name, two principals, three days.
async fn some_history(fixture: &Fixture) -> Workspace {
    let workspace = fixture.open().await;
    for _ in 0..2 {
        workspace.create_service(&caller(), new_service("svc")).await.unwrap();
        fixture.clock.advance(Duration::from_hours(24));
        workspace.delete_service(&Origin::local(), "svc").await.unwrap();
    }
    workspace.create_principal(&caller(), "svc", Role::Reader).await.unwrap();
    workspace
}

#[rstest]
#[case(AuditFilter::default(), &[7, 6, 5, 4, 3, 2, 1])]
#[case(AuditFilter { service: Some("svc".parse().unwrap()), ..AuditFilter::default() }, &[6, 5, 4, 3])]
#[case(AuditFilter { service: Some("other".parse().unwrap()), ..AuditFilter::default() }, &[])]
#[case(AuditFilter { principal: Some("ci".to_owned()), ..AuditFilter::default() }, &[7, 5, 3])]
#[case(AuditFilter { principal: Some("local".to_owned()), ..AuditFilter::default() }, &[6, 4, 2, 1])]
#[case(AuditFilter { action: Some(AuditAction::ServiceDeleted), ..AuditFilter::default() }, &[6, 4])]
#[tokio::test]
async fn records_are_filtered(#[case] filter: AuditFilter, #[case] expected: &[u64]) {
    let fixture = Fixture::new();
    let workspace = some_history(&fixture).await;
    let page = workspace.audit(&filter, 100, None).await.unwrap();
    assert_eq!(page.items.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn records_are_filtered_by_time_and_by_uid() {
    let fixture = Fixture::new();
    let start = timestamp(super::fixture::now(&fixture));
    let workspace = some_history(&fixture).await;
    let day = |days: i64| Some(start + jiff::SignedDuration::from_hours(24 * days));
    let uid = match &all(&workspace).await[1].record.target {
        AuditTarget::Service(_, uid) => uid.to_string(),
        other => panic!("{other:?}"),
    };
    let cases = [
        (AuditFilter { since: day(1), ..AuditFilter::default() }, vec![7, 6, 5, 4]),
        (AuditFilter { until: day(1), ..AuditFilter::default() }, vec![3, 2, 1]),
        (AuditFilter { since: day(1), until: day(2), ..AuditFilter::default() }, vec![5, 4]),
        (AuditFilter { service: Some(uid.parse().unwrap()), ..AuditFilter::default() }, vec![6, 5]),
    ];
    for (filter, expected) in cases {
        let page = workspace.audit(&filter, 100, None).await.unwrap();
        assert_eq!(page.items.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), expected, "{filter:?}");
    }
}

#[tokio::test]
async fn records_in_pages_are_all_there_also_while_new_ones_come() {
    let fixture = Fixture::new();
    let workspace = some_history(&fixture).await;
    let (mut seen, mut from) = (Vec::new(), None);
    loop {
        let page = workspace.audit(&AuditFilter::default(), 3, from.as_deref()).await.unwrap();
        seen.extend(page.items.iter().map(|entry| entry.sequence));
        from = page.next;
        if from.is_none() {
            break;
        }
        let name = format!("new-{}", seen.len());
        workspace.create_principal(&caller(), &name, Role::Reader).await.unwrap();
    }
    assert_eq!(seen, [7, 6, 5, 4, 3, 2, 1]);
    for from in ["", "x", "-1"] {
        let error = workspace.audit(&AuditFilter::default(), 3, Some(from)).await.unwrap_err();
        assert!(matches!(error, WorkspaceError::Invalid { .. }), "{from}: {error}");
    }
}

#[tokio::test]
async fn records_are_forgotten_after_the_retention() {
    let mut fixture = Fixture::new();
    fixture.config.audit_retention = Some(Duration::from_hours(24));
    let workspace = some_history(&fixture).await;
    workspace.prune_audit().await;
    let sequences = async |workspace: &Workspace| {
        all(workspace).await.iter().map(|entry| entry.sequence).collect::<Vec<_>>()
    };
    assert_eq!(sequences(&workspace).await, [7, 6, 5, 4]);
    fixture.clock.advance(Duration::from_hours(48));
    drop(workspace);
    let workspace = fixture.open().await;
    assert_eq!(all(&workspace).await, [], "pruned at the start");
    workspace.create_principal(&caller(), "robot", Role::Reader).await.unwrap();
    assert_eq!(sequences(&workspace).await, [8], "a number is never used again");
}

#[tokio::test]
async fn records_are_kept_for_ever_where_the_retention_is_unlimited() {
    let mut fixture = Fixture::new();
    fixture.config.audit_retention = None;
    let workspace = some_history(&fixture).await;
    fixture.clock.advance(Duration::from_hours(24 * 36_500));
    workspace.prune_audit().await;
    assert_eq!(all(&workspace).await.len(), 7);
}
