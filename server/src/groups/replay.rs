//! From the log to the groups of one partition, and back: what a start reads, and what a fold writes.

use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::classic_group::ClassicGroup;
use super::messages::{Effects, Now};
use super::partition::GroupPartition;
use super::records::{self, Key, Record, RecordError};

impl GroupPartition {
    /// Takes over what a record of the log says; `producer_id` if it is part of a transaction.
    pub fn replay(
        &mut self,
        record_offset: i64,
        producer_id: Option<i64>,
        key: &Bytes,
        value: Option<&Bytes>,
        now: Now,
    ) -> Result<(), RecordError> {
        match records::read_key(key)? {
            Key::Offset { group, topic, partition } => {
                let commit = value.map(records::read_offset).transpose()?;
                let (group, topic): (Rc<str>, Rc<str>) = (Rc::from(group), Rc::from(topic));
                if commit.is_some() && !self.is_foreign(&group) {
                    self.group_or_new(&group, now);
                }
                match (producer_id, commit) {
                    (Some(producer_id), Some(commit)) => {
                        let offsets = &mut self.offsets;
                        offsets.apply_in_transaction(
                            producer_id,
                            &group,
                            &topic,
                            partition,
                            commit,
                            record_offset,
                        );
                    }
                    (_, commit) => self.offsets.apply(&group, &topic, partition, commit, record_offset),
                }
            }
            Key::Group { group } => {
                let id: Rc<str> = Rc::from(group);
                match value {
                    Some(value) => {
                        let metadata = records::read_group(value)?;
                        self.groups.insert(id.clone(), ClassicGroup::from_metadata(id, metadata));
                    }
                    None => drop(self.groups.remove(&id)),
                }
            }
            Key::Other { version, group } => {
                tracing::trace!(%group, version, "a record of another group protocol");
                let id: Rc<str> = Rc::from(group);
                let keys = self.foreign.entry(id.clone()).or_default();
                if value.is_some() {
                    keys.insert(Bytes::copy_from_slice(key));
                    // A group that changed to the other protocol is no longer a classic one.
                    self.groups.remove(&id);
                } else {
                    keys.remove(key);
                }
                if keys.is_empty() {
                    self.foreign.remove(&id);
                }
            }
        }
        Ok(())
    }

    /// Takes over the end of a transaction.
    pub fn replay_marker(&mut self, producer_id: i64, committed: bool) {
        self.offsets.end_transaction(producer_id, committed);
    }

    /// Whether offsets are in transactions that are open.
    pub(super) fn has_transactions(&self) -> bool {
        self.offsets.has_transactions()
    }

    /// How many offsets are durable.
    pub(super) fn offsets_count(&self) -> usize {
        self.offsets.count()
    }

    /// The next `count_max` groups behind `after`, in order, that have offsets.
    pub(super) fn groups_with_offsets_after(
        &self,
        after: Option<&str>,
        count_max: usize,
    ) -> BTreeSet<Rc<str>> {
        self.offsets.groups_after(after, count_max)
    }

    /// Records that say what a group's offsets are once everything that was written is durable.
    pub(super) fn offset_records(&self, group: &str) -> Vec<Record> {
        let offsets = self.offsets.newest_of(group).into_iter();
        let record = |(topic, index, commit): (Rc<str>, i32, Option<&records::OffsetCommit>)| {
            commit.map(|commit| Record::offset(group, &topic, index, commit))
        };
        offsets.filter_map(record).collect()
    }

    /// Everything was replayed: from now on members have to show that they are alive.
    pub fn loaded(&mut self, now: Now, effects: &mut Effects) {
        let ids: Vec<Rc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            self.with_group(&id, now, effects, |group, turn| group.loaded(turn));
        }
        self.set_expiration(now);
    }

    /// The partition is no longer this core's, or its log failed: everyone who waits is told so.
    pub fn unload(mut self, error: ResponseError, now: Now, effects: &mut Effects) {
        let ids: Vec<Rc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            self.with_group(&id, now, effects, |group, turn| group.die(error, turn));
        }
    }
}
