//! One classic group: its state, its generation, and what may be asked of it in each state.
//!
//! ```text
//!            first join            all joined, or time is over          leader's word is durable
//!   Empty ───────────▶ PreparingRebalance ───────────▶ CompletingRebalance ───────────▶ Stable
//!     ▲                  │       ▲  ▲                          │                          │
//!     └── nobody is left ┘       │  └── a member changes ──────┘                          │
//!                                └───── a member joins, changes, leaves or dies ──────────┘
//! ```
//!
//! Of the core that owns the group's `__consumer_offsets` partition. Invariants: the members of a stable
//! group have an assignment of its generation, which is durable; generations only grow. A crash leaves the
//! last durable generation: an unfinished rebalance starts again, with the members' ids still valid.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::{Buf, Bytes};
use kafka_protocol::ResponseError;

use super::messages::{DescribedGroup, DescribedMember, JoinedMember, ListedGroup};
use super::records::{GroupMember, GroupMetadata, Record};
use super::roster::{Member, Roster};
use super::timers::TimerId;

/// `protocol_type` of Kafka's consumers: their metadata says which topics they subscribe to.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// Where a group is between two generations. The names are Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupState {
    /// No members. Its offsets stay until they expire.
    Empty,
    /// Members are asked to rejoin.
    PreparingRebalance,
    /// Everyone has joined; the leader assigns.
    CompletingRebalance,
    /// Everyone has an assignment.
    Stable,
    /// Removed.
    Dead,
}

impl GroupState {
    /// The name, as clients see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }

    fn may_follow(self, before: Self) -> bool {
        match self {
            Self::Empty | Self::CompletingRebalance => before == Self::PreparingRebalance,
            Self::PreparingRebalance => {
                matches!(before, Self::Stable | Self::CompletingRebalance | Self::Empty)
            }
            Self::Stable => before == Self::CompletingRebalance,
            Self::Dead => true,
        }
    }
}

/// The timers of a group as a whole.
#[derive(Debug, Default)]
pub(super) struct GroupTimers {
    /// When a rebalance goes on without those who did not rejoin.
    pub(super) join: Option<TimerId>,
    /// When members are removed that did not sync.
    pub(super) sync: Option<TimerId>,
}

/// A classic group.
#[derive(Debug)]
pub struct ClassicGroup {
    pub(super) id: Rc<str>,
    state: GroupState,
    previous_state: GroupState,
    /// When `state` was entered, on the wall clock; None for a group read from an old record.
    state_since_ms: Option<i64>,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol_name: Option<String>,
    pub(super) generation: i32,
    pub(super) roster: Roster,
    /// Ids given out to members that have not come back with them, and when they are forgotten.
    pub(super) pending_joins: BTreeMap<Rc<str>, TimerId>,
    /// Members of this generation that have not sent SyncGroup.
    pub(super) pending_syncs: BTreeSet<Rc<str>>,
    /// The topics that a consumer group's members subscribe to; None when that cannot be known.
    subscribed_topics: Option<BTreeSet<String>>,
    /// Somebody joined during the initial delay, which is therefore extended.
    pub(super) new_member_added: bool,
    pub(super) timers: GroupTimers,
}

impl ClassicGroup {
    /// A group that nobody has joined yet.
    pub fn new(id: Rc<str>, wall_ms: i64) -> Self {
        Self {
            id,
            state: GroupState::Empty,
            previous_state: GroupState::Dead,
            state_since_ms: Some(wall_ms),
            protocol_type: None,
            protocol_name: None,
            generation: 0,
            roster: Roster::default(),
            pending_joins: BTreeMap::new(),
            pending_syncs: BTreeSet::new(),
            subscribed_topics: None,
            new_member_added: false,
            timers: GroupTimers::default(),
        }
    }

    /// The group that a record of the log describes: stable with its members, or empty.
    pub fn from_metadata(id: Rc<str>, metadata: GroupMetadata) -> Self {
        let mut group = Self::new(id, 0);
        group.state_since_ms = (metadata.state_since_ms != -1).then_some(metadata.state_since_ms);
        group.generation = metadata.generation;
        group.protocol_type = Some(metadata.protocol_type).filter(|name| !name.is_empty());
        group.protocol_name = metadata.protocol_name;
        for member in metadata.members {
            if group.roster.contains(&member.member_id)
                || member.instance_id.as_deref().is_some_and(|id| group.roster.static_member(id).is_some())
            {
                continue;
            }
            group.state = GroupState::Stable;
            group.roster.add(member.into_member(group.protocol_name.as_deref().unwrap_or("")));
        }
        group.roster.restore_leader(metadata.leader.map(Rc::from));
        group.subscribed_topics = group.find_subscribed_topics();
        group
    }

    /// The group's id.
    pub fn id(&self) -> &Rc<str> {
        &self.id
    }

    /// The group's state.
    pub fn state(&self) -> GroupState {
        self.state
    }

    /// The state before.
    pub fn previous_state(&self) -> GroupState {
        self.previous_state
    }

    /// When the state was entered, on the wall clock.
    pub fn state_since_ms(&self) -> Option<i64> {
        self.state_since_ms
    }

    /// The generation, from 0; each rebalance adds one.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// The members.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Whether the group is or was one with a membership protocol, rather than a mere store of offsets.
    pub fn has_protocol_type(&self) -> bool {
        self.protocol_type.is_some()
    }

    /// Enters a state.
    pub(super) fn enter(&mut self, state: GroupState, wall_ms: i64) {
        assert!(state.may_follow(self.state), "no group goes from {:?} to {state:?}", self.state);
        self.previous_state = self.state;
        self.state = state;
        self.state_since_ms = Some(wall_ms);
    }

    /// Starts the next generation with whoever has joined.
    pub(super) fn start_generation(&mut self, wall_ms: i64) {
        self.generation = self.generation.wrapping_add(1).max(0);
        if self.roster.is_empty() {
            self.protocol_name = None;
            self.enter(GroupState::Empty, wall_ms);
        } else {
            let selected = self.roster.select_protocol();
            self.protocol_name = Some(selected.expect("who has nothing in common is not let in"));
            self.enter(GroupState::CompletingRebalance, wall_ms);
        }
        self.subscribed_topics = self.find_subscribed_topics();
        self.pending_syncs.clear();
    }

    /// Whether everyone has rejoined whom the group knows of.
    pub(super) fn all_joined(&self) -> bool {
        self.roster.awaiting_join() == self.roster.len() && self.pending_joins.is_empty()
    }

    /// Whether a member with these protocols could be one of this group.
    pub(super) fn supports<'a>(&self, protocol_type: &str, mut names: impl Iterator<Item = &'a str>) -> bool {
        if self.state == GroupState::Empty {
            !protocol_type.is_empty() && names.next().is_some()
        } else {
            self.protocol_type.as_deref() == Some(protocol_type) && self.roster.has_common_protocol(names)
        }
    }

    /// Whether this is a member; whether it still is the one for its static instance.
    pub(super) fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ResponseError> {
        if let Some(instance_id) = instance_id {
            match self.roster.static_member(instance_id) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(existing) if **existing != *member_id => return Err(ResponseError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.roster.contains(member_id) { Ok(()) } else { Err(ResponseError::UnknownMemberId) }
    }

    /// Whether this member may commit offsets now.
    pub(super) fn check_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ResponseError> {
        if self.state == GroupState::Dead {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        if generation < 0 && self.state == GroupState::Empty {
            // An administrator, or a consumer that assigns partitions to itself.
            return Ok(());
        }
        if generation >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.check_member(member_id, instance_id)?;
            if generation != self.generation {
                return Err(ResponseError::IllegalGeneration);
            }
        } else {
            return Err(ResponseError::UnknownMemberId);
        }
        if self.state == GroupState::CompletingRebalance {
            // The member knows the new generation, but has no partitions of it yet.
            return Err(ResponseError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Whether offsets of this group may be deleted at all.
    pub(super) fn check_delete_offsets(&self) -> Result<(), ResponseError> {
        match self.state {
            GroupState::Dead => Err(ResponseError::GroupIdNotFound),
            GroupState::Empty => Ok(()),
            _ if self.is_of_consumers() => Ok(()),
            _ => Err(ResponseError::NonEmptyGroup),
        }
    }

    /// Whether the group may be deleted.
    pub(super) fn check_delete(&self) -> Result<(), ResponseError> {
        match self.state {
            GroupState::Dead => Err(ResponseError::GroupIdNotFound),
            GroupState::Empty => Ok(()),
            _ => Err(ResponseError::NonEmptyGroup),
        }
    }

    /// Whether a member subscribes to this topic, or might: members of consumer groups whose subscription
    /// cannot be read are taken to subscribe to everything.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.is_of_consumers(),
        }
    }

    /// Whether offsets of topics that nobody subscribes to expire while the group is stable.
    pub(super) fn knows_subscriptions(&self) -> bool {
        self.is_of_consumers() && self.subscribed_topics.is_some()
    }

    fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    fn find_subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if !self.is_of_consumers() {
            return None;
        }
        if self.roster.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol_name.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.roster.iter() {
            topics.extend(subscription_topics(member.metadata(protocol)?)?);
        }
        Some(topics)
    }

    /// Everyone, as the leader is told.
    pub(super) fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol_name.as_deref().unwrap_or("");
        let joined = |member: &Member| JoinedMember {
            member_id: member.id.to_string(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol).cloned().unwrap_or_default(),
        };
        self.roster.iter().map(joined).collect()
    }

    /// The record of this generation, with what each member is assigned.
    pub(super) fn record(&self, assignment: impl Fn(&Member) -> Bytes) -> Record {
        let protocol = self.protocol_name.as_deref();
        let member = |member: &Member| GroupMember {
            member_id: member.id.to_string(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: protocol.and_then(|name| member.metadata(name)).cloned().unwrap_or_default(),
            assignment: assignment(member),
        };
        let metadata = GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol_name: self.protocol_name.clone(),
            leader: self.roster.leader().map(|id| id.to_string()),
            state_since_ms: self.state_since_ms.unwrap_or(-1),
            members: self.roster.iter().map(member).collect(),
        };
        Record::group(&self.id, &metadata)
    }

    /// As DescribeGroups tells it.
    pub fn describe(&self) -> DescribedGroup {
        let protocol = self.protocol_name.as_deref().filter(|_| self.state == GroupState::Stable);
        let member = |member: &Member| DescribedMember {
            member_id: member.id.to_string(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: protocol.and_then(|name| member.metadata(name)).cloned().unwrap_or_default(),
            assignment: member.assignment.clone(),
        };
        DescribedGroup {
            error: None,
            group_id: self.id.to_string(),
            state: self.state.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.unwrap_or("").to_owned(),
            members: self.roster.iter().map(member).collect(),
        }
    }

    /// As ListGroups tells it.
    pub fn list(&self) -> ListedGroup {
        ListedGroup {
            group_id: self.id.to_string(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            state: self.state.name(),
            group_type: "classic",
        }
    }
}

/// The topics in a serialized ConsumerProtocolSubscription; None when it is not one. Every version of it
/// begins with the version itself (INT16) and the topics' names.
fn subscription_topics(metadata: &Bytes) -> Option<Vec<String>> {
    let mut bytes = metadata.clone();
    let _version = bytes.try_get_i16().ok()?;
    let count = u32::try_from(bytes.try_get_i32().ok()?).ok()?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
        if length > bytes.len() {
            return None;
        }
        topics.push(String::from_utf8(bytes.split_to(length).into()).ok()?);
    }
    Some(topics)
}
