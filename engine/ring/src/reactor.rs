//! The run loop of one core: run what is ready, submit, and sleep in `io_uring_enter` when nothing is.
//!
//! Nothing polls: an idle reactor sleeps until a completion, its first timer, or its doorbell, which is rung by
//! other threads only while it sleeps.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::doorbell::Doorbell;
use crate::driver::{Aftermath, Driver};
use crate::error::SetupError;
use crate::executor::{Executor, JoinHandle, Polled};
use crate::socket::{Bulk, PinnedConnections, Writers};
use crate::timer::{Sleep, Timers};

/// A poll longer than this is counted: tasks yield before.
pub const SLOW_POLL: Duration = Duration::from_micros(500);

/// Polls between two looks at the kernel, so that busy tasks do not starve completions.
const POLLS_PER_TURN: usize = 128;

/// How a reactor is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReactorConfig {
    /// Entries of the submission queue, rounded up to a power of two; the completion queue has four times as
    /// many. More operations than that may be under way.
    pub entries: u32,
}

impl Default for ReactorConfig {
    fn default() -> Self {
        Self { entries: 512 }
    }
}

/// What a reactor counted since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReactorStats {
    /// Turns of tasks.
    pub polls: u64,
    /// Turns that took longer than [`SLOW_POLL`].
    pub slow_polls: u64,
    /// The longest turn, in microseconds.
    pub longest_poll_us: u64,
    /// How often the reactor slept.
    pub sleeps: u64,
    /// Tasks that have not ended.
    pub tasks: usize,
}

/// Something besides operations and timers that a task of this core waits for: a mailbox.
pub(crate) trait Source {
    /// Whether a task waits here and can go on.
    fn is_ready(&self) -> bool;
    /// Wakes that task.
    fn wake(&self);
}

#[derive(Default)]
struct Counters {
    polls: Cell<u64>,
    slow_polls: Cell<u64>,
    longest_poll: Cell<Duration>,
    sleeps: Cell<u64>,
}

struct Shared {
    // Before the bell, which it reads from: fields drop in this order.
    driver: RefCell<Driver>,
    timers: Timers,
    executor: Executor,
    /// When the turn of the task that runs began.
    turn_began: Cell<Instant>,
    sources: RefCell<Vec<Rc<dyn Source>>>,
    bell: Arc<Doorbell>,
    pinned: PinnedConnections,
    writers: Writers,
    bulk: Bulk,
    counters: Counters,
    leisure: RefCell<LeisureState>,
    timer_number: Cell<u64>,
}

/// Whether a task waits for the core to have nothing else to do.
#[derive(Default)]
enum LeisureState {
    #[default]
    Unwanted,
    /// Until then at most.
    Awaited(Waker, Instant),
    Come,
}

/// The wait of [`Ring::leisure`].
pub(crate) struct Leisure<'a> {
    state: &'a RefCell<LeisureState>,
    until: Instant,
}

/// The reactor of one thread. Dropping it drops its tasks.
pub struct Reactor {
    ring: Ring,
}

/// A handle to the reactor of this thread: cheap to clone, and it never leaves its thread.
#[derive(Clone)]
pub struct Ring {
    shared: Rc<Shared>,
    _not_send: PhantomData<*const ()>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({} tasks)", self.shared.executor.task_count())
    }
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reactor({} tasks)", self.ring.shared.executor.task_count())
    }
}

impl Reactor {
    /// Sets up a ring for the calling thread, which must be the one that runs it.
    pub fn new(config: ReactorConfig) -> Result<Self, SetupError> {
        let bell =
            Arc::new(Doorbell::new().map_err(|source| SetupError::System { call: "eventfd", source })?);
        let driver = RefCell::new(Driver::new(config.entries, bell.descriptor())?);
        let shared = Shared {
            driver,
            timers: Timers::default(),
            executor: Executor::new(bell.clone()),
            turn_began: Cell::new(Instant::now()),
            sources: RefCell::default(),
            bell,
            pinned: PinnedConnections::default(),
            writers: Writers::default(),
            bulk: Bulk::default(),
            counters: Counters::default(),
            leisure: RefCell::default(),
            timer_number: Cell::new(0),
        };
        Ok(Self { ring: Ring { shared: Rc::new(shared), _not_send: PhantomData } })
    }

    /// The handle that tasks work with.
    pub fn ring(&self) -> Ring {
        self.ring.clone()
    }

    /// Runs `future` to its end, and the spawned tasks meanwhile. May be called again afterwards.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        let shared = &*self.ring.shared;
        let mut future = pin!(future);
        let waker = shared.executor.main_waker();
        let mut context = Context::from_waker(&waker);
        waker.wake_by_ref();
        let mut aftermath = Aftermath::default();
        loop {
            if let Some(output) = shared.run_tasks(&mut || future.as_mut().poll(&mut context)) {
                return output;
            }
            if !shared.timers.is_empty() || shared.is_leisure_awaited() {
                let now = Instant::now();
                shared.timers.fire(now);
                shared.end_wait_for_leisure(now);
            }
            shared.wake_waiting();
            let idle = shared.executor.is_idle();
            let sleep = idle && !shared.is_leisure_awaited() && shared.may_sleep();
            let deadline = if sleep { shared.timers.next_deadline() } else { None };
            shared.driver.borrow_mut().turn(sleep, deadline, &mut aftermath);
            shared.bell.flag().awake();
            aftermath.run();
            if idle && shared.executor.is_idle() {
                shared.grant_leisure();
            }
        }
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        // Tasks hold handles to the ring, which holds the tasks: part them.
        self.ring.shared.executor.clear();
        self.ring.shared.timers.clear();
        self.ring.shared.sources.borrow_mut().clear();
    }
}

impl Shared {
    /// Gives woken tasks their turns, and the main future its own; its output if it has one.
    fn run_tasks<T>(&self, main: &mut dyn FnMut() -> Poll<T>) -> Option<T> {
        if self.executor.is_idle() {
            return None;
        }
        let began = Instant::now();
        let mut started = began;
        for _ in 0..POLLS_PER_TURN {
            self.turn_began.set(started);
            let output = match self.executor.poll_next() {
                Polled::Nothing => return None,
                Polled::Task => Poll::Pending,
                Polled::Main => main(),
            };
            let ended = Instant::now();
            self.counters.count_poll(ended - started);
            started = ended;
            if let Poll::Ready(output) = output {
                return Some(output);
            }
            if ended - began > SLOW_POLL {
                // Who yields amid long work lets the kernel's answers come, too.
                return None;
            }
        }
        None
    }

    fn wake_waiting(&self) {
        self.executor.take_foreign_wakes();
        // By index: a waker may register another source.
        let mut index = 0;
        loop {
            let Some(source) = self.sources.borrow().get(index).filter(|source| source.is_ready()).cloned()
            else {
                if index >= self.sources.borrow().len() {
                    return;
                }
                index += 1;
                continue;
            };
            source.wake();
            index += 1;
        }
    }

    fn is_leisure_awaited(&self) -> bool {
        matches!(*self.leisure.borrow(), LeisureState::Awaited(..))
    }

    fn grant_leisure(&self) {
        if self.is_leisure_awaited()
            && let LeisureState::Awaited(waker, _) = self.leisure.replace(LeisureState::Come)
        {
            waker.wake();
        }
    }

    /// There may be something else to do for ever.
    fn end_wait_for_leisure(&self, now: Instant) {
        let is_over = matches!(&*self.leisure.borrow(), LeisureState::Awaited(_, until) if *until <= now);
        if is_over {
            self.grant_leisure();
        }
    }

    /// Announces the sleep, then looks a last time at what other threads may have left here.
    fn may_sleep(&self) -> bool {
        self.bell.flag().announce();
        let waiting =
            self.executor.has_foreign_wakes() || self.sources.borrow().iter().any(|source| source.is_ready());
        if waiting {
            self.bell.flag().awake();
        } else {
            self.counters.sleeps.set(self.counters.sleeps.get() + 1);
        }
        !waiting
    }
}

impl Future for Leisure<'_> {
    type Output = ();
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.borrow_mut();
        if matches!(*state, LeisureState::Come) {
            *state = LeisureState::Unwanted;
            return Poll::Ready(());
        }
        *state = LeisureState::Awaited(context.waker().clone(), self.until);
        Poll::Pending
    }
}

impl Drop for Leisure<'_> {
    fn drop(&mut self) {
        self.state.replace(LeisureState::Unwanted);
    }
}

impl Counters {
    fn count_poll(&self, took: Duration) {
        self.polls.set(self.polls.get() + 1);
        if took > SLOW_POLL {
            self.slow_polls.set(self.slow_polls.get() + 1);
        }
        if took > self.longest_poll.get() {
            self.longest_poll.set(took);
        }
    }
}

impl Ring {
    /// Runs `future` on this core until it ends, or the reactor is dropped.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.shared.executor.spawn(Box::pin(future));
    }

    /// As [`Ring::spawn`], for a future with an output that somebody may wait for.
    pub fn spawn_with<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        let (handle, task) = JoinHandle::wrap(future);
        self.shared.executor.spawn(task);
        handle
    }

    /// The monotonic clock.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// The monotonic clock when this turn of the running task began: for times that need not be more exact, without a
    /// look at the clock.
    pub fn turn_began(&self) -> Instant {
        self.shared.turn_began.get()
    }

    /// Completes no sooner than `duration` from now.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(Instant::now() + duration)
    }

    /// Completes no sooner than `deadline`.
    pub fn sleep_until(&self, deadline: Instant) -> Sleep {
        Sleep::new(self.clone(), deadline)
    }

    /// The output of `future`, or `None` if `duration` passes first; the future is dropped then.
    pub async fn timeout<F: Future>(&self, duration: Duration, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut sleep = pin!(self.sleep(duration));
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            sleep.as_mut().poll(context).map(|()| None)
        })
        .await
    }

    /// Completes after every other ready task had its turn.
    pub fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        let mut yielded = false;
        poll_fn(move |context| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    /// Completes when the core has nothing else to do: every ready task had its turn, and what the kernel had done was
    /// looked at; or at `until`, if there is always something. Whoever waits for it keeps the core from sleeping, not
    /// from working. One task at a time.
    pub(crate) fn leisure(&self, until: Instant) -> Leisure<'_> {
        Leisure { state: &self.shared.leisure, until }
    }

    /// What was counted since the start.
    pub fn stats(&self) -> ReactorStats {
        let counters = &self.shared.counters;
        ReactorStats {
            polls: counters.polls.get(),
            slow_polls: counters.slow_polls.get(),
            longest_poll_us: u64::try_from(counters.longest_poll.get().as_micros()).unwrap_or(u64::MAX),
            sleeps: counters.sleeps.get(),
            tasks: self.shared.executor.task_count(),
        }
    }

    pub(crate) fn driver(&self) -> &RefCell<Driver> {
        &self.shared.driver
    }

    pub(crate) fn timers(&self) -> &Timers {
        &self.shared.timers
    }

    pub(crate) fn pinned(&self) -> &PinnedConnections {
        &self.shared.pinned
    }

    pub(crate) fn writers(&self) -> &Writers {
        &self.shared.writers
    }

    pub(crate) fn bulk(&self) -> &Bulk {
        &self.shared.bulk
    }

    pub(crate) fn bell(&self) -> &Arc<Doorbell> {
        &self.shared.bell
    }

    pub(crate) fn next_timer_number(&self) -> u64 {
        let number = self.shared.timer_number.get() + 1;
        self.shared.timer_number.set(number);
        number
    }

    pub(crate) fn add_source(&self, source: Rc<dyn Source>) {
        self.shared.sources.borrow_mut().push(source);
    }

    pub(crate) fn remove_source(&self, source: &Rc<dyn Source>) {
        self.shared.sources.borrow_mut().retain(|other| !Rc::ptr_eq(other, source));
    }
}

#[cfg(test)]
impl Ring {
    /// From now on some task is always ready, so that a turn of the reactor has many polls.
    pub(crate) fn keep_busy(&self) {
        let ring = self.clone();
        self.spawn(async move {
            loop {
                ring.yield_now().await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reactor() -> Reactor {
        Reactor::new(ReactorConfig::default()).expect("a reactor")
    }

    #[test]
    fn tasks_run_in_the_order_they_were_woken() {
        let reactor = reactor();
        let ring = reactor.ring();
        let order = Rc::new(RefCell::new(Vec::new()));
        for number in 0..3 {
            let (order, yielding) = (order.clone(), ring.clone());
            ring.spawn(async move {
                order.borrow_mut().push(number);
                yielding.yield_now().await;
                order.borrow_mut().push(number + 10);
            });
        }
        let last = ring.spawn_with(async { 5 });
        assert_eq!(reactor.run(last), 5);
        reactor.run(ring.yield_now());
        assert_eq!(*order.borrow(), [0, 1, 2, 10, 11, 12]);
        assert_eq!(ring.stats().tasks, 0);
    }

    #[test]
    fn a_timer_fires_amid_the_turns_of_long_work() {
        let reactor = reactor();
        let ring = reactor.ring();
        let fired = Rc::new(Cell::new(false));
        let (timer, done) = (ring.clone(), fired.clone());
        ring.spawn(async move {
            // The timer is what is looked at: nobody waits for it.
            timer.sleep(Duration::from_millis(1)).await;
            done.set(true);
        });
        reactor.run(async {
            let began = Instant::now();
            for _ in 0..POLLS_PER_TURN / 2 {
                let turn = Instant::now();
                while turn.elapsed() < Duration::from_micros(200) {}
                ring.yield_now().await;
                if fired.get() {
                    break;
                }
            }
            assert!(fired.get(), "not after {:?} of work", began.elapsed());
        });
    }

    #[test]
    fn leisure_comes_behind_everything_that_is_ready() {
        let reactor = reactor();
        let ring = reactor.ring();
        let yields = Rc::new(Cell::new(0));
        ring.spawn({
            let (ring, yields) = (ring.clone(), yields.clone());
            async move {
                for _ in 0..3 * POLLS_PER_TURN {
                    ring.yield_now().await;
                    yields.set(yields.get() + 1);
                }
            }
        });
        let late = Instant::now() + Duration::from_secs(3600);
        reactor.run(ring.leisure(late));
        assert_eq!(yields.get(), 3 * POLLS_PER_TURN);
        ring.keep_busy();
        let waited = reactor.run(ring.timeout(Duration::from_millis(20), ring.leisure(late)));
        assert!(waited.is_none(), "there is always something to do");
        let soon = Instant::now() + Duration::from_millis(5);
        reactor.run(ring.leisure(soon));
        assert!(Instant::now() >= soon, "not before its time");
    }

    #[test]
    fn who_waits_for_leisure_keeps_the_reactor_from_sleep() {
        let reactor = reactor();
        let ring = reactor.ring();
        let started = Instant::now();
        let sleeps = ring.stats().sleeps;
        let late = started + Duration::from_secs(3600);
        reactor.run(async {
            for _ in 0..100 {
                ring.leisure(late).await;
            }
        });
        assert_eq!(ring.stats().sleeps, sleeps);
        assert!(started.elapsed() < Duration::from_secs(1));
        // Asked for, and given up: no reason to stay awake.
        reactor.run(async {
            let mut leisure = pin!(ring.leisure(late));
            poll_fn(|context| {
                assert!(leisure.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
        });
        let polls = ring.stats().polls;
        // How often the core wakes in that time is what is looked at.
        reactor.run(ring.sleep(Duration::from_millis(20)));
        let stats = ring.stats();
        assert!((1..=3).contains(&(stats.sleeps - sleeps)), "{stats:?}");
        assert!(stats.polls - polls <= 3, "{stats:?}");
    }

    #[test]
    fn the_time_of_a_turn_is_that_of_its_begin() {
        let reactor = reactor();
        let ring = reactor.ring();
        reactor.run(async {
            let first = ring.turn_began();
            let amid = Instant::now();
            assert!(first <= amid);
            ring.yield_now().await;
            assert!(ring.turn_began() >= amid, "it is another one");
        });
    }

    #[test]
    fn timers_fire_in_order_and_never_early() {
        let reactor = reactor();
        let ring = reactor.ring();
        let order = Rc::new(RefCell::new(Vec::new()));
        let started = ring.now();
        let sleepers: Vec<_> = [30, 10, 20]
            .into_iter()
            .map(|milliseconds| {
                let (sleep, order) =
                    (ring.sleep_until(started + Duration::from_millis(milliseconds)), order.clone());
                ring.spawn_with(async move {
                    sleep.await;
                    order.borrow_mut().push((milliseconds, started.elapsed()));
                })
            })
            .collect();
        reactor.run(async {
            for sleeper in sleepers {
                sleeper.await;
            }
        });
        let order = order.borrow();
        assert_eq!(order.iter().map(|(milliseconds, _)| *milliseconds).collect::<Vec<_>>(), [10, 20, 30]);
        assert!(order.iter().all(|(planned, elapsed)| *elapsed >= Duration::from_millis(*planned)));
    }

    #[test]
    fn an_idle_reactor_sleeps() {
        let reactor = reactor();
        let ring = reactor.ring();
        let before = ring.stats();
        let deadline = ring.now() + Duration::from_millis(50);
        reactor.run(ring.sleep_until(deadline));
        let after = ring.stats();
        assert!(after.sleeps - before.sleeps <= 3, "{before:?} {after:?}");
        assert!(after.polls - before.polls <= 3, "{before:?} {after:?}");
    }

    #[test]
    fn a_timeout_drops_what_is_late() {
        let reactor = reactor();
        let ring = reactor.ring();
        assert_eq!(reactor.run(ring.timeout(Duration::from_millis(1), std::future::pending::<()>())), None);
        assert_eq!(reactor.run(ring.timeout(Duration::from_secs(60), async { 3 })), Some(3));
        assert!(ring.timers().is_empty());
    }

    #[test]
    fn long_turns_are_counted() {
        let reactor = reactor();
        reactor.run(async {
            let started = Instant::now();
            while started.elapsed() < SLOW_POLL * 2 {
                std::hint::spin_loop();
            }
        });
        reactor.run(async {});
        let ring = reactor.ring();
        ring.spawn(async {});
        reactor.run(ring.yield_now());
        assert!(ring.stats().slow_polls >= 1);
        assert!(ring.stats().longest_poll_us >= 1000);
    }

    #[test]
    fn many_rings_fit_in_a_process() {
        let reactors: Vec<_> = (0..24).map(|_| reactor()).collect();
        for reactor in &reactors {
            let soon = Instant::now() + Duration::from_micros(10);
            reactor.run(reactor.ring().sleep_until(soon));
        }
    }

    #[test]
    fn a_wake_from_another_thread_reaches_a_sleeper() {
        let reactor = reactor();
        let (to_thread, from_task) = std::sync::mpsc::channel::<std::task::Waker>();
        let woken = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let flag = woken.clone();
        let thread = std::thread::spawn(move || {
            for waker in from_task {
                flag.store(true, std::sync::atomic::Ordering::Release);
                waker.wake();
            }
        });
        for _ in 0..1000 {
            woken.store(false, std::sync::atomic::Ordering::Release);
            let mut sent = false;
            reactor.run(poll_fn(|context| {
                if woken.load(std::sync::atomic::Ordering::Acquire) {
                    return Poll::Ready(());
                }
                if !sent {
                    sent = true;
                    to_thread.send(context.waker().clone()).expect("the thread listens");
                }
                Poll::Pending
            }));
        }
        drop(to_thread);
        thread.join().expect("no panic");
    }
}
