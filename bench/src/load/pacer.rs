//! Time on a thread of the load: tasks wait for their moment, to within the kernel's high-resolution timers.
//!
//! One timerfd for all of a thread's tasks; tokio's own timers tick in milliseconds, which an open loop would
//! see in every one of its figures.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::clock::Moment;
use crate::error::BenchError;

/// Lets tasks of one thread wait.
pub struct Pacer {
    timer: OwnedFd,
    /// What the timer is set to.
    armed: Cell<Option<Moment>>,
    waiting: RefCell<BinaryHeap<Reverse<Waiting>>>,
    /// Nobody waits any more.
    is_released: Cell<bool>,
}

struct Waiting {
    due: Moment,
    waker: Waker,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

impl Pacer {
    /// Starts it on the current tokio-uring runtime.
    pub fn start() -> Result<Rc<Self>, BenchError> {
        let wrong = |errno: rustix::io::Errno| BenchError::io("make a timer", errno.into());
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).map_err(wrong)?;
        let read_end = timer.try_clone().map_err(|source| BenchError::io("make a timer", source))?;
        let pacer = Rc::new(Self {
            timer,
            armed: Cell::new(None),
            waiting: RefCell::new(BinaryHeap::new()),
            is_released: Cell::new(false),
        });
        tokio_uring::spawn(drive(pacer.clone(), tokio_uring::fs::File::from_std(File::from(read_end))));
        Ok(pacer)
    }

    /// Waits until then; not at all if it is past.
    pub async fn until(&self, due: Moment) {
        let mut is_listed = false;
        poll_fn(|context| {
            if self.is_released.get() || Moment::now() >= due {
                return Poll::Ready(());
            }
            if !is_listed {
                is_listed = true;
                self.waiting.borrow_mut().push(Reverse(Waiting { due, waker: context.waker().clone() }));
                self.arm(due);
            }
            Poll::Pending
        })
        .await;
    }

    /// Waits so long.
    pub async fn pause(&self, duration: Duration) {
        self.until(Moment::now().after(duration)).await;
    }

    /// Whoever waits goes on at once, and nobody waits from now on.
    pub fn release(&self) {
        self.is_released.set(true);
        for Reverse(waiting) in self.waiting.borrow_mut().drain() {
            waiting.waker.wake();
        }
    }

    /// Sets the timer, unless it goes off earlier.
    fn arm(&self, due: Moment) {
        if self.armed.get().is_some_and(|armed| armed <= due) {
            return;
        }
        self.armed.set(Some(due));
        let nanos = due.nanos();
        let value =
            Timespec { tv_sec: (nanos / 1_000_000_000) as i64, tv_nsec: (nanos % 1_000_000_000) as i64 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once).expect("a moment is a valid time");
    }

    /// Wakes whoever is due, and sets the timer for the next.
    fn fire(&self) {
        self.armed.set(None);
        let now = Moment::now();
        let mut waiting = self.waiting.borrow_mut();
        while waiting.peek().is_some_and(|Reverse(first)| first.due <= now) {
            let Reverse(first) = waiting.pop().expect("one was there");
            first.waker.wake();
        }
        if let Some(Reverse(first)) = waiting.peek() {
            self.arm(first.due);
        }
    }
}

/// Waits for the timer, for as long as the runtime lives.
async fn drive(pacer: Rc<Pacer>, timer: tokio_uring::fs::File) {
    let mut expirations = vec![0; 8];
    loop {
        let (result, buffer) = timer.read_at(expirations, 0).await;
        expirations = buffer;
        match result {
            Ok(_) => pacer.fire(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return pacer.release(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_goes_early_and_the_order_is_that_of_the_moments() {
        tokio_uring::start(async {
            let pacer = Pacer::start().expect("a timer");
            let order = Rc::new(RefCell::new(Vec::new()));
            let start = Moment::now();
            let tasks = [3_u64, 1, 2].map(|millis| {
                let (pacer, order) = (pacer.clone(), order.clone());
                tokio_uring::spawn(async move {
                    let due = start.after(Duration::from_millis(5 * millis));
                    pacer.until(due).await;
                    assert!(Moment::now() >= due);
                    order.borrow_mut().push(millis);
                })
            });
            for task in tasks {
                task.await.expect("no panic");
            }
            assert_eq!(*order.borrow(), [1, 2, 3]);
        });
    }

    #[test]
    fn released_nobody_waits() {
        tokio_uring::start(async {
            let pacer = Pacer::start().expect("a timer");
            let waiter = pacer.clone();
            let far = Moment::now().after(Duration::from_secs(3600));
            let task = tokio_uring::spawn(async move { waiter.until(far).await });
            pacer.pause(Duration::from_millis(1)).await;
            pacer.release();
            task.await.expect("no panic");
            pacer.until(far).await;
        });
    }
}
