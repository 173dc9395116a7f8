//! Whose turn it is on a core to move many bytes, and when.
//!
//! A copy of some hundred KiB takes as long as a dozen small requests. So one connection of a core makes one at a time,
//! and it comes last: when the core has nothing else to do, or, where there is always something, so seldom that at most
//! a fifth of the time goes into it. Peers that read much take what the others leave, and never less than that.

use std::cell::Cell;
use std::time::Instant;

use crate::gate::{Turn, TurnGuard};
use crate::reactor::Ring;

/// Bytes sent by copy before others have their turn: some hundred microseconds. Shorter turns cost more for each byte.
const COPY_TURN_BYTES: usize = 1 << 20;

/// The same where other connections have sent small answers meanwhile, whose peers wait for each turn; and where longer
/// turns save nothing.
pub(super) const SHORT_TURN_BYTES: usize = 256 << 10;

/// For how many times as long as a turn took the next one waits while there is something else to do.
const REST: u32 = 4;

/// What the connections of a core know of each other's large answers.
#[derive(Default)]
pub(crate) struct Bulk {
    turn: Turn,
    /// A small answer was sent since somebody last had that turn.
    small: Cell<bool>,
    /// Until then a turn waits for the core to have nothing else to do.
    rests_until: Cell<Option<Instant>>,
}

/// The right to move many bytes, a part at a time. Others wait until it is dropped.
pub(super) struct BulkTurn {
    ring: Ring,
    _guard: TurnGuard,
}

impl Bulk {
    /// Notes that a small answer is sent.
    pub(super) fn note_small(&self) {
        self.small.set(true);
    }

    /// How many bytes may be copied in one part.
    pub(super) fn copy_bytes(&self) -> usize {
        if self.small.replace(false) { SHORT_TURN_BYTES } else { COPY_TURN_BYTES }
    }

    fn note_part(&self, started: Instant, ended: Instant) {
        self.rests_until.set(Some(ended + (ended - started) * REST));
    }
}

impl BulkTurn {
    /// Waits behind everybody who came before.
    pub(super) async fn wait(ring: &Ring) -> Self {
        let guard = ring.bulk().turn.take().await;
        Self { ring: ring.clone(), _guard: guard }
    }

    /// Moves one part of the bytes when it is time to.
    pub(super) async fn part<T>(&self, work: impl FnOnce() -> T) -> T {
        self.rested().await;
        let started = Instant::now();
        let output = work();
        self.ring.bulk().note_part(started, Instant::now());
        output
    }

    async fn rested(&self) {
        let Some(rests_until) = self.ring.bulk().rests_until.get() else { return };
        if rests_until > self.ring.turn_began() {
            self.ring.leisure(rests_until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use super::super::tests::reactor;
    use super::*;

    #[test]
    fn a_shorter_part_after_a_small_answer() {
        let bulk = Bulk::default();
        assert_eq!(bulk.copy_bytes(), COPY_TURN_BYTES);
        bulk.note_small();
        assert_eq!(bulk.copy_bytes(), SHORT_TURN_BYTES);
        assert_eq!(bulk.copy_bytes(), COPY_TURN_BYTES, "none since");
    }

    fn work_for(duration: Duration) {
        let ends = Instant::now() + duration;
        while Instant::now() < ends {}
    }

    /// Parts of a millisecond, as many as there is time for; how many there were in `time`.
    fn parts_in(time: Duration, is_busy: bool) -> u32 {
        let reactor = reactor();
        let ring = reactor.ring();
        if is_busy {
            ring.keep_busy();
        }
        let parts = Rc::new(Cell::new(0));
        ring.spawn({
            let (ring, parts) = (ring.clone(), parts.clone());
            async move {
                loop {
                    let turn = BulkTurn::wait(&ring).await;
                    turn.part(|| work_for(Duration::from_millis(1))).await;
                    parts.set(parts.get() + 1);
                }
            }
        });
        reactor.run(ring.sleep(time));
        parts.get()
    }

    #[test]
    fn beside_other_work_the_bytes_have_a_fifth_of_the_time() {
        // Whatever else the machine does, a part rests for four times as long as it took.
        let parts = parts_in(Duration::from_millis(200), true);
        assert!((2..=41).contains(&parts), "{parts}");
    }

    #[test]
    fn with_nothing_else_to_do_they_have_all_of_it() {
        let beside = parts_in(Duration::from_millis(200), true);
        let alone = parts_in(Duration::from_millis(200), false);
        assert!(alone > 2 * beside, "{alone} alone, {beside} beside others");
    }

    #[test]
    fn turns_come_in_order_and_an_idle_core_sleeps_behind_them() {
        let reactor = reactor();
        let ring = reactor.ring();
        let order = Rc::new(std::cell::RefCell::new(Vec::new()));
        let working = [0, 1, 2].map(|number| {
            let (ring, order) = (ring.clone(), order.clone());
            ring.clone().spawn_with(async move {
                let turn = BulkTurn::wait(&ring).await;
                for _ in 0..2 {
                    turn.part(|| order.borrow_mut().push(number)).await;
                }
            })
        });
        working.into_iter().for_each(|work| reactor.run(work));
        assert_eq!(*order.borrow(), [0, 0, 1, 1, 2, 2]);
        let sleeps = ring.stats().sleeps;
        // How often the core wakes in that time is what is looked at.
        reactor.run(ring.sleep(Duration::from_millis(20)));
        assert!((1..10).contains(&(ring.stats().sleeps - sleeps)));
    }
}
