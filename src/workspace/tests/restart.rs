use std::os::unix::fs::PermissionsExt;

use secrecy::ExposeSecret;

use super::fixture::{Fixture, master_keys, new_service, pepper};
use crate::causes::with_causes;
use crate::workspace::{OpenError, Origin, Role, ServiceFilter};

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let fixture = Fixture::new();
    let before = fixture.open().await;
    let (made, operation) = before.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let keys = before.keys("first").unwrap();
    let (principal, credential) =
        before.create_principal(&Origin::local(), "ci", Role::Reader).await.unwrap();
    let (id, issuer, jwks) = (before.id(), before.issuer().to_owned(), before.jwks());
    drop(before);
    let after = fixture.open().await;
    assert_eq!((after.id(), after.issuer(), after.jwks()), (id, issuer.as_str(), jwks));
    assert_eq!(after.service("first").await.unwrap(), made);
    assert_eq!(after.operation(operation.id).await.unwrap(), operation);
    assert_eq!(after.keys("first").unwrap().primary.expose(), keys.primary.expose());
    assert_eq!(after.authenticate(credential.expose_secret()), Some(principal));
}

#[tokio::test]
async fn a_restart_without_a_change_makes_no_revision() {
    let fixture = Fixture::new();
    let (made, _) =
        fixture.open().await.create_service(&Origin::local(), new_service("first")).await.unwrap();
    drop(fixture.open().await);
    let (next, _) =
        fixture.open().await.create_service(&Origin::local(), new_service("second")).await.unwrap();
    assert_eq!(next.revision, made.revision + 1);
}

#[tokio::test]
async fn open_with_a_new_current_master_key_reads_the_old_values() {
    let mut fixture = Fixture::new();
    let before = fixture.open().await;
    before.create_service(&Origin::local(), new_service("first")).await.unwrap();
    let keys = before.keys("first").unwrap();
    drop(before);
    fixture.config.master_keys = master_keys(&[("m2", 2), ("m1", 1)]);
    let after = fixture.open().await;
    assert_eq!(after.keys("first").unwrap().primary.expose(), keys.primary.expose());
}

#[tokio::test]
async fn open_with_another_master_key_says_which_is_needed() {
    let mut fixture = Fixture::new();
    drop(fixture.open().await);
    fixture.config.master_keys = master_keys(&[("m2", 2), ("m3", 3)]);
    let error = fixture.try_open().await.unwrap_err();
    assert_eq!(
        with_causes(&error),
        "the workspace's secrets cannot be read: \
         master key `m1` is needed, and those configured are `m2`, `m3`"
    );
    fixture.config.master_keys = master_keys(&[("m1", 9)]);
    let error = fixture.try_open().await.unwrap_err();
    assert!(with_causes(&error).contains("another key of that name"), "{}", with_causes(&error));
}

#[tokio::test]
async fn open_with_another_pepper_names_both() {
    let mut fixture = Fixture::new();
    drop(fixture.open().await);
    fixture.config.pepper = pepper(8);
    let error = fixture.try_open().await.unwrap_err();
    let (stored, configured) = (pepper(7), pepper(8));
    let text = error.to_string();
    assert!(matches!(error, OpenError::Pepper { .. }), "{text}");
    assert!(text.contains(stored.id()) && text.contains(configured.id()), "{text}");
}

#[tokio::test]
async fn open_of_a_newer_database_is_refused() {
    let fixture = Fixture::new();
    drop(fixture.open().await);
    fixture
        .execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (99, 'later', 1, x'00', 0)",
        )
        .await;
    let error = fixture.try_open().await.unwrap_err();
    let text = with_causes(&error);
    assert!(text.ends_with("the database has schema version 99, and this scoregate knows up to 4"), "{text}");
}

#[tokio::test]
async fn open_of_what_is_no_database_is_refused() {
    let fixture = Fixture::new();
    std::fs::write(fixture.database(), vec![b'x'; 8192]).unwrap();
    let error = fixture.try_open().await.unwrap_err();
    assert!(matches!(error, OpenError::Database { .. }), "{error}");
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.database()).unwrap();
    let error = fixture.try_open().await.unwrap_err();
    assert!(error.to_string().contains("workspace.db"), "{error}");
}

#[tokio::test]
async fn the_database_is_for_its_owner_only() {
    let fixture = Fixture::new();
    let workspace = fixture.open().await;
    workspace.services(&ServiceFilter::default(), 1, None).await.unwrap();
    for name in ["workspace.db", "workspace.db-wal", "workspace.db-shm"] {
        let file = fixture.database().with_file_name(name);
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn the_issuer_can_be_configured_later() {
    let mut fixture = Fixture::new();
    drop(fixture.open().await);
    fixture.config.issuer = Some("https://issuer.example".to_owned());
    drop(fixture.open().await);
    fixture.config.issuer = None;
    assert_eq!(fixture.open().await.issuer(), "https://issuer.example");
}
