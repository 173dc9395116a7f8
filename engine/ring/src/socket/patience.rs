//! Answers that wait for their peers: what is left of a slow one is moved out of the cache.
//!
//! A slice keeps its memory from being used again. A peer that stops reading in the middle of a large answer would
//! hold a part of the cache for as long as it stays connected, and enough of them all of it: appends would wait for
//! them. So the slices of an answer whose peer took less than [`PROGRESS_BYTES`] in about [`SWEEP_INTERVAL`] are
//! exchanged for copies. Whoever made the answer has counted its bytes; here is no bound.
//!
//! While answers with slices are under way, a task of their core looks after them; when none is, nothing runs.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::Bytes;

use super::Connection;
use super::bulk::{BulkTurn, SHORT_TURN_BYTES};
use crate::driver::OperationKey;
use crate::reactor::Ring;
use crate::transfer::SendPiece;

/// How often answers under way are looked after.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// What a peer has to take between two looks to count as reading.
const PROGRESS_BYTES: u64 = 512 << 10;
/// Looks without progress, the first of which may come at once, after which slices are exchanged.
const LOOKS_MAX: u64 = 2;

/// How an answer is getting on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    /// None with slices is under way.
    #[default]
    Idle,
    /// Under way since that look, or the last one at which the peer had taken enough.
    Moving { since: u64 },
    /// Its slices are to be exchanged.
    Overdue,
    /// It holds no slices any more.
    Exchanged,
}

/// The answer that a connection is sending.
#[derive(Default)]
pub(super) struct Writing {
    standing: Cell<Standing>,
    /// What the writer waits for in the kernel, if it does.
    operation: Cell<Option<OperationKey>>,
    /// What the peer had acknowledged at the last look.
    acknowledged: Cell<u64>,
    /// The sweeper knows this connection.
    listed: Cell<bool>,
}

impl Writing {
    /// Notes what the writer waits for, so that it can be called off.
    pub(super) fn waits_for(&self, operation: Option<OperationKey>) {
        self.operation.set(operation);
    }

    /// Whether the writer was called off to exchange its slices.
    pub(super) fn is_overdue(&self) -> bool {
        self.standing.get() == Standing::Overdue
    }

    /// No answer is under way any longer.
    pub(super) fn end(&self) {
        self.standing.set(Standing::Idle);
        self.operation.set(None);
    }
}

impl Connection {
    /// Begins an answer that holds slices.
    pub(super) fn begin_writing(self: &Rc<Self>) {
        let writers = self.ring.writers();
        self.writing.standing.set(Standing::Moving { since: writers.looks.get() });
        if !self.writing.listed.replace(true) {
            writers.add(&self.ring, Rc::downgrade(self));
        }
    }

    /// Exchanges slices for copies of them.
    pub(super) async fn exchange(&self, pieces: Vec<SendPiece>) -> Vec<SendPiece> {
        self.writing.standing.set(Standing::Exchanged);
        // Hundreds of answers are found slow at one look. If all were copied at once, whoever else wants the core
        // would wait for a turn of each of them.
        let turn = BulkTurn::wait(&self.ring).await;
        let mut exchanged = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let SendPiece::Slice(slice) = piece else {
                exchanged.push(piece);
                continue;
            };
            for part in slice.chunks(SHORT_TURN_BYTES) {
                let copy = turn.part(|| Bytes::copy_from_slice(part)).await;
                exchanged.push(SendPiece::Bytes(copy));
            }
        }
        exchanged
    }

    /// Whether an answer with slices is still under way.
    fn look_after(&self, look: u64) -> bool {
        let since = match self.writing.standing.get() {
            Standing::Idle => {
                self.writing.listed.set(false);
                return false;
            }
            Standing::Overdue | Standing::Exchanged => return true,
            Standing::Moving { since } => since,
        };
        let acknowledged = self.acknowledged();
        let progress = acknowledged.saturating_sub(self.writing.acknowledged.replace(acknowledged));
        match self.writing.operation.get() {
            Some(operation) if progress < PROGRESS_BYTES => {
                if look - since >= LOOKS_MAX {
                    self.writing.standing.set(Standing::Overdue);
                    self.ring.driver().borrow_mut().cancel(operation);
                }
            }
            // It reads, or waits for our own core (`BulkTurn`) and not for its peer.
            _ => self.writing.standing.set(Standing::Moving { since: look }),
        }
        true
    }
}

/// The connections of a core that are sending slices.
#[derive(Default)]
pub(crate) struct Writers {
    connections: RefCell<Vec<Weak<Connection>>>,
    /// How often they were looked after.
    looks: Cell<u64>,
    sweeping: Cell<bool>,
}

impl Writers {
    fn add(&self, ring: &Ring, connection: Weak<Connection>) {
        self.connections.borrow_mut().push(connection);
        if !self.sweeping.replace(true) {
            let ring_of_task = ring.clone();
            ring.spawn(async move {
                let ring = ring_of_task;
                while ring.writers().sweep() {
                    ring.sleep(SWEEP_INTERVAL).await;
                }
                ring.writers().sweeping.set(false);
            });
        }
    }

    /// Looks after every connection once; whether any is left.
    fn sweep(&self) -> bool {
        let look = self.looks.get() + 1;
        self.looks.set(look);
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| connection.upgrade().is_some_and(|one| one.look_after(look)));
        !connections.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{pair, reactor};
    use super::*;
    use crate::Region;

    #[test]
    fn who_waits_for_our_own_core_is_not_slow() {
        let reactor = reactor();
        let ring = reactor.ring();
        reactor.run(async {
            let (socket, _peer) = pair(&ring).await;
            let connection = &socket.connection;
            connection.begin_writing();
            for look in 1..=3 * LOOKS_MAX {
                assert!(connection.look_after(look));
                assert!(!connection.writing.is_overdue(), "nothing was asked of the peer");
            }
            let polling = socket.start_poll(libc::POLLIN).expect("open");
            connection.writing.waits_for(Some(polling.key()));
            for look in 3 * LOOKS_MAX + 1..=4 * LOOKS_MAX {
                assert!(!connection.writing.is_overdue());
                assert!(connection.look_after(look));
            }
            assert!(connection.writing.is_overdue(), "the peer took nothing");
        });
    }

    #[test]
    fn slow_answers_are_exchanged_one_after_the_other_a_part_in_each_turn_of_the_reactor() {
        const PARTS: usize = 4;
        let reactor = reactor();
        let ring = reactor.ring();
        ring.keep_busy();
        reactor.run(async {
            let (one, other) = pair(&ring).await;
            let mut region = Region::on_heap(PARTS * SHORT_TURN_BYTES);
            let slice = region.append_with(PARTS * SHORT_TURN_BYTES, |_| ());
            let polls = ring.stats().polls;
            let exchanges = [one, other].map(|socket| {
                let slice = slice.clone();
                ring.spawn_with(async move { socket.connection.exchange(vec![slice.into()]).await })
            });
            for exchange in exchanges {
                let exchanged = exchange.await;
                assert_eq!(exchanged.len(), PARTS);
                assert!(exchanged.iter().all(|piece| matches!(piece, SendPiece::Bytes(_))));
            }
            let polls = ring.stats().polls - polls;
            assert!(polls > 100 * 2 * PARTS as u64, "{polls} polls");
        });
    }
}
