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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::fixtures::{change, key_service, open_service, peppers, snapshot, version};
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    const NOW: UnixTime = UnixTime::from_secs(1_000);

    /// A directory that a gate left at revision 8: a snapshot of 7 and one change.
    fn left_at_8() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = Disk::open(&directory.path().join("gate")).unwrap();
        disk.keep_snapshot(&snapshot(version(1, 7), &[key_service("one", 1)]), NOW).unwrap();
        let now = [key_service("one", 2)];
        disk.keep_change(&change(1, 7, 8, now.to_vec(), &now), &snapshot(version(1, 8), &now), NOW).unwrap();
        directory
    }

    fn file(directory: &tempfile::TempDir, name: &str) -> PathBuf {
        directory.path().join("gate").join(name)
    }

    fn edit(directory: &tempfile::TempDir, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let path = file(directory, name);
        let mut bytes = std::fs::read(&path).unwrap();
        edit(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }

    fn read(directory: &tempfile::TempDir) -> Found {
        Disk::open(&directory.path().join("gate")).unwrap().read(&peppers())
    }

    fn version_read(directory: &tempfile::TempDir) -> Version {
        read(directory).state.unwrap().unwrap().version()
    }

    /// What is refused is refused, and the mark is known all the same.
    fn refusal(directory: &tempfile::TempDir) -> StateError {
        let found = read(directory);
        assert_eq!(found.high_water.unwrap().version(), version(1, 8));
        found.state.unwrap_err()
    }

    #[test]
    fn read_of_an_empty_directory_finds_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let found = read(&directory);
        assert!(found.high_water.is_none() && found.state.unwrap().is_none());
        let mode = std::fs::metadata(directory.path().join("gate")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn t109_read_finds_snapshot_and_changes() {
        let directory = left_at_8();
        let found = read(&directory);
        let state = found.state.unwrap().unwrap();
        assert_eq!(state.version(), version(1, 8));
        assert_eq!(state.state_hash(), snapshot(version(1, 8), &[key_service("one", 2)]).state_hash());
        assert_eq!(found.high_water.unwrap(), HighWater::new(state.workspace(), version(1, 8), NOW));
    }

    #[test]
    fn changes_are_appended_after_a_restart() {
        let directory = left_at_8();
        let mut disk = Disk::open(&directory.path().join("gate")).unwrap();
        disk.read(&peppers());
        let now = [key_service("one", 3)];
        disk.keep_change(&change(1, 8, 9, now.to_vec(), &now), &snapshot(version(1, 9), &now), NOW).unwrap();
        assert_eq!(version_read(&directory), version(1, 9));
    }

    #[test]
    fn no_file_holds_a_key() {
        let directory = left_at_8();
        for name in ["snapshot", "changes", "high-water"] {
            let path = file(&directory, name);
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
            let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
            assert!(!text.contains("key-of-one"));
        }
    }

    #[test]
    fn t110_wrong_checksum_is_refused() {
        for name in ["snapshot", "changes"] {
            let directory = left_at_8();
            edit(&directory, name, |bytes| *bytes.last_mut().unwrap() ^= 1);
            assert!(matches!(refusal(&directory), StateError::Checksum { .. }), "{name}");
        }
    }

    #[test]
    fn t110_truncated_snapshot_is_refused() {
        let length = std::fs::metadata(file(&left_at_8(), "snapshot")).unwrap().len();
        for keep in 0..usize::try_from(length).unwrap() {
            let directory = left_at_8();
            edit(&directory, "snapshot", |bytes| bytes.truncate(keep));
            assert!(matches!(refusal(&directory), StateError::Truncated { .. }), "{keep}");
        }
    }

    #[test]
    fn t110_log_without_what_was_acknowledged_is_refused() {
        let directory = left_at_8();
        edit(&directory, "changes", |bytes| bytes.truncate(bytes.len() - 1));
        let refused = refusal(&directory);
        assert_eq!(refused.to_string(), "the state is of version 1.7, although version 1.8 was acknowledged");
    }

    #[test]
    fn t110_missing_snapshot_is_refused() {
        let directory = left_at_8();
        std::fs::remove_file(file(&directory, "snapshot")).unwrap();
        assert!(matches!(refusal(&directory), StateError::Missing(_)));
    }

    #[test]
    fn t110_state_older_than_the_mark_is_refused() {
        let (old, directory) = (left_at_8(), left_at_8());
        let mut disk = Disk::open(&directory.path().join("gate")).unwrap();
        disk.keep_snapshot(&snapshot(version(2, 1), &[]), NOW).unwrap();
        for name in ["snapshot", "changes"] {
            std::fs::copy(file(&old, name), file(&directory, name)).unwrap();
        }
        let found = read(&directory);
        assert_eq!(found.high_water.unwrap().version(), version(2, 1));
        assert!(matches!(found.state.unwrap_err(), StateError::Older { .. }));
    }

    #[test]
    fn t110_wrong_format_is_refused() {
        let directory = left_at_8();
        edit(&directory, "snapshot", |bytes| bytes[7] = 2);
        assert_eq!(
            refusal(&directory).to_string(),
            "`snapshot` has format 2, and this version reads format 1"
        );
        edit(&directory, "snapshot", |bytes| bytes[0] = b'x');
        assert!(matches!(refusal(&directory), StateError::Magic { .. }));
    }

    #[test]
    fn t110_file_that_others_can_write_is_refused() {
        for mode in [0o620, 0o602] {
            let directory = left_at_8();
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(file(&directory, "snapshot"), permissions).unwrap();
            assert!(matches!(refusal(&directory), StateError::Writable { .. }), "{mode:o}");
        }
    }

    #[test]
    fn t110_file_of_another_user_is_refused() {
        let directory = left_at_8();
        let mut disk = Disk::open(&directory.path().join("gate")).unwrap();
        disk.owner += 1;
        let found = disk.read(&peppers());
        assert!(matches!(found.state.unwrap_err(), StateError::ForeignOwner { file: "high-water", .. }));
    }

    #[test]
    fn t110_directory_that_others_can_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(Disk::open(directory.path()), Err(DirectoryError::Writable { .. })));
    }

    #[test]
    fn t110_state_that_does_not_hash_as_stated_is_refused() {
        let directory = left_at_8();
        let parts = |hash: u8| {
            let mut parts: Vec<_> = state::parts(&snapshot(version(1, 8), &[open_service("one")])).collect();
            parts[0].state_hash[0] ^= hash;
            parts.into_iter()
        };
        let gate = directory.path().join("gate");
        record::replace(&gate, Kind::Snapshot, parts(0)).unwrap();
        assert_eq!(version_read(&directory), version(1, 8));
        record::replace(&gate, Kind::Snapshot, parts(1)).unwrap();
        assert!(matches!(refusal(&directory), StateError::Refused { file: "snapshot", .. }));
    }

    #[test]
    fn t110_foreign_workspace_is_refused() {
        let directory = left_at_8();
        let mut part = state::parts(&snapshot(version(1, 9), &[])).next().unwrap();
        part.workspace = "another".to_owned();
        let gate = directory.path().join("gate");
        record::replace(&gate, Kind::Snapshot, std::iter::once(part)).unwrap();
        assert!(matches!(refusal(&directory), StateError::ForeignWorkspace { .. }));
    }

    #[test]
    fn t110_bad_mark_is_refused_with_the_state() {
        let directory = left_at_8();
        edit(&directory, "high-water", |bytes| *bytes.last_mut().unwrap() ^= 1);
        let found = read(&directory);
        assert!(found.high_water.is_none());
        assert!(matches!(found.state.unwrap_err(), StateError::Checksum { file: "high-water" }));
    }

    #[test]
    fn t110_trailing_bytes_are_refused() {
        let directory = left_at_8();
        let part = state::parts(&snapshot(version(1, 7), &[])).next().unwrap();
        let gate = directory.path().join("gate");
        record::replace(&gate, Kind::Snapshot, [part.clone(), part].into_iter()).unwrap();
        assert!(matches!(refusal(&directory), StateError::Trailing { .. }));
    }

    #[test]
    fn t110_impossible_length_is_refused_unread() {
        let directory = left_at_8();
        edit(&directory, "snapshot", |bytes| bytes[8..12].copy_from_slice(&u32::MAX.to_be_bytes()));
        assert!(matches!(refusal(&directory), StateError::TooLong { .. }));
    }

    #[test]
    fn read_cuts_a_change_that_was_never_acknowledged() {
        let whole = std::fs::read(file(&left_at_8(), "changes")).unwrap();
        for torn in 1..whole.len() - 8 {
            let directory = left_at_8();
            let log = file(&directory, "changes");
            let mut log = OpenOptions::new().append(true).open(log).unwrap();
            log.write_all(&whole[8..8 + torn]).unwrap();
            assert_eq!(version_read(&directory), version(1, 8), "{torn}");
            assert_eq!(std::fs::read(file(&directory, "changes")).unwrap(), whole);
        }
    }

    #[test]
    fn end_between_log_and_mark_leaves_the_change() {
        let directory = left_at_8();
        let mut disk = Disk::open(&directory.path().join("gate")).unwrap();
        disk.read(&peppers());
        let now = [key_service("one", 3)];
        disk.write_change(&change(1, 8, 9, now.to_vec(), &now)).unwrap();
        assert_eq!(version_read(&directory), version(1, 9));
    }

    #[test]
    fn end_between_snapshot_and_log_skips_what_the_snapshot_has() {
        let directory = left_at_8();
        let mut disk = Disk::open(&directory.path().join("gate")).unwrap();
        for version in [version(1, 8), version(1, 20), version(2, 1)] {
            disk.write_snapshot(&snapshot(version, &[])).unwrap();
            assert_eq!(version_read(&directory), version);
        }
    }

    #[test]
    fn end_before_the_first_mark_leaves_the_snapshot() {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = Disk::open(&directory.path().join("gate")).unwrap();
        disk.write_snapshot(&snapshot(version(1, 1), &[])).unwrap();
        assert_eq!(version_read(&directory), version(1, 1));
    }

    #[test]
    fn log_is_long_after_many_changes() {
        let directory = left_at_8();
        let mut disk = Disk::open(&directory.path().join("gate")).unwrap();
        disk.read(&peppers());
        assert!(!disk.is_log_long());
        disk.log.as_mut().unwrap().changes = MAX_CHANGES + 1;
        assert!(disk.is_log_long());
        disk.keep_snapshot(&snapshot(version(1, 9), &[]), NOW).unwrap();
        assert!(!disk.is_log_long());
    }
}
