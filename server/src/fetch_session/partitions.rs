//! The partitions of one session: what is wanted of each, what its client was told, and whose turn it is.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use flumen_wire::StrBytes;
use flumen_wire::fetch::{FetchPartition, FetchPartitionResponse, FetchRequest};
use uuid::Uuid;

use super::{Found, Wanted};

/// Kafka's error code.
const UNKNOWN_TOPIC_ID: i16 = 100;

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
    /// The places of those that may hold what the client has not got. The others are watched.
    unsettled: BTreeSet<u64>,
}

#[derive(Debug)]
pub(super) struct CachedPartition {
    key: PartitionKey,
    wanted: FetchPartition,
    /// What the client was last told; −1 makes the next answer include the partition.
    high_watermark: i64,
    log_start_offset: i64,
    /// Whether an answer knew its topic.
    was_known: bool,
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
            self.unsettled.insert(*place);
            return;
        }
        self.places.insert(cached.key.clone(), self.place_next);
        self.in_order.insert(self.place_next, cached);
        self.unsettled.insert(self.place_next);
        self.place_next += 1;
    }

    /// Says whether it was there.
    fn remove(&mut self, key: &PartitionKey) -> bool {
        let Some(place) = self.places.remove(key) else { return false };
        self.in_order.remove(&place);
        self.unsettled.remove(&place);
        true
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

    /// What an incremental request adds, changes and forgets. Returns what was forgotten.
    pub(super) fn update(&mut self, request: &FetchRequest) -> Vec<PartitionKey> {
        self.push_all(request);
        let forgotten = request.forgotten.iter().flat_map(|topic| {
            topic.partitions.iter().map(|&index| PartitionKey {
                topic: topic.name.clone(),
                topic_id: topic.id,
                index,
            })
        });
        forgotten.filter(|key| self.remove(key)).collect()
    }

    /// Nothing is known of any partition.
    pub(super) fn unsettle(&mut self) {
        if self.unsettled.len() != self.in_order.len() {
            self.unsettled = self.in_order.keys().copied().collect();
        }
    }

    /// What to look at.
    pub(super) fn wanted(&self) -> Vec<Wanted> {
        let unsettled = self.unsettled.iter().map(|place| {
            let cached = self.in_order.get(place).expect("every unsettled place is filled");
            cached.wanted_at(*place)
        });
        unsettled.collect()
    }

    /// Compares the answers with what the client knows; `are_watched` says that there will be news of those that
    /// had nothing more. Partitions that got records go to the end, so that under a small `max_bytes` the others
    /// have their turn.
    pub(super) fn take_answers(&mut self, found: &[Found], are_watched: bool) -> Vec<usize> {
        let mut included = Vec::new();
        for (index, found) in found.iter().enumerate() {
            let Some(&place) = self.places.get(&found.key) else { continue };
            let cached = self.in_order.get_mut(&place).expect("every place is filled");
            if cached.take_answer(&found.answer) {
                included.push(index);
            }
            if are_watched && found.is_exhausted {
                self.unsettled.remove(&place);
                continue;
            }
            self.unsettled.insert(place);
            if found.answer.records_bytes > 0 {
                self.move_back(place);
            }
        }
        included
    }

    /// Puts a partition behind all others.
    fn move_back(&mut self, place: u64) {
        let cached = self.in_order.remove(&place).expect("every place is filled");
        self.places.insert(cached.key.clone(), self.place_next);
        self.in_order.insert(self.place_next, cached);
        if self.unsettled.remove(&place) {
            self.unsettled.insert(self.place_next);
        }
        self.place_next += 1;
    }
}

impl CachedPartition {
    pub(super) fn new(key: PartitionKey, wanted: FetchPartition) -> Self {
        Self { key, wanted, high_watermark: -1, log_start_offset: -1, was_known: false }
    }

    fn wanted_at(&self, place: u64) -> Wanted {
        let (key, partition) = (self.key.clone(), self.wanted);
        Wanted { place, key, partition, was_known: self.was_known }
    }

    /// Notes what the client is about to learn; says whether it is anything.
    pub(super) fn take_answer(&mut self, answer: &FetchPartitionResponse) -> bool {
        let is_news = answer.records_bytes > 0
            || answer.error_code != 0
            || answer.high_watermark != self.high_watermark
            || answer.log_start_offset != self.log_start_offset
            || answer.preferred_read_replica != -1
            || answer.diverging_epoch.is_some();
        // After an error nothing is known: when it goes away, the client is told.
        self.high_watermark = if answer.error_code == 0 { answer.high_watermark } else { -1 };
        self.log_start_offset = answer.log_start_offset;
        self.was_known |= answer.error_code != UNKNOWN_TOPIC_ID;
        is_news
    }
}

/// The partitions that a request names, each once: at its first place, with its last wish. Clients without sessions name
/// thousands in each fetch.
pub(super) fn requested(request: &FetchRequest) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let (mut topics, mut places) = (HashMap::new(), HashMap::new());
    for topic in &request.topics {
        let next = topics.len();
        let number = *topics.entry((topic.name.as_str(), topic.id)).or_insert(next);
        let name = StrBytes::from_string(topic.name.to_string());
        for partition in &topic.partitions {
            let place = *places.entry((number, partition.index)).or_insert(wanted.len());
            if let Some(again) = wanted.get_mut(place) {
                again.partition = *partition;
                continue;
            }
            let key = PartitionKey { topic: name.clone(), topic_id: topic.id, index: partition.index };
            wanted.push(Wanted { place: place as u64, key, partition: *partition, was_known: false });
        }
    }
    wanted
}
