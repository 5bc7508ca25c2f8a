//! Static keys: how they look, and the only form in which policy knows them.

use std::fmt;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::{digest, hmac};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::service::ServiceUid;
use crate::uses::{KeyFingerprint, SharedCounter};

/// What every generated key starts with. Secret scanners find keys by it.
pub const KEY_PREFIX: &str = "sgk_";

/// Shortest and longest key, in bytes.
pub const KEY_LENGTH: std::ops::RangeInclusive<usize> = 16..=512;

/// Random characters of a generated key: 32 of 62 are 190 bits.
const BODY_LENGTH: usize = 32;
/// A CRC-32 in base 62.
const CHECKSUM_LENGTH: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Which of the two keys of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The primary key.
    Primary,
    /// The secondary key.
    Secondary,
}

impl Slot {
    /// Both, the primary first.
    pub const ALL: [Self; 2] = [Self::Primary, Self::Secondary];

    /// The name in metadata, metrics and identity headers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }

    /// The one that this is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Primary => Self::Secondary,
            Self::Secondary => Self::Primary,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A key as its holder has it. Cleared when dropped, never shown by `Debug`.
#[derive(Clone)]
pub struct PlainKey(Zeroizing<String>);

/// Why a text cannot be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Shorter or longer than [`KEY_LENGTH`].
    #[error("a key has 16 to 512 characters")]
    Length,
    /// Something that RFC 6750, section 2.1 does not allow in a bearer credential.
    #[error("a key consists of letters, digits and `-._~+/`, with `=` at its end only")]
    Characters,
    /// It looks like a generated key, but its checksum is wrong: mistyped, or made up.
    #[error("a key that starts with `sgk_` must be a generated one, and this one's checksum is wrong")]
    Checksum,
}

impl PlainKey {
    /// Makes a new key from random bytes.
    ///
    /// `random` fills the buffer it is given; it must be cryptographically secure.
    pub fn generate(mut random: impl FnMut(&mut [u8])) -> Self {
        let mut text =
            Zeroizing::new(String::with_capacity(KEY_PREFIX.len() + BODY_LENGTH + CHECKSUM_LENGTH));
        text.push_str(KEY_PREFIX);
        let mut bytes = Zeroizing::new([0_u8; BODY_LENGTH]);
        while text.len() < KEY_PREFIX.len() + BODY_LENGTH {
            random(&mut *bytes);
            // 248 is the greatest multiple of 62 in a byte: values past it would favour some characters.
            let usable = bytes.iter().filter(|byte| **byte < 248);
            let missing = KEY_PREFIX.len() + BODY_LENGTH - text.len();
            text.extend(usable.take(missing).map(|byte| char::from(BASE62[usize::from(byte % 62)])));
        }
        let checksum = checksum(text.as_bytes());
        text.extend(checksum.map(char::from));
        Self(text)
    }

    /// Accepts a key that its owner chose.
    ///
    /// # Errors
    /// What is wrong with it; the message never contains it.
    pub fn choose(text: &str) -> Result<Self, InvalidKey> {
        check(text)?;
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The key itself. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PlainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainKey(..)")
    }
}

/// Whether a text can be a key at all. Costs no more than a look at each character.
pub(crate) fn check(text: &str) -> Result<(), InvalidKey> {
    if !KEY_LENGTH.contains(&text.len()) {
        return Err(InvalidKey::Length);
    }
    if !is_b64token(text.as_bytes()) {
        return Err(InvalidKey::Characters);
    }
    if text.starts_with(KEY_PREFIX) && !is_generated(text) {
        return Err(InvalidKey::Checksum);
    }
    Ok(())
}

/// Whether a text is a generated key, without a typing mistake.
pub(crate) fn is_generated(text: &str) -> bool {
    text.len() == KEY_PREFIX.len() + BODY_LENGTH + CHECKSUM_LENGTH
        && text.starts_with(KEY_PREFIX)
        && text.as_bytes().split_last_chunk().is_some_and(|(body, given)| checksum(body) == *given)
}

/// RFC 6750, section 2.1: `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
pub(crate) fn is_b64token(text: &[u8]) -> bool {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let body = &text[..text.len() - padding];
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    !body.is_empty() && body.iter().all(allowed)
}

fn checksum(text: &[u8]) -> [u8; CHECKSUM_LENGTH] {
    let mut rest = crc32fast::hash(text);
    let mut digits = [0; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

/// HMAC-SHA-256 under a pepper of `service uid, 0x00, key`.
#[derive(Clone, Copy)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Takes the 32 bytes of a stored digest. All zeros are refused: no key has that digest, but a lost column has.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes = <[u8; 32]>::try_from(bytes).ok()?;
        (bytes != [0; 32]).then_some(Self(bytes))
    }

    /// The bytes, for the store and the feed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Tells keys of a service apart where the digest itself is not needed.
    #[must_use]
    pub fn fingerprint(&self) -> KeyFingerprint {
        KeyFingerprint::of(&self.0)
    }
}

impl ConstantTimeEq for KeyDigest {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(..)")
    }
}

/// The secret of an installation under which keys are digested.
#[derive(Clone)]
pub struct Pepper {
    /// Shared, because each digest in policy carries its pepper.
    inner: Arc<PepperInner>,
}

struct PepperInner {
    id: String,
    key: hmac::Key,
}

/// Fewest bytes of a pepper.
pub const PEPPER_MIN_LENGTH: usize = 32;

/// A pepper that is too short to protect anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pepper has at least {PEPPER_MIN_LENGTH} bytes, this one has {0}")]
pub struct PepperTooShort(pub usize);

impl Pepper {
    /// Takes the bytes of a pepper.
    ///
    /// # Errors
    /// Fewer than [`PEPPER_MIN_LENGTH`] bytes.
    pub fn new(secret: &[u8]) -> Result<Self, PepperTooShort> {
        if secret.len() < PEPPER_MIN_LENGTH {
            return Err(PepperTooShort(secret.len()));
        }
        Ok(Self::of(secret))
    }

    fn of(secret: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = hmac::sign(&key, b"scoregate pepper id");
        let id = derived.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Self { inner: Arc::new(PepperInner { id, key }) }
    }

    /// Tells peppers apart without telling them: 16 hexadecimal digits derived from the secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// The digest of a key of the service.
    #[must_use]
    pub fn digest(&self, service: &ServiceUid, key: &PlainKey) -> KeyDigest {
        self.digest_text(service.as_str(), key.expose())
    }

    fn digest_text(&self, service: &str, key: &str) -> KeyDigest {
        let mut context = hmac::Context::with_key(&self.inner.key);
        context.update(service.as_bytes());
        context.update(&[0]);
        context.update(key.as_bytes());
        let tag = context.sign();
        let mut digest = [0; digest::SHA256_OUTPUT_LEN];
        digest.copy_from_slice(tag.as_ref());
        KeyDigest(digest)
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pepper").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// The peppers that a gate has: usually one, more while a new one is being introduced.
#[derive(Debug, Clone)]
pub struct Peppers(Vec<Pepper>);

/// A list of peppers without a pepper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at least one pepper is needed")]
pub struct NoPepper;

impl Peppers {
    /// # Errors
    /// An empty list.
    pub fn new(peppers: Vec<Pepper>) -> Result<Self, NoPepper> {
        if peppers.is_empty() { Err(NoPepper) } else { Ok(Self(peppers)) }
    }

    /// One pepper for who has none, because no service has keys or because they are not to be matched. The secret is to be
    /// one that nobody knows.
    #[must_use]
    pub fn of_nobody(secret: &[u8; PEPPER_MIN_LENGTH]) -> Self {
        Self(vec![Pepper::of(secret)])
    }

    /// The ids, in the order of configuration.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Pepper::id)
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Pepper> {
        self.0.iter().find(|pepper| pepper.id() == id)
    }

    /// Does in vain what a key costs a service that takes keys, so that an unknown service answers neither sooner nor
    /// later than a wrong key.
    pub(crate) fn match_nothing(&self, presented: &str) {
        if check(presented).is_err() {
            return;
        }
        const NOBODY: &str = "00000000-0000-0000-0000-000000000000";
        let digest = self.0[0].digest_text(NOBODY, presented);
        std::hint::black_box(digest.ct_eq(&KeyDigest([0; 32])) | digest.ct_eq(&KeyDigest([1; 32])));
    }
}

/// A digest together with the pepper that it was made under.
#[derive(Debug, Clone)]
pub(crate) struct PepperedDigest {
    digest: KeyDigest,
    pepper: Pepper,
}

impl PepperedDigest {
    pub(crate) fn new(digest: KeyDigest, pepper: Pepper) -> Self {
        Self { digest, pepper }
    }

    /// Whether this is the digest of the empty text, which is what a lost key leaves behind.
    pub(crate) fn is_of_nothing(&self, service: &ServiceUid) -> bool {
        self.digest.ct_eq(&self.pepper.digest_text(service.as_str(), "")).into()
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.digest.ct_eq(&other.digest).into()
    }
}

/// A key of a service, as policy has it.
#[derive(Debug)]
pub(crate) struct HeldKey {
    digest: PepperedDigest,
    pub(crate) uses: SharedCounter,
    /// The one before it. It opens nothing: it only tells what a refused key was.
    replaced: OnceLock<Box<PepperedDigest>>,
}

impl HeldKey {
    fn new(digest: PepperedDigest) -> Self {
        Self { digest, uses: SharedCounter::default(), replaced: OnceLock::new() }
    }

    pub(crate) fn fingerprint(&self) -> KeyFingerprint {
        self.digest.digest.fingerprint()
    }

    /// Takes the place of a key: of the same one, whose uses go on, or of another one, which it remembers.
    fn succeed(&self, before: &Self) {
        if !self.digest.is_same(&before.digest) {
            let _ = self.replaced.set(Box::new(before.digest.clone()));
            return;
        }
        self.uses.share(&before.uses);
        if let Some(replaced) = before.replaced.get() {
            let _ = self.replaced.set(replaced.clone());
        }
    }
}

/// A service's two keys.
#[derive(Debug)]
pub(crate) struct Keys {
    primary: HeldKey,
    secondary: HeldKey,
}

impl Keys {
    pub(crate) fn new(primary: PepperedDigest, secondary: PepperedDigest) -> Self {
        Self { primary: HeldKey::new(primary), secondary: HeldKey::new(secondary) }
    }

    pub(crate) fn slot(&self, slot: Slot) -> &HeldKey {
        match slot {
            Slot::Primary => &self.primary,
            Slot::Secondary => &self.secondary,
        }
    }

    /// Takes the place of the keys that the service had.
    pub(crate) fn succeed(&self, before: &Self) {
        self.primary.succeed(&before.primary);
        self.secondary.succeed(&before.secondary);
    }

    /// Where the presented key belongs.
    ///
    /// INVARIANT: both slots are compared whatever the first comparison gave, each in constant time. What was replaced costs
    /// no further digest, so that a wrong key takes no longer where there was one (unless the pepper is being changed).
    pub(crate) fn find(&self, service: &ServiceUid, presented: &str) -> Found {
        let (primary, secondary) = (&self.primary.digest, &self.secondary.digest);
        let digest = primary.pepper.digest_text(service.as_str(), presented);
        let is_of = |held: &PepperedDigest| -> bool {
            let digest = if held.pepper.id() == primary.pepper.id() {
                digest
            } else {
                held.pepper.digest_text(service.as_str(), presented)
            };
            digest.ct_eq(&held.digest).into()
        };
        match (is_of(primary), is_of(secondary)) {
            (true, _) => Found::Key(Slot::Primary),
            (_, true) => Found::Key(Slot::Secondary),
            _ => {
                let was =
                    |slot: &Slot| self.slot(*slot).replaced.get().is_some_and(|replaced| is_of(replaced));
                Slot::ALL.into_iter().find(was).map_or(Found::Nothing, Found::Replaced)
            }
        }
    }
}

/// What a presented key is to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The key in this slot.
    Key(Slot),
    /// The one that was in this slot until it was replaced. It opens nothing.
    Replaced(Slot),
    /// No key.
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn counter() -> impl FnMut(&mut [u8]) {
        let mut next = 0_u8;
        move |buffer| {
            for byte in buffer {
                *byte = next;
                next = next.wrapping_add(37);
            }
        }
    }

    #[test]
    fn generate_makes_keys_that_are_their_own_proof() {
        let key = PlainKey::generate(counter());
        assert!(is_generated(key.expose()));
        assert_eq!(key.expose().len(), 42);
        assert!(PlainKey::choose(key.expose()).is_ok());
    }

    #[test]
    fn every_mistyped_character_is_noticed() {
        let key = PlainKey::generate(counter());
        for at in 0..key.expose().len() {
            let mut bytes = key.expose().as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let mistyped = String::from_utf8(bytes).unwrap();
            assert!(!is_generated(&mistyped), "position {at}");
        }
    }

    #[rstest]
    #[case("123456789012345", Err(InvalidKey::Length))]
    #[case("1234567890123456", Ok(()))]
    #[case("aZ09-._~+/aZ09==", Ok(()))]
    #[case("aZ09=aaaaaaaaaaaa", Err(InvalidKey::Characters))]
    #[case("================", Err(InvalidKey::Characters))]
    #[case("1234567890 123456", Err(InvalidKey::Characters))]
    #[case("' OR 1=1-- OR 1=1", Err(InvalidKey::Characters))]
    #[case("sgk_1234567890123456", Err(InvalidKey::Checksum))]
    fn choose_checks(#[case] text: &str, #[case] expected: Result<(), InvalidKey>) {
        assert_eq!(PlainKey::choose(text).map(|_| ()), expected);
    }

    #[test]
    fn choose_has_an_upper_bound() {
        assert!(PlainKey::choose(&"a".repeat(512)).is_ok());
        assert_eq!(PlainKey::choose(&"a".repeat(513)).map(|_| ()), Err(InvalidKey::Length));
    }

    #[test]
    fn digest_depends_on_pepper_service_and_key() {
        let pepper = |fill: u8| Pepper::new(&[fill; 32]).unwrap();
        let service = |text: &str| text.parse::<ServiceUid>().unwrap();
        let key = |text: &str| PlainKey::choose(text).unwrap();
        let base = pepper(1).digest(&service("a"), &key("1234567890123456"));
        let others = [
            pepper(2).digest(&service("a"), &key("1234567890123456")),
            pepper(1).digest(&service("b"), &key("1234567890123456")),
            pepper(1).digest(&service("a"), &key("1234567890123457")),
        ];
        for other in others {
            assert_ne!(base.as_bytes(), other.as_bytes());
        }
        assert_ne!(pepper(1).id(), pepper(2).id());
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = PlainKey::choose("a-very-secret-key").unwrap();
        let pepper = Pepper::new(&[7; 32]).unwrap();
        let digest = pepper.digest(&"a".parse().unwrap(), &key);
        assert_eq!(format!("{key:?} {digest:?}"), "PlainKey(..) KeyDigest(..)");
        assert!(!format!("{pepper:?}").contains("Key"));
    }
}
