//! Tasks and time of the simulation.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;

use super::random::Random;
use crate::storage::{Pending, Runtime};

/// Why [`SimRuntime::run`] ended without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The power was cut.
    #[error("the power was cut")]
    Crashed,
    /// No task is ready, and nothing is under way that could make one ready.
    #[error("every task waits for another")]
    Deadlock,
    /// More turns than any sound history takes.
    #[error("the tasks go on for ever")]
    Endless,
    /// The observer saw what must not be.
    #[error("the observer objected")]
    Objected,
}

/// Turns of one [`SimRuntime::run`] after which it is taken for endless.
const TURNS_MAX: u64 = 20_000_000;
/// Virtual time after which a life is taken for endless.
const LIFE_MAX: Duration = Duration::from_secs(4 * 3600);

/// One life of a process, from start to stop or crash. Dropping its tasks is what the crash does to memory.
pub struct SimRuntime {
    tasks: RefCell<Vec<Option<LocalBoxFuture<'static, ()>>>>,
    ready: Arc<Ready>,
    events: RefCell<BinaryHeap<Reverse<Event>>>,
    events_scheduled: Cell<u64>,
    now: Cell<Duration>,
    wall_start_ms: Cell<i64>,
    random: RefCell<Random>,
    crashed: Cell<bool>,
    observer: RefCell<Option<Observer>>,
}

/// Looks at the world between any two steps; `false` ends the history.
type Observer = Box<dyn FnMut() -> bool>;

/// The task that [`SimRuntime::run`] was given; the spawned ones follow.
const MAIN_TASK: usize = usize::MAX;

/// Tasks that were woken since they were polled last.
#[derive(Default)]
struct Ready {
    tasks: Mutex<Vec<usize>>,
}

struct TaskWaker {
    task: usize,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut tasks = self.ready.tasks.lock().expect("no holder of the lock panics");
        if !tasks.contains(&self.task) {
            tasks.push(self.task);
        }
    }
}

/// Something that happens at a moment of virtual time; `order` keeps equal moments in the order of their making.
struct Event {
    at: Duration,
    order: u64,
    action: Box<dyn FnOnce()>,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl SimRuntime {
    /// A life that begins at `wall_start_ms` on the wall clock and follows `random`.
    pub fn new(random: Random, wall_start_ms: i64) -> Rc<Self> {
        Rc::new(Self {
            tasks: RefCell::default(),
            ready: Arc::default(),
            events: RefCell::default(),
            events_scheduled: Cell::new(0),
            now: Cell::new(Duration::ZERO),
            wall_start_ms: Cell::new(wall_start_ms),
            random: RefCell::new(random),
            crashed: Cell::new(false),
            observer: RefCell::new(None),
        })
    }

    /// Runs `main` and every task until `main` completes. Tasks that are left stay, and go on at the next call.
    pub fn run<T>(&self, main: impl Future<Output = T>) -> Result<T, Stopped> {
        let mut main = pin!(main);
        self.wake(MAIN_TASK);
        for _ in 0..TURNS_MAX {
            if self.crashed.get() {
                return Err(Stopped::Crashed);
            }
            if self.observer.borrow_mut().as_mut().is_some_and(|is_sound| !is_sound()) {
                return Err(Stopped::Objected);
            }
            let Some(task) = self.pick_ready() else {
                let next = self.events.borrow_mut().pop();
                let Some(Reverse(event)) = next else { return Err(Stopped::Deadlock) };
                self.now.set(self.now.get().max(event.at));
                if self.now.get() > LIFE_MAX {
                    return Err(Stopped::Endless);
                }
                (event.action)();
                continue;
            };
            let waker = Waker::from(Arc::new(TaskWaker { task, ready: self.ready.clone() }));
            let mut context = Context::from_waker(&waker);
            if task == MAIN_TASK {
                if let Poll::Ready(output) = main.as_mut().poll(&mut context) {
                    return if self.crashed.get() { Err(Stopped::Crashed) } else { Ok(output) };
                }
                continue;
            }
            // The task is out of the table while it runs, so that it may spawn others.
            let Some(mut future) = self.tasks.borrow_mut()[task].take() else { continue };
            if future.as_mut().poll(&mut context).is_pending() {
                self.tasks.borrow_mut()[task] = Some(future);
            }
        }
        Err(Stopped::Endless)
    }

    /// Cuts the power: [`SimRuntime::run`] ends before anything else happens.
    pub fn crash(&self) {
        self.crashed.set(true);
    }

    /// Calls `is_sound` between any two steps from now on; the first `false` ends [`SimRuntime::run`].
    pub fn observe(&self, is_sound: impl FnMut() -> bool + 'static) {
        *self.observer.borrow_mut() = Some(Box::new(is_sound));
    }

    /// Whether the power was cut.
    pub fn is_crashed(&self) -> bool {
        self.crashed.get()
    }

    /// Forgets every task, as a crash does. The caller does so before it looks at the disk.
    pub fn drop_tasks(&self) {
        // Dropping a task may drop the last handle of what schedules others: so never within a borrow.
        let observer = self.observer.take();
        drop(observer);
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
        let events = std::mem::take(&mut *self.events.borrow_mut());
        drop(events);
    }

    /// Moves the wall clock by `by_ms`, also back; the monotonic clock does not notice.
    pub fn step_wall_clock(&self, by_ms: i64) {
        self.wall_start_ms.set(self.wall_start_ms.get() + by_ms);
    }

    /// Lets chance decide something of the world outside of the engine.
    pub fn with_random<T>(&self, decide: impl FnOnce(&mut Random) -> T) -> T {
        decide(&mut self.random.borrow_mut())
    }

    /// Does `action` after `delay`.
    pub(super) fn schedule(&self, delay: Duration, action: impl FnOnce() + 'static) {
        let order = self.events_scheduled.get();
        self.events_scheduled.set(order + 1);
        let event = Event { at: self.now.get() + delay, order, action: Box::new(action) };
        self.events.borrow_mut().push(Reverse(event));
    }

    fn wake(&self, task: usize) {
        Arc::new(TaskWaker { task, ready: self.ready.clone() }).wake();
    }

    fn pick_ready(&self) -> Option<usize> {
        let mut ready = self.ready.tasks.lock().expect("no holder of the lock panics");
        if ready.is_empty() {
            return None;
        }
        let index = self.random.borrow_mut().index(ready.len());
        Some(ready.swap_remove(index))
    }
}

impl Runtime for SimRuntime {
    fn spawn(&self, task: Pending<()>) {
        let mut tasks = self.tasks.borrow_mut();
        tasks.push(Some(task));
        let index = tasks.len() - 1;
        drop(tasks);
        self.wake(index);
    }

    fn monotonic(&self) -> Duration {
        self.now.get()
    }

    fn wall_ms(&self) -> i64 {
        self.wall_start_ms.get() + self.now.get().as_millis() as i64
    }

    fn sleep(&self, duration: Duration) -> Pending<()> {
        let (sender, receiver) = one_shot();
        self.schedule(duration, move || sender.send(()));
        receiver
    }

    fn yield_now(&self) -> Pending<()> {
        let mut yielded = false;
        Box::pin(poll_fn(move |context| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }))
    }

    fn random(&self) -> u64 {
        self.random.borrow_mut().bits()
    }
}

/// A value that arrives later, once.
pub(super) struct Sender<T> {
    slot: Rc<Slot<T>>,
}

struct Slot<T> {
    value: Cell<Option<T>>,
    waker: Cell<Option<Waker>>,
}

pub(super) fn one_shot<T: 'static>() -> (Sender<T>, Pending<T>) {
    let slot = Rc::new(Slot { value: Cell::new(None), waker: Cell::new(None) });
    let sender = Sender { slot: slot.clone() };
    let receiver = Box::pin(poll_fn(move |context| match slot.value.take() {
        Some(value) => Poll::Ready(value),
        None => {
            slot.waker.set(Some(context.waker().clone()));
            Poll::Pending
        }
    }));
    (sender, receiver)
}

impl<T> Sender<T> {
    pub(super) fn send(self, value: T) {
        self.slot.value.set(Some(value));
        if let Some(waker) = self.slot.waker.take() {
            waker.wake();
        }
    }
}
