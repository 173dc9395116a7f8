//! A bounded queue of one producer and one consumer. No lock, no system call.

use std::cell::Cell;
use std::mem::MaybeUninit;

use crate::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};

/// Keeps the two ends on cache lines of their own (two, for the adjacent-line prefetcher).
#[repr(align(128))]
struct Padded<T>(T);

struct Queue<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// The consumer's position; counts up for ever. Invariant: `head <= tail <= head + slots.len()`, wrapping.
    head: Padded<AtomicUsize>,
    /// The producer's position.
    tail: Padded<AtomicUsize>,
}

// SAFETY: a slot is written by the producer before the `Release` store of `tail` that passes it on, and read
// by the consumer after the matching `Acquire`; the way back is the same with `head`. So one thread at a time
// touches it, and `T: Send` lets the value change threads.
unsafe impl<T: Send> Sync for Queue<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Queue<T> {}

/// The only writer.
pub(super) struct Producer<T> {
    queue: Arc<Queue<T>>,
    tail: Cell<usize>,
    /// The head as last seen: looked at again only when the queue seems full.
    head: Cell<usize>,
}

/// The only reader.
pub(super) struct Consumer<T> {
    queue: Arc<Queue<T>>,
    head: Cell<usize>,
    tail: Cell<usize>,
}

/// A queue for `capacity` values, rounded up to a power of two.
pub(super) fn queue<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let capacity = capacity.max(1).next_power_of_two();
    let slots = (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let queue =
        Arc::new(Queue { slots, head: Padded(AtomicUsize::new(0)), tail: Padded(AtomicUsize::new(0)) });
    let producer = Producer { queue: queue.clone(), tail: Cell::new(0), head: Cell::new(0) };
    (producer, Consumer { queue, head: Cell::new(0), tail: Cell::new(0) })
}

impl<T> Queue<T> {
    fn slot(&self, position: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[position & (self.slots.len() - 1)]
    }
}

impl<T> Producer<T> {
    pub(super) fn is_full(&self) -> bool {
        if self.tail.get().wrapping_sub(self.head.get()) < self.queue.slots.len() {
            return false;
        }
        self.head.set(self.queue.head.0.load(Ordering::Acquire));
        self.tail.get().wrapping_sub(self.head.get()) >= self.queue.slots.len()
    }

    /// Appends `value`, or gives it back if the queue is full.
    pub(super) fn push(&self, value: T) -> Result<(), T> {
        if self.is_full() {
            return Err(value);
        }
        let tail = self.tail.get();
        self.queue.slot(tail).with_mut(|slot| {
            // SAFETY: the slot is not between head and tail, so the consumer does not touch it, and there is
            // one producer, which is not `Sync`.
            unsafe { (*slot).write(value) };
        });
        self.tail.set(tail.wrapping_add(1));
        self.queue.tail.0.store(tail.wrapping_add(1), Ordering::Release);
        Ok(())
    }
}

impl<T> Consumer<T> {
    pub(super) fn is_empty(&self) -> bool {
        if self.head.get() != self.tail.get() {
            return false;
        }
        self.tail.set(self.queue.tail.0.load(Ordering::Acquire));
        self.head.get() == self.tail.get()
    }

    pub(super) fn pop(&self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let head = self.head.get();
        let value = self.queue.slot(head).with_mut(|slot| {
            // SAFETY: the slot is between head and tail: the producer wrote it, passed it on with `Release`
            // and will not touch it before head passes it; there is one consumer, which is not `Sync`.
            unsafe { (*slot).assume_init_read() }
        });
        self.head.set(head.wrapping_add(1));
        self.queue.head.0.store(head.wrapping_add(1), Ordering::Release);
        Some(value)
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        let tail = self.tail.0.load(Ordering::Relaxed);
        let mut head = self.head.0.load(Ordering::Relaxed);
        while head != tail {
            self.slot(head).with_mut(|slot| {
                // SAFETY: both ends are gone (the last handle of the `Arc` drops this), and the slot is
                // between head and tail, so it holds a value.
                unsafe { (*slot).assume_init_drop() }
            });
            head = head.wrapping_add(1);
        }
    }
}
