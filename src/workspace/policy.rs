//! Policy as gates get it: entries made of what the workspace knows.

use std::time::Duration;

use prost::Message;
use scoregate_authz::{AuthMode, EntryId, KeyDigest, KeyFingerprint, Pepper, ServiceUid, Slot, UnixTime};

use super::domain::{KeyPair, ServiceRecord};
use super::signer::SigningKey;
use super::store::EntryWrite;
use crate::policy_wire::{auth_mode, compute_type};
use crate::proto::scoregate::policy::v1 as wire;

/// The entry of a service. Its keys go into it, as digests, in key mode only.
pub(super) fn service_entry(record: &ServiceRecord, keys: &KeyPair, pepper: &Pepper) -> EntryWrite {
    let in_key_mode = record.auth_mode == AuthMode::Key;
    let digest = |key| {
        let digest = pepper.digest(&record.uid, key).as_bytes().to_vec();
        in_key_mode.then(|| wire::KeyDigest { digest, pepper_id: pepper.id().to_owned() })
    };
    let policy = wire::ServicePolicy {
        compute_type: compute_type(record.compute_type).into(),
        auth_mode: auth_mode(record.auth_mode).into(),
        primary: digest(&keys.primary),
        secondary: digest(&keys.secondary),
        tokens_not_before: record.tokens_not_before,
        hosts: record.hosts.clone(),
        path_prefixes: record.path_prefixes.clone(),
        shadow_until: record.shadow_until.map_or(0, |until| until.as_second().unsigned_abs()),
    };
    EntryWrite {
        id: service_id(&record.uid),
        name: record.name.to_string(),
        content: Some(policy.encode_to_vec()),
    }
}

/// The tombstone of a service.
pub(super) fn service_tombstone(uid: &ServiceUid) -> EntryWrite {
    EntryWrite { id: service_id(uid), name: String::new(), content: None }
}

/// The entry of the public half of a signing key.
pub(super) fn verification_key_entry(key: &SigningKey, issuer: &str, max_lifetime: Duration) -> EntryWrite {
    let verification_key = wire::VerificationKey {
        jwk: key.jwk.to_string(),
        issuer: issuer.to_owned(),
        max_lifetime_seconds: max_lifetime.as_secs(),
    };
    let content = Some(verification_key.encode_to_vec());
    EntryWrite { id: verification_key_id(&key.id), name: String::new(), content }
}

/// The tombstone of a signing key.
pub(super) fn verification_key_tombstone(id: &str) -> EntryWrite {
    EntryWrite { id: verification_key_id(id), name: String::new(), content: None }
}

/// The auth mode that an entry says, if it is a service's.
pub(super) fn auth_mode_of(id: &EntryId, content: &[u8]) -> Option<AuthMode> {
    if id.kind != kind(wire::EntryKind::Service) {
        return None;
    }
    match wire::ServicePolicy::decode(content).ok()?.auth_mode() {
        wire::AuthMode::Unspecified => None,
        wire::AuthMode::Disabled => Some(AuthMode::Disabled),
        wire::AuthMode::Key => Some(AuthMode::Key),
        wire::AuthMode::Token => Some(AuthMode::Token),
    }
}

/// Until when an entry says that its service is in shadow, if it does.
pub(super) fn shadow_until(id: &EntryId, content: &[u8]) -> Option<UnixTime> {
    if id.kind != kind(wire::EntryKind::Service) {
        return None;
    }
    let until = wire::ServicePolicy::decode(content).ok()?.shadow_until;
    (until > 0).then(|| UnixTime::from_secs(until))
}

/// The fingerprint of a key in the policy of a service, which has keys in key mode only.
pub(super) fn key_fingerprint(content: &[u8], slot: Slot) -> Option<KeyFingerprint> {
    let policy = wire::ServicePolicy::decode(content).ok()?;
    let digest = match slot {
        Slot::Primary => policy.primary,
        Slot::Secondary => policy.secondary,
    };
    KeyDigest::from_bytes(&digest?.digest).map(|digest| digest.fingerprint())
}

pub(super) fn service_id(uid: &ServiceUid) -> EntryId {
    EntryId { kind: kind(wire::EntryKind::Service), id: uid.as_str().into() }
}

fn verification_key_id(id: &str) -> EntryId {
    EntryId { kind: kind(wire::EntryKind::VerificationKey), id: id.into() }
}

fn kind(kind: wire::EntryKind) -> u32 {
    i32::from(kind).unsigned_abs()
}
