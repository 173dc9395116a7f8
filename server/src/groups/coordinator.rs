//! The group coordinator of one core: the `__consumer_offsets` partitions that live here, with their groups.
//!
//! A group belongs to the partition that its id hashes to, and is decided on that partition's core; requests
//! that arrive elsewhere are sent there. Nothing is shared between cores.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use flumen_engine::storage::Runtime;
use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::hosted::Hosted;
use super::log::GroupLog;
use super::messages::{Answer, ListedGroup};
use super::partition::Request;
use super::settings::GroupSettings;

/// The topic that holds groups and their offsets.
pub const GROUP_METADATA_TOPIC: &str = "__consumer_offsets";

/// The partition of a group, of `partitions` many. Kafka: the absolute value of Java's `hashCode`, modulo.
fn partition_of(group_id: &str, partitions: i32) -> i32 {
    let hash =
        group_id.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // The one number without an absolute value counts as 0.
    hash.checked_abs().unwrap_or(0) % partitions
}

/// The groups of one core.
pub struct GroupCoordinator {
    runtime: Rc<dyn Runtime>,
    settings: GroupSettings,
    hosted: RefCell<BTreeMap<i32, Rc<Hosted>>>,
    /// The topic's id, and over how many of its partitions groups are spread.
    spread: Cell<Option<(Uuid, i32)>>,
    /// The broker stops: nothing is taken over any more.
    stopping: Cell<bool>,
}

impl GroupCoordinator {
    /// No groups yet.
    pub fn new(runtime: Rc<dyn Runtime>, settings: GroupSettings) -> Self {
        Self {
            runtime,
            settings,
            hosted: RefCell::default(),
            spread: Cell::default(),
            stopping: Cell::new(false),
        }
    }

    /// What is valid for every group.
    pub fn settings(&self) -> &GroupSettings {
        &self.settings
    }

    /// Groups are spread over the partitions of `topic`, of which there are so many.
    ///
    /// As many as there were when the topic was created, or this broker started; Kafka counts them once, too. With
    /// each partition that is added, most groups would move away from their members and offsets.
    pub fn spread_over(&self, topic: Uuid, partitions: usize) {
        if self.spread.get().is_none_or(|(known, _)| known != topic) {
            let partitions = i32::try_from(partitions).expect("partitions are numbered by 32 bits");
            self.spread.set((partitions > 0).then_some((topic, partitions)));
        }
    }

    /// The partition of `topic` that holds a group; None while this core knows nothing of it.
    pub fn partition_for(&self, topic: Uuid, group_id: &str) -> Option<i32> {
        let (_, partitions) = self.spread.get().filter(|(known, _)| *known == topic)?;
        Some(partition_of(group_id, partitions))
    }

    /// Takes over partition `index` of the topic, unless it is here already, and begins to load it.
    pub fn open(&self, index: i32, log: Rc<dyn GroupLog>) {
        if self.stopping.get() {
            return;
        }
        let (runtime, settings) = (&self.runtime, &self.settings);
        let mut hosted = self.hosted.borrow_mut();
        hosted.entry(index).or_insert_with(|| Hosted::open(index, runtime.clone(), log, settings.clone()));
    }

    /// Which partitions are here.
    pub fn partitions(&self) -> Vec<i32> {
        self.hosted.borrow().keys().copied().collect()
    }

    /// Lets a partition go: whoever waits is told to look for another coordinator.
    pub fn close(&self, index: i32) {
        let hosted = self.hosted.borrow_mut().remove(&index);
        if let Some(hosted) = hosted {
            hosted.close();
        }
    }

    /// Lets every partition go, for good: the broker stops.
    pub fn close_all(&self) {
        self.stopping.set(true);
        for index in self.partitions() {
            self.close(index);
        }
    }

    /// Asks something of a group of partition `index`, and waits for the answer for as long as it takes.
    pub async fn ask(&self, index: i32, group_id: &str, request: Request) -> Result<Answer, ResponseError> {
        let hosted = self.hosted.borrow().get(&index).cloned();
        match hosted {
            Some(hosted) => hosted.ask(group_id, request).await,
            None => Err(ResponseError::NotCoordinator),
        }
    }

    /// The groups of every partition of this core; `pause` comes between two partitions.
    pub async fn list(&self, pause: impl AsyncFn()) -> Result<Vec<ListedGroup>, ResponseError> {
        let mut groups = Vec::new();
        let hosted: Vec<_> = self.hosted.borrow().values().cloned().collect();
        for hosted in hosted {
            groups.extend(hosted.list()?);
            pause().await;
        }
        Ok(groups)
    }

    /// Topics were deleted: their offsets go, in every group of this core. `pause` comes between two partitions: no
    /// topic of the same name may be created before this completes.
    pub async fn topics_deleted(&self, topics: &[String], pause: impl AsyncFn()) {
        let hosted: Vec<_> = self.hosted.borrow().values().cloned().collect();
        for hosted in hosted {
            hosted.topics_deleted(topics);
            pause().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use flumen_engine::storage::sim::{Random, SimRuntime};

    use super::*;

    #[test]
    fn groups_are_spread_as_by_kafka() {
        // Seen on Apache Kafka 4.3.1.
        for (group, partition) in [("golden-group", 49), ("simple", 26), ("golden-848", 32)] {
            assert_eq!(partition_of(group, 50), partition, "{group}");
        }
        assert_eq!(partition_of("", 50), 0);
        // Its hash code is the smallest number of all.
        assert_eq!(partition_of("polygenelubricants", 50), 0);
        assert!((0..50).contains(&partition_of("groupe-été-🎉", 50)));
    }
    #[test]
    fn groups_stay_where_they_are_when_partitions_are_added() {
        let runtime = SimRuntime::new(Random::new(7), 0);
        let groups = GroupCoordinator::new(runtime, GroupSettings::default());
        let (topic, next) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(groups.partition_for(topic, "golden-group"), None);
        groups.spread_over(topic, 50);
        groups.spread_over(topic, 51);
        assert_eq!(groups.partition_for(topic, "golden-group"), Some(49));
        assert_eq!(groups.partition_for(next, "golden-group"), None);
        groups.spread_over(next, 1);
        assert_eq!(groups.partition_for(next, "golden-group"), Some(0));
    }
}
