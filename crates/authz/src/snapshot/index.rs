//! What is found by its name or its place.

use std::hash::{BuildHasher, RandomState};

use imbl::{HashMap, OrdMap};

/// Something with a key of its own: two texts.
pub(super) trait Keyed {
    fn key(&self) -> Key<'_>;
}

/// A name and nothing, or a host and a path prefix.
pub(super) type Key<'a> = (&'a str, &'a str);

/// Things by their keys, in the order of the keys' hashes: the nodes of `imbl`'s hash map would be nearly empty, and take
/// more memory than what is in them.
#[derive(Debug, Clone)]
pub(super) struct Index<T, S = RandomState> {
    hasher: S,
    by_hash: OrdMap<u64, T>,
    /// INVARIANT: only what found another thing under its hash.
    others: HashMap<(String, String), T>,
}

impl<T, S: Default> Default for Index<T, S> {
    fn default() -> Self {
        Self { hasher: S::default(), by_hash: OrdMap::new(), others: HashMap::new() }
    }
}

impl<T: Keyed + Clone, S: BuildHasher> Index<T, S> {
    pub(super) fn get(&self, key: Key<'_>) -> Option<&T> {
        let found = self.by_hash.get(&self.hasher.hash_one(key)).filter(|found| found.key() == key);
        found.or_else(|| if self.others.is_empty() { None } else { self.others.get(&owned(key)) })
    }

    /// Puts a thing in the place of the one with its key.
    pub(super) fn insert(&mut self, thing: T) {
        self.remove(thing.key());
        let hash = self.hasher.hash_one(thing.key());
        if self.by_hash.contains_key(&hash) {
            self.others.insert(owned(thing.key()), thing);
        } else {
            self.by_hash.insert(hash, thing);
        }
    }

    pub(super) fn remove(&mut self, key: Key<'_>) {
        let hash = self.hasher.hash_one(key);
        if self.by_hash.get(&hash).is_some_and(|found| found.key() == key) {
            self.by_hash.remove(&hash);
        } else if !self.others.is_empty() {
            self.others.remove(&owned(key));
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.by_hash.values().chain(self.others.values())
    }
}

fn owned((first, second): Key<'_>) -> (String, String) {
    (first.to_owned(), second.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::Hasher;

    type Thing = (&'static str, u32);

    impl Keyed for Thing {
        fn key(&self) -> Key<'_> {
            (self.0, "")
        }
    }

    /// Everything collides.
    #[derive(Debug, Clone, Default)]
    struct Constant;

    impl Hasher for Constant {
        fn finish(&self) -> u64 {
            7
        }

        fn write(&mut self, _: &[u8]) {}
    }

    impl BuildHasher for Constant {
        type Hasher = Self;

        fn build_hasher(&self) -> Self {
            Self
        }
    }

    fn holds<S: BuildHasher>(index: &Index<Thing, S>, expected: &[Thing]) {
        let mut all: Vec<_> = index.iter().copied().collect();
        all.sort_unstable();
        assert_eq!(all, expected);
        for name in ["a", "b", "c", "d"] {
            assert_eq!(index.get((name, "")), expected.iter().find(|(known, _)| *known == name));
        }
        assert_eq!(index.get(("a", "a")), None);
    }

    fn comes_and_goes<S: BuildHasher + Default>() {
        let mut index = Index::<Thing, S>::default();
        holds(&index, &[]);
        for thing in [("a", 1), ("b", 1), ("c", 1), ("b", 2), ("a", 2)] {
            index.insert(thing);
        }
        holds(&index, &[("a", 2), ("b", 2), ("c", 1)]);
        index.remove(("a", ""));
        index.remove(("d", ""));
        holds(&index, &[("b", 2), ("c", 1)]);
        index.insert(("c", 3));
        index.insert(("a", 3));
        holds(&index, &[("a", 3), ("b", 2), ("c", 3)]);
        for name in ["c", "a", "b"] {
            index.remove((name, ""));
        }
        holds(&index, &[]);
    }

    #[test]
    fn things_come_and_go() {
        comes_and_goes::<RandomState>();
    }

    #[test]
    fn things_of_one_hash_come_and_go() {
        comes_and_goes::<Constant>();
    }
}
