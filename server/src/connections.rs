//! The connections of one core: who is there, who has been silent for too long.
//!
//! A connection that is idle costs its entry here, its task and a small read buffer. One task closes what is
//! idle; it sleeps until the first connection can be.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use flumen_ring::gate::{Broadcast, Signal};
use flumen_ring::{Ring, Socket};

/// Between two words in the log about closed connections.
const TELLING_INTERVAL: Duration = Duration::from_secs(1);

/// The table of one core's connections.
pub struct Connections {
    inner: Rc<Inner>,
}

struct Inner {
    ring: Ring,
    idle_max: Option<Duration>,
    entries: RefCell<BTreeMap<u64, Rc<Entry>>>,
    next_id: Cell<u64>,
    sweeping: Cell<bool>,
    /// Once set, nobody new is let in.
    stopping: Cell<bool>,
    /// Requests whose answers have not left yet, and connections whose peers are to read them.
    answering: Cell<usize>,
    /// Raised when there are none.
    answered: Broadcast,
    told: Cell<Option<Instant>>,
    untold: Cell<u64>,
}

struct Entry {
    socket: Socket,
    active: Cell<Instant>,
    /// Raised when nothing more is to be read.
    ceased: Signal,
}

impl Connections {
    /// An empty table; connections idle for longer than `idle_max` are closed.
    pub fn new(ring: &Ring, idle_max: Option<Duration>) -> Self {
        Self {
            inner: Rc::new(Inner {
                ring: ring.clone(),
                idle_max,
                entries: RefCell::default(),
                next_id: Cell::new(0),
                sweeping: Cell::new(false),
                stopping: Cell::new(false),
                answering: Cell::new(0),
                answered: Broadcast::default(),
                told: Cell::new(None),
                untold: Cell::new(0),
            }),
        }
    }

    /// Enters a connection; `None` when the broker is stopping.
    pub fn enter(&self, socket: &Socket) -> Option<Presence> {
        if self.inner.stopping.get() {
            return None;
        }
        let id = self.inner.next_id.get();
        self.inner.next_id.set(id + 1);
        let entry = Rc::new(Entry {
            socket: socket.clone(),
            active: Cell::new(self.inner.ring.now()),
            ceased: Signal::default(),
        });
        self.inner.entries.borrow_mut().insert(id, entry.clone());
        if let Some(idle_max) = self.inner.idle_max.filter(|_| !self.inner.sweeping.replace(true)) {
            self.inner.ring.spawn(sweep(Rc::downgrade(&self.inner), idle_max));
        }
        Some(Presence { inner: self.inner.clone(), entry, id, produces: OnceCell::new() })
    }

    /// Whether why a connection was closed may be told now, and how many were closed untold before: once a
    /// second, so that who sends garbage does not fill the log.
    pub fn may_tell(&self) -> Option<u64> {
        let now = self.inner.ring.now();
        if self.inner.told.get().is_some_and(|told| now < told + TELLING_INTERVAL) {
            self.inner.untold.set(self.inner.untold.get() + 1);
            return None;
        }
        self.inner.told.set(Some(now));
        Some(self.inner.untold.take())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.inner.entries.borrow().len()
    }

    /// Completes once every request for which [`Presence::answering`] stands is answered, and nobody who produced is
    /// there.
    pub async fn answered(&self) {
        while self.inner.answering.get() > 0 {
            self.inner.answered.wait().await;
        }
    }

    /// Lets nobody in any more, and has no further request read: the connections end by themselves.
    pub fn cease(&self) {
        self.inner.stopping.set(true);
        self.inner.entries.borrow().values().for_each(|entry| entry.ceased.raise());
    }

    /// Closes all of them and lets nobody in any more.
    pub fn close_all(&self) {
        self.inner.stopping.set(true);
        let entries: Vec<Rc<Entry>> = self.inner.entries.borrow().values().cloned().collect();
        for entry in entries {
            entry.socket.close();
        }
    }
}

/// A connection's place in the table; dropping it leaves.
pub struct Presence {
    inner: Rc<Inner>,
    entry: Rc<Entry>,
    id: u64,
    /// While it is there, as somebody produces on this connection.
    produces: OnceCell<Answering>,
}

impl Presence {
    /// Unique on this core since it started.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// A request is being answered, until this is dropped.
    pub fn answering(&self) -> Answering {
        self.inner.answering.set(self.inner.answering.get() + 1);
        Answering { inner: self.inner.clone() }
    }

    /// Somebody produces on this connection.
    pub fn note_producer(&self) {
        self.produces.get_or_init(|| self.answering());
    }

    /// Whether somebody produces on this connection.
    pub fn produces(&self) -> bool {
        self.produces.get().is_some()
    }

    /// Completes once no further request is to be read.
    pub async fn ceased(&self) {
        self.entry.ceased.wait().await;
    }

    /// Says that the connection is not idle.
    pub fn touch(&self) {
        self.entry.active.set(self.inner.ring.turn_began());
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.inner.entries.borrow_mut().remove(&self.id);
    }
}

/// A request that is being answered.
pub struct Answering {
    inner: Rc<Inner>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.inner.answering.set(self.inner.answering.get() - 1);
        if self.inner.answering.get() == 0 {
            self.inner.answered.raise();
        }
    }
}

/// Closes idle connections until there are none at all.
async fn sweep(inner: Weak<Inner>, idle_max: Duration) {
    loop {
        let Some(table) = inner.upgrade() else { return };
        let ring = table.ring.clone();
        let now = ring.now();
        let mut first: Option<Instant> = None;
        let mut idle = Vec::new();
        for entry in table.entries.borrow().values() {
            let expires = entry.active.get() + idle_max;
            if expires <= now {
                idle.push(entry.socket.clone());
            } else if first.is_none_or(|first| expires < first) {
                first = Some(expires);
            }
        }
        idle.iter().for_each(Socket::close);
        let Some(first) = first else {
            table.sweeping.set(false);
            return;
        };
        drop(table);
        // No more often than once a second, however many connections there are.
        ring.sleep_until(first.max(now + Duration::from_secs(1))).await;
    }
}
