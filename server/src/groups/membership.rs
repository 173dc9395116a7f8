//! Staying and leaving: heartbeats, sessions, LeaveGroup, and a group's first and last moment in memory.

use std::rc::Rc;

use kafka_protocol::ResponseError;

use super::classic_group::{ClassicGroup, GroupState};
use super::messages::{HeartbeatRequest, LeaveAnswer, LeavingMember, LeftMember};
use super::timers::Alarm;
use super::turn::Turn;

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

    pub(super) fn start_session(&mut self, member_id: &str, timeout_ms: i64, turn: &mut Turn<'_>) {
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
