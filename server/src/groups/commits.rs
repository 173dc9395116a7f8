//! What changes a group's offsets: commits, deletion, expiration, topics that go.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::rc::Rc;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::classic_group::{ClassicGroup, GroupState};
use super::messages::{Answer, Effects, Now, Then, Waiter, Write};
use super::offsets::{Change, CommitAnswer, CommitRequest, DeleteOffsetsAnswer, PartitionResults};
use super::partition::GroupPartition;
use super::records::{OffsetCommit, Record};

/// A batch's header, with room for what the estimate of a record's size leaves out.
const BATCH_OVERHEAD_BYTES: usize = 128;

/// Groups and offsets that one turn looks at for what has expired, about.
const LOOKED_AT_PER_TURN: usize = 512;

impl GroupPartition {
    pub(super) fn commit(
        &mut self,
        group_id: &str,
        request: CommitRequest,
        waiter: Waiter,
        now: Now,
        effects: &mut Effects,
    ) {
        if let Err(error) = self.check_commit(group_id, &request, now) {
            let mut answer = CommitAnswer::default();
            for topic in request.topics {
                let partitions = topic.partitions.iter().map(|partition| (partition.index, Some(error)));
                answer.topics.push((topic.name, partitions.collect()));
            }
            return effects.answer_when_durable(waiter, Answer::Commit(answer));
        }
        self.with_group(group_id, now, effects, |group, turn| {
            if matches!(group.state(), GroupState::Stable | GroupState::PreparingRebalance) {
                group.restart_session(&request.member_id, turn);
            }
        });
        let (group, records, changes, mut answer) = self.committed(group_id, request, now);
        if records.iter().map(Record::size).sum::<usize>() + BATCH_OVERHEAD_BYTES
            > self.settings.batch_bytes_max
        {
            answer.fail(ResponseError::UnknownServerError);
            return effects.answer_when_durable(waiter, Answer::Commit(answer));
        }
        if changes.is_empty() {
            return effects.answer_when_durable(waiter, Answer::Commit(answer));
        }
        tracing::trace!(%group, offsets = changes.len(), "offsets are committed");
        let sequence = self.offsets.stage(changes);
        let then = Then::Offsets { sequence, answer: Some((waiter, Answer::Commit(answer))) };
        effects.writes.push(Write { records, then });
    }

    /// Whether the commit is allowed. A group that nobody has joined comes into being by it.
    fn check_commit(
        &mut self,
        group_id: &str,
        request: &CommitRequest,
        now: Now,
    ) -> Result<(), ResponseError> {
        if !self.groups.contains_key(group_id) {
            if request.generation >= 0 {
                let missing = ResponseError::GroupIdNotFound;
                return Err(if request.knows_missing_groups {
                    missing
                } else {
                    ResponseError::IllegalGeneration
                });
            }
            if self.is_foreign(group_id) {
                return Ok(());
            }
            self.group_or_new(group_id, now);
        }
        let group = self.groups.get(group_id).expect("it was created if it was missing");
        group.check_commit(&request.member_id, request.instance_id.as_deref(), request.generation)
    }

    fn committed(
        &self,
        group_id: &str,
        request: CommitRequest,
        now: Now,
    ) -> (Rc<str>, Vec<Record>, Vec<Change>, CommitAnswer) {
        let group = self.groups.get(group_id).map_or_else(|| Rc::from(group_id), |group| group.id().clone());
        let expire_ms = request.retention_ms.map(|retention_ms| now.wall_ms.saturating_add(retention_ms));
        let (mut records, mut changes, mut answer) = (Vec::new(), Vec::new(), PartitionResults::default());
        for topic in request.topics {
            let name: Rc<str> = Rc::from(topic.name.as_str());
            let mut results = Vec::with_capacity(topic.partitions.len());
            for partition in topic.partitions {
                let metadata_too_large = partition.metadata.len() > self.settings.offset_metadata_max
                    && partition.metadata.encode_utf16().count() > self.settings.offset_metadata_max;
                if metadata_too_large {
                    results.push((partition.index, Some(ResponseError::OffsetMetadataTooLarge)));
                    continue;
                }
                results.push((partition.index, None));
                let commit = OffsetCommit {
                    offset: partition.offset,
                    leader_epoch: partition.leader_epoch,
                    metadata: partition.metadata,
                    commit_ms: now.wall_ms,
                    expire_ms,
                    topic_id: topic.id,
                };
                let record = records.len();
                records.push(Record::offset(&group, &name, partition.index, &commit));
                let commit = Some(commit);
                changes.push(Change {
                    group: group.clone(),
                    topic: name.clone(),
                    partition: partition.index,
                    commit,
                    record,
                });
            }
            answer.topics.push((topic.name, results));
        }
        (group, records, changes, answer)
    }

    pub(super) fn delete_offsets(
        &mut self,
        group_id: &str,
        topics: Vec<(String, Vec<i32>)>,
        waiter: Waiter,
        effects: &mut Effects,
    ) {
        let mut answer = DeleteOffsetsAnswer::default();
        let allowed = match self.groups.get(group_id) {
            Some(group) => group.check_delete_offsets(),
            None if self.is_foreign(group_id) => Ok(()),
            None => Err(ResponseError::GroupIdNotFound),
        };
        if let Err(error) = allowed {
            answer.error = Some(error);
            return effects.answer_when_durable(waiter, Answer::DeleteOffsets(answer));
        }
        let mut deleted = Vec::new();
        for (topic, partitions) in topics {
            let subscribed = self.groups.get(group_id).is_some_and(|group| group.is_subscribed(&topic));
            let error = subscribed.then_some(ResponseError::GroupSubscribedToTopic);
            if !subscribed {
                let name: Rc<str> = Rc::from(topic.as_str());
                let present =
                    partitions.iter().filter(|index| self.offsets.contains(group_id, &topic, **index));
                deleted.extend(present.map(|index| (name.clone(), *index)));
            }
            answer.results.topics.push((topic, partitions.into_iter().map(|index| (index, error)).collect()));
        }
        self.write_tombstones(group_id, deleted, Some((waiter, Answer::DeleteOffsets(answer))), effects);
    }

    pub(super) fn delete(&mut self, group_id: &str, waiter: Waiter, now: Now, effects: &mut Effects) {
        let allowed = match self.groups.get(group_id) {
            Some(group) => group.check_delete(),
            None if self.is_foreign(group_id) => Ok(()),
            None => Err(ResponseError::GroupIdNotFound),
        };
        let answer = Answer::DeleteGroup(allowed.err());
        match allowed {
            Ok(()) => self.remove_group(group_id, Some((waiter, answer)), now, effects),
            Err(_) => effects.answer_when_durable(waiter, answer),
        }
    }

    /// Removes a group that has no members, with its offsets.
    fn remove_group(
        &mut self,
        group_id: &str,
        answer: Option<(Waiter, Answer)>,
        now: Now,
        effects: &mut Effects,
    ) {
        let offsets = self.offsets.newest_of(group_id).into_iter().map(|(topic, index, _)| (topic, index));
        let (mut records, changes) = tombstones(group_id, offsets.collect());
        self.with_group(group_id, now, effects, |group, turn| group.forget_pending(turn));
        let mut removed = self.remove_foreign(group_id);
        removed.group = self.groups.remove(group_id);
        removed.offsets = Some(self.offsets.stage(changes));
        removed.answer = answer;
        records.extend(removed.tombstones());
        effects.writes.push(Write { records, then: Then::Removed(Box::new(removed)) });
        tracing::debug!(group = group_id, "the group is removed");
    }

    /// Takes offsets back.
    fn write_tombstones(
        &mut self,
        group_id: &str,
        offsets: Vec<(Rc<str>, i32)>,
        answer: Option<(Waiter, Answer)>,
        effects: &mut Effects,
    ) {
        let (records, changes) = tombstones(group_id, offsets);
        if !records.is_empty() || answer.is_some() {
            let sequence = self.offsets.stage(changes);
            effects.writes.push(Write { records, then: Then::Offsets { sequence, answer } });
        }
    }

    /// Topics were deleted: nobody will read from these offsets again, and a topic of the same name that is
    /// created later must not inherit them.
    pub fn topics_deleted(&mut self, topics: &[String], effects: &mut Effects) {
        let topics: BTreeSet<&str> = topics.iter().map(String::as_str).collect();
        for (group, offsets) in self.offsets.of_topics(&topics) {
            self.write_tombstones(&group, offsets.into_iter().collect(), None, effects);
        }
    }

    /// Removes offsets that nobody has needed for long, and groups that nothing is left of: the groups behind `after`,
    /// until enough was looked at for one turn. Returns the last group then.
    pub(super) fn remove_expired(
        &mut self,
        after: Option<Rc<str>>,
        now: Now,
        effects: &mut Effects,
    ) -> Option<Rc<str>> {
        for id in std::mem::take(&mut self.unsaved) {
            let empty = self.groups.get(&id).filter(|group| group.state() == GroupState::Empty);
            if let Some(group) = empty {
                let then = Then::Group { group_id: id.to_string() };
                effects.writes.push(Write { records: vec![group.record(|_| Bytes::new())], then });
            }
        }
        let mut looked_at = 0;
        let mut last = after;
        while let Some(id) = self.group_after(last.as_deref()) {
            let (expired, all, offsets) = self.expired_offsets(&id, now);
            let empty = self
                .groups
                .get(&id)
                .is_some_and(|group| group.state() == GroupState::Empty && group.pending_joins.is_empty());
            if all && empty && !self.offsets.has_open_transactions(&id) {
                self.remove_group(&id, None, now, effects);
            } else {
                self.write_tombstones(&id, expired, None, effects);
            }
            last = Some(id);
            looked_at += 1 + offsets;
            if looked_at >= LOOKED_AT_PER_TURN {
                return last;
            }
        }
        None
    }

    /// The next group that is there or has durable offsets.
    fn group_after(&self, after: Option<&str>) -> Option<Rc<str>> {
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let there = self.groups.range::<str, _>(behind).next().map(|(id, _)| id);
        let with_offsets = self.offsets.durable_group_after(after);
        there.into_iter().chain(with_offsets).min().cloned()
    }

    /// The offsets of a group that are expired, whether that is all of them, and how many there were to look at.
    fn expired_offsets(&self, group_id: &str, now: Now) -> (Vec<(Rc<str>, i32)>, bool, usize) {
        let group = self.groups.get(group_id);
        let Some(since_ms) = expires_since(group) else { return (Vec::new(), false, 0) };
        let (mut expired, mut all) = (Vec::new(), true);
        let newest = self.offsets.newest_of(group_id);
        let count = newest.len();
        for (topic, index, commit) in newest {
            let is_expired = commit.is_some_and(|commit| match commit.expire_ms {
                Some(expire_ms) => now.wall_ms >= expire_ms,
                None => {
                    let since_ms = since_ms.unwrap_or(commit.commit_ms);
                    now.wall_ms.saturating_sub(since_ms) >= self.settings.offsets_retention_ms
                }
            });
            let subscribed = group.is_some_and(|group| group.is_subscribed(&topic));
            if is_expired && !subscribed && !self.offsets.is_in_transaction(group_id, &topic, index) {
                expired.push((topic, index));
            } else {
                all = false;
            }
        }
        (expired, all, count)
    }
}

/// What takes these offsets back.
fn tombstones(group_id: &str, offsets: Vec<(Rc<str>, i32)>) -> (Vec<Record>, Vec<Change>) {
    let group: Rc<str> = Rc::from(group_id);
    let change = |(record, (topic, partition)): (usize, (Rc<str>, i32))| {
        let tombstone = Record::offset_tombstone(&group, &topic, partition);
        (tombstone, Change { group: group.clone(), topic, partition, commit: None, record })
    };
    offsets.into_iter().enumerate().map(change).unzip()
}

/// From when on a group's offsets age: `Some(Some(time))` is from the moment when its last member left,
/// `Some(None)` from each commit; `None`: they do not age.
fn expires_since(group: Option<&ClassicGroup>) -> Option<Option<i64>> {
    let Some(group) = group.filter(|group| group.has_protocol_type()) else { return Some(None) };
    match group.state() {
        GroupState::Empty => Some(group.state_since_ms()),
        GroupState::Stable if group.knows_subscriptions() => Some(None),
        _ => None,
    }
}
