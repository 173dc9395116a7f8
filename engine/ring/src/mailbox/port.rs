//! The two ends of a mailbox, attached to their reactors.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};

use super::queue::{Consumer, Producer, queue};
use crate::doorbell::Doorbell;
use crate::reactor::{Ring, Source};

/// What both ends see besides the queue.
struct Link {
    /// The receiver's bell. Not set until it is attached: it looks into the queue then anyway.
    receiver: OnceLock<Arc<Doorbell>>,
    sender: OnceLock<Arc<Doorbell>>,
    /// The sender waits for room.
    sender_waits: AtomicBool,
    sender_gone: AtomicBool,
    receiver_gone: AtomicBool,
}

impl Link {
    fn wake_receiver(&self) {
        if let Some(bell) = self.receiver.get() {
            bell.ring();
        }
    }

    fn wake_sender(&self) {
        if let Some(bell) = self.sender.get() {
            bell.ring();
        }
    }
}

/// A mailbox for `capacity` messages, rounded up to a power of two.
pub fn mailbox<T: Send + 'static>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (producer, consumer) = queue(capacity);
    let link = Arc::new(Link {
        receiver: OnceLock::new(),
        sender: OnceLock::new(),
        sender_waits: AtomicBool::new(false),
        sender_gone: AtomicBool::new(false),
        receiver_gone: AtomicBool::new(false),
    });
    (Sender { producer, link: link.clone() }, Receiver { consumer, link })
}

/// The sending end on its way to its core.
pub struct Sender<T> {
    producer: Producer<T>,
    link: Arc<Link>,
}

/// The receiving end on its way to its core.
pub struct Receiver<T> {
    consumer: Consumer<T>,
    link: Arc<Link>,
}

/// A message that did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the mailbox is full, or its receiver gone")]
pub struct Full<T>(pub T);

impl<T: Send + 'static> Sender<T> {
    /// Binds this end to the reactor of the calling thread.
    pub fn attach(self, ring: &Ring) -> Outbox<T> {
        let bound = self.link.sender.set(ring.bell().clone());
        assert!(bound.is_ok(), "an end is attached once: attaching consumes it");
        let port =
            Rc::new(SendPort { producer: self.producer, link: self.link, waiters: RefCell::default() });
        ring.add_source(port.clone());
        Outbox { port, ring: ring.clone() }
    }
}

impl<T: Send + 'static> Receiver<T> {
    /// Binds this end to the reactor of the calling thread.
    pub fn attach(self, ring: &Ring) -> Inbox<T> {
        let bound = self.link.receiver.set(ring.bell().clone());
        assert!(bound.is_ok(), "an end is attached once: attaching consumes it");
        let port =
            Rc::new(ReceivePort { consumer: self.consumer, link: self.link, waiter: RefCell::default() });
        ring.add_source(port.clone());
        Inbox { port, ring: ring.clone() }
    }
}

struct SendPort<T> {
    producer: Producer<T>,
    link: Arc<Link>,
    waiters: RefCell<Vec<Waker>>,
}

impl<T> Source for SendPort<T> {
    fn is_ready(&self) -> bool {
        !self.waiters.borrow().is_empty()
            && (!self.producer.is_full() || self.link.receiver_gone.load(Ordering::Acquire))
    }

    fn wake(&self) {
        let waiters = std::mem::take(&mut *self.waiters.borrow_mut());
        for waiter in waiters {
            waiter.wake();
        }
    }
}

/// The sending end on its core.
pub struct Outbox<T: Send + 'static> {
    port: Rc<SendPort<T>>,
    ring: Ring,
}

impl<T: Send + 'static> Outbox<T> {
    /// Sends without waiting; gives the message back if there is no room or no receiver.
    pub fn try_send(&self, message: T) -> Result<(), Full<T>> {
        let link = &self.port.link;
        if link.receiver_gone.load(Ordering::Relaxed) {
            return Err(Full(message));
        }
        self.port.producer.push(message).map_err(Full)?;
        link.wake_receiver();
        Ok(())
    }

    /// Sends when there is room; gives the message back if the receiver is gone.
    pub async fn send(&self, message: T) -> Result<(), Full<T>> {
        let mut message = Some(message);
        poll_fn(|context| {
            let unsent = match self.try_send(message.take().expect("a future is not polled after its end")) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(Full(unsent)) => unsent,
            };
            if self.is_closed() {
                return Poll::Ready(Err(Full(unsent)));
            }
            self.port.waiters.borrow_mut().push(context.waker().clone());
            // Store, then load (the reactor looks at the queue again before it sleeps, after a fence of its
            // own); the receiver frees a slot, then looks at the flag.
            self.port.link.sender_waits.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            message = Some(unsent);
            Poll::Pending
        })
        .await
    }

    /// Whether the receiver is gone for good.
    pub fn is_closed(&self) -> bool {
        self.port.link.receiver_gone.load(Ordering::Acquire)
    }
}

impl<T: Send + 'static> Drop for Outbox<T> {
    fn drop(&mut self) {
        let source: Rc<dyn Source> = self.port.clone();
        self.ring.remove_source(&source);
    }
}

impl<T> Drop for SendPort<T> {
    fn drop(&mut self) {
        self.link.sender_gone.store(true, Ordering::Release);
        self.link.wake_receiver();
    }
}

struct ReceivePort<T> {
    consumer: Consumer<T>,
    link: Arc<Link>,
    waiter: RefCell<Option<Waker>>,
}

impl<T> ReceivePort<T> {
    fn sender_gone(&self) -> bool {
        self.link.sender_gone.load(Ordering::Acquire)
    }
}

impl<T> Source for ReceivePort<T> {
    fn is_ready(&self) -> bool {
        self.waiter.borrow().is_some() && (!self.consumer.is_empty() || self.sender_gone())
    }

    fn wake(&self) {
        let waiter = self.waiter.borrow_mut().take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

/// The receiving end on its core.
pub struct Inbox<T: Send + 'static> {
    port: Rc<ReceivePort<T>>,
    ring: Ring,
}

impl<T: Send + 'static> Inbox<T> {
    /// The next message, if one is there.
    pub fn try_recv(&self) -> Option<T> {
        let message = self.port.consumer.pop()?;
        let link = &self.port.link;
        fence(Ordering::SeqCst);
        if link.sender_waits.load(Ordering::Relaxed) && link.sender_waits.swap(false, Ordering::AcqRel) {
            link.wake_sender();
        }
        Some(message)
    }

    /// The next message; `None` when the sender is gone and all its messages were taken. One task at a time
    /// waits here.
    pub async fn recv(&self) -> Option<T> {
        poll_fn(|context| {
            // Looked at before the queue: a message sent before the end is not missed.
            let ended = self.port.sender_gone();
            if let Some(message) = self.try_recv() {
                return Poll::Ready(Some(message));
            }
            if ended {
                return Poll::Ready(None);
            }
            *self.port.waiter.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl<T: Send + 'static> Drop for Inbox<T> {
    fn drop(&mut self) {
        let source: Rc<dyn Source> = self.port.clone();
        self.ring.remove_source(&source);
    }
}

impl<T> Drop for ReceivePort<T> {
    fn drop(&mut self) {
        self.link.receiver_gone.store(true, Ordering::Release);
        self.link.wake_sender();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}

impl<T: Send + 'static> fmt::Debug for Outbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outbox")
    }
}

impl<T: Send + 'static> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reactor, ReactorConfig};

    fn reactor() -> Reactor {
        Reactor::new(ReactorConfig { entries: 16 }).expect("a reactor")
    }

    #[test]
    fn a_thousand_messages_go_through_a_small_mailbox_and_back() {
        let (to_other, from_one) = mailbox::<u64>(4);
        let (to_one, from_other) = mailbox::<u64>(4);
        let other = std::thread::spawn(move || {
            let reactor = reactor();
            let ring = reactor.ring();
            let (inbox, outbox) = (from_one.attach(&ring), to_one.attach(&ring));
            reactor.run(async move {
                while let Some(number) = inbox.recv().await {
                    outbox.send(number * 2).await.expect("the other end is there");
                }
            });
        });
        let reactor = reactor();
        let ring = reactor.ring();
        let (inbox, outbox) = (from_other.attach(&ring), to_other.attach(&ring));
        ring.spawn(async move {
            for number in 0..1000 {
                outbox.send(number).await.expect("the other end is there");
            }
        });
        let sum = reactor.run(async {
            let mut sum = 0;
            while let Some(number) = inbox.recv().await {
                sum += number;
            }
            sum
        });
        assert_eq!(sum, 999_000);
        other.join().expect("no panic");
    }

    #[test]
    fn a_full_mailbox_gives_the_message_back() {
        let reactor = reactor();
        let (sender, receiver) = mailbox::<u32>(2);
        let (outbox, inbox) = (sender.attach(&reactor.ring()), receiver.attach(&reactor.ring()));
        assert!(outbox.try_send(1).is_ok() && outbox.try_send(2).is_ok());
        assert_eq!(outbox.try_send(3), Err(Full(3)));
        assert_eq!(inbox.try_recv(), Some(1));
        assert!(outbox.try_send(3).is_ok());
        drop(inbox);
        assert!(outbox.is_closed());
        assert_eq!(reactor.run(outbox.send(4)), Err(Full(4)));
    }
}
