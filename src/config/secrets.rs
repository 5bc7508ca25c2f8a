//! Secrets in files, and the directory that holds a process's state.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use aws_lc_rs::rand;
use scoregate_authz::{PEPPER_MIN_LENGTH, Pepper, Peppers};
use zeroize::Zeroizing;

use super::{MasterKeys, Problem};

/// A directory of state that this process alone uses.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Locked for as long as it is open; the system lets go of it whatever way the process ends.
    _lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be made or opened.
    #[error("cannot use the data directory `{}`", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Somebody else has it.
    #[error("the data directory `{}` is in use by another process", .0.display())]
    InUse(PathBuf),
}

impl DataDir {
    /// Makes the directory (mode 0700) where it is missing, and takes it for this process.
    ///
    /// # Errors
    /// It is not to be had.
    pub fn lock(path: &Path) -> Result<Self, DataDirError> {
        let failed = |source| DataDirError::Open { path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => Err(DataDirError::InUse(path.to_owned())),
            Err(fs::TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Whether there could be one, without making it.
    ///
    /// # Errors
    /// Something else is in its place, or on the way there.
    pub(super) fn probe(path: &Path) -> Result<(), DataDirError> {
        let problem = match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Ok(()),
            Ok(_) => io::ErrorKind::NotADirectory.into(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => error,
        };
        Err(DataDirError::Open { path: path.to_owned(), source: problem })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Writes a secret with mode 0600, so that the file is complete or not there.
///
/// # Errors
/// Those of the file system.
pub fn write_secret(path: &Path, secret: &str) -> io::Result<()> {
    // A neighbour of a name that no other secret's has: `a.key` and `a.token` may be written at the same time.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.new"));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    // Or a power failure could keep what is sealed under a master key and lose the key.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// The content of a secret file, without the line end that editors add.
pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<String>, Problem> {
    let problem = |problem: String| Problem::SecretFile { path: path.to_owned(), problem };
    let text = fs::read_to_string(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
    let text = Zeroizing::new(text);
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(problem("is empty".to_owned()));
    }
    Ok(Zeroizing::new(secret.to_owned()))
}

/// Whether secrets that a first start makes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstStart {
    /// They are.
    Real,
    /// They are not, and no file is made.
    Rehearsal,
    /// It is none: what is missing is an error.
    Never,
}

/// 256 random bits in hexadecimal digits.
pub(super) fn random_secret() -> Result<Zeroizing<String>, String> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    rand::fill(&mut *bytes).map_err(|_| "no random numbers".to_owned())?;
    Ok(Zeroizing::new(hex(&*bytes)))
}

/// Reads a secret, or makes it.
pub(super) fn read_or_make_secret(
    path: &Path,
    start: FirstStart,
    make: impl FnOnce() -> Result<Zeroizing<String>, String>,
) -> Result<Zeroizing<String>, Problem> {
    if path.try_exists().unwrap_or(true) {
        return read_secret(path);
    }
    let problem =
        |error| Problem::SecretFile { path: path.to_owned(), problem: format!("cannot be made: {error}") };
    let secret = make().map_err(problem)?;
    if start == FirstStart::Real {
        write_secret(path, &secret).map_err(|error| problem(error.to_string()))?;
    }
    Ok(secret)
}

/// Peppers for a gate that has none: no digest in any policy is under them.
pub(super) fn peppers_of_nobody() -> Result<Peppers, Problem> {
    let mut secret = Zeroizing::new([0_u8; PEPPER_MIN_LENGTH]);
    rand::fill(&mut *secret).map_err(|_| Problem::Form("there are no random numbers".to_owned()))?;
    Ok(Peppers::of_nobody(&secret))
}

pub(super) fn pepper(secret: &str) -> Result<Pepper, String> {
    Pepper::new(secret.as_bytes()).map_err(|error| error.to_string())
}

/// One key a line, 64 hexadecimal digits each; the first wraps what is new.
pub(super) fn master_keys(secret: &str) -> Result<MasterKeys, String> {
    let mut keys = std::collections::HashMap::new();
    let mut current = None;
    for (at, line) in secret.lines().enumerate() {
        let key = parse_hex(line.trim()).ok_or_else(|| {
            format!("holds no master key in line {}: 64 hexadecimal digits are needed", at + 1)
        })?;
        let id = master_key_id(&key);
        current.get_or_insert_with(|| id.clone());
        keys.insert(id, key);
    }
    let current = current.ok_or_else(|| "holds no master key".to_owned())?;
    Ok(MasterKeys { current, keys })
}

/// Tells master keys apart without telling them.
fn master_key_id(key: &[u8; 32]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"scoregate master key id");
    context.update(key);
    hex(&context.finish().as_ref()[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_hex(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(key)
}
