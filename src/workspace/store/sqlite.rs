//! The store in one SQLite file: a write-ahead log, one writer, readers beside it.

mod audit;
mod file;
mod operations;
mod principals;
mod rows;
mod services;
mod uses;
mod write;

use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use scoregate_authz::{ServiceUid, Version};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::{
    AuditQuery, Change, CommitError, CredentialHash, OperationRow, PrincipalError, ServiceQuery,
    SigningKeyRow, State, Store, StoreError, UseRow, WorkspaceRow,
};
use crate::terms::Role;
use crate::workspace::audit::{AuditEntry, AuditRecord};
use crate::workspace::domain::{Operation, OperationState, Principal, ServiceRecord};
pub(in crate::workspace) use file::SqliteFile;
use rows::integer;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Connections that read. Reads are short; more would only hold page caches.
const READERS: u32 = 4;
/// For how long a connection waits for another one's lock, or for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same for a probe. The first changes of an outage wait for it.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);

/// A workspace's database in one file.
#[derive(Debug)]
pub(in crate::workspace) struct SqliteStore {
    /// INVARIANT: one connection, so that writers wait for their turn here and not for SQLite's lock.
    writer: SqlitePool,
    readers: SqlitePool,
    file: OpenedFile,
}

/// A file by what makes it that file. What is written to one that was moved or deleted would be lost without a word.
#[derive(Debug)]
struct OpenedFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl OpenedFile {
    fn at(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }

    fn check(&self) -> Result<(), StoreError> {
        let found = Self::at(&self.path);
        let is_same = found.is_ok_and(|found| (found.device, found.inode) == (self.device, self.inode));
        if is_same { Ok(()) } else { Err(StoreError::Gone) }
    }
}

impl SqliteStore {
    /// Opens the file, makes it where there is none (mode 0600), and brings its schema up to date.
    pub(in crate::workspace) async fn open(path: &Path) -> Result<Self, StoreError> {
        make_private(path).map_err(|error| StoreError::Database(error.into()))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(PATIENCE)
            // What is replaced is overwritten, so that sealed values of old keys do not linger in free pages.
            .pragma("secure_delete", "ON");
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(PATIENCE * 2)
                .test_before_acquire(false)
                // A connection that is open reads on when the file is gone; a new one could not.
                .min_connections(connections)
                .idle_timeout(None)
                .max_lifetime(None)
        };
        let writer = pool(1).before_acquire(|connection, _| Box::pin(is_usable(connection)));
        let writer = writer.connect_with(options.clone()).await?;
        migrate(&writer).await?;
        let readers = pool(READERS).connect_with(options.pragma("query_only", "ON")).await?;
        let file = OpenedFile::at(path).map_err(|error| StoreError::Database(error.into()))?;
        Ok(Self { writer, readers, file })
    }

    /// Begins an epoch, higher than the one before.
    pub(in crate::workspace) async fn begin_epoch(
        &self,
        epoch: u64,
        record: &AuditRecord,
    ) -> Result<Version, StoreError> {
        write::begin_epoch(self.writer()?, epoch, record).await
    }

    /// Closes all connections; the last one leaves the file as all there is.
    pub(in crate::workspace) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// The connection that writes, while what it writes can be found again.
    fn writer(&self) -> Result<&SqlitePool, StoreError> {
        self.file.check().map(|()| &self.writer)
    }
}

/// After a write that failed, SQLite may have rolled the transaction back by itself, and `sqlx` still counts it as open: it
/// would refuse every transaction after it. Such a connection is closed, and another one opened.
async fn is_usable(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // What the last user of the connection left to be done is done before this.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

async fn set_patience(connection: &mut SqliteConnection, patience: Duration) -> Result<(), StoreError> {
    let pragma = format!("PRAGMA busy_timeout = {}", patience.as_millis());
    sqlx::query(AssertSqlSafe(pragma)).execute(connection).await?;
    Ok(())
}

async fn probe(connection: &mut SqliteConnection, write: bool) -> Result<Version, StoreError> {
    let mut change = connection.begin_with("BEGIN IMMEDIATE").await?;
    let version =
        rows::version(&sqlx::query("SELECT epoch, revision FROM workspace").fetch_one(&mut *change).await?)?;
    if write {
        sqlx::query("UPDATE workspace SET revision = revision").execute(&mut *change).await?;
        change.commit().await?;
    } else {
        change.rollback().await?;
    }
    Ok(version)
}

/// SQLite gives its log the mode of the file.
fn make_private(path: &Path) -> io::Result<()> {
    std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(|_| ())
}

async fn migrate(writer: &SqlitePool) -> Result<(), StoreError> {
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
    match MIGRATIONS.run(writer).await {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(found)) => Err(StoreError::Newer { found, known }),
        Err(error) => Err(StoreError::Database(error.into())),
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn workspace(&self) -> Result<Option<WorkspaceRow>, StoreError> {
        let query = sqlx::query("SELECT id, issuer, pepper_id, master_key_check, created_at FROM workspace");
        query.fetch_optional(&self.readers).await?.as_ref().map(rows::workspace).transpose()
    }

    async fn found(&self, workspace: &WorkspaceRow, audit: &AuditRecord) -> Result<(), StoreError> {
        write::found(self.writer()?, workspace, audit).await
    }

    async fn master_key_ids(&self) -> Result<Vec<String>, StoreError> {
        let query = sqlx::query_scalar(
            "SELECT master_key_id FROM service_keys UNION SELECT master_key_id FROM signing_keys",
        );
        Ok(query.fetch_all(&self.readers).await?)
    }

    async fn commit(&self, change: Change, after: Option<Version>) -> Result<Version, CommitError> {
        write::commit(self.writer()?, change, after).await
    }

    async fn state(&self) -> Result<State, StoreError> {
        let mut state = self.readers.begin().await?;
        let workspace = sqlx::query("SELECT epoch, revision FROM workspace").fetch_one(&mut *state).await?;
        let version = rows::version(&workspace)?;
        let entries = sqlx::query("SELECT kind, id, name, content, revision, deleted FROM entries")
            .fetch_all(&mut *state)
            .await?;
        let services = sqlx::query(
            "SELECT uid, name, auth_mode, tokens_not_before, sealed FROM services \
             JOIN service_keys ON service_uid = uid",
        )
        .fetch_all(&mut *state)
        .await?;
        let principals = sqlx::query("SELECT name, role, credential_hash, created_at FROM principals")
            .fetch_all(&mut *state)
            .await?;
        Ok(State {
            version,
            entries: entries.iter().map(rows::entry).collect::<Result<_, _>>()?,
            services: services.iter().map(rows::issuing).collect::<Result<_, _>>()?,
            principals: principals.iter().map(rows::credential).collect::<Result<_, _>>()?,
        })
    }

    async fn probe(&self, write: bool) -> Result<Version, StoreError> {
        let mut connection = self.writer()?.acquire().await?;
        set_patience(&mut connection, PROBE_PATIENCE).await?;
        let version = probe(&mut connection, write).await;
        set_patience(&mut connection, PATIENCE).await?;
        version
    }

    async fn service(&self, name: &str) -> Result<Option<ServiceRecord>, StoreError> {
        services::named(&self.readers, name).await
    }

    async fn services(&self, query: &ServiceQuery) -> Result<Vec<ServiceRecord>, StoreError> {
        services::list(&self.readers, query).await
    }

    async fn sealed_keys(&self, uid: &ServiceUid) -> Result<Option<Vec<u8>>, StoreError> {
        let query = sqlx::query_scalar("SELECT sealed FROM service_keys WHERE service_uid = ?");
        Ok(query.bind(uid.as_str()).fetch_optional(&self.readers).await?)
    }

    async fn signing_keys(&self) -> Result<Vec<SigningKeyRow>, StoreError> {
        let query = sqlx::query(
            "SELECT kid, algorithm, jwk, master_key_id, sealed, created_at, revision, state, since, until, \
             longest_lifetime FROM signing_keys ORDER BY revision",
        );
        query.fetch_all(&self.readers).await?.iter().map(rows::signing_key).collect()
    }

    async fn operation(&self, id: Uuid) -> Result<Option<Operation>, StoreError> {
        operations::by_id(&self.readers, id).await
    }

    async fn running_operations(&self) -> Result<Vec<OperationRow>, StoreError> {
        operations::running(&self.readers).await
    }

    async fn end_operation(
        &self,
        id: Uuid,
        state: OperationState,
        error: Option<&str>,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        operations::end(self.writer()?, id, state, error, at).await
    }

    async fn prune_operations(&self, before: Timestamp) -> Result<(), StoreError> {
        operations::prune(self.writer()?, before).await
    }

    async fn remember_gate(&self, name: &str, connection: u64) -> Result<(), StoreError> {
        sqlx::query("INSERT OR REPLACE INTO connected_gates (name, connection) VALUES (?, ?)")
            .bind(name)
            .bind(integer(connection))
            .execute(self.writer()?)
            .await?;
        Ok(())
    }

    async fn forget_gate(&self, name: &str, connection: u64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM connected_gates WHERE name = ? AND connection = ?")
            .bind(name)
            .bind(integer(connection))
            .execute(self.writer()?)
            .await?;
        Ok(())
    }

    async fn take_gates(&self) -> Result<Vec<String>, StoreError> {
        let query = sqlx::query_scalar("DELETE FROM connected_gates RETURNING name");
        Ok(query.fetch_all(self.writer()?).await?)
    }

    async fn uses(&self) -> Result<Vec<UseRow>, StoreError> {
        uses::all(&self.readers).await
    }

    async fn keep_uses(&self, rows: &[UseRow]) -> Result<(), StoreError> {
        uses::keep(self.writer()?, rows).await
    }

    async fn create_principal(
        &self,
        principal: &Principal,
        credential: &CredentialHash,
        audit: &AuditRecord,
    ) -> Result<(), PrincipalError> {
        principals::create(self.writer()?, principal, credential, audit).await
    }

    async fn replace_principal(
        &self,
        principal: &Principal,
        credential: &CredentialHash,
        audit: &AuditRecord,
    ) -> Result<(), StoreError> {
        principals::replace(self.writer()?, principal, credential, audit).await
    }

    async fn delete_principal(&self, name: &str, audit: AuditRecord) -> Result<Role, PrincipalError> {
        principals::delete(self.writer()?, name, audit).await
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>, StoreError> {
        audit::list(&self.readers, query).await
    }

    async fn prune_audit(&self, before: Timestamp) -> Result<u64, StoreError> {
        audit::prune(self.writer()?, before).await
    }
}
