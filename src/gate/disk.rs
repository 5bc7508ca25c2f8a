//! The last good policy on disk, so that a gate can start while the workspace is away.
//!
//! Three files: the `snapshot`, replaced as a whole; the `changes` since, a log; and the `high-water` mark: the last
//! version that was acknowledged, below which this gate never goes, whatever becomes of the other two.
//!
//! A change is in the log before the mark moves, and the mark has moved before the change is acknowledged. So a state
//! that is younger than the mark is one of which the workspace heard nothing, and one that is older is not ours.

mod record;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use scoregate_authz::{Peppers, Snapshot, UnixTime, Version};

use self::record::{Kind, Records};
use super::state::{self, Assembly, RefusedPolicy};
use crate::proto::scoregate::policy::v1 as wire;

/// The log is folded into a new snapshot when it has more changes than this, or is longer than the snapshot and this.
const MAX_CHANGES: u64 = 1_000;
const MIN_LONG_LOG: u64 = 256 * 1024;

/// Why the directory cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It cannot be made, or nothing can be written there.
    #[error("cannot use `{path}` for the last good policy")]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others could put policy there.
    #[error(
        "`{path}` can be written by others (mode {mode:o}): name a directory in it, which is then made private"
    )]
    Writable {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// Why what is on disk is not used. The gate starts without it, and takes nothing older from the workspace either.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("`{file}` cannot be read")]
    Io {
        file: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("`{file}` belongs to another user (uid {owner})")]
    ForeignOwner { file: &'static str, owner: u32 },
    #[error("`{file}` can be written by others (mode {mode:o})")]
    Writable { file: &'static str, mode: u32 },
    #[error("`{file}` is no such file of a gate")]
    Magic { file: &'static str },
    #[error("`{file}` has format {found}, and this version reads format {known}")]
    Format { file: &'static str, found: u16, known: u16 },
    #[error("`{file}` ends too early")]
    Truncated { file: &'static str },
    #[error("`{file}` has a record that is too long")]
    TooLong { file: &'static str },
    #[error("`{file}` has a record with a wrong checksum")]
    Checksum { file: &'static str },
    #[error("`{file}` has a record that cannot be decoded")]
    Undecodable {
        file: &'static str,
        #[source]
        source: prost::DecodeError,
    },
    #[error("`{file}` has something after its end")]
    Trailing { file: &'static str },
    #[error("`{file}` is not what a workspace sends")]
    Refused {
        file: &'static str,
        #[source]
        source: RefusedPolicy,
    },
    #[error("there is no `snapshot`, although version {0} was acknowledged")]
    Missing(Version),
    #[error("the state is of version {found}, although version {acknowledged} was acknowledged")]
    Older { found: Version, acknowledged: Version },
    #[error("the state is of workspace `{found}`, although this gate is of `{ours}`")]
    ForeignWorkspace { found: String, ours: String },
}

/// The last version that was acknowledged.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HighWater {
    #[prost(string, tag = "1")]
    pub(crate) workspace: String,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(uint64, tag = "3")]
    revision: u64,
    /// When the workspace last said that this is what it has, in Unix milliseconds.
    #[prost(uint64, tag = "4")]
    confirmed_at: u64,
}

impl HighWater {
    pub(crate) fn new(workspace: &str, version: Version, confirmed_at: UnixTime) -> Self {
        Self {
            workspace: workspace.to_owned(),
            epoch: version.epoch,
            revision: version.revision,
            confirmed_at: u64::try_from(confirmed_at.as_millis()).unwrap_or(u64::MAX),
        }
    }

    pub(crate) fn version(&self) -> Version {
        Version { epoch: self.epoch, revision: self.revision }
    }

    pub(crate) fn confirmed_at(&self) -> UnixTime {
        UnixTime::from_millis(self.confirmed_at)
    }
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Nothing below this is taken from anybody.
    pub(crate) high_water: Option<HighWater>,
    /// The state; `None` where there never was one.
    pub(crate) state: Result<Option<Snapshot>, StateError>,
}

/// The directory. One process uses it at a time.
#[derive(Debug)]
pub(crate) struct Disk {
    directory: PathBuf,
    /// The user that this process runs as.
    owner: u32,
    /// The log, open at its end; `None` where it has to be begun anew.
    log: Option<Log>,
    snapshot_bytes: u64,
}

#[derive(Debug)]
struct Log {
    file: File,
    bytes: u64,
    changes: u64,
}

impl Disk {
    /// Makes the directory, private, if it is not there.
    ///
    /// # Errors
    /// It cannot be made or written to, or others can write to it.
    pub(crate) fn open(path: &Path) -> Result<Self, DirectoryError> {
        let io = |source| DirectoryError::Io { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        let mode = std::fs::metadata(path).map_err(io)?.mode();
        if mode & 0o022 != 0 {
            return Err(DirectoryError::Writable { path: path.to_owned(), mode: mode & 0o7777 });
        }
        let owner = own_uid(path).map_err(io)?;
        Ok(Self { directory: path.to_owned(), owner, log: None, snapshot_bytes: 0 })
    }

    /// Reads what is there.
    pub(crate) fn read(&mut self, peppers: &Peppers) -> Found {
        match self.read_high_water() {
            Ok(high_water) => {
                let state = self.read_state(peppers, high_water.as_ref());
                Found { high_water, state }
            }
            Err(error) => Found { high_water: None, state: Err(error) },
        }
    }

    fn read_high_water(&self) -> Result<Option<HighWater>, StateError> {
        let file = Kind::HighWater.file_name();
        let Some(mut records) = Records::open(&self.directory, Kind::HighWater, self.owner)? else {
            return Ok(None);
        };
        let high_water = records.next()?.ok_or(StateError::Truncated { file })?;
        match records.next::<HighWater>()? {
            Some(_) => Err(StateError::Trailing { file }),
            None => Ok(Some(high_water)),
        }
    }

    fn read_state(
        &mut self,
        peppers: &Peppers,
        high_water: Option<&HighWater>,
    ) -> Result<Option<Snapshot>, StateError> {
        let Some(snapshot) = self.read_snapshot(peppers)? else {
            return high_water.map_or(Ok(None), |mark| Err(StateError::Missing(mark.version())));
        };
        let snapshot = self.read_log(snapshot, peppers)?;
        let Some(mark) = high_water else { return Ok(Some(snapshot)) };
        if snapshot.workspace() != mark.workspace {
            let found = snapshot.workspace().to_owned();
            return Err(StateError::ForeignWorkspace { found, ours: mark.workspace.clone() });
        }
        if snapshot.version() < mark.version() {
            return Err(StateError::Older { found: snapshot.version(), acknowledged: mark.version() });
        }
        Ok(Some(snapshot))
    }

    fn read_snapshot(&mut self, peppers: &Peppers) -> Result<Option<Snapshot>, StateError> {
        let file = Kind::Snapshot.file_name();
        let refused = |source| StateError::Refused { file, source };
        let Some(mut records) = Records::open(&self.directory, Kind::Snapshot, self.owner)? else {
            return Ok(None);
        };
        let first = records.next()?.ok_or(StateError::Truncated { file })?;
        let mut assembly = Assembly::begin(first).map_err(refused)?;
        while !assembly.is_complete() {
            let next = records.next()?.ok_or(StateError::Truncated { file })?;
            assembly = assembly.with(next).map_err(refused)?;
        }
        if records.next::<wire::SnapshotPart>()?.is_some() {
            return Err(StateError::Trailing { file });
        }
        self.snapshot_bytes = records.position();
        assembly.build(peppers).map(Some).map_err(refused)
    }

    /// Follows the log. A record at its end that is not all there was never acknowledged, and is cut off; a change that
    /// the snapshot has already was left by a process that ended between writing the one and emptying the other.
    fn read_log(&mut self, mut snapshot: Snapshot, peppers: &Peppers) -> Result<Snapshot, StateError> {
        let file = Kind::Changes.file_name();
        let Some(mut records) = Records::open(&self.directory, Kind::Changes, self.owner)? else {
            return Ok(snapshot);
        };
        let mut changes = 0;
        loop {
            let change: wire::Change = match records.next() {
                Ok(Some(change)) => change,
                Ok(None) => break,
                Err(StateError::Truncated { .. }) => {
                    tracing::warn!("the last record of `{file}` is not complete and was cut off");
                    break;
                }
                Err(error) => return Err(error),
            };
            changes += 1;
            if state::leads_to(&change) > snapshot.version() {
                snapshot = state::follow(&snapshot, change, peppers)
                    .map_err(|source| StateError::Refused { file, source })?;
            }
        }
        let log = self.reopen_log(records.position(), changes);
        self.log = Some(log.map_err(|source| StateError::Io { file, source })?);
        Ok(snapshot)
    }

    fn reopen_log(&self, bytes: u64, changes: u64) -> io::Result<Log> {
        let path = self.directory.join(Kind::Changes.file_name());
        let file = OpenOptions::new().append(true).open(path)?;
        file.set_len(bytes)?;
        file.sync_all()?;
        Ok(Log { file, bytes, changes })
    }

    /// Keeps a complete snapshot. Durable when it returns.
    pub(crate) fn keep_snapshot(&mut self, snapshot: &Snapshot, at: UnixTime) -> io::Result<()> {
        self.write_snapshot(snapshot)?;
        self.begin_log()?;
        self.keep_high_water(snapshot, at)
    }

    /// Keeps a change that led to this snapshot. Durable when it returns.
    pub(crate) fn keep_change(
        &mut self,
        change: &wire::Change,
        snapshot: &Snapshot,
        at: UnixTime,
    ) -> io::Result<()> {
        self.write_change(change)?;
        self.keep_high_water(snapshot, at)
    }

    /// Moves the mark.
    pub(crate) fn keep_high_water(&self, snapshot: &Snapshot, at: UnixTime) -> io::Result<()> {
        let mark = HighWater::new(snapshot.workspace(), snapshot.version(), at);
        record::replace(&self.directory, Kind::HighWater, std::iter::once(mark)).map(drop)
    }

    /// Whether the log has grown so long that a snapshot should take its place.
    pub(crate) fn is_log_long(&self) -> bool {
        self.log
            .as_ref()
            .is_some_and(|log| log.changes > MAX_CHANGES || log.bytes > self.snapshot_bytes.max(MIN_LONG_LOG))
    }

    fn write_snapshot(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        self.snapshot_bytes = record::replace(&self.directory, Kind::Snapshot, state::parts(snapshot))?;
        Ok(())
    }

    fn begin_log(&mut self) -> io::Result<()> {
        self.log = None;
        let none = std::iter::empty::<wire::Change>();
        let bytes = record::replace(&self.directory, Kind::Changes, none)?;
        self.log = Some(self.reopen_log(bytes, 0)?);
        Ok(())
    }

    fn write_change(&mut self, change: &wire::Change) -> io::Result<()> {
        if self.log.is_none() {
            self.begin_log()?;
        }
        let Some(log) = &mut self.log else { return Err(io::ErrorKind::NotFound.into()) };
        log.bytes += record::append(&mut log.file, change)?;
        log.changes += 1;
        Ok(())
    }
}

/// The user that this process runs as, told by a file that it makes; and so whether it can make one.
fn own_uid(directory: &Path) -> io::Result<u32> {
    let path = directory.join(".probe");
    let uid = record::create(&path)?.metadata()?.uid();
    std::fs::remove_file(path)?;
    Ok(uid)
}
