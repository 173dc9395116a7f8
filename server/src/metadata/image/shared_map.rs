//! An ordered map whose copies share what they have in common.
//!
//! A new image is a copy of the one before with a few changes, and there may be a hundred thousand topics: a copy
//! costs a pointer for each leaf of some dozens of entries, a change the copy of one leaf, and what two copies differ
//! in is found without looking at the leaves that they share.

use std::borrow::Borrow;
use std::sync::Arc;

/// Entries of one leaf, at most.
const LEAF_ENTRIES_MAX: usize = 64;

/// Entries in ascending order, without gaps between them.
type Leaf<K, V> = Arc<Vec<(K, V)>>;

/// The map.
#[derive(Debug, Clone)]
pub struct SharedMap<K, V> {
    /// Invariant: none is empty, the keys ascend through all of them, and two neighbours have more entries together than
    /// [`LEAF_ENTRIES_MAX`] halved.
    leaves: Vec<Leaf<K, V>>,
    /// Invariant: the sum of the leaves' entries.
    length: usize,
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self { leaves: Vec::new(), length: 0 }
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.length == other.length && self.entries().eq(other.entries())
    }
}

impl<K, V> SharedMap<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.length
    }

    fn entries(&self) -> impl Iterator<Item = &(K, V)> {
        self.leaves.iter().flat_map(|leaf| leaf.iter())
    }

    /// Every entry, by ascending key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries().map(|(key, value)| (key, value))
    }

    /// Every value, by ascending key.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries().map(|(_, value)| value)
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// The leaf that has the key if any has, and its entry in there, or where that would be.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(usize, Result<usize, usize>)>
    where
        K: Borrow<Q>,
    {
        let behind = self.leaves.partition_point(|leaf| leaf[0].0.borrow() <= key);
        let leaf = behind.saturating_sub(1);
        let entries = self.leaves.get(leaf)?;
        Some((leaf, entries.binary_search_by(|(held, _)| held.borrow().cmp(key))))
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (leaf, entry) = self.find(key)?;
        Some(&self.leaves[leaf][entry.ok()?].1)
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (leaf, entry) = self.find(key)?;
        let entry = entry.ok()?;
        Some(&mut Arc::make_mut(&mut self.leaves[leaf])[entry].1)
    }

    /// Whether there is this key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Sets the value of a key. Returns the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let Some((leaf, entry)) = self.find(&key) else {
            self.leaves.push(Arc::new(vec![(key, value)]));
            self.length += 1;
            return None;
        };
        let entries = Arc::make_mut(&mut self.leaves[leaf]);
        let entry = match entry {
            Ok(entry) => return Some(std::mem::replace(&mut entries[entry].1, value)),
            Err(entry) => entry,
        };
        entries.insert(entry, (key, value));
        self.length += 1;
        if entries.len() > LEAF_ENTRIES_MAX {
            let upper = entries.split_off(entries.len() / 2);
            self.leaves.insert(leaf + 1, Arc::new(upper));
        }
        None
    }

    /// Takes a key out. Returns its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (leaf, entry) = self.find(key)?;
        let entry = entry.ok()?;
        let (_, value) = Arc::make_mut(&mut self.leaves[leaf]).remove(entry);
        self.length -= 1;
        if self.leaves[leaf].is_empty() {
            self.leaves.remove(leaf);
        }
        // With the one before, which may then be joined with the next as well.
        for first in (leaf.saturating_sub(1)..=leaf).rev() {
            self.join_small(first);
        }
        Some(value)
    }

    /// Joins a leaf and the next one, if they have few entries together.
    fn join_small(&mut self, first: usize) {
        let Some([one, next]) = self.leaves.get(first..first + 2) else { return };
        if one.len() + next.len() <= LEAF_ENTRIES_MAX / 2 {
            let next = self.leaves.remove(first + 1);
            Arc::make_mut(&mut self.leaves[first]).extend(next.iter().cloned());
        }
    }

    /// The entries from a key on, by ascending key.
    pub fn range_from<'a, Q: Ord + ?Sized>(
        &'a self,
        key: &Q,
    ) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, K, V, Q>
    where
        K: Borrow<Q>,
    {
        let (leaf, entry) = self.find(key).unwrap_or((0, Ok(0)));
        let (Ok(entry) | Err(entry)) = entry;
        let leaves = self.leaves.iter().skip(leaf).flat_map(|leaf| leaf.iter());
        leaves.skip(entry).map(|(key, value)| (key, value))
    }

    /// What is different in `newer`, by ascending key, with the value before and the one after. `same` says whether
    /// two values of one key are no difference.
    pub fn changes<'a>(
        &'a self,
        newer: &'a Self,
        same: fn(&V, &V) -> bool,
    ) -> impl Iterator<Item = Change<'a, K, V>> + use<'a, K, V> {
        let (mut before, mut after) = (Cursor::of(self), Cursor::of(newer));
        std::iter::from_fn(move || {
            loop {
                if before.skips_with(&after) {
                    before.next_leaf();
                    after.next_leaf();
                    continue;
                }
                let (key, old, new) = match (before.entry(), after.entry()) {
                    (None, None) => return None,
                    (Some((key, old)), None) => (key, Some(old), None),
                    (None, Some((key, new))) => (key, None, Some(new)),
                    (Some((key, old)), Some((new_key, new))) => match key.cmp(new_key) {
                        std::cmp::Ordering::Less => (key, Some(old), None),
                        std::cmp::Ordering::Greater => (new_key, None, Some(new)),
                        std::cmp::Ordering::Equal => (key, Some(old), Some(new)),
                    },
                };
                before.pass(old.is_some());
                after.pass(new.is_some());
                if !matches!((old, new), (Some(old), Some(new)) if same(old, new)) {
                    return Some((key, old, new));
                }
            }
        })
    }
}

/// A key, its value before, and the one after.
pub type Change<'a, K, V> = (&'a K, Option<&'a V>, Option<&'a V>);

/// A place in a map.
struct Cursor<'a, K, V> {
    leaves: &'a [Leaf<K, V>],
    /// The next one of the first of `leaves`. Invariant: below its length.
    entry: usize,
}

impl<'a, K, V> Cursor<'a, K, V> {
    fn of(map: &'a SharedMap<K, V>) -> Self {
        Self { leaves: &map.leaves, entry: 0 }
    }

    fn entry(&self) -> Option<&'a (K, V)> {
        Some(&self.leaves.first()?[self.entry])
    }

    /// Whether both are at the start of a leaf that is the same one.
    fn skips_with(&self, other: &Self) -> bool {
        match (self.leaves.first(), other.leaves.first()) {
            (Some(own), Some(others)) => self.entry == 0 && other.entry == 0 && Arc::ptr_eq(own, others),
            _ => false,
        }
    }

    fn next_leaf(&mut self) {
        self.leaves = &self.leaves[1..];
        self.entry = 0;
    }

    fn pass(&mut self, passes: bool) {
        let Some(leaf) = self.leaves.first().filter(|_| passes) else { return };
        self.entry += 1;
        if self.entry == leaf.len() {
            self.next_leaf();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn check(map: &SharedMap<u16, u32>, model: &BTreeMap<u16, u32>) {
        assert_eq!(map.len(), model.len());
        assert!(map.iter().eq(model.iter()));
        assert!(map.leaves.iter().all(|leaf| (1..=LEAF_ENTRIES_MAX).contains(&leaf.len())));
        let pairs = map.leaves.windows(2);
        assert!(pairs.map(|pair| pair[0].len() + pair[1].len()).all(|both| both > LEAF_ENTRIES_MAX / 2));
    }

    proptest! {
        /// Against a `BTreeMap`, with a copy from the middle of the history.
        #[test]
        fn agrees_with_a_map(steps in proptest::collection::vec((0u16..400, 0u8..4, any::<u32>()), 0..1500), middle in 0usize..1500) {
            let (mut map, mut model) = (SharedMap::default(), BTreeMap::new());
            let (mut copy, mut model_copy) = (map.clone(), model.clone());
            for (number, (key, kind, value)) in steps.into_iter().enumerate() {
                match kind {
                    0 => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    1 => {
                        prop_assert_eq!(map.get(&key), model.get(&key));
                        if let Some(held) = map.get_mut(&key) {
                            *held = value;
                            model.insert(key, value);
                        }
                    }
                    _ => prop_assert_eq!(map.insert(key, value), model.insert(key, value)),
                }
                if number == middle {
                    (copy, model_copy) = (map.clone(), model.clone());
                }
            }
            check(&map, &model);
            check(&copy, &model_copy);
            for from in [0, 7, 200, 399] {
                prop_assert!(map.range_from(&from).eq(model.range(from..)));
            }
            let keys: std::collections::BTreeSet<u16> = model.keys().chain(model_copy.keys()).copied().collect();
            let expected = keys.into_iter().filter(|key| model.get(key) != model_copy.get(key));
            let changes: Vec<_> = copy.changes(&map, u32::eq).collect();
            prop_assert!(changes.iter().map(|(key, ..)| **key).eq(expected));
            for (key, before, after) in changes {
                prop_assert_eq!((before, after), (model_copy.get(key), model.get(key)));
            }
        }
    }

    #[test]
    fn a_change_of_a_large_map_copies_one_leaf_and_is_found_there() {
        let mut map = SharedMap::default();
        for key in 0..100_000u32 {
            map.insert(key.wrapping_mul(2_654_435_761), key);
        }
        let mut changed = map.clone();
        *changed.get_mut(&0).expect("it is there") = 1;
        let shared = map.leaves.iter().zip(&changed.leaves).filter(|(one, other)| Arc::ptr_eq(one, other));
        assert_eq!(shared.count(), map.leaves.len() - 1);
        assert!(map.leaves.len() < 4_000, "{}", map.leaves.len());
        assert_eq!(map.changes(&changed, u32::eq).collect::<Vec<_>>(), [(&0, Some(&0), Some(&1))]);
        assert_eq!(map.changes(&map, u32::eq).count(), 0);
    }
}
