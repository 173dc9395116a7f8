//! Committed offsets of one partition's groups.
//!
//! Of the core that owns the partition. A commit is visible once its record is durable, so no reader sees an
//! offset that a crash takes back; until then it is *pending*. Who asks for stable offsets, and every change,
//! looks at the newest state, pending ones included, and is answered after what is pending became durable.
//! Offsets inside of a transaction stay apart until its marker. A crash leaves what is durable, all of it
//! readable from the log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::rc::Rc;

use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::records::OffsetCommit;

/// OffsetCommit, of any version.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    /// The member's generation; −1 without one.
    pub generation: i32,
    /// The member's id; empty without one.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub instance_id: Option<String>,
    /// How long the offsets are to be kept (versions 2–4).
    pub retention_ms: Option<i64>,
    /// An unknown group is named as such (version 9 and newer), instead of an illegal generation.
    pub knows_missing_groups: bool,
    /// What is committed. Topics and partitions existed in the image of `image_offset`.
    pub topics: Vec<CommitTopic>,
    /// Up to where the metadata log had been applied when the topics were looked up.
    pub image_offset: i64,
}

/// The offsets of one topic.
#[derive(Debug, Clone)]
pub struct CommitTopic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: Uuid,
    /// Its partitions.
    pub partitions: Vec<CommitPartition>,
}

/// The offset of one partition.
#[derive(Debug, Clone)]
pub struct CommitPartition {
    /// Its index.
    pub index: i32,
    /// The next offset to consume.
    pub offset: i64,
    /// The epoch of the last record that was consumed; −1 when unknown.
    pub leader_epoch: i32,
    /// Whatever the client wants to keep.
    pub metadata: String,
}

/// A partition's index, and why it failed, if it did.
pub type PartitionResult = (i32, Option<ResponseError>);

/// What became of each partition, in the request's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionResults {
    /// Topic by topic.
    pub topics: Vec<(String, Vec<PartitionResult>)>,
}

impl PartitionResults {
    /// This error for each of these partitions.
    pub fn failed(asked: Vec<(String, Vec<i32>)>, error: ResponseError) -> Self {
        let result = |index| (index, Some(error));
        let topic = |(name, indexes): (String, Vec<i32>)| (name, indexes.into_iter().map(result).collect());
        Self { topics: asked.into_iter().map(topic).collect() }
    }

    /// Takes in results; those of a topic that is there already go behind the ones that it has.
    pub fn extend(&mut self, results: impl IntoIterator<Item = (String, Vec<PartitionResult>)>) {
        let named = self.topics.iter().enumerate().map(|(place, (name, _))| (name.clone(), place));
        let mut places: BTreeMap<String, usize> = named.collect();
        for (name, partitions) in results {
            match places.get(&name) {
                Some(place) => self.topics[*place].1.extend(partitions),
                None => {
                    places.insert(name.clone(), self.topics.len());
                    self.topics.push((name, partitions));
                }
            }
        }
    }

    /// As [`PartitionResults::extend`]; but if there are none yet, a topic that was named twice is there twice, as by
    /// Kafka.
    pub fn merge(&mut self, others: Self) {
        if self.topics.is_empty() {
            *self = others;
        } else {
            self.extend(others.topics);
        }
    }

    /// Fails everything that did not fail already.
    pub fn fail(&mut self, error: ResponseError) {
        for (_, partitions) in &mut self.topics {
            for (_, result) in partitions {
                result.get_or_insert(error);
            }
        }
    }
}

/// The answer to OffsetCommit.
pub type CommitAnswer = PartitionResults;

/// The answer to OffsetDelete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOffsetsAnswer {
    /// Why nothing was deleted.
    pub error: Option<ResponseError>,
    /// Each partition.
    pub results: PartitionResults,
}

/// One group of OffsetFetch.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    /// What is asked for; None for everything that was committed.
    pub topics: Option<Vec<FetchTopic>>,
    /// Offsets in open transactions are an error, and nothing pending is passed over.
    pub require_stable: bool,
}

/// The partitions of one topic that are asked for.
#[derive(Debug, Clone)]
pub struct FetchTopic {
    /// Its name.
    pub name: String,
    /// Its id, if it was asked for by that: an offset that was committed for another topic of the name is none of
    /// its own. Nil by name.
    pub id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
}

impl FetchTopic {
    fn is_of(&self, commit: &OffsetCommit) -> bool {
        self.id.is_nil() || commit.topic_id.is_nil() || self.id == commit.topic_id
    }
}

/// The answer to one group of OffsetFetch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchAnswer {
    /// Why nothing was fetched.
    pub error: Option<ResponseError>,
    /// Topic by topic.
    pub topics: Vec<(String, Vec<FetchedOffset>)>,
}

/// A committed offset, as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The partition's index.
    pub partition: i32,
    /// The offset; −1 for none.
    pub offset: i64,
    /// −1 when unknown.
    pub leader_epoch: i32,
    /// What the client wanted to keep.
    pub metadata: String,
    /// Why there is none.
    pub error: Option<ResponseError>,
}

impl FetchedOffset {
    /// No offset.
    pub fn none(partition: i32, error: Option<ResponseError>) -> Self {
        Self { partition, offset: -1, leader_epoch: -1, metadata: String::new(), error }
    }

    fn of(partition: i32, commit: &OffsetCommit) -> Self {
        Self {
            partition,
            offset: commit.offset,
            leader_epoch: commit.leader_epoch,
            metadata: commit.metadata.clone(),
            error: None,
        }
    }
}

/// By topic and partition.
type Topics<V> = BTreeMap<Rc<str>, BTreeMap<i32, V>>;

/// A value for each group, topic and partition.
#[derive(Debug)]
struct Table<V> {
    groups: BTreeMap<Rc<str>, Topics<V>>,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { groups: BTreeMap::new() }
    }
}

impl<V> Table<V> {
    fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&V> {
        self.groups.get(group)?.get(topic)?.get(&partition)
    }

    fn get_mut(&mut self, group: &str, topic: &str, partition: i32) -> Option<&mut V> {
        self.groups.get_mut(group)?.get_mut(topic)?.get_mut(&partition)
    }

    fn insert(&mut self, group: &Rc<str>, topic: &Rc<str>, partition: i32, value: V) {
        let topics = self.groups.entry(group.clone()).or_default();
        topics.entry(topic.clone()).or_default().insert(partition, value);
    }

    fn remove(&mut self, group: &str, topic: &str, partition: i32) -> Option<V> {
        let topics = self.groups.get_mut(group)?;
        let partitions = topics.get_mut(topic)?;
        let value = partitions.remove(&partition);
        if partitions.is_empty() {
            topics.remove(topic);
        }
        if topics.is_empty() {
            self.groups.remove(group);
        }
        value
    }

    fn of_group(&self, group: &str) -> impl Iterator<Item = (&Rc<str>, i32, &V)> {
        let topics = self.groups.get(group).into_iter().flatten();
        topics.flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(index, value)| (topic, *index, value))
        })
    }

    /// Has `each` see what is there of these topics. Costs a look-up for each group and topic, of those that are wanted
    /// or of those that the group has, whichever are fewer.
    fn for_topics<'a>(
        &'a self,
        wanted: &BTreeSet<&str>,
        mut each: impl FnMut(&'a Rc<str>, &'a Rc<str>, i32, &'a V),
    ) {
        for (group, topics) in &self.groups {
            let mut tell = |topic: &'a Rc<str>, partitions: &'a BTreeMap<i32, V>| {
                partitions.iter().for_each(|(index, value)| each(group, topic, *index, value));
            };
            if wanted.len() < topics.len() {
                let found = wanted.iter().filter_map(|name| topics.get_key_value(*name));
                found.for_each(|(topic, partitions)| tell(topic, partitions));
            } else {
                let found = topics.iter().filter(|(topic, _)| wanted.contains(&***topic));
                found.for_each(|(topic, partitions)| tell(topic, partitions));
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&Rc<str>, &Rc<str>, i32, &V)> {
        self.groups.iter().flat_map(|(group, topics)| {
            topics.iter().flat_map(move |(topic, partitions)| {
                partitions.iter().map(move |(index, value)| (group, topic, *index, value))
            })
        })
    }
}

/// A durable offset.
#[derive(Debug, Clone)]
struct Durable {
    commit: OffsetCommit,
    /// Where its record is. Of a transaction's offset and another one, the later record counts, not the
    /// later marker.
    record_offset: i64,
}

/// What is written but not durable.
#[derive(Debug)]
struct Pending {
    /// How many writes change this offset.
    writes: usize,
    /// What it will be after the last of them.
    newest: Option<OffsetCommit>,
}

/// One offset that a write changes.
#[derive(Debug, Clone)]
pub struct Change {
    /// The group's id.
    pub group: Rc<str>,
    /// The topic's name.
    pub topic: Rc<str>,
    /// The partition's index.
    pub partition: i32,
    /// What it becomes; None when it is deleted.
    pub commit: Option<OffsetCommit>,
    /// Which record of the write says so, from 0.
    pub record: usize,
}

/// The offsets of all groups of one `__consumer_offsets` partition.
#[derive(Debug, Default)]
pub struct Offsets {
    durable: Table<Durable>,
    pending: Table<Pending>,
    in_flight: VecDeque<(u64, Vec<Change>)>,
    sequence: u64,
    /// By producer id: offsets in transactions that are open.
    transactions: BTreeMap<i64, Table<Durable>>,
}

impl Offsets {
    /// Notes changes that are being written. The number stands for them until [`Offsets::written`].
    pub fn stage(&mut self, changes: Vec<Change>) -> u64 {
        for Change { group, topic, partition, commit, .. } in &changes {
            match self.pending.get_mut(group, topic, *partition) {
                Some(pending) => {
                    pending.writes += 1;
                    pending.newest.clone_from(commit);
                }
                None => {
                    let pending = Pending { writes: 1, newest: commit.clone() };
                    self.pending.insert(group, topic, *partition, pending);
                }
            }
        }
        self.sequence += 1;
        self.in_flight.push_back((self.sequence, changes));
        self.sequence
    }

    /// A write is durable, its first record at `base_offset`; or it failed, and nothing happened.
    pub fn written(&mut self, sequence: u64, base_offset: Result<i64, ResponseError>) {
        let place = self.in_flight.iter().position(|(staged, _)| *staged == sequence);
        let (_, changes) = place
            .and_then(|place| self.in_flight.remove(place))
            .expect("a write ends once, after it was staged");
        for Change { group, topic, partition, commit, record } in changes {
            self.settle(&group, &topic, partition, base_offset.is_err());
            let Ok(base_offset) = base_offset else { continue };
            let record_offset = base_offset + i64::try_from(record).expect("a batch has fewer records");
            self.apply(&group, &topic, partition, commit, record_offset);
        }
    }

    fn settle(&mut self, group: &Rc<str>, topic: &Rc<str>, partition: i32, failed: bool) {
        let pending = self.pending.get_mut(group, topic, partition).expect("it was staged");
        pending.writes -= 1;
        if pending.writes == 0 {
            self.pending.remove(group, topic, partition);
        } else if failed {
            // It may have been the newest: then an older one of those in flight is.
            let changes = self.in_flight.iter().flat_map(|(_, changes)| changes);
            let mut newest = changes.rev();
            let newest = newest.find(|change| {
                change.group == *group && change.topic == *topic && change.partition == partition
            });
            pending.newest = newest.and_then(|change| change.commit.clone());
        }
    }

    /// Takes over what a durable record says.
    pub fn apply(
        &mut self,
        group: &Rc<str>,
        topic: &Rc<str>,
        partition: i32,
        commit: Option<OffsetCommit>,
        record_offset: i64,
    ) {
        match commit {
            Some(commit) => self.durable.insert(group, topic, partition, Durable { commit, record_offset }),
            None => {
                self.durable.remove(group, topic, partition);
                for table in self.transactions.values_mut() {
                    table.remove(group, topic, partition);
                }
            }
        }
    }

    /// Takes over what a record of an open transaction says.
    pub fn apply_in_transaction(
        &mut self,
        producer_id: i64,
        group: &Rc<str>,
        topic: &Rc<str>,
        partition: i32,
        commit: OffsetCommit,
        record_offset: i64,
    ) {
        let table = self.transactions.entry(producer_id).or_default();
        table.insert(group, topic, partition, Durable { commit, record_offset });
    }

    /// A transaction ended.
    pub fn end_transaction(&mut self, producer_id: i64, committed: bool) {
        let Some(table) = self.transactions.remove(&producer_id) else { return };
        if !committed {
            return;
        }
        for (group, topic, partition, offset) in table.iter() {
            let newer = self
                .durable
                .get(group, topic, partition)
                .is_some_and(|now| now.record_offset >= offset.record_offset);
            if !newer {
                self.durable.insert(group, topic, partition, offset.clone());
            }
        }
    }

    /// Whether a group has offsets in an open transaction.
    pub fn has_open_transactions(&self, group: &str) -> bool {
        self.transactions.values().any(|table| table.groups.contains_key(group))
    }

    /// Whether an offset is in an open transaction.
    pub fn is_in_transaction(&self, group: &str, topic: &str, partition: i32) -> bool {
        self.transactions.values().any(|table| table.get(group, topic, partition).is_some())
    }

    /// Whether there is an offset, durable, pending or in a transaction, that a tombstone would remove.
    pub fn contains(&self, group: &str, topic: &str, partition: i32) -> bool {
        self.newest(group, topic, partition).is_some() || self.is_in_transaction(group, topic, partition)
    }

    fn newest(&self, group: &str, topic: &str, partition: i32) -> Option<&OffsetCommit> {
        match self.pending.get(group, topic, partition) {
            Some(pending) => pending.newest.as_ref(),
            None => self.durable.get(group, topic, partition).map(|durable| &durable.commit),
        }
    }

    fn visible(&self, group: &str, topic: &str, partition: i32) -> Option<&OffsetCommit> {
        self.durable.get(group, topic, partition).map(|durable| &durable.commit)
    }

    /// Whether there is no offset at all, of any group.
    pub fn is_empty(&self) -> bool {
        self.durable.groups.is_empty() && self.pending.groups.is_empty() && self.transactions.is_empty()
    }

    /// Every offset that a group has or will have once what is pending is durable, and those that it has in
    /// open transactions only, without a value.
    pub fn newest_of(&self, group: &str) -> Vec<(Rc<str>, i32, Option<&OffsetCommit>)> {
        let mut all: BTreeMap<(Rc<str>, i32), Option<&OffsetCommit>> = BTreeMap::new();
        for table in self.transactions.values() {
            all.extend(table.of_group(group).map(|(topic, index, _)| ((topic.clone(), index), None)));
        }
        let durable = self.durable.of_group(group);
        all.extend(durable.map(|(topic, index, durable)| ((topic.clone(), index), Some(&durable.commit))));
        for (topic, index, pending) in self.pending.of_group(group) {
            let key = (topic.clone(), index);
            match &pending.newest {
                Some(commit) => drop(all.insert(key, Some(commit))),
                None if self.is_in_transaction(group, topic, index) => drop(all.insert(key, None)),
                None => drop(all.remove(&key)),
            }
        }
        all.into_iter().map(|((topic, index), commit)| (topic, index, commit)).collect()
    }

    /// The next `count_max` groups behind `after`, in order, that have or will have offsets.
    pub fn groups_after(&self, after: Option<&str>, count_max: usize) -> BTreeSet<Rc<str>> {
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let durable = self.durable.groups.range::<str, _>(range).map(|(id, _)| id).take(count_max);
        let pending = self.pending.groups.range::<str, _>(range).map(|(id, _)| id).take(count_max);
        let mut groups: BTreeSet<Rc<str>> = durable.chain(pending).cloned().collect();
        while groups.len() > count_max {
            groups.pop_last();
        }
        groups
    }

    /// How many offsets are durable.
    pub fn count(&self) -> usize {
        self.durable.groups.values().flat_map(BTreeMap::values).map(BTreeMap::len).sum()
    }

    /// Whether any transaction is open.
    pub fn has_transactions(&self) -> bool {
        !self.transactions.is_empty()
    }

    /// What each group has of these topics: of its offsets those that [`Offsets::newest_of`] tells.
    pub fn of_topics(&self, topics: &BTreeSet<&str>) -> BTreeMap<Rc<str>, BTreeSet<(Rc<str>, i32)>> {
        let mut found: BTreeMap<Rc<str>, BTreeSet<(Rc<str>, i32)>> = BTreeMap::new();
        let mut add = |group: &Rc<str>, topic: &Rc<str>, index: i32| {
            found.entry(group.clone()).or_default().insert((topic.clone(), index));
        };
        for table in self.transactions.values() {
            table.for_topics(topics, |group, topic, index, _| add(group, topic, index));
        }
        self.durable.for_topics(topics, |group, topic, index, _| add(group, topic, index));
        let mut removed = Vec::new();
        self.pending.for_topics(topics, |group, topic, index, pending| {
            if pending.newest.is_some() || self.is_in_transaction(group, topic, index) {
                add(group, topic, index);
            } else {
                removed.push((group, topic, index));
            }
        });
        for (group, topic, index) in removed {
            if let Some(offsets) = found.get_mut(group) {
                offsets.remove(&(topic.clone(), index));
            }
        }
        found
    }

    /// The next group behind `after`, in order, that has durable offsets.
    pub fn durable_group_after(&self, after: Option<&str>) -> Option<&Rc<str>> {
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        self.durable.groups.range::<str, _>(behind).next().map(|(id, _)| id)
    }

    /// Answers OffsetFetch for one group that exists or not: who never committed has no offsets.
    pub fn fetch(&self, group: &str, request: &FetchRequest) -> FetchAnswer {
        let fetched = |topic: &str, partition: i32, is_asked_for: &dyn Fn(&OffsetCommit) -> bool| {
            if request.require_stable && self.is_in_transaction(group, topic, partition) {
                return FetchedOffset::none(partition, Some(ResponseError::UnstableOffsetCommit));
            }
            let commit = if request.require_stable {
                self.newest(group, topic, partition)
            } else {
                self.visible(group, topic, partition)
            };
            commit.filter(|commit| is_asked_for(commit)).map_or_else(
                || FetchedOffset::none(partition, None),
                |commit| FetchedOffset::of(partition, commit),
            )
        };
        if let Some(wanted) = &request.topics {
            let topics = wanted.iter().map(|topic| {
                let indexes = topic.partitions.iter();
                let offsets =
                    indexes.map(|index| fetched(&topic.name, *index, &|commit| topic.is_of(commit)));
                (topic.name.clone(), offsets.collect())
            });
            return FetchAnswer { error: None, topics: topics.collect() };
        }
        let mut topics: Vec<(String, Vec<FetchedOffset>)> = Vec::new();
        let committed: Vec<(Rc<str>, i32)> = if request.require_stable {
            let newest = self.newest_of(group).into_iter();
            newest.filter(|(.., commit)| commit.is_some()).map(|(topic, index, _)| (topic, index)).collect()
        } else {
            self.durable.of_group(group).map(|(topic, index, _)| (topic.clone(), index)).collect()
        };
        for (topic, index) in committed {
            if topics.last().is_none_or(|(name, _)| **name != *topic) {
                topics.push((topic.to_string(), Vec::new()));
            }
            let (_, partitions) = topics.last_mut().expect("it was pushed");
            partitions.push(fetched(&topic, index, &|_| true));
        }
        FetchAnswer { error: None, topics }
    }
}
