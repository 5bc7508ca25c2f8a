//! The complete, immutable state of policy at one revision, and how one follows from another.

mod index;
mod places;
mod tally;

use std::collections::HashSet;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use imbl::{HashMap, OrdMap};

use self::index::{Index, Key, Keyed};
use self::places::Places;
use self::tally::Tally;
use crate::policy::Service;
use crate::service::{AuthMode, ServiceName, ServiceUid};
use crate::token::VerificationKey;

/// Hashes that are hashed in one piece: each piece costs as much as some of them.
const HASHES_A_PIECE: usize = 64;

/// A position in the history of a workspace. A greater epoch is later whatever the revisions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version {
    /// Grows when a workspace is restored from a backup.
    pub epoch: u64,
    /// Grows with every change, within an epoch.
    pub revision: u64,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.epoch, self.revision)
    }
}

/// SHA-256 over all entries of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateHash(pub [u8; 32]);

impl std::fmt::Debug for StateHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Identifies an entry: the number of its kind in the feed, and the id within the kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// As in `scoregate.policy.v1.EntryKind`.
    pub kind: u32,
    /// Service uid or key id.
    pub id: Arc<str>,
}

/// One thing that policy consists of. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Entry {
    id: EntryId,
    body: Arc<Body>,
}

/// An entry but for its id: its bytes as they were sent, and what this version understands of them.
struct Body {
    name: Arc<str>,
    content: Box<[u8]>,
    item: Item,
}

/// What an entry means.
#[derive(Debug)]
pub enum Item {
    /// The policy of a service.
    Service(Arc<Service>),
    /// A key that proves tokens.
    VerificationKey(Arc<VerificationKey>),
    /// Nothing to this version, or a verification key that must not be used; kept and hashed all the same.
    Unused,
}

impl Entry {
    /// Takes an entry with its meaning. A service or key of another id than the entry's is not used.
    #[must_use]
    pub fn new(id: EntryId, name: impl Into<Arc<str>>, content: Vec<u8>, item: Item) -> Self {
        // INVARIANT: what an entry brings is found under the entry's id, so that two entries never bring the same.
        let item = if item.id().is_none_or(|of_item| of_item == &*id.id) { item } else { Item::Unused };
        Self { id, body: Arc::new(Body { name: name.into(), content: content.into(), item }) }
    }

    /// Kind and id.
    #[must_use]
    pub fn id(&self) -> &EntryId {
        &self.id
    }

    /// Name of the service; empty for other kinds.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.body.name
    }

    /// The bytes as they were sent.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.body.content
    }
}

impl Body {
    fn succeed(&self, before: Option<&Placed>) {
        if let (Item::Service(service), Some(Item::Service(before))) =
            (&self.item, before.map(|before| &before.body.item))
        {
            service.succeed(before);
        }
    }
}

/// Without the content, which holds key digests.
impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, item, .. } = self;
        f.debug_struct("Body").field("name", name).field("item", item).finish_non_exhaustive()
    }
}

impl Item {
    fn id(&self) -> Option<&str> {
        match self {
            Self::Service(service) => Some(service.uid().as_str()),
            Self::VerificationKey(key) => Some(key.id()),
            Self::Unused => None,
        }
    }
}

/// The hash of one entry: SHA-256 over kind, id, name and content, each with its length before it.
#[must_use]
pub fn entry_hash(id: &EntryId, name: &str, content: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(b"scoregate entry v1");
    context.update(&id.kind.to_be_bytes());
    for part in [id.id.as_bytes(), name.as_bytes(), content] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    finish(context)
}

/// The hash of a state: SHA-256 over the hashes of its entries, in the order of their ids.
#[must_use]
pub fn state_hash<'a>(entry_hashes: impl Iterator<Item = &'a [u8; 32]>) -> StateHash {
    let mut context = Context::new(&SHA256);
    context.update(b"scoregate state v1");
    let mut piece = [[0; 32]; HASHES_A_PIECE];
    let mut length = 0;
    for hash in entry_hashes {
        piece[length] = *hash;
        length += 1;
        if length == HASHES_A_PIECE {
            context.update(piece.as_flattened());
            length = 0;
        }
    }
    context.update(piece[..length].as_flattened());
    StateHash(finish(context))
}

fn finish(context: Context) -> [u8; 32] {
    let mut output = [0; 32];
    output.copy_from_slice(context.finish().as_ref());
    output
}

/// A change of one entry.
#[derive(Debug)]
pub enum EntryChange {
    /// The entry is there now, as this.
    Put(Entry),
    /// The entry is gone.
    Delete(EntryId),
}

impl EntryChange {
    fn id(&self) -> &EntryId {
        match self {
            Self::Put(entry) => entry.id(),
            Self::Delete(id) => id,
        }
    }
}

/// Why a snapshot or change is refused. The one before it stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedState {
    /// The entries are not those that the workspace hashed.
    #[error("the state hash is {computed:?} and should be {stated:?}")]
    StateHash {
        /// What the workspace says.
        stated: StateHash,
        /// What came of it here.
        computed: StateHash,
    },
    /// One entry twice in a snapshot, or in a change.
    #[error("entry `{0}` occurs twice")]
    EntryTwice(Arc<str>),
    /// Two services of one name.
    #[error("two services are named `{0}`")]
    NameTwice(ServiceName),
    /// The change does not follow this snapshot.
    #[error("the change starts from {from} and the snapshot is at {at}")]
    NotNext {
        /// Where the change starts.
        from: Version,
        /// Where the snapshot is.
        at: Version,
    },
    /// The change does not lead to a later revision.
    #[error("the change leads from {from} to {to}")]
    Backwards {
        /// Where the change starts.
        from: Version,
        /// Where it ends.
        to: Version,
    },
}

/// The complete state of policy at one revision. Cheap to derive the next one from: what did not change is shared.
#[derive(Debug, Clone)]
pub struct Snapshot {
    workspace: Arc<str>,
    version: Version,
    state_hash: StateHash,
    entries: OrdMap<EntryId, Placed>,
    by_name: Index<Arc<Service>>,
    places: Places,
    keys: HashMap<Arc<str>, Arc<VerificationKey>>,
    tally: Tally,
}

/// A complete snapshot whose entries come in parts: each is in memory once.
#[derive(Debug)]
pub struct SnapshotBuilder(Snapshot);

impl SnapshotBuilder {
    /// Adds entries, best in the order of their ids.
    ///
    /// # Errors
    /// They contradict each other, or earlier ones.
    pub fn add(&mut self, entries: Vec<Entry>) -> Result<(), RefusedState> {
        self.0.insert_all(entries)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.entries.len()
    }

    /// Whether there is none yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.entries.is_empty()
    }

    /// The snapshot.
    ///
    /// # Errors
    /// The entries are not those that were hashed.
    pub fn finish(self) -> Result<Snapshot, RefusedState> {
        self.0.checked()
    }
}

/// An entry under its id, with its hash beside it: the hash over all of them is computed without a look at each.
#[derive(Debug, Clone)]
struct Placed {
    hash: [u8; 32],
    body: Arc<Body>,
}

impl Keyed for Arc<Service> {
    fn key(&self) -> Key<'_> {
        (self.name().as_str(), "")
    }
}

impl Snapshot {
    /// Builds a complete snapshot.
    ///
    /// # Errors
    /// The entries contradict each other, or are not those that were hashed.
    pub fn new(
        workspace: Arc<str>,
        version: Version,
        entries: Vec<Entry>,
        stated: StateHash,
    ) -> Result<Self, RefusedState> {
        let mut builder = Self::builder(workspace, version, stated);
        builder.add(entries)?;
        builder.finish()
    }

    /// Begins a complete snapshot whose entries come in parts.
    #[must_use]
    pub fn builder(workspace: Arc<str>, version: Version, stated: StateHash) -> SnapshotBuilder {
        SnapshotBuilder(Self {
            workspace,
            version,
            state_hash: stated,
            entries: OrdMap::new(),
            by_name: Index::default(),
            places: Places::default(),
            keys: HashMap::new(),
            tally: Tally::default(),
        })
    }

    /// The snapshot after a change; this one is untouched.
    ///
    /// # Errors
    /// The change does not start here or does not lead onwards, or its outcome is not what the workspace hashed.
    pub fn apply(
        &self,
        from: Version,
        to: Version,
        changes: Vec<EntryChange>,
        stated: StateHash,
    ) -> Result<Self, RefusedState> {
        if from != self.version {
            return Err(RefusedState::NotNext { from, at: self.version });
        }
        if to.epoch != from.epoch || to.revision <= from.revision {
            return Err(RefusedState::Backwards { from, to });
        }
        self.clone().with(changes, to, stated)
    }

    fn with(
        mut self,
        changes: Vec<EntryChange>,
        version: Version,
        stated: StateHash,
    ) -> Result<Self, RefusedState> {
        let mut seen = HashSet::with_capacity(changes.len());
        let before = self.entries.clone();
        for change in &changes {
            if !seen.insert(change.id()) {
                return Err(RefusedState::EntryTwice(Arc::clone(&change.id().id)));
            }
            self.remove(change.id());
        }
        let mut entries = Vec::with_capacity(changes.len());
        for change in changes {
            let EntryChange::Put(entry) = change else { continue };
            entry.body.succeed(before.get(&entry.id));
            entries.push(entry);
        }
        self.insert_all(entries)?;
        Self { version, state_hash: stated, ..self }.checked()
    }

    /// If it is what was hashed.
    fn checked(self) -> Result<Self, RefusedState> {
        let computed = state_hash(self.entries.values().map(|placed| &placed.hash));
        if computed == self.state_hash {
            return Ok(self);
        }
        Err(RefusedState::StateHash { stated: self.state_hash, computed })
    }

    /// In two rounds: nodes that are filled in order stay half empty, and the second round fills the other half.
    fn insert_all(&mut self, entries: Vec<Entry>) -> Result<(), RefusedState> {
        let mut second_round = Vec::with_capacity(entries.len() / 2);
        for (number, entry) in entries.into_iter().enumerate() {
            if number % 2 == 0 {
                self.insert(entry)?;
            } else {
                second_round.push(entry);
            }
        }
        second_round.into_iter().try_for_each(|entry| self.insert(entry))
    }

    fn remove(&mut self, id: &EntryId) {
        let Some(Placed { body, .. }) = self.entries.remove(id) else { return };
        match &body.item {
            Item::Service(service) => {
                self.by_name.remove(service.key());
                self.places.remove(service);
                self.tally.remove(service);
            }
            Item::VerificationKey(key) => {
                self.keys.remove(key.id());
            }
            Item::Unused => {}
        }
    }

    fn insert(&mut self, entry: Entry) -> Result<(), RefusedState> {
        if self.entries.contains_key(&entry.id) {
            return Err(RefusedState::EntryTwice(entry.id.id));
        }
        match &entry.body.item {
            Item::Service(service) => {
                if self.by_name.get(service.key()).is_some() {
                    return Err(RefusedState::NameTwice(service.name().clone()));
                }
                self.by_name.insert(Arc::clone(service));
                self.places.insert(service);
                self.tally.add(service);
            }
            Item::VerificationKey(key) => {
                self.keys.insert(key.id().into(), Arc::clone(key));
            }
            Item::Unused => {}
        }
        let hash = entry_hash(&entry.id, entry.name(), entry.content());
        self.entries.insert(entry.id, Placed { hash, body: entry.body });
        Ok(())
    }

    /// Id of the workspace whose policy this is.
    #[must_use]
    pub fn workspace(&self) -> &str {
        &self.workspace
    }

    /// Epoch and revision.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The hash over all entries.
    #[must_use]
    pub fn state_hash(&self) -> StateHash {
        self.state_hash
    }

    /// All entries, in the order of their ids.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry> {
        self.entries.iter().map(|(id, placed)| Entry { id: id.clone(), body: Arc::clone(&placed.body) })
    }

    /// All services, in the order of their uids.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.entries.values().filter_map(|placed| match &placed.body.item {
            Item::Service(service) => Some(service.as_ref()),
            _ => None,
        })
    }

    /// How many services are in an auth mode; of `None`, how many have an invalid policy.
    #[must_use]
    pub fn services_in(&self, mode: Option<AuthMode>) -> usize {
        self.tally.of(mode)
    }

    /// The services for which nothing can be decided, in the order of their uids.
    pub fn invalid_services(&self) -> impl Iterator<Item = &Service> {
        self.tally.invalid()
    }

    /// The services of which policy says until when they are, or were, in shadow, in the order of their uids.
    pub fn shadows(&self) -> impl Iterator<Item = &Service> {
        self.tally.shadows()
    }

    /// Takes the place of an older snapshot that it was not made from: uses of credentials that stay go on being counted.
    pub fn succeed(&self, before: &Self) {
        self.entries.iter().for_each(|(id, Placed { body, .. })| body.succeed(before.entries.get(id)));
    }

    /// Places that two services claim: host, path prefix, and the service that does not get it.
    pub fn contested_places(&self) -> impl Iterator<Item = (&str, &str, &ServiceUid)> {
        self.places.contested()
    }

    pub(crate) fn service_named(&self, name: &str) -> Option<&Arc<Service>> {
        self.by_name.get((name, ""))
    }

    pub(crate) fn service_at(&self, host: &str, path: &str) -> Option<&Arc<Service>> {
        self.places.find(host, path)
    }

    pub(crate) fn verification_key(&self, id: &str) -> Option<&Arc<VerificationKey>> {
        self.keys.get(id)
    }

    pub(crate) fn has_verification_keys(&self) -> bool {
        !self.keys.is_empty()
    }
}
