//! The partitions of one session: what is wanted of each, what its client was told, and whose turn it is.

use std::collections::{BTreeMap, HashMap};

use flumen_wire::StrBytes;
use flumen_wire::fetch::{FetchPartition, FetchPartitionResponse, FetchRequest};
use uuid::Uuid;

use super::FetchContext;

/// A partition as a fetch names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartitionKey {
    /// The topic's name; empty where the fetch has ids.
    pub topic: StrBytes,
    /// The topic's id; nil where the fetch has names.
    pub topic_id: Uuid,
    /// The partition's index.
    pub index: i32,
}

/// Partitions in the order of service, found by key in constant time.
#[derive(Debug, Default)]
pub(super) struct PartitionList {
    /// Invariant: `places[key] == place` iff `in_order[place].key == key`.
    places: HashMap<PartitionKey, u64>,
    in_order: BTreeMap<u64, CachedPartition>,
    place_next: u64,
}

#[derive(Debug)]
pub(super) struct CachedPartition {
    key: PartitionKey,
    wanted: FetchPartition,
    /// What the client was last told; −1 makes the next answer include the partition.
    pub(super) high_watermark: i64,
    pub(super) log_start_offset: i64,
}

impl PartitionList {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Adds a partition behind the others, or changes what is wanted of it where it stands.
    pub(super) fn push(&mut self, cached: CachedPartition) {
        if let Some(place) = self.places.get(&cached.key) {
            let held = self.in_order.get_mut(place).expect("every place is filled");
            held.wanted = cached.wanted;
            return;
        }
        self.places.insert(cached.key.clone(), self.place_next);
        self.in_order.insert(self.place_next, cached);
        self.place_next += 1;
    }

    fn remove(&mut self, key: &PartitionKey) {
        if let Some(place) = self.places.remove(key) {
            self.in_order.remove(&place);
        }
    }

    /// Adds what a request names. The names are copied: a slice of them would keep the request's body.
    fn push_all(&mut self, request: &FetchRequest) {
        for topic in &request.topics {
            let name = StrBytes::from_string(topic.name.to_string());
            for partition in &topic.partitions {
                let key = PartitionKey { topic: name.clone(), topic_id: topic.id, index: partition.index };
                self.push(CachedPartition::new(key, *partition));
            }
        }
    }

    /// What an incremental request adds, changes and forgets.
    pub(super) fn update(&mut self, request: &FetchRequest) {
        self.push_all(request);
        for topic in &request.forgotten {
            for &index in &topic.partitions {
                self.remove(&PartitionKey { topic: topic.name.clone(), topic_id: topic.id, index });
            }
        }
    }

    pub(super) fn wanted(&self) -> Vec<(PartitionKey, FetchPartition)> {
        self.in_order.values().map(|cached| (cached.key.clone(), cached.wanted)).collect()
    }

    /// Compares the answers with what the client knows. Partitions that got records go to the end, so that
    /// under a small `max_bytes` the others have their turn.
    pub(super) fn take_answers(
        &mut self,
        context: &FetchContext,
        answers: &[FetchPartitionResponse],
    ) -> Vec<usize> {
        let mut included = Vec::new();
        for (index, ((key, _), answer)) in context.partitions.iter().zip(answers).enumerate() {
            let Some(&place) = self.places.get(key) else { continue };
            let cached = self.in_order.get_mut(&place).expect("every place is filled");
            if !cached.take_answer(answer) {
                continue;
            }
            included.push(index);
            if answer.records_bytes > 0 {
                let cached = self.in_order.remove(&place).expect("every place is filled");
                self.places.insert(key.clone(), self.place_next);
                self.in_order.insert(self.place_next, cached);
                self.place_next += 1;
            }
        }
        included
    }
}

impl CachedPartition {
    pub(super) fn new(key: PartitionKey, wanted: FetchPartition) -> Self {
        Self { key, wanted, high_watermark: -1, log_start_offset: -1 }
    }

    /// Notes what the client is about to learn; says whether it is anything.
    fn take_answer(&mut self, answer: &FetchPartitionResponse) -> bool {
        let is_news = answer.records_bytes > 0
            || answer.error_code != 0
            || answer.high_watermark != self.high_watermark
            || answer.log_start_offset != self.log_start_offset
            || answer.preferred_read_replica != -1
            || answer.diverging_epoch.is_some();
        // After an error nothing is known: when it goes away, the client is told.
        self.high_watermark = if answer.error_code == 0 { answer.high_watermark } else { -1 };
        self.log_start_offset = answer.log_start_offset;
        is_news
    }
}

/// The partitions that a request names, each once: at its first place, with its last wish.
pub(super) fn requested(request: &FetchRequest) -> Vec<(PartitionKey, FetchPartition)> {
    let mut list = PartitionList::default();
    list.push_all(request);
    list.in_order.into_values().map(|cached| (cached.key, cached.wanted)).collect()
}
