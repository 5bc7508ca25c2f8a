//! Backups: a copy of the database as it is at one moment, sealed values and all, and the way back from it.
//!
//! Neither master key, pepper nor policy key is in a backup.

mod file;
mod restore;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use scoregate_authz::{UnixTime, Version};

use super::keyring::{Keyring, KeyringError};
use super::opening::check_master_key;
use super::store::{SqliteFile, StoreError};
use super::timestamp;
use crate::config::{DATABASE, WorkspaceConfig};

use file::Manifest;
pub use file::UnusableBackup;
pub use restore::{Restore, RestoreError, Restored};

/// Why there is no backup. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// No database.
    #[error("there is no workspace in `{}`", .0.display())]
    NoWorkspace(PathBuf),
    /// Something has the backup's name.
    #[error("`{}` is there already: --overwrite replaces it", .0.display())]
    Exists(PathBuf),
    /// The database cannot be read, or what was read is not whole.
    #[error("the database `{}` cannot be backed up", .path.display())]
    Database {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: StoreError,
    },
    /// The backup could not be used with the master keys that are configured.
    #[error("the workspace's secrets cannot be read")]
    MasterKey(#[source] KeyringError),
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

/// What was backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackedUp {
    /// The state that is in it.
    pub version: Version,
    /// The length of the file.
    pub bytes: u64,
}

/// Writes the database to a file, complete or not at all, with mode 0600. A workspace that runs goes on meanwhile: it may
/// have the data directory's lock, since this only reads.
///
/// # Errors
/// See [`BackupError`].
pub async fn back_up(
    config: &WorkspaceConfig,
    to: &Path,
    overwrite: bool,
    now: UnixTime,
) -> Result<BackedUp, BackupError> {
    let database = config.data_dir.join(DATABASE);
    if !database.exists() {
        return Err(BackupError::NoWorkspace(config.data_dir.clone()));
    }
    if !overwrite && to.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(to.to_owned()));
    }
    let write = |source| BackupError::Write { path: to.to_owned(), source };
    let failed = |source| BackupError::Database { path: database.clone(), source };
    let keyring = Keyring::new(&config.master_keys).map_err(BackupError::MasterKey)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Made by this library with mode 0600.
    let mut copy = tempfile::Builder::new().prefix(".backup-").tempfile_in(folder).map_err(write)?;
    SqliteFile::new(&database).copy_to(copy.path()).await.map_err(failed)?;
    let facts = SqliteFile::new(copy.path()).check().await.map_err(failed)?;
    check_master_key(&keyring, &facts.workspace).map_err(BackupError::MasterKey)?;
    let manifest = Manifest {
        version: facts.version,
        made_at: timestamp(now),
        policy_key: config.policy_key.public().id(),
        sha256: String::new(),
    };
    let sealed = file::append_manifest(copy.as_file_mut(), manifest, &keyring);
    let bytes = sealed.map_err(write)?.map_err(BackupError::MasterKey)?;
    let kept = if overwrite { copy.persist(to) } else { copy.persist_noclobber(to) };
    match kept {
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(BackupError::Exists(to.to_owned()));
        }
        Err(error) => return Err(write(error.error)),
        Ok(_) => File::open(folder).and_then(|folder| folder.sync_all()).map_err(write)?,
    }
    Ok(BackedUp { version: facts.version, bytes })
}
