//! From one generation to the next: members are asked to rejoin, waited for, and told.
//!
//! Kafka: `GroupMetadataManager`, the classic half. Each verb looks at the group's state, changes it, sets and
//! cancels alarms, and leaves in the turn's effects whom to answer and what to write. Nothing here waits.

use std::rc::Rc;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::classic_group::{ClassicGroup, GroupState};
use super::messages::{Answer, Then, Write};
use super::timers::Alarm;
use super::turn::Turn;

impl ClassicGroup {
    pub(super) fn rebalance_or_complete(&mut self, turn: &mut Turn<'_>) {
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
        } else if self.all_joined() || self.roster.is_empty() {
            // Ids that were given out hold up no group that has lost its last member.
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
    pub(super) fn complete_if_all_joined(&mut self, turn: &mut Turn<'_>) {
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
    pub(super) fn forget(&mut self, id: &str, error: ResponseError, turn: &mut Turn<'_>) {
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
