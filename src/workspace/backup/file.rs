//! The file of a backup: the database as SQLite has it, then `sealed manifest, its length, mark`.
//!
//! The manifest holds a digest of the database and is sealed under the master key. So what is cut off, damaged, foreign or
//! made up is told from a backup, and SQLite's own tools can still open it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;
use scoregate_authz::Version;
use serde::{Deserialize, Serialize};

use crate::workspace::keyring::{Keyring, KeyringError, Location};

const MARK: &[u8; 16] = b"scoregate backup";
/// Of the mark and of the length before it.
const TAIL: u64 = 20;
const MAX_MANIFEST: u32 = 16 * 1024;
const MANIFEST: Location<'static> = Location { table: "backup", row: "1", column: "manifest" };

/// Why a file cannot be restored from.
#[derive(Debug, thiserror::Error)]
pub enum UnusableBackup {
    /// It cannot be read.
    #[error("`{}` cannot be read", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The end of a backup is not there.
    #[error("`{}` is not a whole backup: it was cut off, or is something else", .0.display())]
    NotWhole(PathBuf),
    /// The manifest cannot be opened.
    #[error(
        "`{}` is of a workspace with another master key, or was changed: restoring needs the master key, pepper and \
         policy key of the workspace that was backed up",
        .path.display()
    )]
    Foreign {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: KeyringError,
    },
    /// The database in it is another one than was put there.
    #[error("`{}` is damaged: its content is not what was backed up", .0.display())]
    Damaged(PathBuf),
}

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    #[serde(with = "VersionShape")]
    pub(super) version: Version,
    pub(super) made_at: Timestamp,
    /// Id of the public half of the policy key.
    pub(super) policy_key: String,
    /// Of the database, in hexadecimal digits.
    pub(super) sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Version")]
struct VersionShape {
    epoch: u64,
    revision: u64,
}

/// Puts the manifest behind the database that the file holds, with the digest of that. The length of it all.
pub(super) fn append_manifest(
    file: &mut File,
    manifest: Manifest,
    keyring: &Keyring,
) -> io::Result<Result<u64, KeyringError>> {
    file.seek(SeekFrom::Start(0))?;
    let sha256 = copy(&mut *file, &mut io::sink())?;
    let manifest = serde_json::to_vec(&Manifest { sha256, ..manifest })?;
    let sealed = match keyring.seal(MANIFEST, &manifest) {
        Ok(sealed) => sealed.bytes,
        Err(error) => return Ok(Err(error)),
    };
    let length = u32::try_from(sealed.len()).map_err(io::Error::other)?;
    file.seek(SeekFrom::End(0))?;
    file.write_all(&[&sealed, length.to_be_bytes().as_slice(), MARK].concat())?;
    file.sync_all()?;
    file.stream_position().map(Ok)
}

/// A backup whose manifest is proven.
#[derive(Debug)]
pub(super) struct BackupFile {
    path: PathBuf,
    file: File,
    /// Of the database.
    length: u64,
    pub(super) manifest: Manifest,
}

impl BackupFile {
    pub(super) fn open(path: &Path, keyring: &Keyring) -> Result<Self, UnusableBackup> {
        let read = |source| UnusableBackup::Read { path: path.to_owned(), source };
        let not_whole = || UnusableBackup::NotWhole(path.to_owned());
        let mut file = File::open(path).map_err(read)?;
        let (length, sealed) = read_tail(&mut file).map_err(read)?.ok_or_else(not_whole)?;
        let manifest = keyring
            .open(MANIFEST, &sealed)
            .map_err(|source| UnusableBackup::Foreign { path: path.to_owned(), source })?;
        let manifest = serde_json::from_slice(&manifest).map_err(|_| not_whole())?;
        Ok(Self { path: path.to_owned(), file, length, manifest })
    }

    /// Writes the database to a file. What was written is what was backed up, or this fails.
    pub(super) fn extract(&mut self, to: &mut File) -> Result<(), UnusableBackup> {
        let read = |source| UnusableBackup::Read { path: self.path.clone(), source };
        self.file.seek(SeekFrom::Start(0)).map_err(read)?;
        let sha256 = copy(&mut (&self.file).take(self.length), to).map_err(read)?;
        if sha256 == self.manifest.sha256 { Ok(()) } else { Err(UnusableBackup::Damaged(self.path.clone())) }
    }
}

/// The length of the database, and the sealed manifest; `None` where the file does not end like a backup.
fn read_tail(file: &mut File) -> io::Result<Option<(u64, Vec<u8>)>> {
    let whole = file.metadata()?.len();
    let Some(tail) = whole.checked_sub(TAIL) else { return Ok(None) };
    file.seek(SeekFrom::Start(tail))?;
    let (mut length, mut mark) = ([0; 4], [0; 16]);
    file.read_exact(&mut length)?;
    file.read_exact(&mut mark)?;
    let length = u32::from_be_bytes(length);
    let Some(database) = tail.checked_sub(length.into()) else { return Ok(None) };
    if &mark != MARK || length > MAX_MANIFEST {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(database))?;
    let mut sealed = Vec::new();
    file.take(length.into()).read_to_end(&mut sealed)?;
    Ok(Some((database, sealed)))
}

/// Copies all that can be read, and returns its SHA-256.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<String> {
    let mut digest = Context::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        digest.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
    }
}
