//! What the cores say to each other: work to run over there, its answer, and that nobody waits any more.
//!
//! Each pair of cores has a mailbox in either direction. A call reserves its reply slot, and a credit of the
//! link, before it is sent; a core always takes its messages, and whatever it says by itself (answers,
//! cancellations) never waits. So cores cannot wait for each other in a circle. Bounds: calls under way are
//! at most [`CREDITS`] a link, answers waiting for room at most the calls of the peer, cancellations at most
//! the waits that connections hold, one each.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use flumen_engine::CoreId;
use flumen_ring::semaphore::{Permit, Semaphore};
use flumen_ring::{Outbox, Receiver, Ring, Sender, mailbox};
use futures_util::future::LocalBoxFuture;

use crate::shard::Shard;

/// Calls that one core may have under way to another.
pub const CREDITS: usize = 4096;

/// Messages that a mailbox holds.
const MAILBOX_MESSAGES: usize = 4096;

/// An answer on its way: its type is known to the caller.
pub type Answer = Box<dyn Any + Send>;

/// Work for another core: runs there as a task of its own.
pub type Work = Box<dyn FnOnce(Rc<Shard>) -> LocalBoxFuture<'static, Answer> + Send>;

/// A reply slot of the asking core. Never the same twice, so that a late answer finds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId {
    index: u32,
    generation: u32,
}

/// What one core says to another.
pub enum ShardMessage {
    /// Run this and answer.
    Call {
        /// Where the answer goes.
        slot: SlotId,
        /// What to run.
        work: Work,
        /// Whether it may be cancelled.
        waits: bool,
    },
    /// The answer to a call.
    Answer {
        /// The asker's slot.
        slot: SlotId,
        /// What the work returned.
        answer: Answer,
    },
    /// Nobody waits for this any more: its task ends where it is.
    Cancel {
        /// The asker's slot.
        slot: SlotId,
    },
}

/// One core's ends of its mailboxes, before the core's thread takes them.
pub struct Mailboxes {
    /// To and from each core; `None` for the core itself.
    ends: Vec<Option<(Sender<ShardMessage>, Receiver<ShardMessage>)>>,
}

impl Mailboxes {
    /// Connects `cores` cores, each with every other.
    pub fn connect(cores: u16) -> Vec<Self> {
        let cores = usize::from(cores);
        let mut all: Vec<Self> = Vec::with_capacity(cores);
        for right in 0..cores {
            let mut ends: Vec<_> = (0..cores).map(|_| None).collect();
            for (left, other) in all.iter_mut().enumerate() {
                let (to_right, from_left) = mailbox(MAILBOX_MESSAGES);
                let (to_left, from_right) = mailbox(MAILBOX_MESSAGES);
                other.ends[right] = Some((to_right, from_right));
                ends[left] = Some((to_left, from_left));
            }
            all.push(Self { ends });
        }
        all
    }

    /// Binds the sending ends to this thread's reactor; hands out the receiving ends, each with its peer.
    pub fn attach(self, ring: &Ring) -> (Links, Vec<(CoreId, Receiver<ShardMessage>)>) {
        let mut links = Vec::new();
        let mut receivers = Vec::new();
        for (core, ends) in (0..).map(CoreId).zip(self.ends) {
            links.push(ends.map(|(sender, receiver)| {
                receivers.push((core, receiver));
                Link::start(sender.attach(ring), ring)
            }));
        }
        (Links { links, slots: Rc::default() }, receivers)
    }
}

/// One core's ways to the others, and what it waits for.
pub struct Links {
    links: Vec<Option<Rc<Link>>>,
    slots: Rc<RefCell<Slots>>,
}

impl Links {
    /// Sends work to `core` once the link has a credit, and returns the way to its answer. Calls to one core
    /// start there in the order of these calls.
    pub async fn call<T: Send + 'static>(&self, core: CoreId, work: Work) -> Reply<T> {
        let link = self.link(core);
        let credit = link.credits.acquire(1).await;
        self.send(link, work, Some(credit))
    }

    /// As [`Links::call`], for what may wait for long (a fetch for new records): takes no credit, so that it
    /// does not keep others from calling. The caller sees to a bound.
    pub fn wait_for<T: Send + 'static>(&self, core: CoreId, work: Work) -> Reply<T> {
        self.send(self.link(core), work, None)
    }

    /// Says that the answer is in.
    pub fn fulfil(&self, slot: SlotId, answer: Answer) {
        let fulfilled = self.slots.borrow_mut().fulfil(slot, answer);
        if let Some(waker) = fulfilled {
            waker.wake();
        }
    }

    /// Sends what never waits: an answer.
    pub fn post(&self, core: CoreId, message: ShardMessage) {
        self.link(core).post(message);
    }

    fn send<T: Send + 'static>(&self, link: &Rc<Link>, work: Work, credit: Option<Permit>) -> Reply<T> {
        let slot = self.slots.borrow_mut().reserve();
        link.post(ShardMessage::Call { slot, work, waits: credit.is_none() });
        let slots = self.slots.clone();
        Reply { link: link.clone(), slots, slot, credit, done: false, answer: std::marker::PhantomData }
    }

    fn link(&self, core: CoreId) -> &Rc<Link> {
        self.links[usize::from(core.0)].as_ref().expect("a core does not send messages to itself")
    }
}

/// The way to one other core.
struct Link {
    outbox: Outbox<ShardMessage>,
    /// What found the mailbox full, in order.
    overflow: RefCell<VecDeque<ShardMessage>>,
    overflow_waker: RefCell<Option<Waker>>,
    /// Whether a message taken from the overflow is not in the mailbox yet: nothing may pass it.
    draining: Cell<bool>,
    credits: Semaphore,
}

impl Link {
    fn start(outbox: Outbox<ShardMessage>, ring: &Ring) -> Rc<Self> {
        let link = Rc::new(Self {
            outbox,
            overflow: RefCell::default(),
            overflow_waker: RefCell::default(),
            draining: Cell::new(false),
            credits: Semaphore::new(CREDITS),
        });
        ring.spawn(Self::drain(Rc::downgrade(&link)));
        link
    }

    fn post(&self, message: ShardMessage) {
        let mut overflow = self.overflow.borrow_mut();
        if overflow.is_empty() && !self.draining.get() {
            let Err(unsent) = self.outbox.try_send(message) else { return };
            overflow.push_back(unsent.0);
        } else {
            overflow.push_back(message);
        }
        if let Some(waker) = self.overflow_waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Sends what found the mailbox full, as it empties. Ends when the link or the peer does.
    async fn drain(link: std::rc::Weak<Self>) {
        loop {
            let held = poll_fn(|context| {
                let Some(link) = link.upgrade() else { return Poll::Ready(None) };
                if !link.overflow.borrow().is_empty() {
                    return Poll::Ready(Some(link));
                }
                *link.overflow_waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            });
            let Some(link) = held.await else { return };
            while let Some(message) = link.take_overflow() {
                link.draining.set(true);
                if link.outbox.send(message).await.is_err() {
                    return;
                }
                link.draining.set(false);
            }
        }
    }

    fn take_overflow(&self) -> Option<ShardMessage> {
        self.overflow.borrow_mut().pop_front()
    }
}

/// The answer to a call. Dropping it tells the other core that nobody waits: a call's work goes on without
/// an answer, a wait ends.
pub struct Reply<T> {
    link: Rc<Link>,
    slots: Rc<RefCell<Slots>>,
    slot: SlotId,
    credit: Option<Permit>,
    done: bool,
    answer: std::marker::PhantomData<fn() -> T>,
}

impl<T: Send + 'static> Future for Reply<T> {
    type Output = T;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(answer) = self.slots.borrow_mut().take(self.slot, context) else { return Poll::Pending };
        self.done = true;
        self.credit = None;
        Poll::Ready(*answer.downcast().expect("the work answers with the type that the caller asked for"))
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if !self.done {
            self.slots.borrow_mut().release(self.slot);
            if self.credit.is_none() {
                self.link.post(ShardMessage::Cancel { slot: self.slot });
            }
        }
    }
}

/// The reply slots of one core.
#[derive(Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    generation: u32,
    answer: Option<Answer>,
    waker: Option<Waker>,
}

impl Slots {
    fn reserve(&mut self) -> SlotId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, answer: None, waker: None });
            u32::try_from(self.slots.len() - 1).expect("fewer than 2³² calls are under way")
        });
        SlotId { index, generation: self.slots[index as usize].generation }
    }

    fn find(&mut self, id: SlotId) -> Option<&mut Slot> {
        self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)
    }

    fn fulfil(&mut self, id: SlotId, answer: Answer) -> Option<Waker> {
        let slot = self.find(id)?;
        slot.answer = Some(answer);
        slot.waker.take()
    }

    fn take(&mut self, id: SlotId, context: &mut Context<'_>) -> Option<Answer> {
        let slot = self.find(id).expect("a reply holds its slot until it is answered");
        match slot.answer.take() {
            Some(answer) => {
                self.release(id);
                Some(answer)
            }
            None => {
                slot.waker = Some(context.waker().clone());
                None
            }
        }
    }

    fn release(&mut self, id: SlotId) {
        let Some(slot) = self.find(id) else { return };
        slot.generation = slot.generation.wrapping_add(1);
        slot.answer = None;
        slot.waker = None;
        self.free.push(id.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_never_answered_by_the_call_before() {
        let mut slots = Slots::default();
        let first = slots.reserve();
        slots.release(first);
        let second = slots.reserve();
        assert_eq!(first.index, second.index);
        assert!(slots.fulfil(first, Box::new(1)).is_none());
        let mut context = Context::from_waker(Waker::noop());
        assert!(slots.take(second, &mut context).is_none());
        assert!(slots.fulfil(second, Box::new(2)).is_some());
        assert!(slots.take(second, &mut context).is_some());
    }
}
