//! Which chunks a connection still holds after it sent parts of them by `sendfile`.
//!
//! The network refers to a chunk's pages until the peer has acknowledged them. So a connection pins a chunk
//! until what it sent of it has drained (SIOCOUTQ). While any connection of a core holds pins, a task of that
//! core looks after them; when none does, nothing runs. A connection whose pins keep evicted memory from being
//! re-used, and that makes no progress, is closed.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use super::Connection;
use crate::chunk::{ChunkMemory, ChunkPin};
use crate::reactor::Ring;

/// How often connections with pins are looked after.
const SWEEP_INTERVAL: Duration = Duration::from_millis(50);
/// A connection that pins evicted chunks and drains nothing for this long is closed.
const GHOST_PATIENCE: Duration = Duration::from_secs(30);

/// The pins of one connection.
#[derive(Default)]
pub(super) struct Pins {
    /// Bytes written to the connection so far.
    written: Cell<u64>,
    /// In the order of sending: up to which byte the connection has to drain before the pin goes.
    held: RefCell<VecDeque<(u64, ChunkPin)>>,
    /// The sweeper knows this connection.
    swept: Cell<bool>,
}

impl Pins {
    pub(super) fn written(&self) -> u64 {
        self.written.get()
    }

    pub(super) fn add_written(&self, bytes: usize) {
        self.written.set(self.written.get() + bytes as u64);
    }

    /// Extends the pin of the chunk that was sent last to what is written now, or says that there is none.
    pub(super) fn extend_last(&self, chunk: &ChunkMemory) -> bool {
        match self.held.borrow_mut().back_mut() {
            Some((until, pin)) if pin.is_same(chunk) => {
                *until = self.written.get();
                true
            }
            _ => false,
        }
    }

    /// Lets go of what has drained, given that `unsent` bytes have not.
    fn release(&self, unsent: usize) {
        let drained = self.written.get().saturating_sub(unsent as u64);
        let mut held = self.held.borrow_mut();
        while held.front().is_some_and(|(until, _)| *until <= drained) {
            held.pop_front();
        }
    }

    fn is_empty(&self) -> bool {
        self.held.borrow().is_empty()
    }

    fn holds_ghosts(&self) -> bool {
        self.held.borrow().iter().any(|(_, pin)| pin.is_ghost())
    }
}

impl Connection {
    /// Keeps `pin` until what is written by now has drained.
    pub(super) fn hold(self: &Rc<Self>, pin: ChunkPin) {
        self.pins.held.borrow_mut().push_back((self.pins.written(), pin));
        if !self.pins.swept.replace(true) {
            self.ring.pinned().add(&self.ring, Rc::downgrade(self));
        }
    }

    /// Lets go of what has drained.
    pub(super) fn release_pins(&self) {
        if !self.pins.is_empty() {
            self.pins.release(self.unsent());
        }
    }
}

/// The connections of a core that hold pins.
pub(crate) struct PinnedConnections {
    connections: RefCell<Vec<Watched>>,
    sweeping: Cell<bool>,
    /// [`GHOST_PATIENCE`], but for tests.
    patience: Cell<Duration>,
}

impl Default for PinnedConnections {
    fn default() -> Self {
        Self {
            connections: RefCell::default(),
            sweeping: Cell::default(),
            patience: Cell::new(GHOST_PATIENCE),
        }
    }
}

struct Watched {
    connection: Weak<Connection>,
    drained: u64,
    progressed: Instant,
}

impl PinnedConnections {
    #[cfg(test)]
    pub(super) fn set_patience(&self, patience: Duration) {
        self.patience.set(patience);
    }

    fn add(&self, ring: &Ring, connection: Weak<Connection>) {
        let watched = Watched { connection, drained: 0, progressed: Instant::now() };
        self.connections.borrow_mut().push(watched);
        if !self.sweeping.replace(true) {
            let ring_of_task = ring.clone();
            ring.spawn(async move {
                let ring = ring_of_task;
                while ring.pinned().sweep() {
                    ring.sleep(SWEEP_INTERVAL).await;
                }
                ring.pinned().sweeping.set(false);
            });
        }
    }

    /// Looks after every connection once; whether any is left.
    fn sweep(&self) -> bool {
        let (now, patience) = (Instant::now(), self.patience.get());
        self.connections.borrow_mut().retain_mut(|watched| watched.look_after(now, patience));
        !self.connections.borrow().is_empty()
    }
}

impl Watched {
    /// Whether it still holds pins.
    fn look_after(&mut self, now: Instant, patience: Duration) -> bool {
        let Some(connection) = self.connection.upgrade() else { return false };
        let unsent = connection.unsent();
        connection.pins.release(unsent);
        if connection.pins.is_empty() {
            connection.pins.swept.set(false);
            return false;
        }
        let drained = connection.pins.written().saturating_sub(unsent as u64);
        if drained > self.drained || !connection.pins.holds_ghosts() {
            self.drained = drained;
            self.progressed = now;
        } else if now - self.progressed >= patience {
            connection.abort();
        }
        true
    }
}
