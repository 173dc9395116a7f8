//! How a classic group gets from one generation to the next: joins, syncs, heartbeats, leavers, time.
//!
//! Kafka: `GroupMetadataManager`, the classic half. Each verb looks at the group's state, changes it, sets
//! and cancels alarms, and leaves in [`Effects`] whom to answer and what to write. Nothing here waits.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::classic_group::{ClassicGroup, GroupState};
use super::messages::{
    Answer, Effects, HeartbeatRequest, JoinAnswer, JoinRequest, LeaveAnswer, LeavingMember, LeftMember, Now,
    SyncAnswer, SyncRequest, Then, Waiter, Write,
};
use super::roster::{Member, StaticMemberBefore};
use super::settings::GroupSettings;
use super::timers::{Alarm, Timers};

/// What an event of a group may use.
pub(super) struct Turn<'a> {
    pub(super) now: Now,
    pub(super) settings: &'a GroupSettings,
    pub(super) timers: &'a mut Timers,
    pub(super) effects: &'a mut Effects,
}

impl Turn<'_> {
    fn join_failed(&mut self, waiter: Waiter, member_id: &str, error: ResponseError) {
        self.effects.answer(waiter, Answer::Join(JoinAnswer::failed(member_id, error)));
    }

    fn sync_failed(&mut self, waiter: Waiter, error: ResponseError) {
        self.effects.answer(waiter, Answer::Sync(SyncAnswer::failed(error)));
    }

    fn set(&mut self, delay_ms: i64, alarm: Alarm) -> super::timers::TimerId {
        self.timers.set(self.now.monotonic_ms + delay_ms, alarm)
    }

    fn cancel(&mut self, timer: Option<super::timers::TimerId>) {
        if let Some(timer) = timer {
            self.timers.cancel(timer);
        }
    }
}

/// Joining.
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

    fn joined(&self, member_id: &str, tell_members: bool) -> JoinAnswer {
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

/// Rebalancing.
impl ClassicGroup {
    fn rebalance_or_complete(&mut self, turn: &mut Turn<'_>) {
        match self.state() {
            GroupState::PreparingRebalance => self.complete_if_all_joined(turn),
            _ => self.prepare_rebalance(turn),
        }
    }

    /// Asks everyone to rejoin.
    pub(super) fn prepare_rebalance(&mut self, turn: &mut Turn<'_>) {
        if self.state() == GroupState::CompletingRebalance {
            self.answer_syncs(Err(ResponseError::RebalanceInProgress), turn);
        }
        self.pending_syncs.clear();
        turn.cancel(self.timers.sync.take());
        let initial = self.state() == GroupState::Empty;
        self.enter(GroupState::PreparingRebalance, turn.now.wall_ms);
        if initial {
            // The group is new: more members will come, so wait for them.
            self.new_member_added = false;
            let delay_ms = turn.settings.initial_rebalance_delay_ms;
            let remaining_ms = (self.roster.rebalance_timeout_ms() - delay_ms).max(0);
            self.wait_initially(delay_ms, remaining_ms, turn);
        } else if self.all_joined() {
            self.complete_join(turn);
        } else {
            self.wait_for_joins(turn);
        }
    }

    fn wait_initially(&mut self, delay_ms: i64, remaining_ms: i64, turn: &mut Turn<'_>) {
        turn.cancel(self.timers.join.take());
        let alarm = Alarm::InitialJoin { group: self.id.clone(), delay_ms, remaining_ms };
        self.timers.join = Some(turn.set(delay_ms, alarm));
    }

    fn wait_for_joins(&mut self, turn: &mut Turn<'_>) {
        turn.cancel(self.timers.join.take());
        let timeout_ms = self.roster.rebalance_timeout_ms();
        self.timers.join = Some(turn.set(timeout_ms, Alarm::Join { group: self.id.clone() }));
    }

    /// Somebody joined or left: the rebalance may be able to go on. An initial one goes on by time alone.
    fn complete_if_all_joined(&mut self, turn: &mut Turn<'_>) {
        let rebalancing = self.state() == GroupState::PreparingRebalance;
        if rebalancing && self.previous_state() != GroupState::Empty && self.all_joined() {
            self.complete_join(turn);
        }
    }

    /// The initial delay is over.
    pub(super) fn initial_delay_over(&mut self, delay_ms: i64, remaining_ms: i64, turn: &mut Turn<'_>) {
        if self.state() != GroupState::PreparingRebalance {
            return;
        }
        if self.new_member_added && remaining_ms != 0 {
            self.new_member_added = false;
            let next_ms = turn.settings.initial_rebalance_delay_ms.min(remaining_ms);
            self.wait_initially(next_ms, (remaining_ms - delay_ms).max(0), turn);
        } else {
            self.complete_join(turn);
        }
    }

    /// The time to rejoin is over.
    pub(super) fn join_time_over(&mut self, turn: &mut Turn<'_>) {
        if self.state() == GroupState::PreparingRebalance {
            self.complete_join(turn);
        }
    }

    /// Goes on with whoever has rejoined. Static members stay also when they have not.
    pub(super) fn complete_join(&mut self, turn: &mut Turn<'_>) {
        turn.cancel(self.timers.join.take());
        let missing: Vec<Rc<str>> = self
            .roster
            .not_joining()
            .filter(|member| member.instance_id.is_none())
            .map(|member| member.id.clone())
            .collect();
        for id in missing {
            tracing::info!(group = %self.id, member = %id, "a member did not rejoin in time and is removed");
            self.forget(&id, ResponseError::UnknownMemberId, turn);
        }
        if !self.roster.elect_joined_leader() && !self.roster.is_empty() {
            // Nobody rejoined, but static members may yet: until their sessions end.
            return self.wait_for_joins(turn);
        }
        self.start_generation(turn.now.wall_ms);
        tracing::debug!(group = %self.id, generation = self.generation, members = self.roster.len(), "a new generation");
        if self.state() == GroupState::Empty {
            let record = self.record(|_| Bytes::new());
            let then = Then::Group { group_id: self.id.to_string() };
            turn.effects.writes.push(Write { records: vec![record], then });
            return;
        }
        for id in self.roster.ids() {
            let answer = self.joined(&id, self.roster.is_leader(&id));
            if let Some(waiter) = self.roster.take_join(&id) {
                turn.effects.answer(waiter, Answer::Join(answer));
            }
            let member = self.roster.get_mut(&id).expect("it is one of the members");
            member.is_new = false;
            self.restart_session(&id, turn);
            self.pending_syncs.insert(id);
        }
        let alarm = Alarm::Sync { group: self.id.clone(), generation: self.generation };
        turn.cancel(self.timers.sync.take());
        self.timers.sync = Some(turn.set(self.roster.rebalance_timeout_ms(), alarm));
    }

    /// Members that joined but never asked for their assignment hold up nobody any longer.
    pub(super) fn sync_time_over(&mut self, generation: i32, turn: &mut Turn<'_>) {
        self.timers.sync = None;
        let waiting = matches!(self.state(), GroupState::CompletingRebalance | GroupState::Stable);
        if generation != self.generation || !waiting || self.pending_syncs.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.pending_syncs) {
            tracing::info!(group = %self.id, member = %id, "a member did not sync in time and is removed");
            self.forget(&id, ResponseError::UnknownMemberId, turn);
        }
        self.prepare_rebalance(turn);
    }

    /// Takes a member out of the group, wherever it is. What it waits for is answered with `error`.
    fn forget(&mut self, id: &str, error: ResponseError, turn: &mut Turn<'_>) {
        turn.cancel(self.pending_joins.remove(id));
        self.pending_syncs.remove(id);
        let Some(member) = self.roster.remove(id) else { return };
        turn.cancel(member.session);
        if let Some(waiter) = member.joining {
            turn.join_failed(waiter, "", error);
        }
        if let Some(waiter) = member.syncing {
            turn.sync_failed(waiter, error);
        }
    }
}

/// Syncing.
impl ClassicGroup {
    /// SyncGroup.
    pub(super) fn sync(&mut self, request: SyncRequest, waiter: Waiter, turn: &mut Turn<'_>) {
        if let Err(error) = self.check_sync(&request) {
            return turn.sync_failed(waiter, error);
        }
        let member_id = request.member_id.as_str();
        match self.state() {
            GroupState::Empty | GroupState::Dead => turn.sync_failed(waiter, ResponseError::UnknownMemberId),
            GroupState::PreparingRebalance => turn.sync_failed(waiter, ResponseError::RebalanceInProgress),
            GroupState::Stable => {
                self.has_synced(member_id, turn);
                let answer = self.assigned(member_id);
                turn.effects.answer(waiter, Answer::Sync(answer));
            }
            GroupState::CompletingRebalance => {
                let member = self.roster.get_mut(member_id).expect("it was checked to be a member");
                if let Some(before) = member.syncing.replace(waiter) {
                    turn.sync_failed(before, ResponseError::RebalanceInProgress);
                }
                self.has_synced(member_id, turn);
                if self.roster.is_leader(member_id) {
                    self.write_assignment(request.assignments, turn);
                }
            }
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), ResponseError> {
        let differs =
            |said: &Option<String>, is: &Option<String>| said.is_some() && is.is_some() && said != is;
        if self.state() == GroupState::Dead {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        if self.state() == GroupState::Empty {
            return Err(ResponseError::UnknownMemberId);
        }
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol_name)
        {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn has_synced(&mut self, member_id: &str, turn: &mut Turn<'_>) {
        self.pending_syncs.remove(member_id);
        if self.pending_syncs.is_empty() {
            turn.cancel(self.timers.sync.take());
        }
    }

    fn write_assignment(&mut self, assignments: BTreeMap<String, Bytes>, turn: &mut Turn<'_>) {
        let record = self.record(|member| assignments.get(&*member.id).cloned().unwrap_or_default());
        let then =
            Then::Assignment { group_id: self.id.to_string(), generation: self.generation, assignments };
        turn.effects.writes.push(Write { records: vec![record], then });
    }

    /// The leader's assignment is durable, or could not be kept. If the group went on in the meantime, it is
    /// of no use.
    pub(super) fn assignment_written(
        &mut self,
        generation: i32,
        mut assignments: BTreeMap<String, Bytes>,
        result: Result<(), ResponseError>,
        turn: &mut Turn<'_>,
    ) {
        if self.state() != GroupState::CompletingRebalance || generation != self.generation {
            return;
        }
        match result {
            Ok(()) => {
                for id in self.roster.ids() {
                    let member = self.roster.get_mut(&id).expect("it is one of the members");
                    member.assignment = assignments.remove(&*id).unwrap_or_default();
                }
                self.answer_syncs(Ok(()), turn);
                self.enter(GroupState::Stable, turn.now.wall_ms);
            }
            Err(error) => {
                self.answer_syncs(Err(error), turn);
                self.prepare_rebalance(turn);
            }
        }
    }

    fn answer_syncs(&mut self, result: Result<(), ResponseError>, turn: &mut Turn<'_>) {
        for id in self.roster.ids() {
            let member = self.roster.get_mut(&id).expect("it is one of the members");
            if result.is_err() {
                member.assignment = Bytes::new();
            }
            let Some(waiter) = member.syncing.take() else { continue };
            let answer = match result {
                Ok(()) => self.assigned(&id),
                Err(error) => SyncAnswer::failed(error),
            };
            turn.effects.answer(waiter, Answer::Sync(answer));
            // While it waited, its silence was not held against it.
            self.restart_session(&id, turn);
        }
    }

    fn assigned(&self, member_id: &str) -> SyncAnswer {
        SyncAnswer {
            error: None,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment: self
                .roster
                .get(member_id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }
}

/// Staying and leaving.
impl ClassicGroup {
    /// Heartbeat.
    pub(super) fn heartbeat(
        &mut self,
        request: &HeartbeatRequest,
        turn: &mut Turn<'_>,
    ) -> Result<(), ResponseError> {
        if self.state() == GroupState::Dead {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        self.restart_session(&request.member_id, turn);
        match self.state() {
            GroupState::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// LeaveGroup.
    pub(super) fn leave(&mut self, members: Vec<LeavingMember>, turn: &mut Turn<'_>) -> LeaveAnswer {
        if self.state() == GroupState::Dead {
            return LeaveAnswer { error: Some(ResponseError::CoordinatorNotAvailable), members: Vec::new() };
        }
        let mut left = Vec::with_capacity(members.len());
        for LeavingMember { member_id, instance_id, reason } in members {
            let error = self.leave_one(&member_id, instance_id.as_deref(), reason.as_deref(), turn).err();
            left.push(LeftMember { member_id, instance_id, error });
        }
        if left.iter().any(|member| member.error.is_none()) {
            match self.state() {
                GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(turn),
                GroupState::PreparingRebalance => self.complete_if_all_joined(turn),
                GroupState::Empty | GroupState::Dead => {}
            }
        }
        LeaveAnswer { error: None, members: left }
    }

    fn leave_one(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        reason: Option<&str>,
        turn: &mut Turn<'_>,
    ) -> Result<(), ResponseError> {
        let id: Rc<str> = if member_id.is_empty() {
            let instance_id = instance_id.ok_or(ResponseError::UnknownMemberId)?;
            self.roster.static_member(instance_id).cloned().ok_or(ResponseError::UnknownMemberId)?
        } else {
            if !self.pending_joins.contains_key(member_id) {
                self.check_member(member_id, instance_id)?;
            }
            Rc::from(member_id)
        };
        tracing::debug!(group = %self.id, member = %id, reason, "a member leaves");
        self.forget(&id, ResponseError::UnknownMemberId, turn);
        Ok(())
    }

    /// A session is over.
    pub(super) fn session_over(&mut self, member_id: &str, turn: &mut Turn<'_>) {
        if self.pending_joins.remove(member_id).is_some() {
            if self.state() == GroupState::PreparingRebalance && self.all_joined() {
                self.complete_join(turn);
            }
            return;
        }
        let Some(member) = self.roster.get_mut(member_id) else { return };
        member.session = None;
        if member.is_kept_alive_by_waiting() {
            return;
        }
        tracing::info!(group = %self.id, member = member_id, "a member's session is over");
        self.forget(member_id, ResponseError::UnknownMemberId, turn);
        match self.state() {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(turn),
            GroupState::PreparingRebalance if self.all_joined() => self.complete_join(turn),
            _ => {}
        }
    }

    /// The member was heard of: its session starts anew.
    pub(super) fn restart_session(&mut self, member_id: &str, turn: &mut Turn<'_>) {
        if let Some(member) = self.roster.get(member_id) {
            let timeout_ms = i64::from(member.session_timeout_ms);
            self.start_session(member_id, timeout_ms, turn);
        }
    }

    fn start_session(&mut self, member_id: &str, timeout_ms: i64, turn: &mut Turn<'_>) {
        let member = self.roster.get_mut(member_id).expect("sessions are of members");
        turn.cancel(member.session.take());
        let alarm = Alarm::Session { group: self.id.clone(), member: member.id.clone() };
        member.session = Some(turn.set(timeout_ms, alarm));
    }

    /// Sessions of the members that were read from the log, and a rebalance if there are too many.
    pub(super) fn loaded(&mut self, turn: &mut Turn<'_>) {
        for id in self.roster.ids() {
            self.restart_session(&id, turn);
        }
        if self.roster.len() > turn.settings.size_max {
            self.prepare_rebalance(turn);
        }
    }

    /// Ids that were given out are worth nothing any longer.
    pub(super) fn forget_pending(&mut self, turn: &mut Turn<'_>) {
        for timer in std::mem::take(&mut self.pending_joins).into_values() {
            turn.timers.cancel(timer);
        }
    }

    /// The partition goes away: nobody waits for the group any longer.
    pub(super) fn die(&mut self, error: ResponseError, turn: &mut Turn<'_>) {
        for id in self.roster.ids() {
            if let Some(waiter) = self.roster.take_join(&id) {
                turn.join_failed(waiter, &id, error);
            }
            let member = self.roster.get_mut(&id).expect("it is one of the members");
            turn.cancel(member.session.take());
            if let Some(waiter) = member.syncing.take() {
                turn.sync_failed(waiter, error);
            }
        }
        self.forget_pending(turn);
        turn.cancel(self.timers.join.take());
        turn.cancel(self.timers.sync.take());
        self.enter(GroupState::Dead, turn.now.wall_ms);
    }
}
