//! From a file's bytes to documents of its shape.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use serde_saphyr::{Location, MergeKeyPolicy, Options, Spanned};

use super::shape::{Document, VERSION};
use super::{FileError, Place};

/// Most bytes of a file: 100,000 services are some 40 MB.
const MAX_BYTES: u64 = 128 * 1024 * 1024;

/// What a file held, and its SHA-256.
pub(crate) struct FileContent {
    pub(crate) bytes: Vec<u8>,
    pub(crate) hash: [u8; 32],
}

impl FileContent {
    /// Reads a regular file, through symbolic links.
    ///
    /// # Errors
    /// It cannot be read, is not a regular file or too long, or everybody can write to it.
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let failed = |source| FileError::Unreadable { path: path.to_owned(), source };
        // Before it is opened, which would wait for the writer of a pipe.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(FileError::unusable(path, "is not a regular file"));
        }
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode();
        if mode & 0o002 != 0 {
            let problem = format!("can be written by everybody (mode {:o})", mode & 0o7777);
            return Err(FileError::unusable(path, problem));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        Self::new(path, bytes)
    }

    /// Takes what was read already.
    ///
    /// # Errors
    /// It is too long.
    pub(crate) fn new(path: &Path, bytes: Vec<u8>) -> Result<Self, FileError> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(FileError::unusable(path, format!("has more than {MAX_BYTES} bytes")));
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, &bytes).as_ref());
        Ok(Self { bytes, hash })
    }
}

/// A document and where it comes from.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) at: Reader,
    pub(super) document: Document,
}

/// Makes errors about one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reader {
    file: PathBuf,
    document: usize,
}

impl Reader {
    /// The file.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// An error about something that stands in the document.
    pub(super) fn error<T>(
        &self,
        about: &Spanned<T>,
        path: impl Into<String>,
        problem: impl Into<String>,
    ) -> FileError {
        self.error_at(Spot::of(about), path, problem)
    }

    /// The same where only the spot is at hand.
    pub(crate) fn error_at(
        &self,
        spot: Spot,
        path: impl Into<String>,
        problem: impl Into<String>,
    ) -> FileError {
        let place = Place { document: self.document, position: spot.0, path: path.into() };
        FileError::Wrong { path: self.file.clone(), place: Box::new(place), problem: problem.into() }
    }
}

/// Line and column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot(Option<(u64, u64)>);

impl Spot {
    pub(super) fn of<T>(about: &Spanned<T>) -> Self {
        Self(position(about.referenced))
    }
}

/// For people.
impl std::fmt::Display for Spot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some((line, _)) => write!(f, "line {line}"),
            None => f.write_str("elsewhere"),
        }
    }
}

fn position(location: Location) -> Option<(u64, u64)> {
    (location.line() > 0).then(|| (location.line(), location.column()))
}

/// The documents of a file; at least one.
///
/// # Errors
/// It is not YAML, or not of the shape: the first error.
pub(super) fn documents(path: &Path, bytes: &[u8]) -> Result<Vec<Located>, FileError> {
    if str::from_utf8(bytes).is_err() {
        return Err(FileError::unusable(path, "is not UTF-8"));
    }
    let mut documents = Vec::new();
    let mut bytes = bytes;
    for read in serde_saphyr::read_with_options::<_, Document>(&mut bytes, options()) {
        let at = Reader { file: path.to_owned(), document: documents.len() + 1 };
        let document = read.map_err(|error| refusal(&at, &error))?;
        if document.version.value != VERSION {
            return Err(at.error(&document.version, "version", format!("is not `{VERSION}`")));
        }
        documents.push(Located { at, document });
    }
    if documents.is_empty() {
        return Err(FileError::unusable(path, "holds no document"));
    }
    Ok(documents)
}

/// Bounds for what is written and for what its aliases expand to; no key twice, also not by a merge.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 16,
            max_documents: 1_000,
            max_events: 20_000_000,
            max_nodes: 10_000_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_recorded_anchor_events: 100_000,
            max_total_scalar_bytes: 128 * 1024 * 1024,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 8,
        },
        merge_keys: MergeKeyPolicy::Error,
        reject_unsupported_tags: true,
        strict_booleans: true,
        with_snippet: false,
    }
}

/// Never with a value of the file: a key may stand where a digest belongs.
fn refusal(at: &Reader, error: &serde_saphyr::Error) -> FileError {
    at.error_at(Spot(error.location().and_then(position)), "", words(error))
}

fn words(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error {
        Error::DuplicateMappingKey { key, .. } => match key.as_deref().filter(|key| is_plain(key)) {
            Some(key) => format!("`{key}` is here twice"),
            None => "a key is here twice".to_owned(),
        },
        Error::SerdeUnknownField { field, expected, .. } => {
            let known = expected.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let field = if is_plain(field) { format!("`{field}`") } else { "this".to_owned() };
            format!("there is no field {field} here, but {known}")
        }
        Error::SerdeMissingField { field, .. } => format!("`{field}` is missing"),
        Error::NullIntoString { .. } => "there is no value".to_owned(),
        Error::UnsupportedTag { .. } => "tags such as `!this` are not taken".to_owned(),
        Error::MergeKeyNotAllowed { .. } => "`<<` is not taken: write the fields out".to_owned(),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. } => "too much, too deep, or too many aliases".to_owned(),
        Error::AliasError { error, .. } => words(error),
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            format!("this is not {expected}")
        }
        Error::Unexpected { expected, .. } => format!("{} is expected here", form(expected)),
        other => without_location(other),
    }
}

/// What the parser calls by the names of its events.
fn form(expected: &'static str) -> &'static str {
    match expected {
        "mapping start" => "a mapping (`name: value`)",
        "sequence start" => "a list",
        "string scalar" | "scalar" => "a single value",
        other => other,
    }
}

/// The place is said already.
fn without_location(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let end = text.find(" at line ").unwrap_or(text.len());
    text[..end].to_owned()
}

/// Whether this may be the name of a field, and is no secret.
fn is_plain(key: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    (1..=32).contains(&key.len()) && key.bytes().all(allowed)
}
