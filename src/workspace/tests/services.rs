use std::time::Duration;

use rstest::rstest;
use scoregate_authz::{AuthMode, AuthModeError, ComputeType, PlainKey, Slot};
use serde_json::json;

use super::fixture::{Fixture, START, flags, new_service};
use crate::workspace::{
    AuthFlags, NewKey, NewService, OperationState, Order, Origin, Patch, ServiceFilter, WorkspaceError,
};

fn key(text: &str) -> PlainKey {
    PlainKey::choose(text).unwrap()
}

#[tokio::test]
async fn create_makes_a_readable_service_with_two_keys() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let (made, operation) = workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    assert_eq!(made.auth_mode, AuthMode::Key);
    assert_eq!(made.path_prefixes, ["/api/v1/service/first"]);
    assert_eq!(operation.state, OperationState::Succeeded);
    assert_eq!(operation.revision, made.revision);
    assert_eq!(workspace.service("first").await.unwrap(), made);
    let keys = workspace.keys("first").unwrap();
    assert_ne!(keys.primary.expose(), keys.secondary.expose());
    assert!(keys.primary.expose().starts_with("sgk_"));
}

#[tokio::test]
async fn create_of_aci_is_open_and_at_its_own_prefix_where_it_has_a_host() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let new = NewService { compute_type: ComputeType::Aci, ..new_service("first") };
    let (made, _) = workspace.create_service(&Origin::local(), new.clone()).await.unwrap();
    assert_eq!(made.auth_mode, AuthMode::Disabled);
    assert_eq!(made.path_prefixes, ["/api/v1/service/first"]);
    let (name, hosts) = ("second".parse().unwrap(), vec!["second.example".to_owned()]);
    let (made, _) =
        workspace.create_service(&Origin::local(), NewService { name, hosts, ..new }).await.unwrap();
    assert_eq!(made.path_prefixes, ["/score"]);
}

#[tokio::test]
async fn create_under_a_taken_name_is_refused() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let (made, _) = workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let error = workspace.create_service(&Origin::local(), new_service("first")).await.unwrap_err();
    assert!(matches!(error, WorkspaceError::ServiceExists(_)), "{error}");
    assert_eq!(workspace.service("first").await.unwrap(), made);
}

#[rstest]
#[case(ComputeType::Aks, flags(true, true), AuthModeError::Both)]
#[case(ComputeType::Aci, flags(false, true), AuthModeError::TokenOnAci)]
#[tokio::test]
async fn create_with_impossible_flags_changes_nothing(
    #[case] compute_type: ComputeType,
    #[case] auth: AuthFlags,
    #[case] expected: AuthModeError,
) {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let new = NewService { compute_type, auth, ..new_service("first") };
    match workspace.create_service(&Origin::local(), new).await.unwrap_err() {
        WorkspaceError::AuthMode(error) => assert_eq!(error, expected),
        other => panic!("{other}"),
    }
    assert!(matches!(workspace.service("first").await, Err(WorkspaceError::UnknownService(_))));
}

#[tokio::test]
async fn t059_equal_keys_are_refused_at_create_and_regenerate() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let (one, two) = ("a-chosen-key-of-the-owner", "another-key-of-the-owner");
    let equal = NewService { keys: (Some(key(one)), Some(key(one))), ..new_service("first") };
    let error = workspace.create_service(&Origin::local(), equal).await.unwrap_err();
    assert_eq!(error.to_string(), "the primary and the secondary key of `first` would be the same");
    let different = NewService { keys: (Some(key(one)), Some(key(two))), ..new_service("first") };
    workspace.create_service(&Origin::local(), different).await.unwrap();
    let error = workspace
        .regenerate_key(&Origin::local(), "first", Slot::Primary, NewKey::Chosen(key(two)))
        .await
        .unwrap_err();
    assert!(matches!(error, WorkspaceError::EqualKeys(_)), "{error}");
    assert_eq!(workspace.keys("first").unwrap().primary.expose(), one);
}

#[tokio::test]
async fn regenerate_changes_one_slot_only() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let before = workspace.keys("first").unwrap();
    workspace.regenerate_key(&Origin::local(), "first", Slot::Primary, NewKey::Random).await.unwrap();
    let random = workspace.keys("first").unwrap();
    assert_ne!(random.primary.expose(), before.primary.expose());
    assert_eq!(random.secondary.expose(), before.secondary.expose());
    workspace
        .regenerate_key(
            &Origin::local(),
            "first",
            Slot::Secondary,
            NewKey::Chosen(key("chosen-by-the-caller")),
        )
        .await
        .unwrap();
    let chosen = workspace.keys("first").unwrap();
    assert_eq!(chosen.primary.expose(), random.primary.expose());
    assert_eq!(chosen.secondary.expose(), "chosen-by-the-caller");
}

#[tokio::test]
async fn regenerate_of_many_at_once_loses_none() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let runs = (0..10).map(|number| {
        let (workspace, slot) = (workspace.clone(), Slot::ALL[number % 2]);
        tokio::spawn(async move {
            workspace.regenerate_key(&Origin::local(), "first", slot, NewKey::Random).await.unwrap().revision
        })
    });
    let mut revisions = Vec::new();
    for run in runs.collect::<Vec<_>>() {
        revisions.push(run.await.unwrap());
    }
    revisions.sort_unstable();
    let first = revisions[0];
    assert_eq!(revisions, (first..first + 10).collect::<Vec<_>>());
}

#[tokio::test]
async fn update_changes_what_is_said_and_nothing_else() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let attributes =
        json!({ "numReplicas": 1, "containerResourceRequirements": { "cpu": 1, "memoryInGB": 2 } });
    let new = NewService {
        description: Some("text".to_owned()),
        tags: [("a".to_owned(), "1".to_owned())].into(),
        properties: [("p".to_owned(), "1".to_owned())].into(),
        attributes: attributes.as_object().unwrap().clone(),
        ..new_service("first")
    };
    let (made, _) = workspace.create_service(&Origin::local(), new).await.unwrap();
    fixture.clock.advance(Duration::from_secs(5));
    let patch = Patch {
        description: Some(None),
        add_properties: [("p".to_owned(), "2".to_owned()), ("q".to_owned(), "3".to_owned())].into(),
        attributes: json!({ "containerResourceRequirements": { "cpu": 4 } }).as_object().unwrap().clone(),
        ..Patch::default()
    };
    let updated = workspace.update_service(&Origin::local(), "first", patch).await.unwrap();
    assert_eq!(updated.description, None);
    assert_eq!(updated.tags, made.tags);
    assert_eq!(updated.properties["p"], "1", "properties are added, never changed");
    assert_eq!(updated.properties["q"], "3");
    let expected =
        json!({ "numReplicas": 1, "containerResourceRequirements": { "cpu": 4, "memoryInGB": 2 } });
    assert_eq!(json!(updated.attributes), expected);
    assert_eq!(updated.updated_at.as_second(), i64::try_from(START).unwrap() + 5);
    assert_eq!(updated.created_at, made.created_at);
    assert_eq!(workspace.service("first").await.unwrap(), updated);
}

#[tokio::test]
async fn update_to_both_modes_changes_nothing() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let (made, _) = workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let patch = Patch {
        auth: AuthFlags { key: None, token: Some(true) },
        description: Some(Some("new".to_owned())),
        ..Patch::default()
    };
    let error = workspace.update_service(&Origin::local(), "first", patch).await.unwrap_err();
    assert!(matches!(error, WorkspaceError::AuthMode(AuthModeError::Both)), "{error}");
    assert_eq!(workspace.service("first").await.unwrap(), made);
}

#[tokio::test]
async fn t023_a_place_belongs_to_one_service() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let at = |name: &str, host: &str| NewService {
        hosts: vec![host.to_owned()],
        path_prefixes: vec!["/score".to_owned()],
        ..new_service(name)
    };
    workspace.create_service(&Origin::local(), at("first", "a.example")).await.unwrap();
    let error = workspace.create_service(&Origin::local(), at("second", "a.example")).await.unwrap_err();
    assert_eq!(error.to_string(), "`a.example/score` belongs to the service `first`");
    workspace.create_service(&Origin::local(), at("second", "b.example")).await.unwrap();
    let patch = Patch { hosts: Some(vec!["a.example".to_owned()]), ..Patch::default() };
    let error = workspace.update_service(&Origin::local(), "second", patch.clone()).await.unwrap_err();
    assert!(matches!(error, WorkspaceError::PlaceTaken { .. }), "{error}");
    assert_eq!(workspace.service("second").await.unwrap().hosts, ["b.example"]);
    workspace.delete_service(&Origin::local(), "first").await.unwrap();
    workspace.update_service(&Origin::local(), "second", patch).await.unwrap();
}

#[rstest]
#[case(&["A.example"], &[], "hosts")]
#[case(&["a.example:80"], &[], "hosts")]
#[case(&["*.example"], &[], "hosts")]
#[case(&["a.example"], &["score"], "pathPrefixes")]
#[case(&["a.example"], &["/a/../b"], "pathPrefixes")]
#[tokio::test]
async fn create_at_an_impossible_place_is_refused(
    #[case] hosts: &[&str],
    #[case] prefixes: &[&str],
    #[case] expected: &str,
) {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let new = NewService { hosts: owned(hosts), path_prefixes: owned(prefixes), ..new_service("first") };
    match workspace.create_service(&Origin::local(), new).await.unwrap_err() {
        WorkspaceError::Invalid { field, .. } => assert_eq!(field, expected),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn delete_of_an_unknown_service_is_none() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    assert_eq!(workspace.delete_service(&Origin::local(), "first").await.unwrap(), None);
    workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let operation = workspace.delete_service(&Origin::local(), "first").await.unwrap().unwrap();
    assert_eq!((operation.operation_type.as_str(), operation.state), ("Delete", OperationState::Succeeded));
    assert!(matches!(workspace.keys("first"), Err(WorkspaceError::UnknownService(_))));
}

#[tokio::test]
async fn create_again_gives_another_uid_and_other_keys() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let (first, _) = workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let keys = workspace.keys("first").unwrap();
    workspace.delete_service(&Origin::local(), "first").await.unwrap();
    let (second, _) = workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    assert!(second.uid > first.uid);
    assert_ne!(workspace.keys("first").unwrap().primary.expose(), keys.primary.expose());
}

#[rstest]
#[case(Order::CreatedAtDesc, &["svc4", "svc3", "svc2", "svc1", "svc0"])]
#[case(Order::CreatedAtAsc, &["svc0", "svc1", "svc2", "svc3", "svc4"])]
#[case(Order::UpdatedAtDesc, &["svc1", "svc4", "svc3", "svc2", "svc0"])]
#[case(Order::UpdatedAtAsc, &["svc0", "svc2", "svc3", "svc4", "svc1"])]
#[tokio::test]
async fn services_in_pages_are_all_in_order(#[case] order: Order, #[case] expected: &[&str]) {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    for number in 0..5 {
        // All within one millisecond.
        workspace.create_service(&Origin::local(), new_service(&format!("svc{number}"))).await.unwrap();
    }
    fixture.clock.advance(Duration::from_secs(1));
    let patch = Patch { description: Some(Some("changed".to_owned())), ..Patch::default() };
    workspace.update_service(&Origin::local(), "svc1", patch).await.unwrap();
    let filter = ServiceFilter { order, ..ServiceFilter::default() };
    let mut names = Vec::new();
    let mut from = None;
    loop {
        let page = workspace.services(&filter, 2, from.as_deref()).await.unwrap();
        names.extend(page.items.iter().map(|service| service.name.to_string()));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(names, expected);
}

#[tokio::test]
async fn services_that_fill_the_last_page_have_no_next() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    workspace.create_service(&Origin::local(), new_service("second")).await.unwrap();
    let page = workspace.services(&ServiceFilter::default(), 2, None).await.unwrap();
    assert_eq!((page.items.len(), page.next), (2, None));
}

#[tokio::test]
async fn services_from_a_foreign_position_are_refused() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    for name in ["first", "second"] {
        workspace.create_service(&Origin::local(), new_service(name)).await.unwrap();
    }
    let page = workspace.services(&ServiceFilter::default(), 1, None).await.unwrap();
    let by_update = ServiceFilter { order: Order::UpdatedAtAsc, ..ServiceFilter::default() };
    for from in ["", "nonsense", "'; DROP TABLE services; --", page.next.as_deref().unwrap()] {
        let error = workspace.services(&by_update, 1, Some(from)).await.unwrap_err();
        assert!(matches!(error, WorkspaceError::Invalid { .. }), "{from}: {error}");
    }
}

#[rstest]
#[case(ServiceFilter { name: Some("first".to_owned()), ..Default::default() }, &["first"])]
#[case(ServiceFilter { compute_type: Some(ComputeType::Aci), ..Default::default() }, &["second"])]
#[case(ServiceFilter { tags: vec![("a".to_owned(), None)], ..Default::default() }, &["first", "second"])]
#[case(ServiceFilter { tags: vec![("a".to_owned(), Some("1".to_owned()))], ..Default::default() }, &["first"])]
#[case(ServiceFilter { tags: vec![("a".to_owned(), Some("3".to_owned()))], ..Default::default() }, &[])]
#[case(ServiceFilter { tags: vec![("$.a' OR 1=1 --".to_owned(), None)], ..Default::default() }, &[])]
#[case(ServiceFilter { properties: vec![("p".to_owned(), None)], ..Default::default() }, &["first"])]
#[tokio::test]
async fn services_are_filtered(#[case] filter: ServiceFilter, #[case] expected: &[&str]) {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let first = NewService {
        tags: [("a".to_owned(), "1".to_owned())].into(),
        properties: [("p".to_owned(), "x".to_owned())].into(),
        ..new_service("first")
    };
    let second = NewService {
        compute_type: ComputeType::Aci,
        tags: [("a".to_owned(), "2".to_owned())].into(),
        ..new_service("second")
    };
    for new in [first, second, new_service("third")] {
        workspace.create_service(&Origin::local(), new).await.unwrap();
    }
    let filter = ServiceFilter { order: Order::CreatedAtAsc, ..filter };
    let page = workspace.services(&filter, 10, None).await.unwrap();
    let names: Vec<_> = page.items.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn services_are_counted_by_mode() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    for name in ["first", "second", "third"] {
        workspace.create_service(&Origin::local(), new_service(name)).await.unwrap();
    }
    let open = Patch { auth: flags(false, false), ..Patch::default() };
    workspace.update_service(&Origin::local(), "first", open).await.unwrap();
    workspace.delete_service(&Origin::local(), "second").await.unwrap();
    let line = |mode| fixture.metrics_line(&format!("scoregate_workspace_services{{mode=\"{mode}\"}}"));
    assert_eq!(line("disabled"), "scoregate_workspace_services{mode=\"disabled\"} 1");
    assert_eq!(line("key"), "scoregate_workspace_services{mode=\"key\"} 1");
    assert_eq!(line("token"), "scoregate_workspace_services{mode=\"token\"} 0");
}

/// Of two who have read the same key one replaces it, or the other's new key would be dead when it is handed on.
#[tokio::test]
async fn regenerate_for_a_key_that_was_replaced_meanwhile_is_refused() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    workspace.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let read = workspace.keys("first").unwrap().primary;
    let expected = || NewKey::RandomFor(read.expose().to_owned().into());
    let origin = Origin::local();
    let (one, other) = tokio::join!(
        workspace.regenerate_key(&origin, "first", Slot::Primary, expected()),
        workspace.regenerate_key(&origin, "first", Slot::Primary, expected()),
    );
    let refused = one.and(other).unwrap_err();
    assert!(matches!(refused, WorkspaceError::StaleKey { slot: Slot::Primary, .. }), "{refused}");
    assert_ne!(workspace.keys("first").unwrap().primary.expose(), read.expose());
}
