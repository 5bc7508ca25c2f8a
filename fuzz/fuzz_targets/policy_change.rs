//! Bytes of a policy change to a snapshot: refused, or exactly what was sent.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use prost::Message;
use scoregate::policy_wire;
use scoregate::proto::scoregate::policy::v1 as wire;
use scoregate_authz::{
    AllowReason, AuthMode, Decision, Entry, EntryChange, EntryId, RefusedState, Snapshot, TargetSource, Version,
};
use scoregate_fuzz::world::{PRIMARY, SNAPSHOT, entries, hash_of, peppers, request_in_map, rules, verdict};

fuzz_target!(
    init: {
        let all = wire::Change { entries: entries(), ..wire::Change::default() };
        let tombstones = entries().into_iter().map(|entry| wire::Entry { deleted: true, ..entry }).collect();
        let gone = wire::Change { entries: tombstones, ..wire::Change::default() };
        let unknown = entries().into_iter().map(|entry| wire::Entry { kind: 9, ..entry }).collect();
        let unknown = wire::Change { entries: unknown, ..wire::Change::default() };
        scoregate_fuzz::seeds::plant("policy_change", [all, gone, unknown].map(|change| change.encode_to_vec()));
    },
    |bytes: &[u8]| {
        let Ok(change) = wire::Change::decode(bytes) else { return };
        let Some(after) = applied(&change.entries) else { return };
        assert_same_as_at_once(&after);
        assert_only_open_services_are_open(&after);
    }
);

fn read(entries: &[wire::Entry]) -> Option<Vec<EntryChange>> {
    entries.iter().map(|entry| policy_wire::change(entry.clone(), &peppers()).ok()).collect()
}

/// The snapshot after these entries came. `None` where they are refused, for another reason than their hash.
fn applied(entries: &[wire::Entry]) -> Option<Snapshot> {
    let before = &*SNAPSHOT;
    // Read again for each use: an entry is not cloned.
    let kept = policy_wire_of(before);
    let mut merged: BTreeMap<_, _> = kept.into_iter().map(|entry| (entry.id().clone(), entry)).collect();
    for change in read(entries)? {
        match change {
            EntryChange::Put(entry) => drop(merged.insert(entry.id().clone(), entry)),
            EntryChange::Delete(id) => drop(merged.remove(&id)),
        }
    }
    let stated = hash_of(merged.values());
    let (from, to) = (before.version(), Version { epoch: 1, revision: 2 });
    match before.apply(from, to, read(entries)?, stated) {
        Ok(after) => {
            assert_eq!(after.state_hash(), stated);
            assert!(ids(&after).eq(merged.into_keys()));
            Some(after)
        }
        Err(RefusedState::EntryTwice(_) | RefusedState::NameTwice(_)) => None,
        Err(error) => panic!("refused: {error}"),
    }
}

/// The entries of a snapshot, by way of the wire.
fn policy_wire_of(snapshot: &Snapshot) -> Vec<Entry> {
    let again = |entry: Entry| {
        policy_wire::entry(policy_wire::to_wire(&entry), &peppers()).expect("it was read before")
    };
    snapshot.entries().map(again).collect()
}

fn assert_same_as_at_once(after: &Snapshot) {
    let entries = policy_wire_of(after);
    let at_once = Snapshot::new("a-workspace".into(), after.version(), entries, after.state_hash());
    let at_once = at_once.expect("a complete snapshot of the same entries is taken");
    assert!(ids(&at_once).eq(ids(after)));
}

fn assert_only_open_services_are_open(snapshot: &Snapshot) {
    let rules = rules(TargetSource::ContextExtensions);
    for service in snapshot.services() {
        let request = request_in_map(service.name().as_str(), &format!("Bearer {PRIMARY}"));
        let verdict = verdict(&rules, snapshot, &request);
        let is_open =
            matches!(&verdict.decision, Decision::Allow(permit) if permit.reason() == AllowReason::Open);
        assert_eq!(is_open, service.auth_mode() == Some(AuthMode::Disabled));
        let is_undecided = matches!(verdict.decision, Decision::Undecided(_));
        assert!(is_undecided || service.problem().is_none(), "decided by a policy that is invalid");
    }
}

fn ids(snapshot: &Snapshot) -> impl Iterator<Item = EntryId> {
    snapshot.entries().map(|entry| entry.id().clone())
}
