//! The partitions of one core: each found in a step, all of them in the order of their ids.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;

use crate::{Partition, PartitionId};

/// See the module.
#[derive(Default)]
pub(crate) struct Partitions {
    in_order: BTreeMap<PartitionId, Partition>,
    /// The same ones. Nobody else chooses their ids, so that their hashes need no secret.
    by_id: HashMap<PartitionId, Partition, BuildHasherDefault<DefaultHasher>>,
}

impl Partitions {
    pub(crate) fn get(&self, id: &PartitionId) -> Option<&Partition> {
        self.by_id.get(id)
    }

    pub(crate) fn contains(&self, id: &PartitionId) -> bool {
        self.by_id.contains_key(id)
    }

    /// Adds a partition, in the place of one with its id.
    pub(crate) fn insert(&mut self, partition: Partition) {
        self.by_id.insert(partition.id(), partition.clone());
        self.in_order.insert(partition.id(), partition);
    }

    pub(crate) fn remove(&mut self, id: &PartitionId) -> Option<Partition> {
        self.by_id.remove(id);
        self.in_order.remove(id)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn len(&self) -> usize {
        self.in_order.len()
    }

    /// All of them, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Partition> {
        self.in_order.values()
    }

    /// All of them, by id, to be looked at one after the other.
    pub(crate) fn to_vec(&self) -> Vec<Partition> {
        self.iter().cloned().collect()
    }
}
