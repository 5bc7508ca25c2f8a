//! Policy as it travels and as it is kept: complete snapshots in parts, and the changes that follow them.

use std::sync::Arc;

use scoregate_authz::{Peppers, RefusedState, Snapshot, SnapshotBuilder, StateHash, UnixTime, Version};

use crate::policy_wire::{self, BadEntry};
use crate::proto::scoregate::policy::v1 as wire;
use crate::statement::{TrustedPolicyKeys, Unproven};

/// Most entries of a snapshot.
const MAX_ENTRIES: u64 = 2_000_000;

/// Most bytes of the entries of a snapshot: what a workspace sends must not use up the memory of a gate.
pub(crate) const MAX_BYTES: usize = 512 * 1024 * 1024;

/// Where a part that a gate writes is full: entries, and bytes of their content.
const PART_ENTRIES: usize = 1_000;
const PART_BYTES: usize = 1024 * 1024;

/// Why a snapshot or a change is not taken. What was in force stays in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RefusedPolicy {
    /// A part where another one belongs: one was lost, repeated or misplaced.
    #[error("a part of the snapshot begins at entry {found}, and the next one is {expected}")]
    Misplaced { expected: u64, found: u64 },
    /// A part of another snapshot.
    #[error("a part belongs to another snapshot than the parts before it")]
    OtherSnapshot,
    /// Nothing in it, and yet not the end.
    #[error("a part without entries")]
    EmptyPart,
    /// More than was announced, or than can be.
    #[error("the snapshot has more entries than it may have")]
    TooMany,
    /// More bytes than can be.
    #[error("the snapshot is larger than it may be")]
    TooLarge,
    /// A change while a snapshot was coming.
    #[error("a change came before the snapshot was complete")]
    ChangeWithinSnapshot,
    /// Not 32 bytes.
    #[error("the state hash does not have 32 bytes")]
    HashLength,
    /// Not said whose policy it is.
    #[error("the workspace is not named")]
    NoWorkspace,
    /// Of another workspace than what the gate has, or once had.
    #[error("the policy is of workspace `{found}`, and this gate is of `{ours}`")]
    ForeignWorkspace { found: String, ours: String },
    /// Older than what the gate has, or once had.
    #[error("version {found} is older than {reached}, which was reached already")]
    Backwards { found: Version, reached: Version },
    /// The same version with another content.
    #[error("version {0} with another state than the one in force")]
    OtherHistory(Version),
    /// A change without a snapshot to apply it to.
    #[error("a change, and there is no snapshot to apply it to")]
    NothingToChange,
    /// Not signed by a trusted policy key.
    #[error(transparent)]
    Unproven(#[from] Unproven),
    /// An entry that cannot be placed.
    #[error(transparent)]
    Entry(#[from] BadEntry),
    /// The entries contradict each other or are not those that the workspace hashed.
    #[error(transparent)]
    State(#[from] RefusedState),
}

/// A snapshot with what proves it.
#[derive(Debug, Clone)]
pub(crate) struct Proven {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) statement: wire::Statement,
    /// When it was the latest.
    pub(crate) issued_at: UnixTime,
}

impl Proven {
    /// Believes a snapshot if a statement proves it.
    pub(crate) fn new(
        snapshot: Snapshot,
        statement: Option<wire::Statement>,
        trusted: &TrustedPolicyKeys,
    ) -> Result<Self, Unproven> {
        let hash = snapshot.state_hash();
        let issued_at =
            trusted.prove(snapshot.workspace(), snapshot.version(), &hash.0, statement.as_ref())?;
        let statement = statement.ok_or(Unproven::Missing)?;
        Ok(Self { snapshot: Arc::new(snapshot), statement, issued_at })
    }
}

/// A snapshot that is being put together from its parts.
#[derive(Debug)]
pub(crate) struct Assembly {
    workspace: String,
    version: Version,
    total: u64,
    state_hash: StateHash,
    statement: Option<wire::Statement>,
    peppers: Peppers,
    /// INVARIANT: at most `total` entries.
    builder: SnapshotBuilder,
    /// INVARIANT: at most [`MAX_BYTES`].
    bytes: usize,
}

impl Assembly {
    /// Begins with the first part.
    pub(crate) fn begin(part: wire::SnapshotPart, peppers: &Peppers) -> Result<Self, RefusedPolicy> {
        if part.workspace.is_empty() {
            return Err(RefusedPolicy::NoWorkspace);
        }
        if part.total > MAX_ENTRIES {
            return Err(RefusedPolicy::TooMany);
        }
        let (version, state_hash) = (version_of(&part), hash(&part.state_hash)?);
        let empty = Self {
            workspace: part.workspace.clone(),
            version,
            total: part.total,
            state_hash,
            statement: part.statement.clone(),
            peppers: peppers.clone(),
            builder: Snapshot::builder(part.workspace.as_str().into(), version, state_hash),
            bytes: 0,
        };
        empty.with(part)
    }

    /// Goes on with the next part.
    pub(crate) fn with(mut self, part: wire::SnapshotPart) -> Result<Self, RefusedPolicy> {
        let belongs = part.workspace == self.workspace
            && version_of(&part) == self.version
            && part.total == self.total
            && part.state_hash == self.state_hash.0;
        if !belongs {
            return Err(RefusedPolicy::OtherSnapshot);
        }
        let expected = self.builder.len() as u64;
        if part.offset != expected {
            return Err(RefusedPolicy::Misplaced { expected, found: part.offset });
        }
        if part.entries.is_empty() && self.total > 0 {
            return Err(RefusedPolicy::EmptyPart);
        }
        if part.entries.len() as u64 > self.total - expected {
            return Err(RefusedPolicy::TooMany);
        }
        self.bytes += part.entries.iter().map(prost::Message::encoded_len).sum::<usize>();
        if self.bytes > MAX_BYTES {
            return Err(RefusedPolicy::TooLarge);
        }
        let entries = part.entries.into_iter().map(|entry| policy_wire::entry(entry, &self.peppers));
        self.builder.add(entries.collect::<Result<_, _>>()?)?;
        Ok(self)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.builder.len() as u64 == self.total
    }

    /// What is said of the whole, without entries.
    pub(crate) fn head(&self) -> wire::SnapshotPart {
        wire::SnapshotPart {
            workspace: self.workspace.clone(),
            epoch: self.version.epoch,
            revision: self.version.revision,
            total: self.total,
            offset: 0,
            entries: Vec::new(),
            state_hash: self.state_hash.0.to_vec(),
            statement: self.statement.clone(),
        }
    }

    /// The snapshot; its statement is the caller's business. Takes time that grows with the entries.
    pub(crate) fn build(self) -> Result<(Snapshot, Option<wire::Statement>), RefusedPolicy> {
        Ok((self.builder.finish()?, self.statement))
    }
}

/// The snapshot after a change.
pub(crate) fn follow(
    snapshot: &Snapshot,
    change: wire::Change,
    peppers: &Peppers,
) -> Result<Snapshot, RefusedPolicy> {
    let (from, to) = (starts_from(&change), leads_to(&change));
    let state_hash = hash(&change.state_hash)?;
    let entries = change.entries.into_iter().map(|entry| policy_wire::change(entry, peppers));
    let entries = entries.collect::<Result<_, _>>()?;
    Ok(snapshot.apply(from, to, entries, state_hash)?)
}

/// A snapshot in parts, as the workspace would send it.
pub(crate) fn parts<'a>(
    snapshot: &'a Snapshot,
    statement: &wire::Statement,
) -> impl Iterator<Item = wire::SnapshotPart> + use<'a> {
    let mut statement = Some(statement.clone());
    let total = snapshot.entries().len() as u64;
    let mut entries = snapshot.entries().map(|entry| policy_wire::to_wire(&entry)).peekable();
    let mut offset = 0;
    std::iter::from_fn(move || {
        if offset > 0 && entries.peek().is_none() {
            return None;
        }
        let mut part = wire::SnapshotPart {
            workspace: snapshot.workspace().to_owned(),
            epoch: snapshot.version().epoch,
            revision: snapshot.version().revision,
            total,
            offset,
            entries: Vec::new(),
            state_hash: snapshot.state_hash().0.to_vec(),
            statement: statement.take(),
        };
        let mut bytes = 0;
        while part.entries.len() < PART_ENTRIES && bytes < PART_BYTES {
            let Some(entry) = entries.next() else { break };
            bytes += entry.content.len();
            part.entries.push(entry);
        }
        // The one part of an empty snapshot counts as one, so that it is not written for ever.
        offset += part.entries.len().max(1) as u64;
        Some(part)
    })
}

pub(crate) fn version_of(part: &wire::SnapshotPart) -> Version {
    Version { epoch: part.epoch, revision: part.revision }
}

pub(crate) fn leads_to(change: &wire::Change) -> Version {
    Version { epoch: change.epoch, revision: change.revision }
}

fn starts_from(change: &wire::Change) -> Version {
    Version { epoch: change.epoch, revision: change.from_revision }
}

fn hash(bytes: &[u8]) -> Result<StateHash, RefusedPolicy> {
    bytes.try_into().map(StateHash).map_err(|_| RefusedPolicy::HashLength)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::fixtures::{self, open_service, peppers, version};

    fn three_parts() -> Vec<wire::SnapshotPart> {
        let services = ["aaa", "bbb", "ccc", "ddd", "eee"].map(open_service);
        fixtures::parts(version(1, 7), &services, 2)
    }

    fn assemble(parts: Vec<wire::SnapshotPart>) -> Result<Assembly, RefusedPolicy> {
        let mut parts = parts.into_iter();
        let first = Assembly::begin(parts.next().unwrap(), &peppers())?;
        parts.try_fold(first, Assembly::with)
    }

    #[test]
    fn assembly_of_all_parts_is_complete() {
        let assembly = assemble(three_parts()).unwrap();
        assert!(assembly.is_complete());
        assert_eq!(assembly.build().unwrap().0.services().count(), 5);
    }

    #[test]
    fn t111_snapshot_without_services_is_complete() {
        let assembly = assemble(fixtures::parts(version(1, 7), &[], 1)).unwrap();
        assert!(assembly.is_complete());
        assert_eq!(assembly.build().unwrap().0.services().count(), 0);
    }

    #[test]
    fn t111_nothing_that_claims_to_be_a_snapshot_is_refused() {
        let mut parts = fixtures::parts(version(1, 7), &[], 1);
        parts[0].state_hash = vec![0; 32];
        assert!(matches!(assemble(parts.clone()).unwrap().build(), Err(RefusedPolicy::State(_))));
        parts[0].state_hash.clear();
        assert_eq!(assemble(parts).unwrap_err(), RefusedPolicy::HashLength);
        assert_eq!(
            Assembly::begin(wire::SnapshotPart::default(), &peppers()).unwrap_err(),
            RefusedPolicy::NoWorkspace
        );
    }

    #[test]
    fn t112_missing_part_is_noticed() {
        let mut parts = three_parts();
        parts.remove(1);
        assert_eq!(assemble(parts).unwrap_err(), RefusedPolicy::Misplaced { expected: 2, found: 4 });
        let first = assemble(three_parts()[..1].to_vec()).unwrap();
        assert!(!first.is_complete());
        let misplaced = RefusedPolicy::Misplaced { expected: 0, found: 2 };
        assert_eq!(assemble(three_parts()[1..].to_vec()).unwrap_err(), misplaced);
    }

    #[test]
    fn t112_repeated_part_is_noticed() {
        let mut parts = three_parts();
        parts.insert(1, parts[0].clone());
        assert_eq!(assemble(parts).unwrap_err(), RefusedPolicy::Misplaced { expected: 2, found: 0 });
    }

    #[test]
    fn t112_parts_out_of_order_are_noticed() {
        let mut parts = three_parts();
        parts.swap(1, 2);
        assert_eq!(assemble(parts).unwrap_err(), RefusedPolicy::Misplaced { expected: 2, found: 4 });
    }

    #[test]
    fn t112_part_of_another_snapshot_is_noticed() {
        let mut parts = three_parts();
        parts[1].revision += 1;
        assert_eq!(assemble(parts).unwrap_err(), RefusedPolicy::OtherSnapshot);
    }

    #[test]
    fn assembly_is_bounded() {
        let mut parts = three_parts();
        parts[0].total = MAX_ENTRIES + 1;
        assert_eq!(assemble(parts).unwrap_err(), RefusedPolicy::TooMany);
        let mut parts = three_parts();
        parts.iter_mut().for_each(|part| part.total = 4);
        assert_eq!(assemble(parts).unwrap_err(), RefusedPolicy::TooMany);
        let mut parts = three_parts();
        parts[1].entries.clear();
        assert_eq!(assemble(parts).unwrap_err(), RefusedPolicy::EmptyPart);
        let mut parts = three_parts().into_iter();
        let mut assembly = Assembly::begin(parts.next().unwrap(), &peppers()).unwrap();
        assembly.bytes = MAX_BYTES;
        assert_eq!(assembly.with(parts.next().unwrap()).unwrap_err(), RefusedPolicy::TooLarge);
    }

    #[test]
    fn parts_of_a_snapshot_make_the_same_snapshot() {
        let services: Vec<_> = (0..2_500).map(|number| open_service(&format!("service-{number}"))).collect();
        for entries in [services.as_slice(), &[]] {
            let snapshot = fixtures::snapshot(version(3, 9), entries);
            let statement = fixtures::statement(version(3, 9), entries);
            let again = assemble(parts(&snapshot, &statement).collect()).unwrap();
            assert!(again.is_complete());
            let (again, proof) = again.build().unwrap();
            assert_eq!(proof, Some(statement));
            assert_eq!((again.version(), again.state_hash()), (snapshot.version(), snapshot.state_hash()));
        }
    }

    #[test]
    fn follow_refuses_what_does_not_follow() {
        let (one, two) = (open_service("one"), open_service("two"));
        let snapshot = fixtures::snapshot(version(1, 7), std::slice::from_ref(&one));
        let both = [one, two.clone()];
        let follow = |change| follow(&snapshot, change, &peppers());
        let good = fixtures::change(1, 7, 8, vec![two.clone()], &both);
        assert_eq!(follow(good).unwrap().version(), version(1, 8));
        let refused = [
            fixtures::change(1, 6, 8, vec![two.clone()], &both),
            fixtures::change(2, 7, 8, vec![two.clone()], &both),
            fixtures::change(1, 7, 7, vec![two.clone()], &both),
            fixtures::change(1, 7, 8, vec![], &both),
        ];
        for change in refused {
            assert!(matches!(follow(change), Err(RefusedPolicy::State(_))));
        }
    }
}
