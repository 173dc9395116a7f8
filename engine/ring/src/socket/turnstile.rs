//! Lets one task in at a time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Lets one task in at a time, in the order they came.
#[derive(Default)]
pub(super) struct Turnstile {
    /// Somebody is in, or called.
    busy: Cell<bool>,
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
}

struct Waiter {
    called: Cell<bool>,
    waker: RefCell<Waker>,
}

/// A task's turn, which ends when it is dropped.
pub(super) struct Turn<'a> {
    turnstile: &'a Turnstile,
}

/// A task's place among those who wait.
struct Place<'a> {
    turnstile: &'a Turnstile,
    waiter: Rc<Waiter>,
    entered: bool,
}

impl Turnstile {
    /// Waits for one's turn.
    pub(super) async fn enter(&self) -> Turn<'_> {
        if self.busy.replace(true) {
            let waker = RefCell::new(Waker::noop().clone());
            let waiter = Rc::new(Waiter { called: Cell::new(false), waker });
            self.waiting.borrow_mut().push_back(waiter.clone());
            let mut place = Place { turnstile: self, waiter, entered: false };
            poll_fn(|context| {
                if place.waiter.called.get() {
                    return Poll::Ready(());
                }
                place.waiter.waker.borrow_mut().clone_from(context.waker());
                Poll::Pending
            })
            .await;
            place.entered = true;
        }
        Turn { turnstile: self }
    }

    fn call_next(&self) {
        let next = self.waiting.borrow_mut().pop_front();
        self.busy.set(next.is_some());
        if let Some(next) = next {
            next.called.set(true);
            let waker = next.waker.borrow().clone();
            waker.wake();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turnstile.call_next();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.entered {
            return;
        }
        if self.waiter.called.get() {
            self.turnstile.call_next();
        } else {
            self.turnstile.waiting.borrow_mut().retain(|other| !Rc::ptr_eq(other, &self.waiter));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn one_at_a_time_in_their_order_and_who_gives_up_is_passed_over() {
        let turnstile = Turnstile::default();
        let first = poll(pin!(turnstile.enter())).expect("nobody is in");
        let mut third = Box::pin(turnstile.enter());
        let mut second = pin!(turnstile.enter());
        let mut fourth = Box::pin(turnstile.enter());
        assert!(poll(third.as_mut()).is_none() && poll(second.as_mut()).is_none());
        assert!(poll(fourth.as_mut()).is_none());
        drop(fourth);
        drop(first);
        assert!(poll(second.as_mut()).is_none(), "the one before it is called");
        // Called, and gone before it entered.
        drop(third);
        let second = poll(second.as_mut()).expect("its turn");
        assert!(poll(Box::pin(turnstile.enter()).as_mut()).is_none());
        drop(second);
        assert!(poll(pin!(turnstile.enter())).is_some(), "nobody waits any more");
    }
}
