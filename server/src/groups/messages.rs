//! What goes into the groups' state machine and what comes out: requests, answers, records to write.
//!
//! Free of API versions and of borrowed request bodies: whatever a request carries is copied into these
//! types by its handler, on the connection's core, so that they may travel to another core and outlive the
//! request.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::records::Record;
use super::settings::GroupSettings;

/// Both clocks at the moment of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since an arbitrary start; never goes back. Deadlines are on this clock.
    pub monotonic_ms: i64,
    /// Milliseconds since 1970 UTC. What is written is on this clock.
    pub wall_ms: i64,
}

/// Whoever waits for an answer; the number is the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiter(pub u64);

/// A protocol (for consumers: an assignor) that a member supports, with the member's metadata for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// The protocol's name.
    pub name: String,
    /// For consumers, a serialized ConsumerProtocolSubscription.
    pub metadata: Bytes,
}

/// JoinGroup, of any version.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// The member's id; empty when it has none yet.
    pub member_id: String,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance_id: Option<String>,
    /// The client id of the request's header.
    pub client_id: String,
    /// The peer's address, as Kafka prints it: `/127.0.0.1`.
    pub client_host: String,
    /// `consumer`, `connect`, …
    pub protocol_type: String,
    /// In the order of the member's preference; names are distinct.
    pub protocols: Vec<Protocol>,
    /// How long the member may be silent, milliseconds.
    pub session_timeout_ms: i32,
    /// How long the member may take to rejoin, milliseconds.
    pub rebalance_timeout_ms: i32,
    /// The id that the member gets if it has none.
    pub new_member_id: String,
    /// A dynamic member must come back with the id that it was given (KIP-394, version 4 and newer).
    pub requires_known_member_id: bool,
    /// The leader understands `skip_assignment` (KIP-814, version 9 and newer).
    pub supports_skipping_assignment: bool,
    /// Why the member joins, for the log (KIP-800).
    pub reason: Option<String>,
}

impl JoinRequest {
    /// What is wrong with it whatever the group is, and wherever.
    pub fn check(&self, group_id: &str, settings: &GroupSettings) -> Result<(), ResponseError> {
        let timeouts = settings.session_timeout_ms_min..=settings.session_timeout_ms_max;
        if group_id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        if !timeouts.contains(&self.session_timeout_ms) {
            return Err(ResponseError::InvalidSessionTimeout);
        }
        Ok(())
    }
}

/// The answer to JoinGroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinAnswer {
    /// Why the member did not join.
    pub error: Option<ResponseError>,
    /// The group's generation; −1 with an error.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The protocol that the members voted for.
    pub protocol_name: Option<String>,
    /// The leader's member id.
    pub leader: String,
    /// The leader has nothing to assign.
    pub skip_assignment: bool,
    /// The member's id.
    pub member_id: String,
    /// For the leader: every member.
    pub members: Vec<JoinedMember>,
}

impl JoinAnswer {
    /// The answer to a member that may not join.
    pub fn failed(member_id: &str, error: ResponseError) -> Self {
        Self { error: Some(error), generation: -1, member_id: member_id.to_owned(), ..Self::default() }
    }
}

/// A member as the leader is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// The member's id.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub instance_id: Option<String>,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
}

/// SyncGroup, of any version.
#[derive(Debug, Clone)]
pub struct SyncRequest {
    /// The generation that the member joined.
    pub generation: i32,
    /// The member's id.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub instance_id: Option<String>,
    /// What the member believes the group's protocol type is, from version 5.
    pub protocol_type: Option<String>,
    /// What the member believes the group's protocol is, from version 5.
    pub protocol_name: Option<String>,
    /// From the leader: what each member gets.
    pub assignments: BTreeMap<String, Bytes>,
}

/// The answer to SyncGroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncAnswer {
    /// Why there is no assignment.
    pub error: Option<ResponseError>,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The group's protocol.
    pub protocol_name: Option<String>,
    /// What the member gets.
    pub assignment: Bytes,
}

impl SyncAnswer {
    /// The answer to a member that gets no assignment.
    pub fn failed(error: ResponseError) -> Self {
        Self { error: Some(error), ..Self::default() }
    }
}

/// Who says that it is alive.
#[derive(Debug, Clone)]
pub struct HeartbeatRequest {
    /// The generation that the member is in.
    pub generation: i32,
    /// The member's id.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub instance_id: Option<String>,
}

/// One member that leaves, or is made to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingMember {
    /// The member's id; empty when an administrator names the instance alone.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub instance_id: Option<String>,
    /// Why, for the log (KIP-800).
    pub reason: Option<String>,
}

/// The answer to LeaveGroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaveAnswer {
    /// Why nobody left.
    pub error: Option<ResponseError>,
    /// Each member that was named, in the request's order.
    pub members: Vec<LeftMember>,
}

/// What became of one member that was to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftMember {
    /// As in the request.
    pub member_id: String,
    /// As in the request.
    pub instance_id: Option<String>,
    /// Why it did not leave.
    pub error: Option<ResponseError>,
}

/// One group of DescribeGroups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DescribedGroup {
    /// Why it could not be described.
    pub error: Option<ResponseError>,
    /// The group's id.
    pub group_id: String,
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`, `Dead`; nothing with an error.
    pub state: &'static str,
    /// `consumer`, `connect`, …; empty for a group that only commits.
    pub protocol_type: String,
    /// The protocol in use, while the group is stable.
    pub protocol: String,
    /// Everyone in the group.
    pub members: Vec<DescribedMember>,
}

/// One member of a described group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    /// The member's id.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub instance_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// Its metadata for the protocol in use, while the group is stable.
    pub metadata: Bytes,
    /// What it was assigned.
    pub assignment: Bytes,
}

/// One group of ListGroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group's id.
    pub group_id: String,
    /// `consumer`, `connect`, …; empty for a group that only commits.
    pub protocol_type: String,
    /// The state's name.
    pub state: &'static str,
    /// `classic`, `consumer`, `share` or `streams`.
    pub group_type: &'static str,
}

/// An answer, for whoever waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To JoinGroup.
    Join(JoinAnswer),
    /// To SyncGroup.
    Sync(SyncAnswer),
    /// To Heartbeat.
    Heartbeat(Option<ResponseError>),
    /// To LeaveGroup.
    Leave(LeaveAnswer),
    /// To OffsetCommit.
    Commit(super::offsets::CommitAnswer),
    /// To one group of OffsetFetch.
    Fetch(super::offsets::FetchAnswer),
    /// To OffsetDelete.
    DeleteOffsets(super::offsets::DeleteOffsetsAnswer),
    /// To one group of DeleteGroups.
    DeleteGroup(Option<ResponseError>),
    /// To one group of DescribeGroups.
    Describe(DescribedGroup),
    /// To ListGroups.
    List(Vec<ListedGroup>),
}

impl Answer {
    /// This answer, or what it becomes when what it depends on could not be written.
    pub(super) fn after(self, result: Result<(), ResponseError>) -> Self {
        let Err(error) = result else { return self };
        let failed = Some(error);
        match self {
            Self::Join(answer) => Self::Join(JoinAnswer::failed(&answer.member_id, error)),
            Self::Sync(_) => Self::Sync(SyncAnswer::failed(error)),
            Self::Heartbeat(before) => Self::Heartbeat(before.or(failed)),
            Self::Leave(_) => Self::Leave(LeaveAnswer { error: failed, members: Vec::new() }),
            Self::Commit(mut results) => {
                results.fail(error);
                Self::Commit(results)
            }
            Self::Fetch(mut answer) => {
                answer.error = answer.error.or(failed);
                answer.topics.clear();
                Self::Fetch(answer)
            }
            Self::DeleteOffsets(mut answer) => {
                answer.error = answer.error.or(failed);
                answer.results.topics.clear();
                Self::DeleteOffsets(answer)
            }
            Self::DeleteGroup(before) => Self::DeleteGroup(before.or(failed)),
            Self::Describe(mut group) => {
                group.error = group.error.or(failed);
                Self::Describe(group)
            }
            Self::List(groups) => Self::List(groups),
        }
    }
}

/// Records that go to the group's partition in one batch, and what follows when they are durable.
#[derive(Debug)]
pub struct Write {
    /// May be empty: then `then` only waits for whatever was written before.
    pub records: Vec<Record>,
    /// What is done afterwards.
    pub then: Then,
}

/// What follows a write.
#[derive(Debug)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// A group without members is in the log. If it could not be written, that is tried again later.
    Group {
        /// The group's id.
        group_id: String,
    },
    /// A group, or what another protocol knew of it, is removed. If that could not be written, it is there
    /// again.
    Removed(Box<super::partition::Removed>),
    /// This answer, or its failed form.
    Answer(Waiter, Answer),
    /// The offsets that write number `sequence` changed are visible.
    Offsets {
        /// The write's number in [`super::offsets::Offsets`].
        sequence: u64,
        /// Who asked, and what they are told.
        answer: Option<(Waiter, Answer)>,
    },
    /// The leader's assignment is valid, if the group is still waiting for it.
    Assignment {
        /// The group's id.
        group_id: String,
        /// The generation that was assigned.
        generation: i32,
        /// What each member gets.
        assignments: BTreeMap<String, Bytes>,
    },
    /// A static member came back under a new id.
    StaticMember {
        /// The group's id.
        group_id: String,
        /// The member's new id.
        member_id: String,
        /// Who led the group before.
        leader_before: Option<String>,
        /// The member understands `skip_assignment`.
        supports_skipping_assignment: bool,
        /// What to go back to when the write fails.
        before: Box<super::roster::StaticMemberBefore>,
    },
}

/// What an event asks of the outside, in order.
#[derive(Debug, Default)]
pub struct Effects {
    /// Answers to give at once.
    pub answers: Vec<(Waiter, Answer)>,
    /// Records to append, in this order.
    pub writes: Vec<Write>,
}

impl Effects {
    /// Answers at once.
    pub fn answer(&mut self, waiter: Waiter, answer: Answer) {
        self.answers.push((waiter, answer));
    }

    /// Answers once everything that was written so far is durable.
    pub fn answer_when_durable(&mut self, waiter: Waiter, answer: Answer) {
        self.writes.push(Write { records: Vec::new(), then: Then::Answer(waiter, answer) });
    }
}
