//! How files are built: a header, then records, each with its length and its checksum.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use aws_lc_rs::digest;
use prost::Message;

use super::disk::StateError;

/// The format that is written, and the only one that is read.
const FORMAT: u16 = 1;
const HEADER_LENGTH: usize = 8;
/// Length of the record, as `u32`, and SHA-256 of it.
const PREFIX_LENGTH: usize = 4 + digest::SHA256_OUTPUT_LEN;
/// Longest record, in bytes.
const MAX_RECORD: usize = 64 * 1024 * 1024;
/// Of a record.
type Checksum = [u8; digest::SHA256_OUTPUT_LEN];
/// Bits of a mode that let others than the owner write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// One of the three files of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Snapshot,
    Changes,
    HighWater,
}

impl Kind {
    pub(super) fn file_name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Changes => "changes",
            Self::HighWater => "high-water",
        }
    }

    fn magic(self) -> [u8; 6] {
        match self {
            Self::Snapshot => *b"sgsnap",
            Self::Changes => *b"sgchng",
            Self::HighWater => *b"sgmark",
        }
    }

    fn header(self) -> [u8; HEADER_LENGTH] {
        let mut header = [0; HEADER_LENGTH];
        header[..6].copy_from_slice(&self.magic());
        header[6..].copy_from_slice(&FORMAT.to_be_bytes());
        header
    }
}

/// The records of a file, read one after the other.
pub(super) struct Records {
    kind: Kind,
    reader: Box<dyn Read + Send>,
    length: u64,
    position: u64,
}

impl Records {
    /// Opens a file that only its owner, `owner`, can have written; `None` if there is none.
    pub(super) fn open(directory: &Path, kind: Kind, owner: u32) -> Result<Option<Self>, StateError> {
        let io = |source| StateError::Io { file: kind.file_name(), source };
        let file = match File::open(directory.join(kind.file_name())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(io)?,
        };
        let metadata = file.metadata().map_err(io)?;
        if metadata.uid() != owner {
            return Err(StateError::ForeignOwner { file: kind.file_name(), owner: metadata.uid() });
        }
        if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(StateError::Writable { file: kind.file_name(), mode: metadata.mode() & 0o7777 });
        }
        Self::begin(kind, Box::new(BufReader::new(file)), metadata.len()).map(Some)
    }

    /// Those of a copy, whoever it comes from.
    pub(super) fn of_copy(kind: Kind, bytes: Vec<u8>) -> Result<Self, StateError> {
        let length = bytes.len() as u64;
        Self::begin(kind, Box::new(io::Cursor::new(bytes)), length)
    }

    /// The first record of a copy that is still being read; `None` if more of it is needed.
    pub(super) fn first_of_copy<M: Message + Default>(
        kind: Kind,
        bytes: &[u8],
    ) -> Result<Option<M>, StateError> {
        let start = HEADER_LENGTH + PREFIX_LENGTH;
        let Some(prefix) = bytes.get(..start) else { return Ok(None) };
        let (length, _) = Self::of_copy(kind, prefix.to_vec())?.take_prefix()?;
        let Some(first) = bytes.get(..start + length) else { return Ok(None) };
        Self::of_copy(kind, first.to_vec())?.next()
    }

    fn begin(kind: Kind, reader: Box<dyn Read + Send>, length: u64) -> Result<Self, StateError> {
        let mut records = Self { kind, reader, length, position: 0 };
        let header: [u8; HEADER_LENGTH] = records.take_array()?;
        let (magic, format) = header.split_at(6);
        if magic != kind.magic() {
            return Err(StateError::Magic { file: kind.file_name() });
        }
        if format != FORMAT.to_be_bytes() {
            let found = u16::from_be_bytes([format[0], format[1]]);
            return Err(StateError::Format { file: kind.file_name(), found, known: FORMAT });
        }
        Ok(records)
    }

    /// The next record; `None` at the end of the file.
    pub(super) fn next<M: Message + Default>(&mut self) -> Result<Option<M>, StateError> {
        if self.position == self.length {
            return Ok(None);
        }
        let before = self.position;
        let outcome = self.take_record();
        if outcome.is_err() {
            self.position = before;
        }
        let record = outcome?;
        M::decode(record.as_slice())
            .map(Some)
            .map_err(|source| StateError::Undecodable { file: self.kind.file_name(), source })
    }

    /// Where the last record ended that could be read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    fn take_record(&mut self) -> Result<Vec<u8>, StateError> {
        let file = self.kind.file_name();
        let (length, checksum) = self.take_prefix()?;
        if length as u64 > self.length - self.position {
            return Err(StateError::Truncated { file });
        }
        let mut record = vec![0; length];
        self.take(&mut record)?;
        if digest::digest(&digest::SHA256, &record).as_ref() != checksum {
            return Err(StateError::Checksum { file });
        }
        Ok(record)
    }

    /// The length of the next record, and its checksum.
    fn take_prefix(&mut self) -> Result<(usize, Checksum), StateError> {
        let file = self.kind.file_name();
        let length = u32::from_be_bytes(self.take_array()?) as usize;
        let checksum: Checksum = self.take_array()?;
        // A file system may have made the file longer before the power went, and have written nothing there. No record
        // looks like this.
        if length == 0 && checksum == Checksum::default() {
            return Err(StateError::Truncated { file });
        }
        if length > MAX_RECORD { Err(StateError::TooLong { file }) } else { Ok((length, checksum)) }
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let mut bytes = [0; N];
        self.take(&mut bytes)?;
        Ok(bytes)
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), StateError> {
        let file = self.kind.file_name();
        if bytes.len() as u64 > self.length - self.position {
            return Err(StateError::Truncated { file });
        }
        self.reader.read_exact(bytes).map_err(|source| StateError::Io { file, source })?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

/// A copy of a file with these records, in pieces.
pub(super) fn copy<M: Message>(
    kind: Kind,
    records: impl Iterator<Item = M>,
) -> impl Iterator<Item = io::Result<Vec<u8>>> {
    std::iter::once(Ok(kind.header().to_vec())).chain(records.map(|record| framed(&record)))
}

/// Replaces a file with one of these records, or leaves it as it was. Durable when it returns; gives the length.
pub(super) fn replace<M: Message>(
    directory: &Path,
    kind: Kind,
    records: impl Iterator<Item = M>,
) -> io::Result<u64> {
    let temporary = directory.join(format!(".{}.new", kind.file_name()));
    let file = create(&temporary)?;
    let mut length = 0;
    let mut writer = BufWriter::new(&file);
    for piece in copy(kind, records) {
        let piece = piece?;
        writer.write_all(&piece)?;
        length += piece.len() as u64;
    }
    writer.flush()?;
    drop(writer);
    file.sync_all()?;
    std::fs::rename(&temporary, directory.join(kind.file_name()))?;
    File::open(directory)?.sync_all()?;
    Ok(length)
}

/// Appends a record. Durable when it returns; gives its length.
pub(super) fn append<M: Message>(file: &mut File, record: &M) -> io::Result<u64> {
    let record = framed(record)?;
    file.write_all(&record)?;
    file.sync_data()?;
    Ok(record.len() as u64)
}

/// Makes a new file, private.
pub(super) fn create(path: &Path) -> io::Result<File> {
    // One that was left over may belong to anybody.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => OpenOptions::new().write(true).create_new(true).mode(0o600).open(path),
    }
}

fn framed<M: Message>(record: &M) -> io::Result<Vec<u8>> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "a record is too long");
    let encoded = record.encode_to_vec();
    if encoded.len() > MAX_RECORD {
        return Err(too_long());
    }
    let length = u32::try_from(encoded.len()).map_err(|_| too_long())?;
    let mut framed = Vec::with_capacity(PREFIX_LENGTH + encoded.len());
    framed.extend(length.to_be_bytes());
    framed.extend(digest::digest(&digest::SHA256, &encoded).as_ref());
    framed.extend(encoded);
    Ok(framed)
}
