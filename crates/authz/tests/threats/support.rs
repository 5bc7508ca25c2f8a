//! A world to try things in: services with keys or tokens, a snapshot of them, and one call that decides a request.

mod cache;
mod request;
mod signer;

use std::sync::Arc;
use std::time::Duration;

use scoregate_authz::{
    AuthMode, ComputeType, CredentialHeaders, Decision, DenyReason, DigestDocument, Entry, EntryChange,
    EntryId, Item, KeyDigest, Pepper, Peppers, Permit, PlainKey, Policy, PolicyDocument, PortRule,
    ProofCache, RefusedState, Rules, Service, ServiceUid, Slot, Snapshot, StateHash, TargetSource,
    UndecidedReason, UnixTime, Verdict, Version, check, entry_hash, state_hash,
};

pub(crate) use cache::Cache;
pub(crate) use request::{Encoding, Request};
pub(crate) use signer::{
    EDDSA, ES256, ISSUER, MAX_LIFETIME, OTHER_ES256, RS256, Signer, claims, claims_with, encode,
};

/// The second at which all is decided, unless a test says otherwise.
pub(crate) const NOW: u64 = 1_999_990_000;

/// The primary key of the service in question, chosen by its owner.
pub(crate) const K1: &str = "primary-key-of-scorer";
/// Its secondary key.
pub(crate) const K2: &str = "secondary-key-of-scorer";
/// A key that looks like one and is nobody's.
pub(crate) const WRONG_KEY: &str = "a-key-that-nobody-has";

/// The service in question, and its uid.
pub(crate) const SCORER: (&str, &str) = ("scorer", "uid-1");
/// Another service, made later.
pub(crate) const OTHER: (&str, &str) = ("other", "uid-2");

const SERVICE_KIND: u32 = 1;
const KEY_KIND: u32 = 2;

/// A decision in a form that can be written down and compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Open,
    Key(Slot),
    Subject(String),
    /// Let through by shadow alone.
    Shadow(DenyReason),
    /// The caller presented something, and this is why it was refused.
    Refused(DenyReason),
    /// Refused, and the caller presented nothing (or it was not looked at).
    RefusedBare(DenyReason),
    Undecided(UndecidedReason),
}

/// All that the answer to the client may depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Allow,
    BadRequest,
    Unauthorized { credential_presented: bool },
    Unavailable,
}

impl Outcome {
    pub(crate) fn answer(&self) -> Answer {
        use DenyReason::{AmbiguousPath, NoHttp};
        match self {
            Self::Open | Self::Key(_) | Self::Subject(_) | Self::Shadow(_) => Answer::Allow,
            Self::Refused(AmbiguousPath | NoHttp) | Self::RefusedBare(AmbiguousPath | NoHttp) => {
                Answer::BadRequest
            }
            Self::Refused(_) => Answer::Unauthorized { credential_presented: true },
            Self::RefusedBare(_) => Answer::Unauthorized { credential_presented: false },
            Self::Undecided(_) => Answer::Unavailable,
        }
    }
}

impl From<&Decision> for Outcome {
    fn from(decision: &Decision) -> Self {
        match decision {
            Decision::Allow(permit) => Self::from(permit),
            Decision::Deny(denial) if denial.credential_presented => Self::Refused(denial.reason),
            Decision::Deny(denial) => Self::RefusedBare(denial.reason),
            Decision::Undecided(reason) => Self::Undecided(*reason),
        }
    }
}

impl From<&Permit> for Outcome {
    fn from(permit: &Permit) -> Self {
        match (permit.auth_mode(), permit.key_slot(), permit.subject(), permit.would_be()) {
            (Some(AuthMode::Disabled), None, None, None) => Self::Open,
            (Some(AuthMode::Key), Some(slot), None, None) => Self::Key(slot),
            (Some(AuthMode::Token), None, Some(subject), None) => Self::Subject(subject.to_owned()),
            (None, None, None, Some(reason)) => Self::Shadow(reason),
            contradiction => panic!("a permit that contradicts itself: {contradiction:?}"),
        }
    }
}

/// Rules of a listener, and a snapshot.
pub(crate) struct World {
    pub(crate) rules: Rules,
    pub(crate) snapshot: Snapshot,
    pub(crate) now: UnixTime,
}

impl World {
    /// A listener that goes by `context_extensions`, over these entries.
    pub(crate) fn of(entries: Vec<Entry>) -> Self {
        let rules = Rules {
            target: TargetSource::ContextExtensions,
            ports: PortRule::Any,
            credential_headers: CredentialHeaders::default(),
            clock_skew: Duration::ZERO,
            peppers: peppers(),
        };
        Self { rules, snapshot: snapshot_of(entries).unwrap(), now: Duration::from_secs(NOW) }
    }

    /// [`SCORER`] with [`K1`] and [`K2`].
    pub(crate) fn with_keys() -> Self {
        Self::of(vec![key_service(SCORER, K1, K2)])
    }

    /// [`SCORER`] in token mode, and a key to prove tokens with.
    pub(crate) fn with_tokens() -> Self {
        Self::of(vec![token_service(SCORER), ES256.entry()])
    }

    pub(crate) fn by_host(mut self, ports: PortRule) -> Self {
        self.rules.target = TargetSource::HostPath;
        self.rules.ports = ports;
        self
    }

    pub(crate) fn credential_headers(mut self, names: &[&str]) -> Self {
        let names = names.iter().copied().map(str::to_owned).collect();
        self.rules.credential_headers = CredentialHeaders::new(names).unwrap();
        self
    }

    pub(crate) fn clock_skew(mut self, skew: Duration) -> Self {
        self.rules.clock_skew = skew;
        self
    }

    pub(crate) fn at(mut self, now: Duration) -> Self {
        self.now = now;
        self
    }

    /// Takes a change, as from the feed.
    pub(crate) fn change(&mut self, changes: Vec<EntryChange>) {
        self.snapshot = changed(&self.snapshot, changes).unwrap();
    }

    pub(crate) fn decide(&self, request: &Request) -> Outcome {
        self.decide_with(request, &())
    }

    pub(crate) fn decide_with(&self, request: &Request, proofs: &impl ProofCache) -> Outcome {
        Outcome::from(&self.verdict(request, proofs).decision)
    }

    pub(crate) fn verdict(&self, request: &Request, proofs: &impl ProofCache) -> Verdict {
        check(&self.rules, Policy::Current(&self.snapshot), Some(request), self.now, proofs, &mut ())
    }

    /// The steps of a decision, as `explain` shows them.
    pub(crate) fn steps(&self, request: &Request) -> String {
        let mut steps: Vec<(&'static str, String)> = Vec::new();
        check(&self.rules, Policy::Current(&self.snapshot), Some(request), self.now, &(), &mut steps);
        format!("{steps:?}")
    }
}

pub(crate) fn pepper() -> Pepper {
    Pepper::new(PEPPER).unwrap()
}

pub(crate) const PEPPER: &[u8] = b"a pepper of thirty-two bytes, or more";

pub(crate) fn peppers() -> Peppers {
    Peppers::new(vec![pepper()]).unwrap()
}

/// A generated key, always the same for one seed.
pub(crate) fn generated_key(seed: u8) -> PlainKey {
    let mut next = seed;
    PlainKey::generate(|buffer| {
        for byte in buffer {
            *byte = next;
            next = next.wrapping_mul(5).wrapping_add(3);
        }
    })
}

pub(crate) fn key_digest(uid: &str, key: &str) -> KeyDigest {
    pepper().digest(&uid.parse::<ServiceUid>().unwrap(), &PlainKey::choose(key).unwrap())
}

pub(crate) fn digest_document(digest: &[u8]) -> DigestDocument {
    DigestDocument { digest: digest.to_vec(), pepper_id: pepper().id().to_owned() }
}

pub(crate) fn key_policy(uid: &str, primary: &str, secondary: &str) -> PolicyDocument {
    PolicyDocument {
        compute_type: Some(ComputeType::Aks),
        auth_mode: Some(AuthMode::Key),
        primary: Some(digest_document(key_digest(uid, primary).as_bytes())),
        secondary: Some(digest_document(key_digest(uid, secondary).as_bytes())),
        ..PolicyDocument::default()
    }
}

pub(crate) fn token_policy() -> PolicyDocument {
    PolicyDocument {
        compute_type: Some(ComputeType::Aks),
        auth_mode: Some(AuthMode::Token),
        ..PolicyDocument::default()
    }
}

pub(crate) fn open_policy() -> PolicyDocument {
    PolicyDocument { auth_mode: Some(AuthMode::Disabled), ..token_policy() }
}

pub(crate) fn key_service((name, uid): (&str, &str), primary: &str, secondary: &str) -> Entry {
    service((name, uid), Some(key_policy(uid, primary, secondary)))
}

pub(crate) fn token_service(names: (&str, &str)) -> Entry {
    service(names, Some(token_policy()))
}

/// The same policy at a place.
pub(crate) fn at_place(policy: PolicyDocument, host: &str, path_prefix: &str) -> PolicyDocument {
    PolicyDocument { hosts: vec![host.to_owned()], path_prefixes: vec![path_prefix.to_owned()], ..policy }
}

/// An entry of a service, as it would be read from the feed.
pub(crate) fn service((name, uid): (&str, &str), policy: Option<PolicyDocument>) -> Entry {
    let content = policy.as_ref().map_or_else(|| b"\xff".to_vec(), content_of);
    let service = Service::new(uid.parse().unwrap(), name.parse().unwrap(), policy, &peppers());
    Entry::new(service_id(uid), name.to_owned(), content, Item::Service(Arc::new(service)))
}

/// Not the real encoding, but as different for different policies.
fn content_of(policy: &PolicyDocument) -> Vec<u8> {
    let digests = [&policy.primary, &policy.secondary].into_iter().flatten();
    let digests: Vec<&[u8]> = digests.map(|digest| digest.digest.as_slice()).collect();
    format!("{policy:?} {digests:?}").into_bytes()
}

pub(crate) fn service_id(uid: &str) -> EntryId {
    EntryId { kind: SERVICE_KIND, id: uid.into() }
}

pub(crate) fn key_id(kid: &str) -> EntryId {
    EntryId { kind: KEY_KIND, id: kid.into() }
}

/// The hash that the workspace would state of these entries.
pub(crate) fn hash_of<'a>(entries: impl Iterator<Item = &'a Entry>) -> StateHash {
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(|entry| entry.id());
    let hashes: Vec<_> =
        entries.iter().map(|entry| entry_hash(entry.id(), entry.name(), entry.content())).collect();
    state_hash(hashes.iter())
}

pub(crate) fn snapshot_of(entries: Vec<Entry>) -> Result<Snapshot, RefusedState> {
    let stated = hash_of(entries.iter());
    Snapshot::new("a-workspace".into(), Version { epoch: 1, revision: 1 }, entries, stated)
}

/// The snapshot after a change, with the hash that the workspace would state.
pub(crate) fn changed(before: &Snapshot, changes: Vec<EntryChange>) -> Result<Snapshot, RefusedState> {
    let touched: Vec<&EntryId> = changes
        .iter()
        .map(|change| match change {
            EntryChange::Put(entry) => entry.id(),
            EntryChange::Delete(id) => id,
        })
        .collect();
    let kept: Vec<_> = before.entries().filter(|entry| !touched.contains(&entry.id())).collect();
    let put = changes.iter().filter_map(|change| match change {
        EntryChange::Put(entry) => Some(entry),
        EntryChange::Delete(_) => None,
    });
    let stated = hash_of(kept.iter().chain(put));
    let from = before.version();
    let to = Version { revision: from.revision + 1, ..from };
    before.apply(from, to, changes, stated)
}
