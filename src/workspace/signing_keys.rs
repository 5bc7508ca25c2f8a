//! The signing keys of a workspace, each in its state, as they are used: swapped as a whole, read without a lock.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use scoregate_authz::TokenAlgorithm;

use super::signer::SigningKey;
use super::store::SigningKeyWrite;

/// Where a signing key is in its life. After the last state there is none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningKeyState {
    /// Gates learn it. It signs nothing yet.
    Published {
        /// Since when.
        since: Timestamp,
        /// It signs nothing before this time.
        signs_from: Timestamp,
    },
    /// It signs.
    Signing {
        /// Since when.
        since: Timestamp,
    },
    /// It signs no more; the tokens that it signed are good.
    Retired {
        /// Since when.
        since: Timestamp,
        /// When the last of those tokens has expired, and it is dropped.
        until: Timestamp,
    },
}

impl SigningKeyState {
    /// Their words.
    pub const WORDS: [&'static str; 3] = ["published", "signing", "retired"];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published { .. } => "published",
            Self::Signing { .. } => "signing",
            Self::Retired { .. } => "retired",
        }
    }

    /// Since when a key is in it.
    #[must_use]
    pub fn since(self) -> Timestamp {
        match self {
            Self::Published { since, .. } | Self::Signing { since } | Self::Retired { since, .. } => since,
        }
    }
}

/// A signing key, as it is shown.
#[derive(Debug, Clone)]
pub struct SigningKeyStatus {
    /// The `kid` of its tokens.
    pub id: String,
    /// How it signs.
    pub algorithm: TokenAlgorithm,
    /// When it was made.
    pub created_at: Timestamp,
    /// Where it is in its life.
    pub state: SigningKeyState,
    /// Gates that do not know it yet. A published key does not sign before they do.
    pub waiting_for: Vec<String>,
}

/// A key with what changes in its life.
#[derive(Debug, Clone)]
pub(super) struct HeldKey {
    pub(super) key: Arc<SigningKey>,
    pub(super) state: SigningKeyState,
    /// The revision that brought it to the gates.
    pub(super) revision: u64,
    /// Of the tokens that it may have signed.
    pub(super) longest_lifetime: Duration,
}

impl HeldKey {
    pub(super) fn id(&self) -> &str {
        &self.key.id
    }
}

/// The signing keys of a workspace.
///
/// INVARIANT: one of them signs, and one at most is published.
#[derive(Debug, Clone)]
pub(super) struct SigningKeys {
    /// Oldest first.
    keys: Vec<HeldKey>,
    signing: usize,
}

impl SigningKeys {
    /// Takes the keys, oldest first; `None` if they cannot be all of a workspace.
    pub(super) fn new(keys: Vec<HeldKey>) -> Option<Self> {
        let is_signing = |key: &HeldKey| matches!(key.state, SigningKeyState::Signing { .. });
        let is_published = |key: &&HeldKey| matches!(key.state, SigningKeyState::Published { .. });
        let signing = keys.iter().position(is_signing)?;
        let is_one = keys.iter().filter(|key| is_signing(key)).count() == 1
            && keys.iter().filter(is_published).count() <= 1;
        is_one.then_some(Self { keys, signing })
    }

    /// Notes that tokens live for this long from now on, for the keys that may sign some. Returns what is to be stored.
    pub(super) fn lengthen(&mut self, lifetime: Duration) -> Vec<SigningKeyWrite> {
        let may_sign = |key: &&mut HeldKey| !matches!(key.state, SigningKeyState::Retired { .. });
        let shorter = self.keys.iter_mut().filter(may_sign).filter(|key| key.longest_lifetime < lifetime);
        let lengthened = shorter.map(|key| {
            key.longest_lifetime = lifetime;
            let (id, state) = (key.id().to_owned(), key.state);
            SigningKeyWrite::Update { id, state, longest_lifetime: lifetime }
        });
        lengthened.collect()
    }

    /// The one that signs.
    pub(super) fn signing(&self) -> &HeldKey {
        &self.keys[self.signing]
    }

    /// The one that is to sign next.
    pub(super) fn published(&self) -> Option<&HeldKey> {
        self.keys.iter().find(|key| matches!(key.state, SigningKeyState::Published { .. }))
    }

    /// All of them, oldest first.
    pub(super) fn all(&self) -> &[HeldKey] {
        &self.keys
    }

    /// The one of an id.
    pub(super) fn with_id(&self, id: &str) -> Option<&HeldKey> {
        self.keys.iter().find(|key| key.id() == id)
    }
}
