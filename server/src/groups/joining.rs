//! JoinGroup: who becomes a member, comes back as one, or takes the place of a static one.
//!
//! Kafka: `GroupMetadataManager.classicGroupJoin` and what it calls.

use std::rc::Rc;

use kafka_protocol::ResponseError;

use super::classic_group::{ClassicGroup, GroupState};
use super::messages::{Answer, JoinAnswer, JoinRequest, Then, Waiter, Write};
use super::roster::{Member, StaticMemberBefore};
use super::timers::Alarm;
use super::turn::Turn;

impl ClassicGroup {
    /// JoinGroup.
    pub(super) fn join(&mut self, request: JoinRequest, waiter: Waiter, turn: &mut Turn<'_>) {
        if !self.has_room_for(&request.member_id, turn.settings.size_max) {
            self.forget(&request.member_id, ResponseError::GroupMaxSizeReached, turn);
            turn.join_failed(waiter, "", ResponseError::GroupMaxSizeReached);
            return;
        }
        let names = request.protocols.iter().map(|protocol| protocol.name.as_str());
        if self.state() == GroupState::Dead {
            turn.join_failed(waiter, &request.member_id, ResponseError::CoordinatorNotAvailable);
        } else if !self.supports(&request.protocol_type, names) {
            turn.join_failed(waiter, &request.member_id, ResponseError::InconsistentGroupProtocol);
        } else if request.member_id.is_empty() {
            self.join_unknown(request, waiter, turn);
        } else {
            self.join_known(request, waiter, turn);
        }
    }

    /// A member that is there may always rejoin; others while there is room. During a rebalance those count
    /// who have rejoined, so that the last ones to come are turned away when the limit was lowered.
    fn has_room_for(&self, member_id: &str, size_max: usize) -> bool {
        match self.state() {
            GroupState::Empty | GroupState::Dead => true,
            GroupState::PreparingRebalance => {
                let joining = self.roster.get(member_id).is_some_and(|member| member.joining.is_some());
                joining || self.roster.awaiting_join() < size_max
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.roster.contains(member_id) || self.roster.len() < size_max
            }
        }
    }

    fn join_unknown(&mut self, request: JoinRequest, waiter: Waiter, turn: &mut Turn<'_>) {
        let new_id: Rc<str> = Rc::from(request.new_member_id.as_str());
        if let Some(instance_id) = &request.instance_id {
            match self.roster.static_member(instance_id).cloned() {
                Some(old_id) => self.replace_static_member(&old_id, new_id, request, waiter, turn),
                None => self.add_member(new_id, request, waiter, turn),
            }
        } else if request.requires_known_member_id {
            let alarm = Alarm::Session { group: self.id.clone(), member: new_id.clone() };
            let timer = turn.set(i64::from(request.session_timeout_ms), alarm);
            self.pending_joins.insert(new_id.clone(), timer);
            turn.join_failed(waiter, &new_id, ResponseError::MemberIdRequired);
        } else {
            self.add_member(new_id, request, waiter, turn);
        }
    }

    fn join_known(&mut self, request: JoinRequest, waiter: Waiter, turn: &mut Turn<'_>) {
        let member_id = request.member_id.as_str();
        if self.pending_joins.contains_key(member_id) && request.instance_id.is_none() {
            let id = Rc::from(member_id);
            return self.add_member(id, request, waiter, turn);
        }
        if let Err(error) = self.check_member(member_id, request.instance_id.as_deref()) {
            return turn.join_failed(waiter, member_id, error);
        }
        let same = self.roster.get(member_id).is_some_and(|member| member.protocols == request.protocols);
        match self.state() {
            GroupState::PreparingRebalance => self.rejoin(request, waiter, turn),
            // The answer to its first JoinGroup was lost: the same again.
            GroupState::CompletingRebalance if same => {
                let answer = self.joined(member_id, self.roster.is_leader(member_id));
                turn.effects.answer(waiter, Answer::Join(answer));
            }
            GroupState::CompletingRebalance => self.rejoin(request, waiter, turn),
            // A leader rejoins when something changed that its metadata does not show, such as the number
            // of a topic's partitions.
            GroupState::Stable if self.roster.is_leader(member_id) || !same => {
                self.rejoin(request, waiter, turn)
            }
            GroupState::Stable => {
                let answer = self.joined(member_id, false);
                turn.effects.answer(waiter, Answer::Join(answer));
            }
            GroupState::Empty | GroupState::Dead => {
                turn.join_failed(waiter, member_id, ResponseError::UnknownMemberId);
            }
        }
    }

    fn add_member(&mut self, id: Rc<str>, request: JoinRequest, waiter: Waiter, turn: &mut Turn<'_>) {
        turn.cancel(self.pending_joins.remove(&id));
        tracing::debug!(group = %self.id, member = %id, reason = request.reason.as_deref(), "a member joins");
        if self.roster.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if self.state() == GroupState::PreparingRebalance && self.previous_state() == GroupState::Empty {
            self.new_member_added = true;
        }
        let mut member = Member::new(id.clone(), &request);
        member.joining = Some(waiter);
        self.roster.add(member);
        // It cannot send heartbeats while its JoinGroup is parked, nor is its connection watched. If it is
        // gone, it must not stay for ever; if it is there, it will try again.
        self.start_session(&id, turn.settings.new_member_join_timeout_ms, turn);
        self.rebalance_or_complete(turn);
    }

    fn rejoin(&mut self, request: JoinRequest, waiter: Waiter, turn: &mut Turn<'_>) {
        let id = request.member_id.as_str();
        self.roster.update(id, request.protocols, request.rebalance_timeout_ms, request.session_timeout_ms);
        if let Some(before) = self.roster.park_join(id, waiter) {
            // The member gave up on its last request; nobody should read this.
            turn.join_failed(before, id, ResponseError::RebalanceInProgress);
        }
        self.rebalance_or_complete(turn);
    }

    /// A static member comes back without its id: whoever used the id before is fenced.
    fn replace_static_member(
        &mut self,
        old_id: &Rc<str>,
        new_id: Rc<str>,
        request: JoinRequest,
        waiter: Waiter,
        turn: &mut Turn<'_>,
    ) {
        let leader_before = self.roster.leader().map(|id| id.to_string());
        self.rename_static_member(old_id, new_id.clone(), turn);
        let member = self.roster.get(&new_id).expect("it was renamed to this");
        let before = Box::new(StaticMemberBefore {
            id: old_id.clone(),
            protocols: member.protocols.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
        });
        let supports_skipping_assignment = request.supports_skipping_assignment;
        self.roster.update(
            &new_id,
            request.protocols,
            request.rebalance_timeout_ms,
            request.session_timeout_ms,
        );
        self.roster.park_join(&new_id, waiter);
        match self.state() {
            GroupState::Stable if self.roster.select_protocol() == self.protocol_name => {
                // Nothing changes for the others: only the new id has to be kept.
                let record = self.record(|member| member.assignment.clone());
                let then = Then::StaticMember {
                    group_id: self.id.to_string(),
                    member_id: new_id.to_string(),
                    leader_before,
                    supports_skipping_assignment,
                    before,
                };
                turn.effects.writes.push(Write { records: vec![record], then });
            }
            GroupState::Stable => self.rebalance_or_complete(turn),
            // The leader may be assigning to the old id just now.
            GroupState::CompletingRebalance => self.prepare_rebalance(turn),
            _ => self.complete_if_all_joined(turn),
        }
    }

    fn rename_static_member(&mut self, old_id: &str, new_id: Rc<str>, turn: &mut Turn<'_>) {
        if let Some(waiter) = self.roster.take_join(old_id) {
            turn.join_failed(waiter, old_id, ResponseError::FencedInstanceId);
        }
        let member = self.roster.get_mut(old_id).expect("only a member is renamed");
        if let Some(waiter) = member.syncing.take() {
            turn.sync_failed(waiter, ResponseError::FencedInstanceId);
        }
        let session_timeout_ms = i64::from(member.session_timeout_ms);
        turn.cancel(member.session.take());
        member.is_new = false;
        self.roster.rename(old_id, new_id.clone());
        self.pending_syncs.remove(old_id);
        self.start_session(&new_id, session_timeout_ms, turn);
    }

    /// The static member's new id is durable, or could not be kept.
    pub(super) fn static_member_written(
        &mut self,
        member_id: &str,
        leader_before: Option<String>,
        supports_skipping_assignment: bool,
        before: StaticMemberBefore,
        result: Result<(), ResponseError>,
        turn: &mut Turn<'_>,
    ) {
        if self.state() != GroupState::Stable {
            // A rebalance came in between: it answers the member, and its generation is what is kept.
            return;
        }
        let Some(waiter) = self.roster.take_join(member_id) else { return };
        let leader = self.roster.is_leader(member_id);
        let mut answer = self.joined(member_id, leader && supports_skipping_assignment);
        match result {
            Ok(()) if supports_skipping_assignment => answer.skip_assignment = leader,
            // A leader that does not know it need not assign is told that another one leads.
            Ok(()) => answer.leader = leader_before.unwrap_or_default(),
            Err(error) => {
                answer = JoinAnswer {
                    error: Some(error),
                    member_id: String::new(),
                    members: Vec::new(),
                    ..answer
                };
                answer.leader = leader_before.unwrap_or_default();
                let StaticMemberBefore { id, protocols, rebalance_timeout_ms, session_timeout_ms } = before;
                self.roster.update(member_id, protocols, rebalance_timeout_ms, session_timeout_ms);
                self.rename_static_member(member_id, id, turn);
            }
        }
        turn.effects.answer(waiter, Answer::Join(answer));
    }

    pub(super) fn joined(&self, member_id: &str, tell_members: bool) -> JoinAnswer {
        JoinAnswer {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.roster.leader().map(|id| id.to_string()).unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: if tell_members { self.joined_members() } else { Vec::new() },
        }
    }
}
