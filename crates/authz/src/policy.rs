//! The policy of one service: from a document that may say anything, to what a decision can rely on.

use std::fmt;
use std::time::Duration;

use crate::decision::Permit;
use crate::key::{KeyDigest, Keys, PepperedDigest, Peppers, Slot};
use crate::service::{AuthMode, ComputeType, ServiceName, ServiceUid};
use crate::target::{PortRule, canonical_host, is_path_prefix};
use crate::token::{MAX_CLOCK_SKEW, UnixTime};
use crate::uses::{SharedCounter, UsedCredential, Uses};

/// For how long a service may be in shadow, from the time that this is said.
pub const MAX_SHADOW: Duration = Duration::from_hours(7 * 24);

/// What a policy says of a service, as it was sent. Members that the sender left out, or that this version does not
/// know, are `None`.
#[derive(Debug, Clone, Default)]
pub struct PolicyDocument {
    /// AKS or ACI.
    pub compute_type: Option<ComputeType>,
    /// How callers prove themselves.
    pub auth_mode: Option<AuthMode>,
    /// Digest of the primary key.
    pub primary: Option<DigestDocument>,
    /// Digest of the secondary key.
    pub secondary: Option<DigestDocument>,
    /// Tokens issued before this Unix second are revoked.
    pub tokens_not_before: u64,
    /// Hosts of the service, in canonical form.
    pub hosts: Vec<String>,
    /// Path prefixes of the service.
    pub path_prefixes: Vec<String>,
    /// Until this Unix second refused credentials are let through; 0 for never.
    pub shadow_until: u64,
    /// Whether it says more than this version understands, which may be a restriction.
    pub has_unknown_fields: bool,
}

/// A key digest as it was sent.
#[derive(Clone)]
pub struct DigestDocument {
    /// 32 bytes.
    pub digest: Vec<u8>,
    /// Id of the pepper.
    pub pepper_id: String,
}

impl fmt::Debug for DigestDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestDocument").field("pepper_id", &self.pepper_id).finish_non_exhaustive()
    }
}

/// Why nothing can be decided by a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// It could not be decoded.
    #[error("the policy cannot be decoded")]
    Undecodable,
    /// It may be restricted in a way that this version does not know.
    #[error("the policy has a field that this version does not know")]
    UnknownField,
    /// No auth mode, or one that this version does not know.
    #[error("the auth mode is missing or unknown")]
    AuthMode,
    /// No compute type, or one that this version does not know.
    #[error("the compute type is missing or unknown")]
    ComputeType,
    /// Tokens on ACI.
    #[error("an ACI service cannot be in token mode")]
    TokenOnAci,
    /// A digest that no key has.
    #[error("the digest of the {0} key is missing or impossible")]
    Digest(Slot),
    /// A digest under a pepper that this gate does not have.
    #[error("the digest of the {slot} key is under pepper `{pepper_id}`, which is not configured here")]
    UnknownPepper {
        /// Whose digest.
        slot: Slot,
        /// The pepper's id.
        pepper_id: String,
    },
    /// Primary and secondary are one key.
    #[error("primary and secondary key are the same")]
    EqualKeys,
    /// A host that is not in canonical form; wildcards are not offered.
    #[error("`{0}` is not a host name in lower case without port")]
    Host(String),
    /// A path prefix that servers may read differently.
    #[error("`{0}` is not a plain path prefix")]
    PathPrefix(String),
}

/// A service as a decision sees it.
#[derive(Debug)]
pub struct Service {
    uid: ServiceUid,
    name: ServiceName,
    places: Places,
    /// As a Unix second; 0 for never.
    shadow_until: u64,
    access: Result<Access, InvalidPolicy>,
}

/// Where a service is found: each of its hosts with each of its path prefixes. Those that no request has are left out.
///
/// Each list is one text, with a line for each member: they are kept for every service, and are seldom read.
#[derive(Debug, Default)]
struct Places {
    hosts: Box<str>,
    path_prefixes: Box<str>,
}

/// Who may score.
#[derive(Debug)]
pub(crate) enum Access {
    Open,
    Keys(Keys),
    Tokens { not_before: u64, uses: SharedCounter },
}

impl Service {
    /// Takes the policy of a service. An invalid one makes a service for which nothing can be decided.
    ///
    /// `document` is `None` where it could not be decoded.
    #[must_use]
    pub fn new(
        uid: ServiceUid,
        name: ServiceName,
        document: Option<PolicyDocument>,
        peppers: &Peppers,
    ) -> Self {
        let Some(document) = document else {
            let access = Err(InvalidPolicy::Undecodable);
            return Self { uid, name, places: Places::default(), shadow_until: 0, access };
        };
        let access = check_known(&document)
            .and_then(|()| check_places(&document))
            .and_then(|()| Access::new(&uid, &document, peppers));
        let places = Places::new(&document);
        Self { uid, name, places, shadow_until: document.shadow_until, access }
    }

    /// Its identity.
    #[must_use]
    pub fn uid(&self) -> &ServiceUid {
        &self.uid
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// How callers prove themselves; `None` if the policy is invalid.
    #[must_use]
    pub fn auth_mode(&self) -> Option<AuthMode> {
        self.access.as_ref().ok().map(|access| match access {
            Access::Open => AuthMode::Disabled,
            Access::Keys(_) => AuthMode::Key,
            Access::Tokens { .. } => AuthMode::Token,
        })
    }

    /// Until when it is, or was, in shadow; `None` where nothing was said of it, or there is nothing to refuse.
    #[must_use]
    pub fn shadow_until(&self) -> Option<UnixTime> {
        let refuses = matches!(self.access, Ok(Access::Keys(_) | Access::Tokens { .. }));
        (refuses && self.shadow_until > 0).then(|| UnixTime::from_secs(self.shadow_until))
    }

    /// For how long it is still in shadow; `None` if it is not.
    ///
    /// One that would last for longer than any may, by the gate's own clock, is none: a wrong clock somewhere must not
    /// open a service for good.
    #[must_use]
    pub fn shadow_left(&self, now: UnixTime) -> Option<Duration> {
        let left = self.shadow_until()?.checked_sub(now)?;
        Some(left).filter(|left| !left.is_zero() && *left <= MAX_SHADOW + MAX_CLOCK_SKEW)
    }

    /// Counts a use of the credential that earned a permit of this service.
    pub fn note_use(&self, permit: &Permit, now: UnixTime) {
        match (&self.access, permit.key_slot(), permit.subject()) {
            (Ok(Access::Keys(keys)), Some(slot), _) => keys.slot(slot).uses.note(now),
            (Ok(Access::Tokens { uses, .. }), _, Some(_)) => uses.note(now),
            _ => {}
        }
    }

    /// The uses since they were last taken: who takes them has to keep them.
    pub fn take_uses(&self) -> impl Iterator<Item = Uses> {
        let counters = match &self.access {
            Ok(Access::Keys(keys)) => {
                let key = |slot| {
                    let key = keys.slot(slot);
                    Some((UsedCredential::Key(slot, key.fingerprint()), &key.uses))
                };
                Slot::ALL.map(key)
            }
            Ok(Access::Tokens { uses, .. }) => [Some((UsedCredential::Token, uses)), None],
            Ok(Access::Open) | Err(_) => [None, None],
        };
        counters.into_iter().flatten().filter_map(|(credential, counter)| counter.take(credential))
    }

    /// Takes the place of an older policy of the same service: uses of credentials that stay go on being counted.
    pub(crate) fn succeed(&self, before: &Self) {
        match (&self.access, &before.access) {
            (Ok(Access::Keys(keys)), Ok(Access::Keys(before))) => keys.succeed(before),
            (Ok(Access::Tokens { uses, .. }), Ok(Access::Tokens { uses: before, .. })) => uses.share(before),
            _ => {}
        }
    }

    /// What is wrong with the policy, if anything is.
    #[must_use]
    pub fn problem(&self) -> Option<&InvalidPolicy> {
        self.access.as_ref().err()
    }

    pub(crate) fn access(&self) -> Result<&Access, &InvalidPolicy> {
        self.access.as_ref()
    }

    /// A host and a path prefix that it declares, by their number from 0; `None` beyond the last.
    pub(crate) fn place(&self, number: usize) -> Option<(&str, &str)> {
        self.places.get(number)
    }
}

impl Places {
    fn new(document: &PolicyDocument) -> Self {
        let hosts = lines(document.hosts.iter().filter(|host| is_canonical(host)));
        if hosts.is_empty() {
            // A prefix alone is no place.
            return Self::default();
        }
        Self {
            hosts,
            path_prefixes: lines(document.path_prefixes.iter().filter(|prefix| is_path_prefix(prefix))),
        }
    }

    fn get(&self, number: usize) -> Option<(&str, &str)> {
        let count = self.path_prefixes.lines().count();
        let host = self.hosts.lines().nth(number.checked_div(count)?)?;
        Some((host, self.path_prefixes.lines().nth(number % count)?))
    }
}

fn lines<'a>(texts: impl Iterator<Item = &'a String>) -> Box<str> {
    texts.map(String::as_str).collect::<Vec<_>>().join("\n").into()
}

fn is_canonical(host: &str) -> bool {
    canonical_host(host, PortRule::Any).is_some_and(|canonical| canonical == host)
}

fn check_known(document: &PolicyDocument) -> Result<(), InvalidPolicy> {
    if document.has_unknown_fields { Err(InvalidPolicy::UnknownField) } else { Ok(()) }
}

fn check_places(document: &PolicyDocument) -> Result<(), InvalidPolicy> {
    if let Some(host) = document.hosts.iter().find(|host| !is_canonical(host)) {
        return Err(InvalidPolicy::Host(host.clone()));
    }
    match document.path_prefixes.iter().find(|prefix| !is_path_prefix(prefix)) {
        Some(prefix) => Err(InvalidPolicy::PathPrefix(prefix.clone())),
        None => Ok(()),
    }
}

impl Access {
    fn new(uid: &ServiceUid, document: &PolicyDocument, peppers: &Peppers) -> Result<Self, InvalidPolicy> {
        let compute_type = document.compute_type.ok_or(InvalidPolicy::ComputeType)?;
        match document.auth_mode.ok_or(InvalidPolicy::AuthMode)? {
            AuthMode::Disabled => Ok(Self::Open),
            AuthMode::Key => {
                let primary = digest(uid, Slot::Primary, document.primary.as_ref(), peppers)?;
                let secondary = digest(uid, Slot::Secondary, document.secondary.as_ref(), peppers)?;
                if primary.is_same(&secondary) {
                    return Err(InvalidPolicy::EqualKeys);
                }
                Ok(Self::Keys(Keys::new(primary, secondary)))
            }
            AuthMode::Token if compute_type == ComputeType::Aci => Err(InvalidPolicy::TokenOnAci),
            AuthMode::Token => {
                let uses = SharedCounter::default();
                Ok(Self::Tokens { not_before: document.tokens_not_before, uses })
            }
        }
    }
}

fn digest(
    uid: &ServiceUid,
    slot: Slot,
    document: Option<&DigestDocument>,
    peppers: &Peppers,
) -> Result<PepperedDigest, InvalidPolicy> {
    let document = document.ok_or(InvalidPolicy::Digest(slot))?;
    let pepper = peppers
        .find(&document.pepper_id)
        .ok_or_else(|| InvalidPolicy::UnknownPepper { slot, pepper_id: document.pepper_id.clone() })?;
    KeyDigest::from_bytes(&document.digest)
        .map(|digest| PepperedDigest::new(digest, pepper.clone()))
        .filter(|digest| !digest.is_of_nothing(uid))
        .ok_or(InvalidPolicy::Digest(slot))
}
