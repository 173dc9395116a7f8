//! The alarms of one partition's groups: sessions, rebalances, syncs.
//!
//! A plain ordered queue; nobody ticks. Whoever owns the groups arms one timer of its core for
//! [`Timers::next_deadline_ms`], and none while the queue is empty. Of the core that owns the groups;
//! nothing of it outlives a crash: sessions start anew when groups are loaded.

use std::collections::BTreeMap;
use std::rc::Rc;

/// What is due when an alarm goes off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// A member sent no heartbeat for its session timeout, or a pending one never joined.
    Session {
        /// The group's id.
        group: Rc<str>,
        /// The member's id.
        member: Rc<str>,
    },
    /// The time that members have to rejoin is over.
    Join {
        /// The group's id.
        group: Rc<str>,
    },
    /// The time that an empty group's first members wait for others is over.
    InitialJoin {
        /// The group's id.
        group: Rc<str>,
        /// How long this wait was, milliseconds.
        delay_ms: i64,
        /// What is left of the rebalance timeout, milliseconds.
        remaining_ms: i64,
    },
    /// The time that members have to send SyncGroup is over.
    Sync {
        /// The group's id.
        group: Rc<str>,
        /// The generation that was to be synced.
        generation: i32,
    },
    /// Offsets and empty groups are looked through for what has expired.
    Expiration,
}

/// An alarm's place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerId {
    deadline_ms: i64,
    sequence: u64,
}

/// The alarms that are set, in the order in which they go off.
#[derive(Debug, Default)]
pub struct Timers {
    queue: BTreeMap<TimerId, Alarm>,
    sequence: u64,
}

impl Timers {
    /// Sets an alarm for `deadline_ms` on the monotonic clock. Equal deadlines go off in the order set.
    pub fn set(&mut self, deadline_ms: i64, alarm: Alarm) -> TimerId {
        self.sequence += 1;
        let id = TimerId { deadline_ms, sequence: self.sequence };
        self.queue.insert(id, alarm);
        id
    }

    /// Removes an alarm; one that went off already is no error.
    pub fn cancel(&mut self, id: TimerId) {
        self.queue.remove(&id);
    }

    /// When the next alarm goes off, on the monotonic clock.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.queue.first_key_value().map(|(id, _)| id.deadline_ms)
    }

    /// Takes the next alarm that is due at `now_ms`.
    pub fn take_due(&mut self, now_ms: i64) -> Option<Alarm> {
        let entry = self.queue.first_entry()?;
        (entry.key().deadline_ms <= now_ms).then(|| entry.remove())
    }
}
