//! Policy for tests: services with keys, as a workspace would send them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use scoregate_authz::{
    EntryId, Pepper, Peppers, PlainKey, Snapshot, StateHash, UnixTime, Version, entry_hash, state_hash,
};

use super::disk::Disk;
use super::keeper::{Keeper, Trust};
use super::metrics::GateMetrics;
use super::state::{Assembly, Proven};
use crate::clock::SystemClock;
use crate::metrics::Metrics;
use crate::proto::scoregate::policy::v1 as wire;
use crate::statement::{PolicyKey, Statement, TrustedPolicyKeys};

pub(crate) const WORKSPACE: &str = "a-workspace";

fn pepper() -> Pepper {
    Pepper::new(&[7; 32]).unwrap()
}

pub(crate) fn peppers() -> Peppers {
    Peppers::new(vec![pepper()]).unwrap()
}

pub(crate) fn version(epoch: u64, revision: u64) -> Version {
    Version { epoch, revision }
}

/// A service whose uid and keys are made from its name and `generation`.
pub(crate) fn key_service(name: &str, generation: u32) -> wire::Entry {
    service(name, &key_policy(name, generation))
}

/// The same, in shadow until this second.
pub(crate) fn shadow_service(name: &str, until: u64) -> wire::Entry {
    service(name, &wire::ServicePolicy { shadow_until: until, ..key_policy(name, 1) })
}

fn key_policy(name: &str, generation: u32) -> wire::ServicePolicy {
    let uid = format!("uid-{name}");
    let digest = |slot: &str| {
        let key = PlainKey::choose(&key(name, slot, generation)).unwrap();
        let digest = pepper().digest(&uid.parse().unwrap(), &key);
        wire::KeyDigest { digest: digest.as_bytes().to_vec(), pepper_id: pepper().id().to_owned() }
    };
    wire::ServicePolicy {
        compute_type: wire::ComputeType::Aks.into(),
        auth_mode: wire::AuthMode::Key.into(),
        primary: Some(digest("primary")),
        secondary: Some(digest("secondary")),
        ..wire::ServicePolicy::default()
    }
}

pub(crate) fn open_service(name: &str) -> wire::Entry {
    service(
        name,
        &wire::ServicePolicy {
            compute_type: wire::ComputeType::Aks.into(),
            auth_mode: wire::AuthMode::Disabled.into(),
            ..wire::ServicePolicy::default()
        },
    )
}

fn service(name: &str, policy: &wire::ServicePolicy) -> wire::Entry {
    wire::Entry {
        kind: wire::EntryKind::Service.into(),
        id: format!("uid-{name}"),
        name: name.to_owned(),
        content: policy.encode_to_vec(),
        deleted: false,
    }
}

pub(crate) fn key(name: &str, slot: &str, generation: u32) -> String {
    format!("{slot}-key-of-{name}-{generation}")
}

/// The hash over these entries, which no two have the same id.
pub(crate) fn hash_of(entries: &[wire::Entry]) -> StateHash {
    let mut hashes: Vec<_> = entries
        .iter()
        .map(|entry| {
            let id = EntryId { kind: u32::try_from(entry.kind).unwrap(), id: entry.id.as_str().into() };
            let hash = entry_hash(&id, &entry.name, &entry.content);
            (id, hash)
        })
        .collect();
    hashes.sort();
    state_hash(hashes.iter().map(|(_, hash)| hash))
}

/// A complete snapshot in parts of `size` entries.
pub(crate) fn parts(at: Version, entries: &[wire::Entry], size: usize) -> Vec<wire::SnapshotPart> {
    let part = |(index, entries): (usize, &[wire::Entry]), total: usize| wire::SnapshotPart {
        workspace: WORKSPACE.to_owned(),
        epoch: at.epoch,
        revision: at.revision,
        total: total as u64,
        offset: (index * size) as u64,
        entries: entries.to_vec(),
        state_hash: Vec::new(),
        statement: None,
    };
    let mut parts: Vec<_> =
        entries.chunks(size).enumerate().map(|chunk| part(chunk, entries.len())).collect();
    if parts.is_empty() {
        parts.push(part((0, &[]), 0));
    }
    let hash = hash_of(entries).0.to_vec();
    parts.iter_mut().for_each(|part| part.state_hash.clone_from(&hash));
    parts[0].statement = Some(statement(at, entries));
    parts
}

/// The change that puts `entries` and after which there are `all`.
pub(crate) fn change(
    epoch: u64,
    from: u64,
    to: u64,
    entries: Vec<wire::Entry>,
    all: &[wire::Entry],
) -> wire::Change {
    wire::Change {
        epoch,
        from_revision: from,
        revision: to,
        entries,
        state_hash: hash_of(all).0.to_vec(),
        committed_at: None,
        statement: Some(statement(version(epoch, to), all)),
    }
}

pub(crate) fn snapshot(at: Version, entries: &[wire::Entry]) -> Snapshot {
    let mut parts = parts(at, entries, entries.len().max(1)).into_iter();
    super::state::Assembly::begin(parts.next().unwrap(), &peppers()).unwrap().build().unwrap().0
}

/// The same with its statement.
pub(crate) fn proven(at: Version, entries: &[wire::Entry]) -> Proven {
    Proven::new(snapshot(at, entries), Some(statement(at, entries)), &trust().policy_keys).unwrap()
}

/// When the statements of tests are issued.
pub(crate) const ISSUED_AT: UnixTime = UnixTime::from_secs(1_000);

pub(crate) fn policy_key() -> PolicyKey {
    // The example of RFC 8410, section 10.3.
    let key = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    PolicyKey::from_pem(key).unwrap()
}

/// That these are all entries.
pub(crate) fn statement(at: Version, entries: &[wire::Entry]) -> wire::Statement {
    statement_at(at, entries, ISSUED_AT)
}

pub(crate) fn statement_at(
    version: Version,
    entries: &[wire::Entry],
    issued_at: UnixTime,
) -> wire::Statement {
    statement_by(&policy_key(), version, entries, issued_at)
}

pub(crate) fn statement_by(
    key: &PolicyKey,
    version: Version,
    entries: &[wire::Entry],
    issued_at: UnixTime,
) -> wire::Statement {
    let (workspace, state_hash) = (WORKSPACE.to_owned(), hash_of(entries));
    key.sign(&Statement { workspace, version, state_hash, issued_at })
}

/// That the workspace still has these entries.
pub(crate) fn heartbeat(at: Version, entries: &[wire::Entry], statement: wire::Statement) -> wire::Heartbeat {
    let Version { epoch, revision } = at;
    let state_hash = hash_of(entries).0.to_vec();
    wire::Heartbeat { epoch, revision, state_hash, sent_at: None, statement: Some(statement) }
}

/// A keeper with its files below this directory.
pub(crate) fn keeper(data: &Path, trust: Trust) -> Keeper {
    let metrics = GateMetrics::register(&Metrics::default(), Arc::new(SystemClock)).policy;
    Keeper::new(Disk::open(&data.join("gate")).unwrap(), trust, metrics)
}

/// Gives it these entries as a snapshot.
pub(crate) fn give(keeper: &Keeper, at: Version, entries: &[wire::Entry]) {
    let whole = parts(at, entries, entries.len().max(1)).remove(0);
    keeper.take_snapshot(Assembly::begin(whole, keeper.peppers()).unwrap()).unwrap();
}

/// Believes the statements of tests, for an hour.
pub(crate) fn trust() -> Trust {
    let policy_keys = TrustedPolicyKeys::new([policy_key().public()]).unwrap();
    Trust { peppers: peppers(), policy_keys, max_age: Some(Duration::from_hours(1)) }
}
