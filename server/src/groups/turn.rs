//! What an event of a group may use: time, settings, timers, and a place for what it asks of the outside.

use kafka_protocol::ResponseError;

use super::messages::{Answer, Effects, JoinAnswer, Now, SyncAnswer, Waiter};
use super::settings::GroupSettings;
use super::timers::{Alarm, TimerId, Timers};

/// What an event of a group may use.
pub(super) struct Turn<'a> {
    pub(super) now: Now,
    pub(super) settings: &'a GroupSettings,
    pub(super) timers: &'a mut Timers,
    pub(super) effects: &'a mut Effects,
}

impl Turn<'_> {
    pub(super) fn join_failed(&mut self, waiter: Waiter, member_id: &str, error: ResponseError) {
        self.effects.answer(waiter, Answer::Join(JoinAnswer::failed(member_id, error)));
    }

    pub(super) fn sync_failed(&mut self, waiter: Waiter, error: ResponseError) {
        self.effects.answer(waiter, Answer::Sync(SyncAnswer::failed(error)));
    }

    pub(super) fn set(&mut self, delay_ms: i64, alarm: Alarm) -> TimerId {
        self.timers.set(self.now.monotonic_ms + delay_ms, alarm)
    }

    pub(super) fn cancel(&mut self, timer: Option<TimerId>) {
        if let Some(timer) = timer {
            self.timers.cancel(timer);
        }
    }
}
