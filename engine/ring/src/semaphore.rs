//! Permits of one core, handed out in order: of memory, of room on the way to another core.
//!
//! Of one thread. Who asks first is served first, also when somebody behind asks for less; so nobody starves.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A number of permits.
#[derive(Clone)]
pub struct Semaphore {
    shared: Rc<Shared>,
}

struct Shared {
    all: usize,
    /// Invariant: `available` and the permits held add up to `all`.
    available: Cell<usize>,
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
}

struct Waiter {
    permits: usize,
    granted: Cell<bool>,
    waker: RefCell<Waker>,
}

impl Semaphore {
    /// A semaphore of `permits`.
    pub fn new(permits: usize) -> Self {
        let available = Cell::new(permits);
        Self { shared: Rc::new(Shared { all: permits, available, waiting: RefCell::default() }) }
    }

    /// Waits for its turn and for so many permits. Who asks for more than there are at all gets all of them.
    pub fn acquire(&self, permits: usize) -> Acquire {
        let permits = permits.min(self.shared.all);
        Acquire { shared: self.shared.clone(), permits, state: AcquireState::New }
    }

    /// The permits if they can be had at once.
    pub fn try_acquire(&self, permits: usize) -> Option<Permit> {
        let free = self.shared.waiting.borrow().is_empty() && self.shared.available.get() >= permits;
        free.then(|| self.shared.take(permits))
    }

    /// Whether somebody waits for permits.
    pub fn is_wanted(&self) -> bool {
        !self.shared.waiting.borrow().is_empty()
    }

    /// How many permits are held.
    pub fn held(&self) -> usize {
        self.shared.all - self.shared.available.get()
    }
}

impl Shared {
    fn take(self: &Rc<Self>, permits: usize) -> Permit {
        self.available.set(self.available.get() - permits);
        Permit { shared: self.clone(), permits }
    }

    fn give_back(&self, permits: usize) {
        self.available.set(self.available.get() + permits);
        self.grant();
    }

    fn grant(&self) {
        loop {
            let mut waiting = self.waiting.borrow_mut();
            let Some(first) = waiting.front() else { return };
            if first.permits > self.available.get() {
                return;
            }
            self.available.set(self.available.get() - first.permits);
            first.granted.set(true);
            let waker = first.waker.borrow().clone();
            waiting.pop_front();
            drop(waiting);
            waker.wake();
        }
    }
}

/// Permits that are held; dropping them gives them back.
pub struct Permit {
    shared: Rc<Shared>,
    permits: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.give_back(self.permits);
    }
}

/// Waits for permits; see [`Semaphore::acquire`].
pub struct Acquire {
    shared: Rc<Shared>,
    permits: usize,
    state: AcquireState,
}

enum AcquireState {
    New,
    Waiting(Rc<Waiter>),
    Done,
}

impl Future for Acquire {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        let shared = self.shared.clone();
        match &self.state {
            AcquireState::New => {
                let permits = self.permits;
                let mut waiting = shared.waiting.borrow_mut();
                if waiting.is_empty() && shared.available.get() >= permits {
                    self.state = AcquireState::Done;
                    return Poll::Ready(shared.take(permits));
                }
                let waker = RefCell::new(context.waker().clone());
                let waiter = Rc::new(Waiter { permits, granted: Cell::new(false), waker });
                waiting.push_back(waiter.clone());
                self.state = AcquireState::Waiting(waiter);
                Poll::Pending
            }
            AcquireState::Waiting(waiter) if waiter.granted.get() => {
                self.state = AcquireState::Done;
                // They were taken when they were granted.
                Poll::Ready(Permit { shared, permits: self.permits })
            }
            AcquireState::Waiting(waiter) => {
                *waiter.waker.borrow_mut() = context.waker().clone();
                Poll::Pending
            }
            AcquireState::Done => panic!("a future is not polled after its end"),
        }
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let AcquireState::Waiting(waiter) = &self.state else { return };
        if waiter.granted.get() {
            self.shared.give_back(self.permits);
        } else {
            self.shared.waiting.borrow_mut().retain(|other| !Rc::ptr_eq(other, waiter));
            self.shared.grant();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(acquire: &mut Acquire) -> Option<Permit> {
        match Pin::new(acquire).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    #[test]
    fn permits_are_handed_out_in_order_and_come_back() {
        let semaphore = Semaphore::new(10);
        let held = semaphore.try_acquire(8).expect("eight of ten");
        let (mut large, mut small) = (semaphore.acquire(5), semaphore.acquire(1));
        assert!(poll(&mut large).is_none());
        assert!(poll(&mut small).is_none(), "the small one waits behind the large one");
        assert!(semaphore.try_acquire(1).is_none() && semaphore.is_wanted());
        drop(held);
        assert!(!semaphore.is_wanted());
        let (large, small) = (poll(&mut large).expect("granted"), poll(&mut small).expect("granted"));
        assert_eq!(semaphore.held(), 6);
        drop((large, small));
        assert_eq!(semaphore.held(), 0);
    }

    #[test]
    fn who_asks_for_more_than_there_is_gets_all() {
        let semaphore = Semaphore::new(10);
        let held = semaphore.try_acquire(1).expect("one");
        let mut all = semaphore.acquire(11);
        assert!(poll(&mut all).is_none());
        drop(held);
        let all = poll(&mut all).expect("nobody holds any");
        assert_eq!(semaphore.held(), 10);
        drop(all);
        assert_eq!(semaphore.held(), 0);
    }

    #[test]
    fn who_gives_up_lets_the_next_one_through() {
        let semaphore = Semaphore::new(2);
        let held = semaphore.try_acquire(1).expect("one");
        let (mut first, mut second) = (semaphore.acquire(2), semaphore.acquire(1));
        assert!(poll(&mut first).is_none() && poll(&mut second).is_none());
        drop(first);
        let second = poll(&mut second).expect("nobody is before it");
        let mut third = semaphore.acquire(1);
        assert!(poll(&mut third).is_none());
        drop(second);
        drop(third);
        drop(held);
        assert_eq!(semaphore.held(), 0, "granted and never taken still comes back");
    }
}
