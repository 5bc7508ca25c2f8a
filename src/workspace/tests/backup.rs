use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use scoregate_authz::{Slot, Version};
use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::fixture::{Fixture, flags, master_keys, new_service, now, pepper};
use crate::causes::with_causes;
use crate::config::WorkspaceConfig;
use crate::metrics::Metrics;
use crate::workspace::{
    AuditFilter, BackupError, NewKey, NewService, Origin, Restore, RestoreError, Restored, Role, Workspace,
    back_up,
};

/// A workspace with a service of keys and one of tokens, and its backup.
struct BackedUp {
    fixture: Fixture,
    workspace: Workspace,
    folder: TempDir,
}

impl BackedUp {
    async fn new() -> Self {
        let fixture = Fixture::new();
        let workspace = fixture.open().await;
        workspace.create_service(&Origin::local(), new_service("keyed")).await.unwrap();
        let tokened = NewService { auth: flags(false, true), ..new_service("tokened") };
        workspace.create_service(&Origin::local(), tokened).await.unwrap();
        let this = Self { fixture, workspace, folder: TempDir::new().unwrap() };
        this.back_up(false).await.unwrap();
        this
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("backup")
    }

    async fn back_up(&self, overwrite: bool) -> Result<Version, BackupError> {
        let made = back_up(&self.fixture.config, &self.file(), overwrite, now(&self.fixture)).await?;
        assert_eq!(made.bytes, std::fs::metadata(self.file()).unwrap().len());
        Ok(made.version)
    }

    /// The configuration of another place with the same secrets.
    fn elsewhere(&self, folder: &TempDir) -> WorkspaceConfig {
        WorkspaceConfig { data_dir: folder.path().to_owned(), ..self.fixture.config.clone() }
    }

    fn restore(&self) -> Restore {
        Restore { file: self.file(), replace: false, keep_tokens: false, epoch_above: None }
    }

    async fn restore_to(&self, folder: &TempDir) -> Result<Restored, RestoreError> {
        self.restore().run(&self.elsewhere(folder), now(&self.fixture)).await
    }

    async fn open(&self, config: &WorkspaceConfig) -> Workspace {
        Workspace::open(config, self.fixture.clock.clone(), &Metrics::default()).await.unwrap()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn restored_workspace_is_that_of_the_backup_at_a_new_epoch() {
    let backed_up = BackedUp::new().await;
    let before = &backed_up.workspace;
    let (_, credential) = before.create_principal(&Origin::local(), "ci", Role::Reader).await.unwrap();
    let version = backed_up.back_up(true).await.unwrap();
    let keys = before.keys("keyed").unwrap();
    before.regenerate_key(&Origin::local(), "keyed", Slot::Primary, NewKey::Random).await.unwrap();
    before.create_service(&Origin::local(), new_service("later")).await.unwrap();

    let folder = TempDir::new().unwrap();
    let restored = backed_up.restore_to(&folder).await.unwrap();
    assert_eq!((restored.backed_up, restored.services), (version, 2));
    assert_eq!((restored.replaced, restored.other_policy_key), (None, None));
    assert_eq!(u128::from(restored.version.epoch), now(&backed_up.fixture).as_millis());
    assert_eq!(names(folder.path()), ["workspace.db"]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path().join("workspace.db")), 0o600);
    assert_eq!(mode(&backed_up.file()), 0o600);

    let after = backed_up.open(&backed_up.elsewhere(&folder)).await;
    assert_eq!((after.id(), after.jwks()), (before.id(), before.jwks()));
    assert_eq!(after.keys("keyed").unwrap().primary.expose(), keys.primary.expose());
    assert!(after.service("later").await.is_err());
    assert_eq!(after.authenticate(credential.expose_secret()).unwrap().name, "ci");
    let page = after.audit(&AuditFilter::default(), 10, None).await.unwrap().items;
    let told: Vec<_> = page.iter().take(3).map(|entry| entry.record.action.as_str()).collect();
    assert_eq!(told, ["tokens_revoked", "tokens_revoked", "workspace_restored"]);
    assert_eq!(page[2].version.unwrap().epoch, restored.version.epoch);
    assert_eq!(page[2].record.details["backupRevision"], version.revision);
}

#[tokio::test]
async fn tokens_are_revoked_unless_they_are_kept() {
    let backed_up = BackedUp::new().await;
    let (moved, kept) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let not_before = async |folder: &TempDir| {
        let workspace = backed_up.open(&backed_up.elsewhere(folder)).await;
        let services = ["keyed", "tokened"].map(|name| workspace.service(name));
        let [keyed, tokened] = services;
        [keyed.await.unwrap().tokens_not_before, tokened.await.unwrap().tokens_not_before]
    };
    backed_up.restore_to(&moved).await.unwrap();
    assert_eq!(not_before(&moved).await, [now(&backed_up.fixture).as_secs() + 1; 2]);
    let restore = Restore { keep_tokens: true, ..backed_up.restore() };
    restore.run(&backed_up.elsewhere(&kept), now(&backed_up.fixture)).await.unwrap();
    assert_eq!(not_before(&kept).await, [0; 2]);
}

#[tokio::test]
async fn t114_no_two_restores_have_the_same_epoch() {
    let backed_up = BackedUp::new().await;
    let mut epochs = Vec::new();
    for _ in 0..3 {
        backed_up.fixture.clock.advance(Duration::from_millis(1));
        epochs.push(backed_up.restore_to(&TempDir::new().unwrap()).await.unwrap().version.epoch);
    }
    // A clock that stands still, or behind: what is there, or what the operator knows, is passed.
    let folder = TempDir::new().unwrap();
    let config = backed_up.elsewhere(&folder);
    let past = now(&backed_up.fixture).saturating_sub(Duration::from_hours(1));
    let above = Restore { epoch_above: epochs.last().copied(), ..backed_up.restore() };
    epochs.push(above.run(&config, past).await.unwrap().version.epoch);
    let replace = Restore { replace: true, ..backed_up.restore() };
    epochs.push(replace.run(&config, past).await.unwrap().version.epoch);
    assert!(epochs.is_sorted_by(|one, next| one < next), "{epochs:?}");
}

#[tokio::test]
async fn restore_over_a_workspace_needs_to_be_told_and_keeps_it() {
    let backed_up = BackedUp::new().await;
    let folder = TempDir::new().unwrap();
    let config = backed_up.elsewhere(&folder);
    let there = backed_up.open(&config).await;
    there.create_service(&Origin::local(), new_service("there")).await.unwrap();
    let id = there.id();
    // With its write-ahead log, as after a crash.
    std::mem::forget(there);
    let refused = backed_up.restore_to(&folder).await.unwrap_err();
    assert!(matches!(refused, RestoreError::Exists(_)), "{refused}");
    assert!(names(folder.path()).contains(&"workspace.db-wal".to_owned()));

    let replace = Restore { replace: true, ..backed_up.restore() };
    let restored = replace.run(&config, now(&backed_up.fixture)).await.unwrap();
    let after = backed_up.open(&config).await;
    assert_eq!(after.id(), backed_up.workspace.id());
    assert!(after.service("there").await.is_err() && after.service("keyed").await.is_ok());
    let kept = WorkspaceConfig { data_dir: restored.replaced.unwrap(), ..config };
    let kept = backed_up.open(&kept).await;
    assert_eq!(kept.id(), id);
    assert!(kept.service("there").await.is_ok());
}

#[tokio::test]
async fn nothing_is_restored_from_what_is_not_a_whole_backup() {
    let backed_up = BackedUp::new().await;
    let whole = std::fs::read(backed_up.file()).unwrap();
    let folder = TempDir::new().unwrap();
    let refusal = async |bytes: &[u8]| {
        std::fs::write(backed_up.file(), bytes).unwrap();
        let error = backed_up.restore_to(&folder).await.unwrap_err();
        assert_eq!(names(folder.path()), [""; 0], "something was left");
        error.to_string()
    };
    for length in [0, 1, 19, 100, 4096, whole.len() / 2, whole.len() - 21, whole.len() - 1] {
        let message = refusal(&whole[..length]).await;
        assert!(message.contains("is not a whole backup: it was cut off"), "{length}: {message}");
    }
    let database = std::fs::read(backed_up.fixture.database()).unwrap();
    assert!(refusal(&database).await.contains("is not a whole backup"));
    for at in (0..whole.len() - 500).step_by(977).chain([17, 30]) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        let message = refusal(&changed).await;
        assert!(message.contains("is damaged: its content is not what was backed up"), "{at}: {message}");
    }
    let mut forged = whole.clone();
    let in_manifest = whole.len() - 30;
    forged[in_manifest] ^= 1;
    assert!(refusal(&forged).await.contains("another master key, or was changed"));
}

#[tokio::test]
async fn restore_with_other_secrets_says_which_are_needed() {
    let backed_up = BackedUp::new().await;
    let folder = TempDir::new().unwrap();
    let refusal = async |config: WorkspaceConfig| {
        let error = backed_up.restore().run(&config, now(&backed_up.fixture)).await.unwrap_err();
        assert_eq!(names(folder.path()), [""; 0]);
        with_causes(&error)
    };
    let other = WorkspaceConfig { master_keys: master_keys(&[("m2", 2)]), ..backed_up.elsewhere(&folder) };
    let message = refusal(other).await;
    assert!(message.contains("is of a workspace with another master key"), "{message}");
    assert!(message.contains("master key `m1` is needed, and those configured are `m2`"), "{message}");
    let other = WorkspaceConfig { master_keys: master_keys(&[("m1", 2)]), ..backed_up.elsewhere(&folder) };
    assert!(refusal(other).await.contains("it is another key of that name"));
    let other = WorkspaceConfig { pepper: pepper(8), ..backed_up.elsewhere(&folder) };
    assert!(refusal(other).await.contains("are digested under pepper"));
}

#[tokio::test]
async fn another_policy_key_is_mentioned() {
    let backed_up = BackedUp::new().await;
    let folder = TempDir::new().unwrap();
    let policy_key = Fixture::new().config.policy_key;
    let config = WorkspaceConfig { policy_key, ..backed_up.elsewhere(&folder) };
    let restored = backed_up.restore().run(&config, now(&backed_up.fixture)).await.unwrap();
    assert_eq!(restored.other_policy_key, Some(backed_up.fixture.config.policy_key.public().id()));
}

#[tokio::test]
async fn backup_refuses_what_it_would_overwrite_and_leaves_it_alone() {
    let backed_up = BackedUp::new().await;
    std::fs::write(backed_up.file(), "precious").unwrap();
    let error = backed_up.back_up(false).await.unwrap_err();
    assert!(matches!(error, BackupError::Exists(_)), "{error}");
    assert_eq!(std::fs::read(backed_up.file()).unwrap(), b"precious");
    assert_eq!(names(backed_up.folder.path()), ["backup"]);
    backed_up.back_up(true).await.unwrap();
    assert_eq!(names(backed_up.folder.path()), ["backup"]);
    backed_up.restore_to(&TempDir::new().unwrap()).await.unwrap();
}

#[tokio::test]
async fn backup_that_could_not_be_restored_is_not_made() {
    let mut backed_up = BackedUp::new().await;
    backed_up.fixture.config.master_keys = master_keys(&[("m2", 2)]);
    let error = backed_up.back_up(true).await.unwrap_err();
    assert!(matches!(error, BackupError::MasterKey(_)), "{error}");
    let empty = TempDir::new().unwrap();
    let config = backed_up.elsewhere(&empty);
    let error = back_up(&config, &backed_up.file(), true, now(&backed_up.fixture)).await.unwrap_err();
    assert!(matches!(error, BackupError::NoWorkspace(_)), "{error}");
    assert_eq!(names(empty.path()), [""; 0]);
}

#[tokio::test]
async fn backup_is_of_one_moment_while_changes_go_on() {
    let backed_up = BackedUp::new().await;
    let workspace = backed_up.workspace.clone();
    let changes = tokio::spawn(async move {
        for number in 0..60 {
            workspace.create_service(&Origin::local(), new_service(&format!("svc-{number}"))).await.unwrap();
        }
    });
    let mut versions = Vec::new();
    while !changes.is_finished() {
        versions.push(backed_up.back_up(true).await.unwrap());
        let folder = TempDir::new().unwrap();
        let restored = backed_up.restore_to(&folder).await.unwrap();
        assert_eq!(restored.backed_up, versions[versions.len() - 1]);
        let workspace = backed_up.open(&backed_up.elsewhere(&folder)).await;
        let entries = workspace.image().live().count();
        // Besides services there is the signing key.
        assert_eq!(entries, restored.services + 1);
        let last = format!("svc-{}", restored.services.saturating_sub(3));
        assert_eq!(workspace.service(&last).await.is_ok(), restored.services > 2, "{last}");
    }
    changes.await.unwrap();
    versions.dedup();
    assert!(versions.len() > 1, "no change came between: {versions:?}");
}
