//! Secrets at rest: AES-256-GCM with a random data key for each row, wrapped by a master key.

use std::collections::HashMap;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

use crate::config::MasterKeys;

/// Version of the form of sealed values:
/// `version, length of the master key's id, id, nonce, wrapped data key and tag, nonce, ciphertext and tag`.
const VERSION: u8 = 1;
const KEY_LENGTH: usize = 32;
const TAG_LENGTH: usize = 16;
const WRAPPED_LENGTH: usize = NONCE_LEN + KEY_LENGTH + TAG_LENGTH;

/// Where a sealed value is kept. A value that was moved elsewhere cannot be opened there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Location<'a> {
    pub(super) table: &'a str,
    pub(super) row: &'a str,
    pub(super) column: &'a str,
}

/// A sealed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sealed {
    /// Id of the master key that it needs, repeated so that a database can be asked which keys it needs.
    pub(super) master_key_id: String,
    /// The value, which says the same of itself.
    pub(super) bytes: Vec<u8>,
}

/// Why a secret could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// The master key is not here.
    #[error("master key `{needed}` is needed, and those configured are {}", quoted(present))]
    UnknownMasterKey {
        /// Its id.
        needed: String,
        /// Ids of those that are here.
        present: Vec<String>,
    },
    /// The master key of this id is not the one that sealed the value, or the value was changed or moved.
    #[error(
        "master key `{master_key_id}` does not open `{location}`: it is another key of that name, or the value is damaged"
    )]
    Refused {
        /// Id of the key.
        master_key_id: String,
        /// Table, row and column.
        location: String,
    },
    /// No sealed value at all.
    #[error("`{0}` does not hold a sealed value of a known version")]
    Malformed(String),
    /// The cryptographic library failed, for want of random numbers.
    #[error("the cryptographic library failed")]
    Crypto,
}

fn quoted(ids: &[String]) -> String {
    let mut ids: Vec<_> = ids.iter().map(|id| format!("`{id}`")).collect();
    ids.sort();
    ids.join(", ")
}

/// Seals and opens secrets.
pub(super) struct Keyring {
    current: String,
    master_keys: HashMap<String, RandomizedNonceKey>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("current", &self.current).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Takes the configured master keys.
    ///
    /// # Errors
    /// The current one is not among them.
    pub(super) fn new(configured: &MasterKeys) -> Result<Self, KeyringError> {
        let mut master_keys = HashMap::new();
        for (id, key) in &configured.keys {
            master_keys.insert(id.clone(), gcm(key.as_slice())?);
        }
        let keyring = Self { current: configured.current.clone(), master_keys };
        // Ids are stored with their length in one byte.
        if keyring.current.len() > usize::from(u8::MAX) {
            return Err(KeyringError::Malformed(keyring.current));
        }
        keyring.master_key(&keyring.current)?;
        Ok(keyring)
    }

    /// Encrypts a secret for a location, under a data key of its own.
    pub(super) fn seal(&self, location: Location<'_>, secret: &[u8]) -> Result<Sealed, KeyringError> {
        let mut data_key = Zeroizing::new([0; KEY_LENGTH]);
        aws_lc_rs::rand::fill(&mut *data_key).map_err(|_| KeyringError::Crypto)?;
        let mut bytes = vec![VERSION, u8::try_from(self.current.len()).map_err(|_| KeyringError::Crypto)?];
        bytes.extend_from_slice(self.current.as_bytes());
        let wrapping = context(location, &self.current);
        encrypt_onto(&mut bytes, self.master_key(&self.current)?, &wrapping, &*data_key)?;
        encrypt_onto(&mut bytes, &gcm(&*data_key)?, &context(location, ""), secret)?;
        Ok(Sealed { master_key_id: self.current.clone(), bytes })
    }

    /// Decrypts the secret at a location.
    pub(super) fn open(
        &self,
        location: Location<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
        let (master_key_id, wrapped, encrypted) =
            parts(sealed).ok_or_else(|| KeyringError::Malformed(location.to_string()))?;
        let master_key = self.master_key(master_key_id)?;
        let refused = || KeyringError::Refused {
            master_key_id: master_key_id.to_owned(),
            location: location.to_string(),
        };
        let data_key = decrypt(master_key, &context(location, master_key_id), wrapped).ok_or_else(refused)?;
        decrypt(&gcm(&data_key)?, &context(location, ""), encrypted).ok_or_else(refused)
    }

    /// Checks that a master key is here.
    pub(super) fn require(&self, id: &str) -> Result<(), KeyringError> {
        self.master_key(id).map(|_| ())
    }

    fn master_key(&self, id: &str) -> Result<&RandomizedNonceKey, KeyringError> {
        self.master_keys.get(id).ok_or_else(|| KeyringError::UnknownMasterKey {
            needed: id.to_owned(),
            present: self.master_keys.keys().cloned().collect(),
        })
    }
}

impl std::fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.table, self.row, self.column)
    }
}

fn gcm(key: &[u8]) -> Result<RandomizedNonceKey, KeyringError> {
    RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| KeyringError::Crypto)
}

/// What a ciphertext is bound to: its location, and the master key that wraps it, if it is a data key.
fn context(location: Location<'_>, master_key_id: &str) -> Vec<u8> {
    let Location { table, row, column } = location;
    let mut context = vec![VERSION];
    for part in [table, row, column, master_key_id] {
        context.extend_from_slice(&(part.len() as u64).to_be_bytes());
        context.extend_from_slice(part.as_bytes());
    }
    context
}

fn encrypt_onto(
    output: &mut Vec<u8>,
    key: &RandomizedNonceKey,
    context: &[u8],
    secret: &[u8],
) -> Result<(), KeyringError> {
    // With room for the tag, so that growing does not leave a copy of the plain text behind.
    let mut text = Vec::with_capacity(secret.len() + TAG_LENGTH);
    text.extend_from_slice(secret);
    let nonce =
        key.seal_in_place_append_tag(Aad::from(context), &mut text).map_err(|_| KeyringError::Crypto)?;
    output.extend_from_slice(nonce.as_ref());
    output.append(&mut text);
    Ok(())
}

fn decrypt(key: &RandomizedNonceKey, context: &[u8], encrypted: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, text) = encrypted.split_first_chunk::<NONCE_LEN>()?;
    let mut text = Zeroizing::new(text.to_vec());
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let length = key.open_in_place(nonce, Aad::from(context), &mut text).ok()?.len();
    text.truncate(length);
    Some(text)
}

/// Master key id, wrapped data key, encrypted secret.
fn parts(sealed: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let (&[version, id_length], rest) = sealed.split_first_chunk::<2>()?;
    if version != VERSION {
        return None;
    }
    let (id, rest) = rest.split_at_checked(usize::from(id_length))?;
    let (wrapped, encrypted) = rest.split_at_checked(WRAPPED_LENGTH)?;
    Some((str::from_utf8(id).ok()?, wrapped, encrypted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const HERE: Location<'_> = Location { table: "service_keys", row: "uid", column: "sealed" };

    fn keyring(current: &str, keys: &[(&str, u8)]) -> Keyring {
        let keys = keys.iter().map(|(id, fill)| ((*id).to_owned(), Zeroizing::new([*fill; 32]))).collect();
        Keyring::new(&MasterKeys { current: current.to_owned(), keys }).unwrap()
    }

    #[test]
    fn open_gives_what_was_sealed() {
        let keyring = keyring("a", &[("a", 1)]);
        let sealed = keyring.seal(HERE, b"secret").unwrap();
        assert_eq!(keyring.open(HERE, &sealed.bytes).unwrap().as_slice(), b"secret");
        assert!(!sealed.bytes.windows(6).any(|window| window == b"secret"));
    }

    #[test]
    fn seal_never_repeats_itself() {
        let keyring = keyring("a", &[("a", 1)]);
        assert_ne!(keyring.seal(HERE, b"secret").unwrap(), keyring.seal(HERE, b"secret").unwrap());
    }

    #[test]
    fn open_after_a_change_of_the_current_master_key() {
        let sealed = keyring("a", &[("a", 1)]).seal(HERE, b"secret").unwrap();
        let later = keyring("b", &[("b", 2), ("a", 1)]);
        assert_eq!(later.open(HERE, &sealed.bytes).unwrap().as_slice(), b"secret");
        assert_eq!(later.seal(HERE, b"secret").unwrap().master_key_id, "b");
    }

    #[test]
    fn open_without_the_master_key_names_it() {
        let sealed = keyring("a", &[("a", 1)]).seal(HERE, b"secret").unwrap();
        let error = keyring("b", &[("b", 1), ("c", 2)]).open(HERE, &sealed.bytes).unwrap_err();
        assert_eq!(error.to_string(), "master key `a` is needed, and those configured are `b`, `c`");
    }

    #[test]
    fn open_with_another_master_key_of_the_same_id_is_refused() {
        let sealed = keyring("a", &[("a", 1)]).seal(HERE, b"secret").unwrap();
        let error = keyring("a", &[("a", 2)]).open(HERE, &sealed.bytes).unwrap_err();
        assert!(matches!(error, KeyringError::Refused { .. }), "{error}");
    }

    #[rstest]
    #[case(Location { table: "signing_keys", ..HERE })]
    #[case(Location { row: "uid2", ..HERE })]
    #[case(Location { column: "sealed2", ..HERE })]
    fn open_at_another_location_is_refused(#[case] elsewhere: Location<'_>) {
        let keyring = keyring("a", &[("a", 1)]);
        let sealed = keyring.seal(HERE, b"secret").unwrap();
        let error = keyring.open(elsewhere, &sealed.bytes).unwrap_err();
        assert!(matches!(error, KeyringError::Refused { .. }), "{error}");
    }

    #[test]
    fn open_of_anything_changed_fails() {
        let keyring = keyring("a", &[("a", 1)]);
        let sealed = keyring.seal(HERE, b"secret").unwrap().bytes;
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(keyring.open(HERE, &changed).is_err(), "byte {at}");
            assert!(keyring.open(HERE, &sealed[..at]).is_err(), "cut to {at}");
        }
    }

    #[test]
    fn new_without_the_current_key_is_refused() {
        let keys = HashMap::from([("a".to_owned(), Zeroizing::new([1; 32]))]);
        let error = Keyring::new(&MasterKeys { current: "b".to_owned(), keys }).unwrap_err();
        assert!(matches!(error, KeyringError::UnknownMasterKey { .. }));
    }
}
