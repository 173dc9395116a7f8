//! SyncGroup: the leader brings the assignment, everyone takes the own part once it is durable.
//!
//! Kafka: `GroupMetadataManager.classicGroupSync` and what it calls.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::classic_group::{ClassicGroup, GroupState};
use super::messages::{Answer, SyncAnswer, SyncRequest, Then, Waiter, Write};
use super::turn::Turn;

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

    pub(super) fn answer_syncs(&mut self, result: Result<(), ResponseError>, turn: &mut Turn<'_>) {
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
