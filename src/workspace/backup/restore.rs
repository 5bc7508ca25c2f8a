//! The way back from a backup, into a data directory that nobody uses.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use scoregate_authz::{UnixTime, Version};

use super::file::{BackupFile, Manifest, UnusableBackup};
use crate::config::{DATABASE, WorkspaceConfig};
use crate::terms::AuditAction;
use crate::workspace::audit::{self, AuditRecord, AuditTarget, Origin};
use crate::workspace::domain::ServiceRecord;
use crate::workspace::keyring::Keyring;
use crate::workspace::opening::{OpenError, check_secrets};
use crate::workspace::services::next_not_before;
use crate::workspace::store::{
    Change, CommitError, ServiceQuery, ServiceWrite, SqliteFile, SqliteStore, Store, StoreError,
};
use crate::workspace::{keys, policy, timestamp};

/// What SQLite may have beside a database.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// Why nothing was restored. What was in the data directory is still there.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A database is there.
    #[error(
        "there is a workspace in `{}` already: --replace puts the backup in its place, and keeps it in a folder beside",
        .0.display()
    )]
    Exists(PathBuf),
    /// The backup does not do.
    #[error(transparent)]
    Backup(#[from] UnusableBackup),
    /// It does not go with the secrets that are configured, or with this version of scoregate.
    #[error("the backup cannot be used here")]
    Unfit(#[source] OpenError),
    /// The file system refused.
    #[error("cannot write `{}`", .path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What is to be restored, and how.
#[derive(Debug, Clone)]
pub struct Restore {
    /// The backup.
    pub file: PathBuf,
    /// In the place of a database that is there.
    pub replace: bool,
    /// Tokens that were issued before the restore stay good.
    pub keep_tokens: bool,
    /// An epoch that gates have seen.
    pub epoch_above: Option<u64>,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// From here on.
    pub version: Version,
    /// What the backup held.
    pub backed_up: Version,
    /// When it was made.
    pub made_at: Timestamp,
    /// Services that are there now.
    pub services: usize,
    /// Where the database is that was replaced.
    pub replaced: Option<PathBuf>,
    /// Id of the policy key at the time of the backup, if it is not the one that is configured now.
    pub other_policy_key: Option<String>,
}

impl Restore {
    /// Does it. The caller holds the lock of the data directory.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub async fn run(&self, config: &WorkspaceConfig, now: UnixTime) -> Result<Restored, RestoreError> {
        let database = config.data_dir.join(DATABASE);
        let exists = database.try_exists().unwrap_or(true);
        if exists && !self.replace {
            return Err(RestoreError::Exists(config.data_dir.clone()));
        }
        let keyring = Keyring::new(&config.master_keys).map_err(OpenError::MasterKey).map_err(unfit)?;
        let mut backup = BackupFile::open(&self.file, &keyring)?;
        let write = |source| RestoreError::Write { path: config.data_dir.clone(), source };
        // Removed, with what is in it, however this ends.
        let staging =
            tempfile::Builder::new().prefix("restore-").tempdir_in(&config.data_dir).map_err(write)?;
        let staged = staging.path().join(DATABASE);
        backup.extract(&mut private(&staged).map_err(write)?)?;
        let failed = |source| unfit(OpenError::Database { path: self.file.clone(), source });
        let facts = SqliteFile::new(&staged).check().await.map_err(failed)?;
        let replaced = if exists { SqliteFile::new(&database).version().await.ok() } else { None };
        let seen = [Some(facts.version.epoch), replaced.map(|version| version.epoch), self.epoch_above];
        let store = SqliteStore::open(&staged).await.map_err(failed)?;
        let restoring = Restoring { config, now, keyring, store, backup: &backup.manifest };
        let done = restoring.renew(next_epoch(seen, now), self.keep_tokens).await;
        restoring.store.close().await;
        let (version, services) = done.map_err(unfit)?;
        let replaced = put_in_place(&staged, &database, version.epoch).map_err(write)?;
        let Manifest { version: backed_up, made_at, policy_key, .. } = backup.manifest;
        let other_policy_key = (policy_key != config.policy_key.public().id()).then_some(policy_key);
        Ok(Restored { version, backed_up, made_at, services, replaced, other_policy_key })
    }
}

fn unfit(error: OpenError) -> RestoreError {
    RestoreError::Unfit(error)
}

/// Higher than any epoch that a gate can have seen of this workspace.
///
/// The epoch after the backup's would not do: a backup that is restored twice would give two histories the same epoch, and
/// gates that followed one refuse the other. So it is the time, in milliseconds, which no other restore has; and where a
/// clock is behind what is known to have been, the next one after that.
fn next_epoch(seen: impl IntoIterator<Item = Option<u64>>, now: UnixTime) -> u64 {
    let seen = seen.into_iter().flatten().max().unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or_default().max(seen.saturating_add(1))
}

/// A database that is being made ready, in a folder that nobody else knows.
struct Restoring<'a> {
    config: &'a WorkspaceConfig,
    now: UnixTime,
    keyring: Keyring,
    store: SqliteStore,
    backup: &'a Manifest,
}

impl Restoring<'_> {
    /// Begins the epoch, and revokes tokens unless they are kept. The version then, and the number of services.
    async fn renew(&self, epoch: u64, keep_tokens: bool) -> Result<(Version, usize), OpenError> {
        let row = self.store.workspace().await.map_err(|error| self.failed(error))?;
        let row = row.ok_or_else(|| self.failed(StoreError::Corrupt { column: "singleton" }))?;
        check_secrets(&self.store, &self.keyring, &row, &self.config.pepper, |error| self.failed(error))
            .await?;
        let details = audit::details([
            ("backupMadeAt", self.backup.made_at.to_string().into()),
            ("backupEpoch", self.backup.version.epoch.into()),
            ("backupRevision", self.backup.version.revision.into()),
            ("tokensKept", keep_tokens.into()),
        ]);
        let record = self.record(AuditAction::WorkspaceRestored, AuditTarget::Workspace(row.id), details);
        let version = self.store.begin_epoch(epoch, &record).await.map_err(|error| self.failed(error))?;
        let query = ServiceQuery { limit: u32::MAX, ..ServiceQuery::default() };
        let services = self.store.services(&query).await.map_err(|error| self.failed(error))?;
        if keep_tokens || services.is_empty() {
            return Ok((version, services.len()));
        }
        Ok((self.revoke_tokens(&services).await?, services.len()))
    }

    /// What was revoked after the backup would otherwise be good again.
    async fn revoke_tokens(&self, services: &[ServiceRecord]) -> Result<Version, OpenError> {
        let mut change = Change::recorded(Vec::with_capacity(services.len()));
        for before in services {
            let sealed = self.store.sealed_keys(&before.uid).await.map_err(|error| self.failed(error))?;
            let sealed = sealed.ok_or_else(|| self.failed(StoreError::Corrupt { column: "sealed" }))?;
            let keys = keys::open(&self.keyring, &before.uid, &sealed).map_err(OpenError::MasterKey)?;
            let keys = keys.ok_or_else(|| self.failed(StoreError::Corrupt { column: "sealed" }))?;
            let record = ServiceRecord {
                tokens_not_before: next_not_before(before.tokens_not_before, self.now),
                updated_at: timestamp(self.now),
                ..before.clone()
            };
            let target = AuditTarget::Service(record.name.clone(), record.uid.clone());
            let details = audit::details([("tokensNotBefore", record.tokens_not_before.into())]);
            change.audit.push(self.record(AuditAction::TokensRevoked, target, details));
            change.entries.push(policy::service_entry(&record, &keys, &self.config.pepper));
            let write = ServiceWrite::Update { record: Box::new(record), expected: before.revision };
            change.services.push(write);
        }
        self.store.commit(change, None).await.map_err(|error| match error {
            CommitError::Store(error) => self.failed(error),
            other => self.failed(StoreError::Database(other.into())),
        })
    }

    fn record(&self, action: AuditAction, target: AuditTarget, details: audit::Details) -> AuditRecord {
        AuditRecord { at: timestamp(self.now), origin: Origin::local(), action, target, details }
    }

    fn failed(&self, source: StoreError) -> OpenError {
        OpenError::Database { path: self.config.data_dir.join(DATABASE), source }
    }
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)
}

/// Where the database is that was there before, if one was.
///
/// INVARIANT: there is a database at every moment. A workspace that found none would begin anew.
fn put_in_place(staged: &Path, database: &Path, epoch: u64) -> io::Result<Option<PathBuf>> {
    if companions(staged).any(|path| path.exists()) {
        return Err(io::Error::other("SQLite did not close the restored database"));
    }
    let kept = if database.try_exists()? { Some(keep(database, epoch)?) } else { None };
    File::open(staged)?.sync_all()?;
    fs::rename(staged, database)?;
    File::open(database.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(kept)
}

/// A database without its write-ahead log is an older state, and the log of one must not be taken for that of another.
fn keep(database: &Path, epoch: u64) -> io::Result<PathBuf> {
    let folder = database.with_file_name(format!("replaced-{epoch}"));
    fs::create_dir(&folder)?;
    fs::hard_link(database, folder.join(DATABASE))?;
    for companion in companions(database).filter(|path| path.exists()) {
        fs::rename(&companion, folder.join(companion.file_name().unwrap_or_default()))?;
    }
    File::open(&folder)?.sync_all()?;
    Ok(folder)
}

fn companions(database: &Path) -> impl Iterator<Item = PathBuf> {
    COMPANIONS.into_iter().map(|suffix| {
        let mut path = database.as_os_str().to_owned();
        path.push(suffix);
        path.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_epoch_is_above_all_that_were_seen() {
        let now = UnixTime::from_millis(1_000);
        assert_eq!(next_epoch([None, Some(1)], now), 1_000);
        assert_eq!(next_epoch([Some(5_000), Some(7), None], now), 5_001);
        assert_eq!(next_epoch([], UnixTime::ZERO), 1);
    }
}
