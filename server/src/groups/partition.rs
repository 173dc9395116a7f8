//! The groups of one `__consumer_offsets` partition.
//!
//! On the core that owns the partition. Events come in one after the other; each leaves its outcome in
//! [`Effects`]. Invariants: what another event or a client may rely on is in the log before it is visible,
//! except for memberships between two generations, which a crash may take back; records are appended in the
//! order in which they are handed out, and [`GroupPartition::written`] is called in that order.
//!
//! After a crash the partition's records are replayed from the start: see [`GroupPartition::replay`].

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::classic_group::{ClassicGroup, GroupState};
use super::messages::{
    Answer, DescribedGroup, Effects, HeartbeatRequest, JoinAnswer, JoinRequest, LeaveAnswer, LeavingMember,
    LeftMember, ListedGroup, Now, SyncAnswer, SyncRequest, Then, Waiter, Write,
};
use super::offsets::{CommitRequest, FetchRequest, Offsets};
use super::records::Record;
use super::settings::GroupSettings;
use super::timers::{Alarm, Timers};
use super::turn::Turn;

/// What is asked of one group.
#[derive(Debug, Clone)]
pub enum Request {
    /// JoinGroup.
    Join(JoinRequest),
    /// SyncGroup.
    Sync(SyncRequest),
    /// Heartbeat.
    Heartbeat(HeartbeatRequest),
    /// LeaveGroup.
    Leave(Vec<LeavingMember>),
    /// OffsetCommit.
    Commit(CommitRequest),
    /// OffsetFetch.
    Fetch(FetchRequest),
    /// OffsetDelete: topics with their partitions.
    DeleteOffsets(Vec<(String, Vec<i32>)>),
    /// DescribeGroups.
    Describe,
    /// DeleteGroups.
    Delete,
}

/// The groups of one partition.
#[derive(Debug)]
pub struct GroupPartition {
    pub(super) settings: GroupSettings,
    pub(super) groups: BTreeMap<Rc<str>, ClassicGroup>,
    /// Keys of live records of groups that use another protocol, which is not served: their members are
    /// gone, their offsets are kept, and the records are taken back when a classic member joins.
    pub(super) foreign: BTreeMap<Rc<str>, BTreeSet<Bytes>>,
    pub(super) offsets: Offsets,
    timers: Timers,
    expiration_is_set: bool,
    /// The last group that was looked at, while a look for what has expired is under way.
    expired_up_to: Option<Rc<str>>,
    /// Groups without members whose record could not be written.
    pub(super) unsaved: BTreeSet<Rc<str>>,
}

/// A group on its way out, in case that it has to come back.
#[derive(Debug)]
pub struct Removed {
    pub(super) group_id: Rc<str>,
    /// The classic group.
    pub(super) group: Option<ClassicGroup>,
    /// Keys of another protocol's records.
    pub(super) foreign: BTreeSet<Bytes>,
    /// The number of the write in [`Offsets`], if it takes offsets back.
    pub(super) offsets: Option<u64>,
    /// Who asked for it, and what they are told.
    pub(super) answer: Option<(Waiter, Answer)>,
}

impl Removed {
    /// Tombstones in the order in which Kafka writes them: what belongs to a member before the member, the
    /// member before the group, that is by descending version of the key; the classic group last.
    pub(super) fn tombstones(&self) -> Vec<Record> {
        let foreign = self.foreign.iter().rev().map(|key| Record { key: key.clone(), value: None });
        let classic = self.group.is_some().then(|| Record::group_tombstone(&self.group_id));
        foreign.chain(classic).collect()
    }
}

impl GroupPartition {
    /// No groups yet.
    pub fn new(settings: GroupSettings) -> Self {
        Self {
            settings,
            groups: BTreeMap::new(),
            foreign: BTreeMap::new(),
            offsets: Offsets::default(),
            timers: Timers::default(),
            expiration_is_set: false,
            expired_up_to: None,
            unsaved: BTreeSet::new(),
        }
    }

    /// A request for the group `group_id`.
    pub fn handle(
        &mut self,
        group_id: &str,
        request: Request,
        waiter: Waiter,
        now: Now,
        effects: &mut Effects,
    ) {
        match request {
            Request::Join(request) => self.join(group_id, request, waiter, now, effects),
            Request::Sync(request) => self.sync(group_id, request, waiter, now, effects),
            Request::Heartbeat(request) => {
                let result =
                    self.with_group(group_id, now, effects, |group, turn| group.heartbeat(&request, turn));
                let answer = Answer::Heartbeat(result.unwrap_or(Err(ResponseError::UnknownMemberId)).err());
                effects.answer_when_durable(waiter, answer);
            }
            Request::Leave(members) => self.leave(group_id, members, waiter, now, effects),
            Request::Commit(request) => self.commit(group_id, request, waiter, now, effects),
            Request::Fetch(request) => {
                let answer = Answer::Fetch(self.offsets.fetch(group_id, &request));
                if request.require_stable {
                    effects.answer_when_durable(waiter, answer);
                } else {
                    effects.answer(waiter, answer);
                }
            }
            Request::DeleteOffsets(topics) => self.delete_offsets(group_id, topics, waiter, effects),
            Request::Describe => effects.answer(waiter, Answer::Describe(self.describe(group_id))),
            Request::Delete => self.delete(group_id, waiter, now, effects),
        }
        self.set_expiration(now);
    }

    /// Every group.
    pub fn list(&self) -> Vec<ListedGroup> {
        let classic = self.groups.values().map(ClassicGroup::list);
        let foreign = self.foreign.iter().filter(|(id, _)| !self.groups.contains_key(*id));
        classic.chain(foreign.map(|(id, keys)| listed_foreign(id, keys))).collect()
    }

    /// The group with this id.
    pub fn group(&self, group_id: &str) -> Option<&ClassicGroup> {
        self.groups.get(group_id)
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    fn join(
        &mut self,
        group_id: &str,
        request: JoinRequest,
        waiter: Waiter,
        now: Now,
        effects: &mut Effects,
    ) {
        let fails = |error| Answer::Join(JoinAnswer::failed(&request.member_id, error));
        // What no record could hold would be of no use, and is not kept in memory either.
        let bytes_max = self.settings.batch_bytes_max;
        if request.protocols.iter().any(|protocol| protocol.metadata.len() > bytes_max) {
            return effects.answer(waiter, fails(ResponseError::UnknownServerError));
        }
        let is_new = !self.groups.contains_key(group_id);
        if is_new && !request.member_id.is_empty() {
            return effects.answer(waiter, fails(ResponseError::UnknownMemberId));
        }
        if is_new {
            self.take_over_foreign(group_id, effects);
        }
        let writes_before = effects.writes.len();
        let group = self.group_or_new(group_id, now);
        let empty_record = group.record(|_| Bytes::new());
        self.with_group(group_id, now, effects, |group, turn| group.join(request, waiter, turn));
        if is_new && effects.writes.len() == writes_before {
            // So that the group exists also if this member never comes back.
            let then = Then::Group { group_id: group_id.to_owned() };
            effects.writes.push(Write { records: vec![empty_record], then });
        }
    }

    fn sync(
        &mut self,
        group_id: &str,
        request: SyncRequest,
        waiter: Waiter,
        now: Now,
        effects: &mut Effects,
    ) {
        if self.with_group(group_id, now, effects, |group, turn| group.sync(request, waiter, turn)).is_none()
        {
            effects.answer(waiter, Answer::Sync(SyncAnswer::failed(ResponseError::UnknownMemberId)));
        }
    }

    fn leave(
        &mut self,
        group_id: &str,
        members: Vec<LeavingMember>,
        waiter: Waiter,
        now: Now,
        effects: &mut Effects,
    ) {
        let answer = if self.groups.contains_key(group_id) {
            let left = self.with_group(group_id, now, effects, |group, turn| group.leave(members, turn));
            left.expect("the group was found")
        } else {
            let unknown = |LeavingMember { member_id, instance_id, .. }| LeftMember {
                member_id,
                instance_id,
                error: Some(ResponseError::UnknownMemberId),
            };
            LeaveAnswer { error: None, members: members.into_iter().map(unknown).collect() }
        };
        effects.answer_when_durable(waiter, Answer::Leave(answer));
    }

    fn describe(&self, group_id: &str) -> DescribedGroup {
        match self.groups.get(group_id) {
            Some(group) => group.describe(),
            None => DescribedGroup {
                error: Some(ResponseError::GroupIdNotFound),
                group_id: group_id.to_owned(),
                state: GroupState::Dead.name(),
                ..DescribedGroup::default()
            },
        }
    }

    /// Takes the records of another protocol's group back, before it becomes a classic one.
    fn take_over_foreign(&mut self, group_id: &str, effects: &mut Effects) {
        let removed = self.remove_foreign(group_id);
        if !removed.foreign.is_empty() {
            let records = removed.tombstones();
            effects.writes.push(Write { records, then: Then::Removed(Box::new(removed)) });
        }
    }

    /// Forgets what another protocol knows of a group.
    pub(super) fn remove_foreign(&mut self, group_id: &str) -> Removed {
        let foreign = self.foreign.remove(group_id).unwrap_or_default();
        Removed { group_id: Rc::from(group_id), group: None, foreign, offsets: None, answer: None }
    }

    pub(super) fn is_foreign(&self, group_id: &str) -> bool {
        self.foreign.contains_key(group_id)
    }

    pub(super) fn group_or_new(&mut self, group_id: &str, now: Now) -> &mut ClassicGroup {
        let id: Rc<str> = Rc::from(group_id);
        self.groups.entry(id.clone()).or_insert_with(|| ClassicGroup::new(id, now.wall_ms))
    }

    pub(super) fn with_group<R>(
        &mut self,
        group_id: &str,
        now: Now,
        effects: &mut Effects,
        event: impl FnOnce(&mut ClassicGroup, &mut Turn<'_>) -> R,
    ) -> Option<R> {
        let Self { groups, settings, timers, .. } = self;
        let group = groups.get_mut(group_id)?;
        Some(event(group, &mut Turn { now, settings, timers, effects }))
    }
}

/// Time and the log.
impl GroupPartition {
    /// When [`GroupPartition::time_passed`] has something to do, on the monotonic clock.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.timers.next_deadline_ms()
    }

    /// Does what is due.
    pub fn time_passed(&mut self, now: Now, effects: &mut Effects) {
        while let Some(alarm) = self.timers.take_due(now.monotonic_ms) {
            let (group_id, alarm) = match &alarm {
                Alarm::Session { group, .. }
                | Alarm::Join { group }
                | Alarm::InitialJoin { group, .. }
                | Alarm::Sync { group, .. } => (group.clone(), alarm),
                Alarm::Expiration => {
                    let after = self.expired_up_to.take();
                    self.expired_up_to = self.remove_expired(after, now, effects);
                    self.expiration_is_set = self.expired_up_to.is_some();
                    if self.expiration_is_set {
                        // The rest has its turn behind whatever else the core has to do.
                        self.timers.set(now.monotonic_ms + 1, Alarm::Expiration);
                    }
                    continue;
                }
            };
            self.with_group(&group_id, now, effects, |group, turn| match alarm {
                Alarm::Session { member, .. } => group.session_over(&member, turn),
                Alarm::Join { .. } => group.join_time_over(turn),
                Alarm::InitialJoin { delay_ms, remaining_ms, .. } => {
                    group.initial_delay_over(delay_ms, remaining_ms, turn);
                }
                Alarm::Sync { generation, .. } => group.sync_time_over(generation, turn),
                Alarm::Expiration => unreachable!("it was dealt with above"),
            });
        }
        self.set_expiration(now);
    }

    /// Expiration is looked at from time to time while there is something that could expire.
    pub(super) fn set_expiration(&mut self, now: Now) {
        let nothing = self.groups.is_empty() && self.foreign.is_empty() && self.offsets.is_empty();
        if !self.expiration_is_set && !nothing {
            self.expiration_is_set = true;
            let deadline_ms = now.monotonic_ms + self.settings.offsets_retention_check_interval_ms;
            self.timers.set(deadline_ms, Alarm::Expiration);
        }
    }

    /// What a write was for: its records are durable from offset `base_offset` on, or they are not in the
    /// log and never will be.
    pub fn written(
        &mut self,
        then: Then,
        base_offset: Result<i64, ResponseError>,
        now: Now,
        effects: &mut Effects,
    ) {
        let result = base_offset.map(drop);
        match then {
            Then::Nothing => {}
            Then::Group { group_id } => {
                if result.is_err() {
                    self.unsaved.insert(Rc::from(group_id));
                }
            }
            Then::Removed(removed) => self.removed(*removed, base_offset, effects),
            Then::Answer(waiter, answer) => effects.answer(waiter, answer.after(result)),
            Then::Offsets { sequence, answer } => {
                self.offsets.written(sequence, base_offset);
                if let Some((waiter, answer)) = answer {
                    effects.answer(waiter, answer.after(result));
                }
            }
            Then::Assignment { group_id, generation, assignments } => {
                self.with_group(&group_id, now, effects, |group, turn| {
                    group.assignment_written(generation, assignments, result, turn);
                });
            }
            Then::StaticMember {
                group_id,
                member_id,
                leader_before,
                supports_skipping_assignment,
                before,
            } => {
                self.with_group(&group_id, now, effects, |group, turn| {
                    let skips = supports_skipping_assignment;
                    group.static_member_written(&member_id, leader_before, skips, *before, result, turn);
                });
            }
        }
    }

    fn removed(&mut self, removed: Removed, base_offset: Result<i64, ResponseError>, effects: &mut Effects) {
        let Removed { group_id, group, foreign, offsets, answer } = removed;
        if let Some(sequence) = offsets {
            self.offsets.written(sequence, base_offset);
        }
        if let Some((waiter, answer)) = answer {
            effects.answer(waiter, answer.after(base_offset.map(drop)));
        }
        if base_offset.is_ok() {
            return;
        }
        if !foreign.is_empty() {
            self.foreign.entry(group_id.clone()).or_default().extend(foreign);
        }
        if let Some(group) = group {
            // Unless somebody joined in the meantime: then the group's next record will say what holds.
            self.groups.entry(group_id).or_insert(group);
        }
    }
}

fn listed_foreign(id: &Rc<str>, keys: &BTreeSet<Bytes>) -> ListedGroup {
    // Key versions: 3–8 and 16 are of KIP-848, 9–15 of KIP-932, 17 and above of KIP-1071.
    let version =
        keys.first().and_then(|key| key.get(..2)).map_or(3, |key| i16::from_be_bytes([key[0], key[1]]));
    let (group_type, protocol_type) = match version {
        3..=8 | 16 => ("consumer", "consumer"),
        9..=15 => ("share", "share"),
        _ => ("streams", "streams"),
    };
    ListedGroup {
        group_id: id.to_string(),
        protocol_type: protocol_type.to_owned(),
        state: GroupState::Empty.name(),
        group_type,
    }
}

#[cfg(test)]
mod tests;
