//! Statements: what proves a state of policy, wherever it was read from.
//!
//! The workspace signs with its policy key (Ed25519); a gate believes the public keys that it was configured with, and
//! nothing that they do not prove. Keys are files in PEM, as `openssl genpkey -algorithm ed25519` makes them.

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, ED25519_PUBLIC_KEY_LEN, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use scoregate_authz::{StateHash, UnixTime, Version};
use zeroize::Zeroizing;

use crate::proto::scoregate::policy::v1 as wire;

/// Before the content in what is signed, so that no signature of something else is one of a statement.
const CONTEXT: &[u8] = b"scoregate statement v1\0";

/// DER of a SubjectPublicKeyInfo up to the 32 bytes of an Ed25519 key (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What a statement says: this was the workspace's latest state at this time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Id of the workspace.
    pub workspace: String,
    /// Epoch and revision.
    pub version: Version,
    /// Of all entries.
    pub state_hash: StateHash,
    /// By the clock of the workspace.
    pub issued_at: UnixTime,
}

/// Why a statement proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// There is none.
    #[error("there is no signed statement")]
    Missing,
    /// Signed with a key that is not among the configured ones.
    #[error("the statement is signed with policy key `{0}`, which is not trusted here")]
    UnknownKey(String),
    /// Not signed with the key that it names.
    #[error("the signature of the statement is not that of policy key `{0}`")]
    Signature(String),
    /// Signed, and not a statement.
    #[error("the statement cannot be decoded")]
    Undecodable,
    /// It is about something else than what came with it.
    #[error("the statement is about another workspace, version or state")]
    AboutAnother,
}

/// A policy key file that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicyKey {
    /// Not the private half.
    #[error("holds no Ed25519 private key in PEM (PKCS#8), as `openssl genpkey -algorithm ed25519` makes it")]
    Private,
    /// Not the public half.
    #[error("holds no Ed25519 public key in PEM, as `openssl pkey -pubout` makes it")]
    Public,
    /// No random numbers.
    #[error("cannot be made: no random numbers")]
    Generate,
}

/// The private key that a workspace signs its statements with.
#[derive(Debug)]
pub struct PolicyKey {
    pair: Ed25519KeyPair,
    public: PolicyPublicKey,
}

impl PolicyKey {
    /// Makes one, in PEM.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn generate() -> Result<Zeroizing<String>, InvalidPolicyKey> {
        let pair = Ed25519KeyPair::generate().map_err(|_| InvalidPolicyKey::Generate)?;
        let document = pair.to_pkcs8v1().map_err(|_| InvalidPolicyKey::Generate)?;
        Ok(Zeroizing::new(pem("PRIVATE KEY", document.as_ref())))
    }

    /// Reads one in PEM.
    ///
    /// # Errors
    /// It is not one.
    pub fn from_pem(text: &str) -> Result<Self, InvalidPolicyKey> {
        let document = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes());
        let document = document.map_err(|_| InvalidPolicyKey::Private)?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(document.secret_pkcs8_der())
            .map_err(|_| InvalidPolicyKey::Private)?;
        let mut raw = [0; ED25519_PUBLIC_KEY_LEN];
        raw.copy_from_slice(pair.public_key().as_ref());
        Ok(Self { pair, public: PolicyPublicKey(raw) })
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PolicyPublicKey {
        self.public
    }

    /// Signs.
    #[must_use]
    pub fn sign(&self, statement: &Statement) -> wire::Statement {
        let Version { epoch, revision } = statement.version;
        let content = wire::StatementContent {
            workspace: statement.workspace.clone(),
            epoch,
            revision,
            state_hash: statement.state_hash.0.to_vec(),
            issued_at: Some(wire_time(statement.issued_at)),
        };
        let content = content.encode_to_vec();
        let signature = self.pair.sign(&signed(&content)).as_ref().to_vec();
        wire::Statement { content, key_id: self.public.id(), signature }
    }
}

/// The public half of a policy key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PolicyPublicKey([u8; ED25519_PUBLIC_KEY_LEN]);

impl PolicyPublicKey {
    /// Reads one in PEM.
    ///
    /// # Errors
    /// It is not one.
    pub fn from_pem(text: &str) -> Result<Self, InvalidPolicyKey> {
        let document = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes());
        let document = document.map_err(|_| InvalidPolicyKey::Public)?;
        let raw = document.as_ref().strip_prefix(SPKI_PREFIX.as_slice());
        let raw = raw.and_then(|raw| raw.try_into().ok()).ok_or(InvalidPolicyKey::Public)?;
        Ok(Self(raw))
    }

    /// In PEM.
    #[must_use]
    pub fn to_pem(self) -> String {
        pem("PUBLIC KEY", &[SPKI_PREFIX.as_slice(), &self.0].concat())
    }

    /// The first 8 bytes of its SHA-256, in hexadecimal digits.
    #[must_use]
    pub fn id(self) -> String {
        let hash = digest(&SHA256, &self.0);
        hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for PolicyPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyPublicKey({})", self.id())
    }
}

/// The public keys that a gate believes.
#[derive(Debug, Clone)]
pub struct TrustedPolicyKeys(HashMap<String, PolicyPublicKey>);

impl TrustedPolicyKeys {
    /// Takes the keys; `None` if there are none.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = PolicyPublicKey>) -> Option<Self> {
        let keys: HashMap<_, _> = keys.into_iter().map(|key| (key.id(), key)).collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// For a gate without a workspace: no statement is believed.
    #[must_use]
    pub fn none() -> Self {
        Self(HashMap::new())
    }

    /// Their ids.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// What a statement says, if one of the keys signed it.
    ///
    /// # Errors
    /// There is none, or none of the keys did.
    pub fn verify(&self, statement: Option<&wire::Statement>) -> Result<Statement, Unproven> {
        let wire::Statement { content, key_id, signature } = statement.ok_or(Unproven::Missing)?;
        let key = self.0.get(key_id).ok_or_else(|| Unproven::UnknownKey(shown(key_id)))?;
        UnparsedPublicKey::new(&ED25519, key.0)
            .verify(&signed(content), signature)
            .map_err(|_| Unproven::Signature(key.id()))?;
        read(content).ok_or(Unproven::Undecodable)
    }

    /// When a state was the latest, if a statement about just this state says so.
    ///
    /// # Errors
    /// There is none, none of the keys signed it, or it is about something else.
    pub fn prove(
        &self,
        workspace: &str,
        version: Version,
        state_hash: &[u8],
        statement: Option<&wire::Statement>,
    ) -> Result<UnixTime, Unproven> {
        let stated = self.verify(statement)?;
        let same =
            stated.workspace == workspace && stated.version == version && stated.state_hash.0 == *state_hash;
        if same { Ok(stated.issued_at) } else { Err(Unproven::AboutAnother) }
    }
}

fn read(content: &[u8]) -> Option<Statement> {
    let content = wire::StatementContent::decode(content).ok()?;
    Some(Statement {
        workspace: content.workspace,
        version: Version { epoch: content.epoch, revision: content.revision },
        state_hash: StateHash(content.state_hash.try_into().ok()?),
        issued_at: unix_time(content.issued_at?)?,
    })
}

fn signed(content: &[u8]) -> Vec<u8> {
    [CONTEXT, content].concat()
}

/// To the millisecond: what is kept elsewhere is not more exact.
fn wire_time(time: UnixTime) -> prost_types::Timestamp {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let nanos = i32::try_from(time.subsec_millis() * 1_000_000).unwrap_or_default();
    prost_types::Timestamp { seconds, nanos }
}

fn unix_time(time: prost_types::Timestamp) -> Option<UnixTime> {
    let nanos = u32::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(UnixTime::new(u64::try_from(time.seconds).ok()?, nanos))
}

/// A key id that somebody made up, for a message.
fn shown(key_id: &str) -> String {
    key_id.chars().filter(char::is_ascii_alphanumeric).take(16).collect()
}

fn pem(label: &str, der: &[u8]) -> String {
    // An Ed25519 key fits into one line of the 64 characters that RFC 7468 allows.
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example key of RFC 8410, section 10.3, and its public half (10.1).
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
        -----END PUBLIC KEY-----\n";

    fn key() -> PolicyKey {
        PolicyKey::from_pem(PRIVATE).unwrap()
    }

    fn trust(keys: &[&PolicyKey]) -> TrustedPolicyKeys {
        TrustedPolicyKeys::new(keys.iter().map(|key| key.public())).unwrap()
    }

    fn statement() -> Statement {
        Statement {
            workspace: "w".to_owned(),
            version: Version { epoch: 1, revision: 7 },
            state_hash: StateHash([5; 32]),
            issued_at: UnixTime::from_millis(1_234_567),
        }
    }

    #[test]
    fn a_key_is_read_as_openssl_writes_it() {
        assert_eq!(key().public().to_pem(), PUBLIC);
        assert_eq!(PolicyPublicKey::from_pem(PUBLIC).unwrap(), key().public());
        assert_eq!(PolicyPublicKey::from_pem(PRIVATE), Err(InvalidPolicyKey::Public));
        assert!(PolicyKey::from_pem(PUBLIC).is_err() && PolicyKey::from_pem("").is_err());
    }

    #[test]
    fn a_generated_key_is_one_that_can_be_read() {
        let made = PolicyKey::from_pem(&PolicyKey::generate().unwrap()).unwrap();
        let again = PolicyPublicKey::from_pem(&made.public().to_pem()).unwrap();
        assert_eq!(again.id(), made.public().id());
        assert!(made.public().id().len() == 16 && made.public() != key().public());
    }

    #[test]
    fn a_signed_statement_says_what_was_signed() {
        let signed = key().sign(&statement());
        assert_eq!(trust(&[&key()]).verify(Some(&signed)), Ok(statement()));
    }

    #[test]
    fn statement_of_an_unknown_key_is_refused() {
        let other = PolicyKey::from_pem(&PolicyKey::generate().unwrap()).unwrap();
        let signed = other.sign(&statement());
        assert_eq!(trust(&[&key()]).verify(Some(&signed)), Err(Unproven::UnknownKey(other.public().id())));
        assert_eq!(trust(&[&key(), &other]).verify(Some(&signed)), Ok(statement()));
        let forged = wire::Statement { key_id: key().public().id(), ..signed };
        assert_eq!(trust(&[&key()]).verify(Some(&forged)), Err(Unproven::Signature(key().public().id())));
        assert_eq!(trust(&[&key()]).verify(None), Err(Unproven::Missing));
    }

    #[test]
    fn no_byte_of_a_statement_can_be_changed() {
        let signed = key().sign(&statement());
        let trusted = trust(&[&key()]);
        for at in 0..signed.content.len() {
            let mut forged = signed.clone();
            forged.content[at] ^= 1;
            assert!(matches!(trusted.verify(Some(&forged)), Err(Unproven::Signature(_))), "{at}");
        }
        for at in 0..signed.signature.len() {
            let mut forged = signed.clone();
            forged.signature[at] ^= 1;
            assert!(matches!(trusted.verify(Some(&forged)), Err(Unproven::Signature(_))), "{at}");
        }
    }

    #[test]
    fn a_statement_proves_just_what_it_is_about() {
        let signed = key().sign(&statement());
        let prove = |workspace, epoch, revision, hash: [u8; 32]| {
            trust(&[&key()]).prove(workspace, Version { epoch, revision }, &hash, Some(&signed))
        };
        assert_eq!(prove("w", 1, 7, [5; 32]), Ok(statement().issued_at));
        for other in [
            prove("v", 1, 7, [5; 32]),
            prove("w", 2, 7, [5; 32]),
            prove("w", 1, 8, [5; 32]),
            prove("w", 1, 7, [6; 32]),
        ] {
            assert_eq!(other, Err(Unproven::AboutAnother));
        }
    }

    #[test]
    fn what_is_signed_and_no_statement_is_refused() {
        let content = b"\xff".to_vec();
        let signature = key().pair.sign(&signed(&content)).as_ref().to_vec();
        let signed = wire::Statement { content, key_id: key().public().id(), signature };
        assert_eq!(trust(&[&key()]).verify(Some(&signed)), Err(Unproven::Undecodable));
    }
}
