//! Timers of one core: ordered by deadline; the first one bounds how long the reactor sleeps.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::reactor::Ring;

type TimerKey = (Instant, u64);

#[derive(Default)]
pub(crate) struct Timers {
    waiting: RefCell<BTreeMap<TimerKey, Waker>>,
}

impl Timers {
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.borrow().first_key_value().map(|((deadline, _), _)| *deadline)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Wakes whoever waits for `now` or earlier.
    pub(crate) fn fire(&self, now: Instant) {
        loop {
            let waker = {
                let mut waiting = self.waiting.borrow_mut();
                match waiting.first_entry() {
                    Some(first) if first.key().0 <= now => first.remove(),
                    _ => return,
                }
            };
            waker.wake();
        }
    }

    pub(crate) fn clear(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        drop(waiting);
    }
}

/// Completes at its deadline, never before it. Dropping it takes the timer away.
pub struct Sleep {
    ring: Ring,
    deadline: Instant,
    /// Set while the timer is in the table (or has fired from there).
    key: Option<TimerKey>,
}

impl Sleep {
    pub(crate) fn new(ring: Ring, deadline: Instant) -> Self {
        Self { ring, deadline, key: None }
    }

    /// When it completes.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // One that has come since is in the table when that is looked through behind this turn.
        if self.ring.turn_began() >= self.deadline {
            return Poll::Ready(());
        }
        let key = match self.key {
            Some(key) => key,
            None => {
                let key = (self.deadline, self.ring.next_timer_number());
                self.key = Some(key);
                key
            }
        };
        let replaced = self.ring.timers().waiting.borrow_mut().insert(key, context.waker().clone());
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.ring.timers().waiting.borrow_mut().remove(&key);
            drop(waker);
        }
    }
}

impl std::fmt::Debug for Sleep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sleep(until {:?})", self.deadline)
    }
}
