//! The last good policy on disk, so that a gate can start while the workspace is away.
//!
//! Three files: the `snapshot`, replaced as a whole; the `changes` since, a log; and `high-water`, a log as well, of marks:
//! the last one is the last version that was acknowledged, below which this gate never goes, whatever becomes of the
//! other two.
//!
//! A change is in the log before the mark moves, and the mark has moved before the change is acknowledged. So a state
//! that is younger than the mark is one of which the workspace heard nothing, and one that is older is not ours. Each is
//! one record appended and one wait for the disk: an acknowledgement costs two.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use scoregate_authz::{Peppers, Snapshot, Version};

use super::keeper::Trust;
use super::record::{self, Kind, Records};
use super::state::{self, Assembly, Proven, RefusedPolicy};
use crate::proto::scoregate::policy::v1 as wire;
use crate::statement::Unproven;

/// The log is folded into a new snapshot when it has more changes than this, or is longer than the snapshot and this.
const MAX_CHANGES: u64 = 1_000;
const MIN_LONG_LOG: u64 = 256 * 1024;
/// Marks in a file, before it is begun anew.
const MAX_MARKS: u64 = 1_000;

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
        "`{path}` can be written by others (mode {mode:o}): name a directory in it, which is then made private (in \
         Kubernetes, `fsGroupChangePolicy: OnRootMismatch` keeps it so)"
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
    #[error("the state of version {version} is not proven")]
    Unproven {
        version: Version,
        #[source]
        source: Unproven,
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
    /// That the workspace last made of it.
    #[prost(message, tag = "5")]
    statement: Option<wire::Statement>,
}

impl HighWater {
    pub(crate) fn new(proven: &Proven) -> Self {
        let Version { epoch, revision } = proven.snapshot.version();
        Self {
            workspace: proven.snapshot.workspace().to_owned(),
            epoch,
            revision,
            statement: Some(proven.statement.clone()),
        }
    }

    pub(crate) fn version(&self) -> Version {
        Version { epoch: self.epoch, revision: self.revision }
    }

    /// Whether the same policy key signed both.
    pub(crate) fn is_signed_like(&self, proven: &Proven) -> bool {
        self.statement.as_ref().is_some_and(|statement| statement.key_id == proven.statement.key_id)
    }
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Nothing below this is taken from anybody.
    pub(crate) high_water: Option<HighWater>,
    /// The state; `None` where there never was one.
    pub(crate) state: Result<Option<Proven>, StateError>,
}

/// The directory. One process uses it at a time.
#[derive(Debug)]
pub(crate) struct Disk {
    directory: PathBuf,
    /// The user that this process runs as.
    owner: u32,
    /// The log, open at its end; `None` where it has to be begun anew.
    log: Option<Log>,
    /// The marks, open at their end; `None` where they have to be begun anew.
    marks: Option<Log>,
    snapshot_bytes: u64,
}

#[derive(Debug)]
struct Log {
    file: File,
    bytes: u64,
    records: u64,
}

impl Log {
    /// Begins a log with these records in place of the one that was there.
    fn begin<M: prost::Message>(
        directory: &Path,
        kind: Kind,
        records: impl ExactSizeIterator<Item = M>,
    ) -> io::Result<Self> {
        let count = records.len() as u64;
        let bytes = record::replace(directory, kind, records)?;
        let file = OpenOptions::new().append(true).open(directory.join(kind.file_name()))?;
        Ok(Self { file, bytes, records: count })
    }

    /// Goes on with a log of which only so much is good.
    fn reopen(directory: &Path, kind: Kind, bytes: u64, records: u64) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).open(directory.join(kind.file_name()))?;
        file.set_len(bytes)?;
        file.sync_all()?;
        Ok(Self { file, bytes, records })
    }

    /// Durable when it returns. After an error the log is not to be used any more: who knows how it ends?
    fn append(&mut self, record: &impl prost::Message) -> io::Result<()> {
        self.bytes += record::append(&mut self.file, record)?;
        self.records += 1;
        Ok(())
    }
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
        Ok(Self { directory: path.to_owned(), owner, log: None, marks: None, snapshot_bytes: 0 })
    }

    /// Reads what is there.
    pub(crate) fn read(&mut self, trust: &Trust) -> Found {
        match self.read_high_water() {
            Ok(high_water) => {
                let state = self.read_state(trust, high_water.as_ref());
                Found { high_water, state }
            }
            // What is left is not used: it may be older than what was acknowledged. But nothing older is taken, either.
            Err(error) => {
                let left = self.read_state(trust, None).ok().flatten();
                Found { high_water: left.as_ref().map(HighWater::new), state: Err(error) }
            }
        }
    }

    /// The last mark. A record after it that is not all there is of a version that was never acknowledged.
    fn read_high_water(&self) -> Result<Option<HighWater>, StateError> {
        let file = Kind::HighWater.file_name();
        let Some(mut records) = Records::open(&self.directory, Kind::HighWater, self.owner)? else {
            return Ok(None);
        };
        let mut last = records.next()?.ok_or(StateError::Truncated { file })?;
        loop {
            match records.next::<HighWater>() {
                Ok(Some(mark)) => last = mark,
                Ok(None) => return Ok(Some(last)),
                Err(StateError::Truncated { .. }) => {
                    tracing::warn!("the last record of `{file}` is not complete and is left out");
                    return Ok(Some(last));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn read_state(
        &mut self,
        trust: &Trust,
        high_water: Option<&HighWater>,
    ) -> Result<Option<Proven>, StateError> {
        let Some(state) = self.read_snapshot(&trust.peppers)? else {
            return high_water.map_or(Ok(None), |mark| Err(StateError::Missing(mark.version())));
        };
        let (snapshot, statement) = self.read_log(state, trust)?;
        let (version, keys) = (snapshot.version(), &trust.policy_keys);
        if let Some(mark) = high_water {
            check_mark(&snapshot, mark)?;
        }
        // What confirmed it last, if that is about the same.
        let confirmed = high_water.filter(|mark| mark.version() == version);
        let confirmed =
            confirmed.and_then(|mark| Proven::new(snapshot.clone(), mark.statement.clone(), keys).ok());
        confirmed
            .map_or_else(|| Proven::new(snapshot, statement, keys), Ok)
            .map(Some)
            .map_err(|source| StateError::Unproven { version, source })
    }

    fn read_snapshot(&mut self, peppers: &Peppers) -> Result<Option<Unchecked>, StateError> {
        let file = Kind::Snapshot.file_name();
        let Some(mut records) = Records::open(&self.directory, Kind::Snapshot, self.owner)? else {
            return Ok(None);
        };
        let assembly = assemble(&mut records, peppers)?;
        self.snapshot_bytes = records.position();
        let built = assembly.build();
        built.map(Some).map_err(|source| StateError::Refused { file, source })
    }

    /// Follows the log, and goes on with it.
    fn read_log(&mut self, state: Unchecked, trust: &Trust) -> Result<Unchecked, StateError> {
        let Some(followed) = self.follow_log(state.clone(), &trust.peppers)? else { return Ok(state) };
        let log = Log::reopen(&self.directory, Kind::Changes, followed.bytes, followed.changes);
        self.log = Some(log.map_err(|source| StateError::Io { file: Kind::Changes.file_name(), source })?);
        Ok(followed.state)
    }

    /// A record at the end of the log that is not all there was never acknowledged, and is left out; a change that the
    /// snapshot has already was left by a process that ended between writing the one and emptying the other.
    fn follow_log(
        &self,
        (mut snapshot, mut statement): Unchecked,
        peppers: &Peppers,
    ) -> Result<Option<Followed>, StateError> {
        let file = Kind::Changes.file_name();
        let Some(mut records) = Records::open(&self.directory, Kind::Changes, self.owner)? else {
            return Ok(None);
        };
        let mut changes = 0;
        loop {
            let change: wire::Change = match records.next() {
                Ok(Some(change)) => change,
                Ok(None) => break,
                Err(StateError::Truncated { .. }) => {
                    tracing::warn!("the last record of `{file}` is not complete and is left out");
                    break;
                }
                Err(error) => return Err(error),
            };
            changes += 1;
            if state::leads_to(&change) > snapshot.version() {
                statement.clone_from(&change.statement);
                snapshot = state::follow(&snapshot, change, peppers)
                    .map_err(|source| StateError::Refused { file, source })?;
            }
        }
        Ok(Some(Followed { state: (snapshot, statement), bytes: records.position(), changes }))
    }

    /// Keeps a complete snapshot. Durable when it returns.
    pub(crate) fn keep_snapshot(&mut self, proven: &Proven) -> io::Result<()> {
        self.write_snapshot(proven)?;
        self.log = None;
        self.log = Some(self.begin_log()?);
        self.keep_high_water(proven)
    }

    /// Keeps a change that led to this state. Durable when it returns.
    pub(crate) fn keep_change(&mut self, change: &wire::Change, proven: &Proven) -> io::Result<()> {
        self.write_change(change)?;
        self.keep_high_water(proven)
    }

    /// Moves the mark. Durable when it returns.
    pub(crate) fn keep_high_water(&mut self, proven: &Proven) -> io::Result<()> {
        let mark = HighWater::new(proven);
        let marks = match self.marks.take().filter(|marks| marks.records < MAX_MARKS) {
            Some(mut marks) => marks.append(&mark).map(|()| marks),
            None => Log::begin(&self.directory, Kind::HighWater, std::iter::once(mark)),
        };
        self.marks = Some(marks?);
        Ok(())
    }

    /// Whether the log has grown so long that a snapshot should take its place.
    pub(crate) fn is_log_long(&self) -> bool {
        self.log
            .as_ref()
            .is_some_and(|log| log.records > MAX_CHANGES || log.bytes > self.snapshot_bytes.max(MIN_LONG_LOG))
    }

    fn write_snapshot(&mut self, proven: &Proven) -> io::Result<()> {
        let parts = state::parts(&proven.snapshot, &proven.statement);
        self.snapshot_bytes = record::replace(&self.directory, Kind::Snapshot, parts)?;
        Ok(())
    }

    fn begin_log(&mut self) -> io::Result<Log> {
        Log::begin(&self.directory, Kind::Changes, std::iter::empty::<wire::Change>())
    }

    fn write_change(&mut self, change: &wire::Change) -> io::Result<()> {
        let mut log = match self.log.take() {
            Some(log) => log,
            None => self.begin_log()?,
        };
        log.append(change)?;
        self.log = Some(log);
        Ok(())
    }
}

/// A snapshot with the statement that came with it, which nobody has looked at.
pub(crate) type Unchecked = (Snapshot, Option<wire::Statement>);

/// Where a log led.
struct Followed {
    state: Unchecked,
    /// To the end of its last complete record.
    bytes: u64,
    changes: u64,
}

/// The mark outlives what is beside it.
fn check_mark(snapshot: &Snapshot, mark: &HighWater) -> Result<(), StateError> {
    if snapshot.workspace() != mark.workspace {
        let found = snapshot.workspace().to_owned();
        return Err(StateError::ForeignWorkspace { found, ours: mark.workspace.clone() });
    }
    if snapshot.version() < mark.version() {
        return Err(StateError::Older { found: snapshot.version(), acknowledged: mark.version() });
    }
    Ok(())
}

/// The state in a gate's directory, where nothing is changed: the gate may be running. `None` where there is none. Whether
/// it is proven is for the caller to see.
pub(crate) fn look(directory: &Path, peppers: &Peppers) -> Result<Option<Unchecked>, StateError> {
    let file = Kind::Snapshot.file_name();
    let owner = std::fs::metadata(directory).map_err(|source| StateError::Io { file, source })?.uid();
    let mut disk = Disk { directory: directory.to_owned(), owner, log: None, marks: None, snapshot_bytes: 0 };
    let mark = disk.read_high_water()?;
    let Some(state) = disk.read_snapshot(peppers)? else {
        return mark.map_or(Ok(None), |mark| Err(StateError::Missing(mark.version())));
    };
    let (snapshot, statement) = match disk.follow_log(state.clone(), peppers)? {
        Some(followed) => followed.state,
        None => state,
    };
    if let Some(mark) = &mark {
        check_mark(&snapshot, mark)?;
    }
    Ok(Some((snapshot, statement)))
}

/// The complete snapshot that these records are.
fn assemble(records: &mut Records, peppers: &Peppers) -> Result<Assembly, StateError> {
    let file = Kind::Snapshot.file_name();
    let refused = |source| StateError::Refused { file, source };
    let first = records.next()?.ok_or(StateError::Truncated { file })?;
    let mut assembly = Assembly::begin(first, peppers).map_err(refused)?;
    while !assembly.is_complete() {
        let next = records.next()?.ok_or(StateError::Truncated { file })?;
        assembly = assembly.with(next).map_err(refused)?;
    }
    match records.next::<wire::SnapshotPart>()? {
        Some(_) => Err(StateError::Trailing { file }),
        None => Ok(assembly),
    }
}

/// Reads a copy of a `snapshot` file, wherever it comes from. Nothing of it is believed yet.
pub(crate) fn read_copy(bytes: Vec<u8>, peppers: &Peppers) -> Result<Assembly, StateError> {
    assemble(&mut Records::of_copy(Kind::Snapshot, bytes)?, peppers)
}

/// What a copy says of the whole, as soon as so much of it is read; `None` if more is needed.
pub(crate) fn read_head(bytes: &[u8]) -> Result<Option<wire::SnapshotPart>, StateError> {
    Records::first_of_copy(Kind::Snapshot, bytes)
}

/// A copy of a state as a `snapshot` file, in pieces.
pub(crate) fn copy(proven: &Proven) -> impl Iterator<Item = io::Result<Vec<u8>>> {
    record::copy(Kind::Snapshot, state::parts(&proven.snapshot, &proven.statement))
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
    use crate::gate::fixtures::{ISSUED_AT, change, key_service, open_service, proven, trust, version};
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    /// A directory that a gate left at revision 8: a snapshot of 7 and one change.
    fn left_at_8() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = Disk::open(&directory.path().join("gate")).unwrap();
        disk.keep_snapshot(&proven(version(1, 7), &[key_service("one", 1)])).unwrap();
        let now = [key_service("one", 2)];
        disk.keep_change(&change(1, 7, 8, now.to_vec(), &now), &proven(version(1, 8), &now)).unwrap();
        directory
    }

    fn parts_of(at: Version, entries: &[wire::Entry]) -> Vec<wire::SnapshotPart> {
        let proven = proven(at, entries);
        state::parts(&proven.snapshot, &proven.statement).collect()
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
        Disk::open(&directory.path().join("gate")).unwrap().read(&trust())
    }

    fn version_read(directory: &tempfile::TempDir) -> Version {
        read(directory).state.unwrap().unwrap().snapshot.version()
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
        assert_eq!(state.snapshot.version(), version(1, 8));
        let expected = proven(version(1, 8), &[key_service("one", 2)]);
        assert_eq!(state.snapshot.state_hash(), expected.snapshot.state_hash());
        assert_eq!((state.issued_at, &state.statement), (ISSUED_AT, &expected.statement));
        assert_eq!(found.high_water.unwrap(), HighWater::new(&expected));
    }

    #[test]
    fn changes_are_appended_after_a_restart() {
        let directory = left_at_8();
        let mut disk = Disk::open(&directory.path().join("gate")).unwrap();
        disk.read(&trust());
        let now = [key_service("one", 3)];
        disk.keep_change(&change(1, 8, 9, now.to_vec(), &now), &proven(version(1, 9), &now)).unwrap();
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
        disk.keep_snapshot(&proven(version(2, 1), &[])).unwrap();
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
        let found = disk.read(&trust());
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
            let mut parts = parts_of(version(1, 8), &[open_service("one")]);
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
        let mut part = parts_of(version(1, 9), &[]).remove(0);
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
        assert!(matches!(found.state.unwrap_err(), StateError::Checksum { file: "high-water" }));
        assert_eq!(
            found.high_water.unwrap().version(),
            version(1, 8),
            "what is left still keeps it from going back"
        );
        std::fs::remove_file(file(&directory, "snapshot")).unwrap();
        assert!(read(&directory).high_water.is_none());
    }

    /// As some file systems leave a file that grew when the power went.
    #[test]
    fn t110_zeros_at_the_end_of_a_log_are_left_out() {
        for name in ["changes", "high-water"] {
            for zeros in [1, 36, 4096] {
                let directory = left_at_8();
                edit(&directory, name, |bytes| bytes.resize(bytes.len() + zeros, 0));
                let found = read(&directory);
                assert_eq!(found.high_water.unwrap().version(), version(1, 8), "{name} {zeros}");
                assert_eq!(found.state.unwrap().unwrap().snapshot.version(), version(1, 8), "{name} {zeros}");
            }
        }
    }

    #[test]
    fn the_head_of_a_copy_is_read_as_soon_as_it_is_there() {
        let state = proven(version(1, 7), &[key_service("one", 1)]);
        let whole = copy(&state).collect::<Result<Vec<_>, _>>().unwrap().concat();
        for keep in 0..whole.len() {
            assert!(read_head(&whole[..keep]).unwrap().is_none(), "{keep}");
        }
        let more = [whole.as_slice(), &[7; 100]].concat();
        assert_eq!(state::version_of(&read_head(&more).unwrap().unwrap()), version(1, 7));
        assert!(matches!(read_head(&[b'x'; 100]), Err(StateError::Magic { .. })));
        let endless = [&whole[..8], &[0xff; 100]].concat();
        assert!(matches!(read_head(&endless), Err(StateError::TooLong { .. })));
    }

    /// The mark was on its way when the process ended: what it would have been was not acknowledged.
    #[test]
    fn t110_mark_that_was_never_complete_is_left_out() {
        let whole = std::fs::read(file(&left_at_8(), "high-water")).unwrap();
        let directory = left_at_8();
        let first = HighWater::new(&proven(version(1, 7), &[key_service("one", 1)]));
        record::replace(&directory.path().join("gate"), Kind::HighWater, std::iter::once(first)).unwrap();
        let first = std::fs::metadata(file(&directory, "high-water")).unwrap().len();
        for keep in first..whole.len() as u64 {
            std::fs::write(file(&directory, "high-water"), &whole[..usize::try_from(keep).unwrap()]).unwrap();
            let found = read(&directory);
            assert_eq!(found.high_water.unwrap().version(), version(1, 7), "{keep}");
            assert_eq!(found.state.unwrap().unwrap().snapshot.version(), version(1, 8), "{keep}");
        }
        for keep in 0..first {
            std::fs::write(file(&directory, "high-water"), &whole[..usize::try_from(keep).unwrap()]).unwrap();
            assert!(matches!(read(&directory).state.unwrap_err(), StateError::Truncated { .. }), "{keep}");
        }
    }

    #[test]
    fn marks_are_begun_anew_before_they_are_many() {
        let directory = left_at_8();
        let mut disk = Disk::open(&directory.path().join("gate")).unwrap();
        disk.read(&trust());
        let at_8 = proven(version(1, 8), &[key_service("one", 2)]);
        let length = || std::fs::metadata(file(&directory, "high-water")).unwrap().len();
        disk.keep_high_water(&at_8).unwrap();
        let one = length();
        disk.keep_high_water(&at_8).unwrap();
        assert!(length() > one);
        disk.marks.as_mut().unwrap().records = MAX_MARKS;
        disk.keep_high_water(&at_8).unwrap();
        assert_eq!(length(), one);
        assert_eq!(version_read(&directory), version(1, 8));
    }

    #[test]
    fn t110_trailing_bytes_are_refused() {
        let directory = left_at_8();
        let part = parts_of(version(1, 7), &[]).remove(0);
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
        disk.read(&trust());
        let now = [key_service("one", 3)];
        disk.write_change(&change(1, 8, 9, now.to_vec(), &now)).unwrap();
        assert_eq!(version_read(&directory), version(1, 9));
    }

    #[test]
    fn end_between_snapshot_and_log_skips_what_the_snapshot_has() {
        let directory = left_at_8();
        let mut disk = Disk::open(&directory.path().join("gate")).unwrap();
        for version in [version(1, 8), version(1, 20), version(2, 1)] {
            disk.write_snapshot(&proven(version, &[])).unwrap();
            assert_eq!(version_read(&directory), version);
        }
    }

    #[test]
    fn end_before_the_first_mark_leaves_the_snapshot() {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = Disk::open(&directory.path().join("gate")).unwrap();
        disk.write_snapshot(&proven(version(1, 1), &[])).unwrap();
        assert_eq!(version_read(&directory), version(1, 1));
    }

    #[test]
    fn log_is_long_after_many_changes() {
        let directory = left_at_8();
        let mut disk = Disk::open(&directory.path().join("gate")).unwrap();
        disk.read(&trust());
        assert!(!disk.is_log_long());
        disk.log.as_mut().unwrap().records = MAX_CHANGES + 1;
        assert!(disk.is_log_long());
        disk.keep_snapshot(&proven(version(1, 9), &[])).unwrap();
        assert!(!disk.is_log_long());
    }
}
