//! Policy entries on the wire: what the workspace writes and gates read.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use scoregate_authz::{
    AuthMode, ComputeType, DigestDocument, Entry, EntryChange, EntryId, Item, Peppers, PolicyDocument,
    Service, ServiceName, ServiceUid, VerificationKey,
};

use crate::proto::scoregate::policy::v1 as wire;

/// Why an entry cannot be taken at all. What an entry says of itself being wrong is not one of these: it concerns one
/// service or key, not the feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// No kind.
    #[error("an entry without a kind")]
    Kind,
    /// Its id or name cannot be one.
    #[error("an entry with an impossible id or name")]
    Identity,
    /// A tombstone where there is nothing to remove.
    #[error("a tombstone in a complete snapshot")]
    Tombstone,
}

/// Reads an entry of a complete snapshot.
///
/// # Errors
/// It cannot be placed, or is a tombstone.
pub fn entry(entry: wire::Entry, peppers: &Peppers) -> Result<Entry, BadEntry> {
    match change(entry, peppers)? {
        EntryChange::Put(entry) => Ok(entry),
        EntryChange::Delete(_) => Err(BadEntry::Tombstone),
    }
}

/// Reads an entry of a change.
///
/// # Errors
/// It cannot be placed.
pub fn change(entry: wire::Entry, peppers: &Peppers) -> Result<EntryChange, BadEntry> {
    let kind = u32::try_from(entry.kind).ok().filter(|kind| *kind != 0).ok_or(BadEntry::Kind)?;
    if entry.id.is_empty() {
        return Err(BadEntry::Identity);
    }
    let id = EntryId { kind, id: entry.id.as_str().into() };
    if entry.deleted {
        return Ok(EntryChange::Delete(id));
    }
    let name: Arc<str> = entry.name.as_str().into();
    let item = match wire::EntryKind::try_from(entry.kind) {
        Ok(wire::EntryKind::Service) => {
            let uid = Arc::clone(&id.id).try_into().map_err(|_| BadEntry::Identity)?;
            let name = Arc::clone(&name).try_into().map_err(|_| BadEntry::Identity)?;
            let document = decode(&entry.content).map(policy_document);
            Item::Service(Arc::new(Service::new(uid, name, document, peppers)))
        }
        Ok(wire::EntryKind::VerificationKey) => verification_key(&entry),
        Ok(wire::EntryKind::Unspecified) | Err(_) => Item::Unused,
    };
    Ok(EntryChange::Put(Entry::new(id, name, entry.content, item)))
}

/// Writes an entry again, as it was read.
#[must_use]
pub fn to_wire(entry: &Entry) -> wire::Entry {
    wire::Entry {
        kind: i32::try_from(entry.id().kind).unwrap_or_default(),
        id: entry.id().id.to_string(),
        name: entry.name().to_owned(),
        content: entry.content().to_vec(),
        deleted: false,
    }
}

/// The message, and whether there was more in it than this version knows.
///
/// What is decoded and encoded again is as long as it was unless something was left out, since a workspace writes no
/// field that has its default value.
fn decode<M: Message + Default>(content: &[u8]) -> Option<(M, bool)> {
    let message = M::decode(content).ok()?;
    let has_unknown_fields = message.encoded_len() != content.len();
    Some((message, has_unknown_fields))
}

/// Writes the policy of a service.
pub(crate) fn service_entry(
    uid: &ServiceUid,
    name: &ServiceName,
    policy: &wire::ServicePolicy,
) -> wire::Entry {
    wire::Entry {
        kind: wire::EntryKind::Service.into(),
        id: uid.to_string(),
        name: name.to_string(),
        content: policy.encode_to_vec(),
        deleted: false,
    }
}

/// Writes a verification key.
pub(crate) fn verification_key_entry(id: &str, key: &wire::VerificationKey) -> wire::Entry {
    wire::Entry {
        kind: wire::EntryKind::VerificationKey.into(),
        id: id.to_owned(),
        name: String::new(),
        content: key.encode_to_vec(),
        deleted: false,
    }
}

pub(crate) fn compute_type(compute_type: ComputeType) -> wire::ComputeType {
    match compute_type {
        ComputeType::Aks => wire::ComputeType::Aks,
        ComputeType::Aci => wire::ComputeType::Aci,
    }
}

pub(crate) fn auth_mode(mode: AuthMode) -> wire::AuthMode {
    match mode {
        AuthMode::Disabled => wire::AuthMode::Disabled,
        AuthMode::Key => wire::AuthMode::Key,
        AuthMode::Token => wire::AuthMode::Token,
    }
}

fn verification_key(entry: &wire::Entry) -> Item {
    let usable = decode::<wire::VerificationKey>(&entry.content)
        .filter(|(_, has_unknown_fields)| !has_unknown_fields)
        .ok_or_else(|| "it cannot be decoded, or has a field that this version does not know".to_owned())
        .and_then(|(key, _)| {
            let lifetime = Duration::from_secs(key.max_lifetime_seconds);
            VerificationKey::new(&key.jwk, key.issuer, lifetime).map_err(|error| error.to_string())
        })
        .and_then(|key| {
            let same = key.id() == entry.id;
            if same { Ok(key) } else { Err("its `kid` is not the id of its entry".to_owned()) }
        });
    match usable {
        Ok(key) => Item::VerificationKey(Arc::new(key)),
        Err(error) => {
            tracing::warn!(key_id = entry.id, error, "a verification key is not used");
            Item::Unused
        }
    }
}

fn policy_document((policy, has_unknown_fields): (wire::ServicePolicy, bool)) -> PolicyDocument {
    PolicyDocument {
        has_unknown_fields,
        compute_type: match policy.compute_type() {
            wire::ComputeType::Aks => Some(ComputeType::Aks),
            wire::ComputeType::Aci => Some(ComputeType::Aci),
            wire::ComputeType::Unspecified => None,
        },
        auth_mode: match policy.auth_mode() {
            wire::AuthMode::Disabled => Some(AuthMode::Disabled),
            wire::AuthMode::Key => Some(AuthMode::Key),
            wire::AuthMode::Token => Some(AuthMode::Token),
            wire::AuthMode::Unspecified => None,
        },
        primary: policy.primary.map(digest_document),
        secondary: policy.secondary.map(digest_document),
        tokens_not_before: policy.tokens_not_before,
        hosts: policy.hosts,
        path_prefixes: policy.path_prefixes,
        shadow_until: policy.shadow_until,
    }
}

fn digest_document(digest: wire::KeyDigest) -> DigestDocument {
    DigestDocument { digest: digest.digest, pepper_id: digest.pepper_id }
}
