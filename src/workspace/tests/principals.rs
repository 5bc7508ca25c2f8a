use std::time::Duration;

use rstest::rstest;
use secrecy::ExposeSecret;

use super::fixture::{Fixture, new_service};
use crate::listen::Peer;
use crate::workspace::{Origin, Role, WorkspaceError};

#[tokio::test]
async fn authenticate_finds_the_principal_of_a_credential() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let (made, credential) =
        workspace.create_principal(&Origin::local(), "ci", Role::Contributor).await.unwrap();
    let (_, other) = workspace.create_principal(&Origin::local(), "reader", Role::Reader).await.unwrap();
    let found = workspace.authenticate(credential.expose_secret());
    assert_eq!(found, Some(made));
    assert_ne!(credential.expose_secret(), other.expose_secret());
    assert!(credential.expose_secret().starts_with("sgc_"));
    assert!(!format!("{credential:?}").contains("sgc_"));
}

#[tokio::test]
async fn authenticate_refuses_everything_else() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let (_, credential) =
        workspace.create_principal(&Origin::local(), "ci", Role::Contributor).await.unwrap();
    let credential = credential.expose_secret();
    let upper = credential.to_uppercase();
    let long = "sgc_".repeat(1000);
    for text in ["", "sgc_", "ci", &credential[1..], &credential[..35], &upper, &long, "' OR 1=1 --"] {
        assert_eq!(workspace.authenticate(text), None, "{text}");
    }
}

#[tokio::test]
async fn ensure_owner_makes_one_on_first_start_only() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let credential = workspace.ensure_owner().await.unwrap().unwrap();
    assert!(workspace.ensure_owner().await.unwrap().is_none());
    let owner = workspace.authenticate(credential.expose_secret()).unwrap();
    assert_eq!((owner.name.as_str(), owner.role), ("owner", Role::Owner));
    drop(workspace);
    assert!(fixture.open().await.ensure_owner().await.unwrap().is_none());
}

/// A change may wait for its turn, and whoever asked for it be deleted meanwhile.
#[tokio::test]
async fn a_change_of_a_principal_that_is_gone_is_refused() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    workspace.ensure_owner().await.unwrap();
    let (gone, _) = workspace.create_principal(&Origin::local(), "ci", Role::Owner).await.unwrap();
    let origin = Origin::of_request(&gone, Peer::Unix, uuid::Uuid::nil());
    workspace.create_service(&origin, new_service("first")).await.unwrap();
    workspace.delete_principal(&Origin::local(), "ci").await.unwrap();
    fixture.clock.advance(Duration::from_secs(1));
    // One of the same name is another one.
    workspace.create_principal(&Origin::local(), "ci", Role::Owner).await.unwrap();
    let changes = [
        workspace.create_service(&origin, new_service("second")).await.err(),
        workspace.delete_service(&origin, "first").await.err(),
        workspace.create_principal(&origin, "backdoor", Role::Owner).await.err(),
    ];
    for refused in changes {
        assert!(matches!(refused, Some(WorkspaceError::PrincipalGone(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn reset_owner_replaces_the_credential() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let lost = workspace.ensure_owner().await.unwrap().unwrap();
    let new = workspace.reset_owner(&Origin::local()).await.unwrap();
    assert_eq!(workspace.authenticate(lost.expose_secret()), None);
    assert!(workspace.authenticate(new.expose_secret()).is_some());
    assert_eq!(workspace.principals().len(), 1);
}

#[tokio::test]
async fn delete_of_the_last_owner_is_refused() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let credential = workspace.ensure_owner().await.unwrap().unwrap();
    let error = workspace.delete_principal(&Origin::local(), "owner").await.unwrap_err();
    assert!(matches!(error, WorkspaceError::LastOwner(_)), "{error}");
    assert!(workspace.authenticate(credential.expose_secret()).is_some());
    workspace.create_principal(&Origin::local(), "second", Role::Owner).await.unwrap();
    workspace.delete_principal(&Origin::local(), "owner").await.unwrap();
    assert_eq!(workspace.authenticate(credential.expose_secret()), None);
}

#[tokio::test]
async fn create_under_a_taken_name_is_refused() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    let (_, credential) = workspace.create_principal(&Origin::local(), "ci", Role::Reader).await.unwrap();
    let error = workspace.create_principal(&Origin::local(), "ci", Role::Owner).await.unwrap_err();
    assert!(matches!(error, WorkspaceError::PrincipalExists(_)), "{error}");
    let found = workspace.authenticate(credential.expose_secret()).unwrap();
    assert_eq!(found.role, Role::Reader);
}

#[tokio::test]
async fn delete_of_an_unknown_principal_is_an_error() {
    let fixture = Fixture::new();
    let error = fixture.open().await.delete_principal(&Origin::local(), "nobody").await.unwrap_err();
    assert!(matches!(error, WorkspaceError::UnknownPrincipal(_)), "{error}");
}

#[rstest]
#[case("")]
#[case(".")]
#[case("..")]
#[case("-ci")]
#[case("_ci")]
#[case("@ci")]
#[case("with space")]
#[case("line\nbreak")]
#[case("ümlaut")]
#[case("0123456789012345678901234567890123456789012345678901234567890123x")]
#[tokio::test]
async fn create_under_an_impossible_name_is_refused(#[case] name: &str) {
    let fixture = Fixture::new();
    let error =
        fixture.open().await.create_principal(&Origin::local(), name, Role::Reader).await.unwrap_err();
    assert!(matches!(error, WorkspaceError::Invalid { .. }), "{error}");
}

#[rstest]
#[case("0")]
#[case("a.b-c_d@example.com")]
#[case("0123456789012345678901234567890123456789012345678901234567890123")]
#[tokio::test]
async fn create_takes_a_name(#[case] name: &str) {
    let fixture = Fixture::new();
    fixture.open().await.create_principal(&Origin::local(), name, Role::Reader).await.unwrap();
}
