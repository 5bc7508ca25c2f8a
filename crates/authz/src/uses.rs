//! How often a credential was accepted, and when last: counters that live with the policy that they are about.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::key::Slot;
use crate::token::UnixTime;

/// The beginning of a key's digest. A key that takes the place of another one has another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyFingerprint([u8; 8]);

impl KeyFingerprint {
    pub(crate) fn of(digest: &[u8; 32]) -> Self {
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        Self(first)
    }

    /// Takes the bytes of a fingerprint.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes, for the store and the feed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Debug for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyFingerprint(..)")
    }
}

/// What was used: one key value in a slot of a service, or any token of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UsedCredential {
    /// A key.
    Key(Slot, KeyFingerprint),
    /// Tokens, all together.
    Token,
}

/// Uses of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uses {
    /// Of what.
    pub credential: UsedCredential,
    /// How many; never 0.
    pub count: u64,
    /// The Unix second of the last one.
    pub last_used: u64,
}

#[derive(Debug, Default)]
struct Counter {
    count: AtomicU64,
    last_used: AtomicU64,
}

/// A counter of uses, made at the first one, which policies of one service share for as long as the credential stays.
#[derive(Debug, Default)]
pub(crate) struct SharedCounter(OnceLock<Arc<Counter>>);

impl SharedCounter {
    pub(crate) fn note(&self, now: UnixTime) {
        let Counter { count, last_used } = &**self.0.get_or_init(Arc::default);
        // The time goes first, so that who takes a count finds no older time with it. Most uses fall into a second that
        // has one already, and a look costs less than a write that all threads fight for.
        if last_used.load(Ordering::Relaxed) < now.as_secs() {
            last_used.fetch_max(now.as_secs(), Ordering::Relaxed);
        }
        count.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn take(&self, credential: UsedCredential) -> Option<Uses> {
        let counter = self.0.get()?;
        let count = counter.count.swap(0, Ordering::Acquire);
        (count > 0).then(|| Uses { credential, count, last_used: counter.last_used.load(Ordering::Relaxed) })
    }

    /// Counts on where another one is. Nothing was counted here yet.
    pub(crate) fn share(&self, other: &Self) {
        if let Some(counter) = other.0.get() {
            let _ = self.0.set(Arc::clone(counter));
        }
    }
}
