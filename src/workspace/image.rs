//! All of policy in memory, at one revision: what the feed is served from.
//!
//! Images share what did not change, so that a slow gate that still reads from an old one costs only the difference.

use std::sync::Arc;

use imbl::OrdMap;
use jiff::Timestamp;
use scoregate_authz::{EntryId, StateHash, Version, entry_hash, state_hash};

use super::store::{EntryRow, EntryWrite};

/// An entry or a tombstone.
#[derive(Debug)]
pub(super) struct ImageEntry {
    pub(super) row: EntryRow,
}

/// An entry with what the state hash is made of beside it: it is computed without a look at each entry.
#[derive(Debug, Clone)]
struct Placed {
    hash: [u8; 32],
    deleted: bool,
    entry: Arc<ImageEntry>,
}

/// Policy at one revision.
#[derive(Debug, Clone)]
pub(super) struct Image {
    version: Version,
    state_hash: StateHash,
    committed_at: Timestamp,
    /// Tombstones too.
    entries: OrdMap<EntryId, Placed>,
    /// INVARIANT: the same entries, each under the revision that last changed it.
    by_revision: OrdMap<(u64, EntryId), Arc<ImageEntry>>,
}

impl Image {
    /// The state that the store holds.
    pub(super) fn new(version: Version, rows: Vec<EntryRow>, read_at: Timestamp) -> Self {
        let mut image = Self {
            version,
            state_hash: StateHash([0; 32]),
            committed_at: read_at,
            entries: OrdMap::new(),
            by_revision: OrdMap::new(),
        };
        rows.into_iter().for_each(|row| image.put(row));
        image.state_hash = image.computed_hash();
        image
    }

    /// The state after a commit.
    pub(super) fn after(&self, version: Version, writes: Vec<EntryWrite>, committed_at: Timestamp) -> Self {
        let mut image = Self { version, committed_at, ..self.clone() };
        for EntryWrite { id, name, content } in writes {
            let deleted = content.is_none();
            let content = content.unwrap_or_default();
            image.put(EntryRow { id, name, content, revision: version.revision, deleted });
        }
        image.state_hash = image.computed_hash();
        image
    }

    fn put(&mut self, row: EntryRow) {
        let hash = entry_hash(&row.id, &row.name, &row.content);
        let entry = Arc::new(ImageEntry { row });
        let id = &entry.row.id;
        let placed = Placed { hash, deleted: entry.row.deleted, entry: Arc::clone(&entry) };
        if let Some(before) = self.entries.insert(id.clone(), placed) {
            self.by_revision.remove(&(before.entry.row.revision, id.clone()));
        }
        self.by_revision.insert((entry.row.revision, id.clone()), Arc::clone(&entry));
    }

    fn computed_hash(&self) -> StateHash {
        state_hash(self.placed().map(|placed| &placed.hash))
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    pub(super) fn state_hash(&self) -> StateHash {
        self.state_hash
    }

    /// When the latest change was committed; when it was read, if there was none since the start.
    pub(super) fn committed_at(&self) -> Timestamp {
        self.committed_at
    }

    /// What exists, in the order of ids.
    pub(super) fn live(&self) -> impl Iterator<Item = &ImageEntry> {
        self.placed().map(|placed| placed.entry.as_ref())
    }

    /// How much exists.
    pub(super) fn count(&self) -> usize {
        self.placed().count()
    }

    fn placed(&self) -> impl Iterator<Item = &Placed> {
        self.entries.values().filter(|placed| !placed.deleted)
    }

    /// What was last changed after a revision, tombstones included.
    pub(super) fn changed_since(&self, revision: u64) -> impl Iterator<Item = &ImageEntry> {
        let first = EntryId { kind: 0, id: "".into() };
        self.by_revision.range((revision.saturating_add(1), first)..).map(|(_, entry)| entry.as_ref())
    }

    /// The version at which the last of these entries became what it is.
    pub(super) fn last_change(&self, entries: &[EntryWrite]) -> Version {
        let revision =
            |write: &EntryWrite| self.entries.get(&write.id).map(|placed| placed.entry.row.revision);
        Version { revision: entries.iter().filter_map(revision).max().unwrap_or_default(), ..self.version }
    }

    /// The content of an entry that exists.
    pub(super) fn content(&self, id: &EntryId) -> Option<&[u8]> {
        let placed = self.entries.get(id).filter(|placed| !placed.deleted)?;
        Some(&placed.entry.row.content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> EntryId {
        EntryId { kind: 1, id: text.into() }
    }

    fn write(text: &str, content: Option<&[u8]>) -> EntryWrite {
        EntryWrite { id: id(text), name: String::new(), content: content.map(<[u8]>::to_vec) }
    }

    fn at(revision: u64) -> Version {
        Version { epoch: 1, revision }
    }

    fn changed(image: &Image, since: u64) -> Vec<(String, u64, bool)> {
        let describe =
            |entry: &ImageEntry| (entry.row.id.id.to_string(), entry.row.revision, entry.row.deleted);
        image.changed_since(since).map(describe).collect()
    }

    #[test]
    fn changed_since_has_each_entry_once_in_its_last_state() {
        let empty = Image::new(at(0), Vec::new(), Timestamp::UNIX_EPOCH);
        let now = Timestamp::UNIX_EPOCH;
        let image = empty
            .after(at(1), vec![write("a", Some(b"1")), write("b", Some(b"1"))], now)
            .after(at(2), vec![write("a", Some(b"2"))], now)
            .after(at(3), vec![write("b", None)], now);
        let a = ("a".to_owned(), 2, false);
        let b = ("b".to_owned(), 3, true);
        assert_eq!(changed(&image, 0), [a.clone(), b.clone()]);
        assert_eq!(changed(&image, 1), [a, b.clone()]);
        assert_eq!(changed(&image, 2), [b]);
        assert_eq!(changed(&image, 3), []);
        assert_eq!(changed(&image, u64::MAX), []);
    }

    #[test]
    fn the_state_hash_is_that_of_the_existing_entries() {
        let empty = Image::new(at(0), Vec::new(), Timestamp::UNIX_EPOCH);
        let now = Timestamp::UNIX_EPOCH;
        let with_a = empty.after(at(1), vec![write("a", Some(b"1"))], now);
        let without = with_a.after(at(2), vec![write("a", None)], now);
        assert_ne!(with_a.state_hash(), empty.state_hash());
        assert_eq!(without.state_hash(), empty.state_hash());
        assert_eq!(without.content(&id("a")), None);
    }

    #[test]
    fn an_image_read_from_the_store_is_the_one_that_grew() {
        let grown = Image::new(at(0), Vec::new(), Timestamp::UNIX_EPOCH)
            .after(at(1), vec![write("b", Some(b"1"))], Timestamp::UNIX_EPOCH)
            .after(at(2), vec![write("a", Some(b"1"))], Timestamp::UNIX_EPOCH);
        let rows = grown.entries.values().map(|placed| placed.entry.row.clone()).collect();
        let read = Image::new(at(2), rows, Timestamp::UNIX_EPOCH);
        assert_eq!(read.state_hash(), grown.state_hash());
        assert_eq!(changed(&read, 0), changed(&grown, 0));
    }
}
