//! A database as a file that is only read: copied while another process has it, or looked at before anybody has.

use std::path::Path;

use scoregate_authz::Version;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::super::{StoreError, WorkspaceRow};
use super::{PATIENCE, rows};

const WORKSPACE: &str =
    "SELECT id, issuer, pepper_id, master_key_check, created_at, epoch, revision FROM workspace";

/// What a database says of itself.
#[derive(Debug)]
pub(in crate::workspace) struct Facts {
    pub(in crate::workspace) workspace: WorkspaceRow,
    pub(in crate::workspace) version: Version,
}

/// A database by its path.
#[derive(Debug, Clone, Copy)]
pub(in crate::workspace) struct SqliteFile<'a> {
    path: &'a Path,
}

impl<'a> SqliteFile<'a> {
    pub(in crate::workspace) fn new(path: &'a Path) -> Self {
        Self { path }
    }

    /// Copies the state of one moment to an empty file, without what was deleted. Writers go on meanwhile.
    pub(in crate::workspace) async fn copy_to(self, to: &Path) -> Result<(), StoreError> {
        let to = to.to_str().ok_or_else(|| StoreError::Database("the path is not UTF-8".into()))?;
        let mut connection = self.connect(false).await?;
        sqlx::query("VACUUM INTO ?").bind(to).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    /// Looks whether a file that nobody writes is whole.
    pub(in crate::workspace) async fn check(self) -> Result<Facts, StoreError> {
        let mut connection = self.connect(true).await?;
        let problem: String =
            sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut connection).await?;
        if problem != "ok" {
            return Err(StoreError::Database(problem.into()));
        }
        let row = sqlx::query(WORKSPACE).fetch_one(&mut connection).await?;
        let facts = Facts { workspace: rows::workspace(&row)?, version: rows::version(&row)? };
        connection.close().await?;
        Ok(facts)
    }

    /// Epoch and revision.
    pub(in crate::workspace) async fn version(self) -> Result<Version, StoreError> {
        let mut connection = self.connect(false).await?;
        let version = rows::version(&sqlx::query(WORKSPACE).fetch_one(&mut connection).await?)?;
        connection.close().await?;
        Ok(version)
    }

    async fn connect(self, immutable: bool) -> Result<SqliteConnection, StoreError> {
        let options = SqliteConnectOptions::new().filename(self.path).read_only(true).immutable(immutable);
        Ok(options.busy_timeout(PATIENCE).connect().await?)
    }
}
