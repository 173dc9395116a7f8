//! Long work of one task, in turns: others of the core go on in between.

use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use flumen_engine::storage::Runtime;
use flumen_ring::{Ring, SLOW_POLL};

/// Work goes on for so long before others have their turn; what is done between two looks at the clock adds to it.
pub const TIME_SLICE: Duration = Duration::from_micros(200);

/// Where work is done in turns: on a core, or on one that is simulated.
pub trait Turning: Clone {
    /// For how long the running task has had its turn.
    fn turn_elapsed(&self) -> Duration;

    /// Lets the other tasks go on.
    fn yield_now(&self) -> impl Future<Output = ()>;
}

impl Turning for Ring {
    fn turn_elapsed(&self) -> Duration {
        self.turn_began().elapsed()
    }

    fn yield_now(&self) -> impl Future<Output = ()> {
        Ring::yield_now(self)
    }
}

impl Turning for Rc<dyn Runtime> {
    fn turn_elapsed(&self) -> Duration {
        self.monotonic().saturating_sub(Runtime::turn_began(&**self))
    }

    fn yield_now(&self) -> impl Future<Output = ()> {
        Runtime::yield_now(&**self)
    }
}

/// Parts long work of a task into turns: a request that may be of thousands of partitions.
#[derive(Debug)]
pub struct TimeSlice<C: Turning = Ring> {
    core: C,
}

impl<C: Turning> TimeSlice<C> {
    /// For a task of this core.
    pub fn of(core: &C) -> Self {
        Self { core: core.clone() }
    }

    /// To be awaited between two steps: lets others go on, if the task's turn was long enough. All that the task did in it
    /// counts, and nothing that it waited.
    pub async fn pause(&self) {
        if self.core.turn_elapsed() >= TIME_SLICE {
            self.core.yield_now().await;
        }
    }
}

/// What some work took of its core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Took {
    /// All of it.
    pub total: Duration,
    /// Its longest turn.
    pub longest: Duration,
    /// How many there were.
    pub turns: u32,
    /// How many of them were longer than a task's may be.
    pub slow: u32,
}

/// Does some work and says what it took, without what it waited. It stays where it is: a request's is large.
pub async fn measured<T>(mut work: Pin<&mut impl Future<Output = T>>) -> (T, Took) {
    let mut took = Took::default();
    std::future::poll_fn(|context| {
        let began = Instant::now();
        let polled = work.as_mut().poll(context);
        let turn = began.elapsed();
        took.total += turn;
        took.longest = took.longest.max(turn);
        took.turns += 1;
        took.slow += u32::from(turn > SLOW_POLL);
        match polled {
            Poll::Ready(output) => Poll::Ready((output, took)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;
    use std::rc::Rc;

    use flumen_ring::{Reactor, ReactorConfig};

    use super::*;

    /// Work of so many steps of 50 µs each; how many turns another task had meanwhile, and what the work took.
    fn turns_of_another(steps: usize) -> (usize, Took) {
        let reactor = Reactor::new(ReactorConfig::default()).expect("a reactor");
        let ring = reactor.ring();
        let turns = Rc::new(Cell::new(0));
        let (other, counted) = (ring.clone(), turns.clone());
        ring.spawn(async move {
            loop {
                counted.set(counted.get() + 1);
                other.yield_now().await;
            }
        });
        let work = pin!(async {
            let slice = TimeSlice::of(&ring);
            for _ in 0..steps {
                let began = Instant::now();
                while began.elapsed() < Duration::from_micros(50) {}
                slice.pause().await;
            }
        });
        let ((), took) = reactor.run(measured(work));
        (turns.get(), took)
    }

    #[test]
    fn what_came_before_the_first_step_counts() {
        let reactor = Reactor::new(ReactorConfig::default()).expect("a reactor");
        let ring = reactor.ring();
        reactor.run(async {
            let began = Instant::now();
            while began.elapsed() < TIME_SLICE {}
            let polls = ring.stats().polls;
            TimeSlice::of(&ring).pause().await;
            assert_eq!(ring.stats().polls, polls + 1, "others had their turn");
        });
    }

    #[test]
    fn others_go_on_amid_long_work() {
        assert!(turns_of_another(0).0 <= 1, "before the work began");
        let (turns, took) = turns_of_another(100);
        // Every fourth step ends a turn, or an earlier one where the machine was slow.
        assert!((20..=100).contains(&turns), "{turns}");
        assert!(took.total >= Duration::from_millis(5), "{took:?}");
        assert!(TIME_SLICE <= took.longest && took.longest < took.total / 2, "{took:?}");
    }
}
