//! Tasks of one core: a first-in first-out run queue, polled on one thread.
//!
//! A waker is `Send + Sync` by Rust's contract. On the reactor's own thread it pushes to the run queue; on any
//! other it goes through a locked list and the core's doorbell. So wakes within a core cost no lock, and a
//! foreign one (the helper thread's answer) is sound.

use std::cell::{RefCell, UnsafeCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::doorbell::Doorbell;

/// A number for this thread that no other thread of the process ever has.
fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    // A waker may be called while the thread's locals are being destroyed: such a wake counts as foreign.
    NUMBER.try_with(|number| *number).unwrap_or(0)
}

/// Where woken tasks queue up. Shared with every waker.
pub(crate) struct RunQueue {
    thread: u64,
    /// Invariant: touched on thread `thread` only, and never across a call to foreign code.
    local: UnsafeCell<VecDeque<Arc<TaskHandle>>>,
    foreign: Mutex<Vec<Arc<TaskHandle>>>,
    has_foreign: AtomicBool,
    bell: Arc<Doorbell>,
}

// SAFETY: `local` is the only part that is not `Sync`, and it is touched on its own thread only.
unsafe impl Sync for RunQueue {}
// SAFETY: as above; the handles inside are `Send`.
unsafe impl Send for RunQueue {}

impl RunQueue {
    fn new(bell: Arc<Doorbell>) -> Self {
        Self {
            thread: thread_number(),
            local: UnsafeCell::new(VecDeque::with_capacity(256)),
            foreign: Mutex::new(Vec::new()),
            has_foreign: AtomicBool::new(false),
            bell,
        }
    }

    fn push(&self, handle: Arc<TaskHandle>) {
        if thread_number() == self.thread {
            // SAFETY: on the owning thread, and `push_back` calls nothing that comes back here.
            unsafe { (*self.local.get()).push_back(handle) };
            return;
        }
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
        self.has_foreign.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// The next woken task. On the owning thread only: the executor is not `Send`.
    fn pop(&self) -> Option<Arc<TaskHandle>> {
        debug_assert_eq!(thread_number(), self.thread);
        // SAFETY: the caller is the executor, on the owning thread; `pop_front` calls nothing that comes back.
        unsafe { (*self.local.get()).pop_front() }
    }

    fn is_empty(&self) -> bool {
        // SAFETY: as in `pop`.
        unsafe { (*self.local.get()).is_empty() }
    }

    fn has_foreign(&self) -> bool {
        self.has_foreign.load(Ordering::Acquire)
    }

    fn take_foreign(&self) {
        if self.has_foreign() {
            self.has_foreign.store(false, Ordering::Relaxed);
            let woken = std::mem::take(&mut *self.foreign.lock().unwrap_or_else(PoisonError::into_inner));
            for handle in woken {
                self.push(handle);
            }
        }
    }
}

/// What the wakers of a task share.
pub(crate) struct TaskHandle {
    queued: AtomicBool,
    key: TaskKey,
    queue: Arc<RunQueue>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TaskKey {
    /// The future that `Reactor::run` was given.
    Main,
    Spawned {
        index: usize,
        generation: u64,
    },
}

impl Wake for TaskHandle {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let queue = self.queue.clone();
            queue.push(self);
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.queue.push(self.clone());
        }
    }
}

type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    generation: u64,
    /// `None` while it is being polled.
    future: Option<LocalFuture>,
    waker: Waker,
}

#[derive(Default)]
struct Tasks {
    slots: Vec<Option<Task>>,
    free: Vec<usize>,
    generation: u64,
}

/// The tasks of one core.
pub(crate) struct Executor {
    tasks: RefCell<Tasks>,
    queue: Arc<RunQueue>,
    main: Arc<TaskHandle>,
}

/// What the executor polled.
pub(crate) enum Polled {
    /// The queue was empty.
    Nothing,
    /// A spawned task had its turn.
    Task,
    /// The main future was woken: the reactor polls it.
    Main,
}

impl Executor {
    pub(crate) fn new(bell: Arc<Doorbell>) -> Self {
        let queue = Arc::new(RunQueue::new(bell));
        let main =
            Arc::new(TaskHandle { queued: AtomicBool::new(false), key: TaskKey::Main, queue: queue.clone() });
        Self { tasks: RefCell::default(), queue, main }
    }

    pub(crate) fn main_waker(&self) -> Waker {
        Waker::from(self.main.clone())
    }

    pub(crate) fn spawn(&self, future: LocalFuture) {
        let mut tasks = self.tasks.borrow_mut();
        tasks.generation += 1;
        let generation = tasks.generation;
        let index = tasks.free.pop().unwrap_or(tasks.slots.len());
        let handle = Arc::new(TaskHandle {
            queued: AtomicBool::new(true),
            key: TaskKey::Spawned { index, generation },
            queue: self.queue.clone(),
        });
        let task = Task { generation, future: Some(future), waker: Waker::from(handle.clone()) };
        if index == tasks.slots.len() {
            tasks.slots.push(Some(task));
        } else {
            tasks.slots[index] = Some(task);
        }
        drop(tasks);
        self.queue.push(handle);
    }

    /// How many tasks have not ended.
    pub(crate) fn task_count(&self) -> usize {
        let tasks = self.tasks.borrow();
        tasks.slots.len() - tasks.free.len()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn has_foreign_wakes(&self) -> bool {
        self.queue.has_foreign()
    }

    pub(crate) fn take_foreign_wakes(&self) {
        self.queue.take_foreign();
    }

    /// Gives the next woken task its turn.
    pub(crate) fn poll_next(&self) -> Polled {
        let Some(handle) = self.queue.pop() else { return Polled::Nothing };
        // Cleared before the poll: a wake during the poll queues the task again. AcqRel pairs with the waker's
        // swap, so what a foreign waker did before it found the task already queued is seen by this poll.
        handle.queued.swap(false, Ordering::AcqRel);
        let TaskKey::Spawned { index, generation } = handle.key else { return Polled::Main };
        let (mut future, waker) = {
            let mut tasks = self.tasks.borrow_mut();
            match tasks.slots.get_mut(index) {
                Some(Some(task)) if task.generation == generation => match task.future.take() {
                    Some(future) => (future, task.waker.clone()),
                    None => return Polled::Task,
                },
                // It ended; a waker outlived it.
                _ => return Polled::Task,
            }
        };
        let ended = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut tasks = self.tasks.borrow_mut();
        if !ended {
            if let Some(Some(task)) = tasks.slots.get_mut(index) {
                task.future = Some(future);
            }
            return Polled::Task;
        }
        let finished = tasks.slots.get_mut(index).and_then(Option::take);
        tasks.free.push(index);
        drop(tasks);
        // Their drops may spawn or wake: only with the table released.
        drop((future, finished));
        Polled::Task
    }

    /// Drops every task. Their destructors may still start operations and spawn; those are dropped as well.
    pub(crate) fn clear(&self) {
        while self.task_count() > 0 {
            let slots = {
                let mut tasks = self.tasks.borrow_mut();
                tasks.free.clear();
                std::mem::take(&mut tasks.slots)
            };
            drop(slots);
        }
        while self.queue.pop().is_some() {}
        self.queue.foreign.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A spawned task's result. Dropping it lets the task run on.
#[derive(Debug)]
pub struct JoinHandle<T> {
    state: Rc<RefCell<JoinState<T>>>,
}

#[derive(Debug)]
struct JoinState<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

impl<T: 'static> JoinHandle<T> {
    /// Wraps `future` so that its output goes to the handle.
    pub(crate) fn wrap(future: impl Future<Output = T> + 'static) -> (Self, LocalFuture) {
        let state = Rc::new(RefCell::new(JoinState { value: None, waker: None }));
        let result = state.clone();
        let task = async move {
            let value = future.await;
            let waker = {
                let mut state = result.borrow_mut();
                state.value = Some(value);
                state.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        };
        (Self { state }, Box::pin(task))
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.state.borrow_mut();
        match state.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
