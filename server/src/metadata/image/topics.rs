//! Topics and partitions of the image.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::ApplyError;
use super::shared_map::{Change, SharedMap};
use crate::metadata::records;
use crate::metadata::topic_name;

/// All topics, by name and by id.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Topics {
    by_id: SharedMap<Uuid, Arc<TopicImage>>,
    /// Invariant: the names and ids of `by_id`, and no others.
    by_name: SharedMap<Arc<str>, Uuid>,
    /// Names that could collide with others, each behind what it has in common with those.
    /// Invariant: those of `by_name`, and no others.
    by_unified_name: SharedMap<(Arc<str>, Arc<str>), ()>,
    /// Invariant: the sum of the topics' partitions.
    partition_count: usize,
}

/// One topic.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicImage {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; another one if it is deleted and created again.
    pub id: Uuid,
    /// By index; dense from 0 on.
    pub partitions: BTreeMap<i32, PartitionImage>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionImage {
    /// Broker ids, in order of preference.
    pub replicas: Vec<i32>,
    /// The in-sync ones.
    pub isr: Vec<i32>,
    /// Those that a reassignment removes.
    pub removing_replicas: Vec<i32>,
    /// Those that a reassignment adds.
    pub adding_replicas: Vec<i32>,
    /// KIP-966: replicas that may lead although they left the in-sync set.
    pub eligible_leader_replicas: Vec<i32>,
    /// KIP-966: the last eligible ones, for an unclean recovery.
    pub last_known_elr: Vec<i32>,
    /// The log directory of each replica, in the order of `replicas`.
    pub directories: Vec<Uuid>,
    /// Who leads; −1 for nobody.
    pub leader: i32,
    /// Grows with every election.
    pub leader_epoch: i32,
    /// Grows with every change.
    pub partition_epoch: i32,
    /// 1 while the leader recovers from an unclean election.
    pub leader_recovery_state: i8,
}

impl TopicImage {
    /// Whether it has a partition of this index.
    pub fn has_partition(&self, index: i32) -> bool {
        usize::try_from(index).is_ok_and(|index| index < self.partitions.len())
    }

    /// The partition of this index.
    pub fn partition(&self, index: i32) -> Option<&PartitionImage> {
        self.partitions.get(&index)
    }
}

impl Topics {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    /// The topics that are other ones in `newer`, by id: as they were, and as they are there.
    pub fn changes<'a>(
        &'a self,
        newer: &'a Self,
    ) -> impl Iterator<Item = Change<'a, Uuid, Arc<TopicImage>>> + use<'a> {
        self.by_id.changes(&newer.by_id, Arc::ptr_eq)
    }

    /// A topic whose name differs from this one only in `.` and `_`.
    pub fn colliding_with(&self, name: &str) -> Option<&Arc<str>> {
        let unified: Arc<str> = topic_name::unify(name).into();
        let from = self.by_unified_name.range_from(&(unified.clone(), "".into()));
        let mut names = from.map(|(key, ())| key).take_while(|(of, _)| *of == unified);
        names.find(|(_, other)| **other != *name).map(|(_, other)| other)
    }

    /// How many partitions all of them have.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// The topic of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.by_id.get(self.by_name.get(name)?)
    }

    /// The topic of this id.
    pub fn with_id(&self, id: Uuid) -> Option<&Arc<TopicImage>> {
        self.by_id.get(&id)
    }

    /// All topics, by ascending name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.by_name.values().map(|id| self.by_id.get(id).expect("every name has its topic"))
    }

    /// The topics whose names are not less than `name`, ascending.
    pub fn from_name<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Arc<TopicImage>> + use<'a> {
        let from = self.by_name.range_from(name);
        from.map(|(_, id)| self.by_id.get(id).expect("every name has its topic"))
    }

    pub(super) fn create(&mut self, record: &records::Topic) -> Result<(), ApplyError> {
        let name: Arc<str> = record.name.as_str().into();
        if self.by_name.contains_key(&name) || self.by_id.contains_key(&record.topic_id) {
            return Err(ApplyError::TopicExists(record.name.clone()));
        }
        self.by_name.insert(name.clone(), record.topic_id);
        if topic_name::may_collide(&name) {
            self.by_unified_name.insert((topic_name::unify(&name).into(), name.clone()), ());
        }
        let topic = TopicImage { name, id: record.topic_id, partitions: BTreeMap::new() };
        self.by_id.insert(record.topic_id, Arc::new(topic));
        Ok(())
    }

    /// Removes the topic and returns its name.
    pub(super) fn remove(&mut self, id: Uuid) -> Result<Arc<str>, ApplyError> {
        let topic = self.by_id.remove(&id).ok_or(ApplyError::UnknownTopic(id))?;
        self.by_name.remove(&topic.name);
        if topic_name::may_collide(&topic.name) {
            self.by_unified_name.remove(&(topic_name::unify(&topic.name).into(), topic.name.clone()));
        }
        self.partition_count -= topic.partitions.len();
        Ok(topic.name.clone())
    }

    pub(super) fn set_partition(&mut self, record: &records::Partition) -> Result<(), ApplyError> {
        let topic = self.by_id.get_mut(&record.topic_id).ok_or(ApplyError::UnknownTopic(record.topic_id))?;
        let partition = PartitionImage {
            replicas: record.replicas.clone(),
            isr: record.isr.clone(),
            removing_replicas: record.removing_replicas.clone(),
            adding_replicas: record.adding_replicas.clone(),
            eligible_leader_replicas: record.eligible_leader_replicas.clone().unwrap_or_default(),
            last_known_elr: record.last_known_elr.clone().unwrap_or_default(),
            directories: record.directories.clone(),
            leader: record.leader,
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
            leader_recovery_state: record.leader_recovery_state,
        };
        if Arc::make_mut(topic).partitions.insert(record.partition_id, partition).is_none() {
            self.partition_count += 1;
        }
        Ok(())
    }

    pub(super) fn change_partition(&mut self, record: &records::PartitionChange) -> Result<(), ApplyError> {
        let topic = self.by_id.get_mut(&record.topic_id).ok_or(ApplyError::UnknownTopic(record.topic_id))?;
        let index = record.partition_id;
        let Some(partition) = Arc::make_mut(topic).partitions.get_mut(&index) else {
            return Err(ApplyError::UnknownPartition { topic: record.topic_id, partition: index });
        };
        partition.change(record);
        Ok(())
    }

    /// Forgets the eligible leaders of the topic, or of all topics if the name is empty.
    pub(super) fn clear_eligible_leaders(&mut self, name: &str) {
        let named = self.iter().filter(|topic| name.is_empty() || *topic.name == *name);
        let ids: Vec<Uuid> = named.map(|topic| topic.id).collect();
        for id in ids {
            let topic = Arc::make_mut(self.by_id.get_mut(&id).expect("it was found"));
            for partition in topic.partitions.values_mut() {
                partition.eligible_leader_replicas.clear();
                partition.last_known_elr.clear();
            }
        }
    }
}

impl PartitionImage {
    /// Kafka: `PartitionRegistration.merge`.
    fn change(&mut self, record: &records::PartitionChange) {
        fn set<T: Clone>(field: &mut T, change: &Option<T>) {
            if let Some(value) = change {
                field.clone_from(value);
            }
        }
        set(&mut self.isr, &record.isr);
        set(&mut self.replicas, &record.replicas);
        set(&mut self.removing_replicas, &record.removing_replicas);
        set(&mut self.adding_replicas, &record.adding_replicas);
        set(&mut self.directories, &record.directories);
        set(&mut self.eligible_leader_replicas, &record.eligible_leader_replicas);
        set(&mut self.last_known_elr, &record.last_known_elr);
        set(&mut self.leader_recovery_state, &record.leader_recovery_state);
        if let Some(leader) = record.leader {
            self.leader = leader;
            self.leader_epoch += 1;
        }
        self.partition_epoch += 1;
    }
}
