//! What fetch sessions watch between their polls.
//!
//! A session's watches stay with the cores that own its partitions. So a poll looks at what its client changed,
//! at what there is news of, and at what was left over from the poll before, however many partitions the
//! session has. The session's own core keeps [`SessionWatches`], beside the session and for as long as it lives;
//! each other core that owns partitions of it keeps [`WatchedPartitions`], which end with them. A crash leaves
//! nothing behind.
//!
//! Bounds: no more partitions are watched than sessions may have.

use std::cell::{Cell, RefCell};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use flumen_engine::{CoreId, Engine, Offset, PartitionId, Watches};

use crate::messages::Reply;
use crate::owners;
use crate::shard::Shard;

/// One partition of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Whose turn it is: lower ones are served first. Unique in its fetch.
    pub place: u64,
    /// Which one.
    pub id: PartitionId,
    /// The first offset wanted.
    pub offset: Offset,
    /// Bytes to take at most.
    pub bytes_max: usize,
    /// The leader epoch that the client knows; −1 for none.
    pub leader_epoch: i32,
    /// The epoch of the last record that a follower has; −1 for none.
    pub last_fetched_epoch: i32,
}

/// One session's partitions of one core, on that core.
#[derive(Default)]
pub struct WatchedPartitions {
    watches: Watches,
    targets: BTreeMap<PartitionId, Target>,
}

/// One session's watches, on the session's core.
#[derive(Default)]
pub struct SessionWatches {
    here: Rc<RefCell<WatchedPartitions>>,
    elsewhere: RefCell<BTreeMap<CoreId, Visit>>,
}

/// The name of partitions that are watched for a session of another core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VisitId {
    home: CoreId,
    number: u64,
}

/// What a session has on another core.
struct Visit {
    id: VisitId,
    /// Never answered: what is watched over there ends when this is dropped.
    _kept: Reply<()>,
}

/// What is watched on this core for sessions of others.
#[derive(Default)]
pub struct Visitors {
    number_next: Cell<u64>,
    watched: RefCell<BTreeMap<VisitId, Rc<RefCell<WatchedPartitions>>>>,
}

impl WatchedPartitions {
    /// What a poll has to look at: what it gives, and what there is news of. All of it is watched from now on,
    /// so that what is not found by a look behind this is news later.
    pub fn look_at(&mut self, engine: &Engine, given: Vec<Target>) -> Vec<Target> {
        let mut looked_at = given;
        let news = self.watches.take_news();
        if !news.is_empty() {
            let given: BTreeSet<PartitionId> = looked_at.iter().map(|target| target.id).collect();
            let news = news.iter().filter(|id| !given.contains(id));
            looked_at.extend(news.filter_map(|id| self.targets.get(id)));
        }
        for target in &looked_at {
            self.targets.insert(target.id, *target);
            if let Some(partition) = engine.partition(&target.id) {
                self.watches.watch(&partition);
            }
        }
        looked_at
    }

    /// Nothing is news of these any more.
    pub fn forget(&mut self, forgotten: &[PartitionId]) {
        for id in forgotten {
            self.watches.forget(id);
            self.targets.remove(id);
        }
    }

    /// Completes when there is news to look at.
    pub fn news(&self) -> impl Future<Output = ()> + use<> {
        self.watches.news()
    }
}

impl SessionWatches {
    /// The session's partitions of its own core.
    pub fn here(&self) -> &Rc<RefCell<WatchedPartitions>> {
        &self.here
    }

    /// The other cores that own partitions of the session.
    pub fn cores(&self) -> Vec<CoreId> {
        self.elsewhere.borrow().keys().copied().collect()
    }

    /// The session's partitions of another core: what is sent there behind this call finds them by their name.
    pub fn visit(&self, shard: &Shard, core: CoreId) -> VisitId {
        match self.elsewhere.borrow_mut().entry(core) {
            Entry::Occupied(visit) => visit.get().id,
            Entry::Vacant(vacant) => {
                let id = shard.visitors().name(shard.core());
                let kept = shard.wait_for(core, move |shard| {
                    let visitor = Visitor::begin(shard, id);
                    async move {
                        let _visitor = visitor;
                        std::future::pending().await
                    }
                });
                vacant.insert(Visit { id, _kept: kept }).id
            }
        }
    }

    /// Nothing is news of these any more, on whichever core they are, for what is asked behind this call.
    pub async fn forget(&self, shard: &Shard, forgotten: impl IntoIterator<Item = PartitionId>) {
        let (here, elsewhere) = owners::here_and_elsewhere(shard, forgotten, |id| *id);
        self.here.borrow_mut().forget(&here);
        for (core, forgotten) in elsewhere {
            let visit = self.elsewhere.borrow().get(&core).map(|visit| visit.id);
            if let Some(visit) = visit {
                let told = shard.begin(core, move |shard| async move {
                    if let Some(watched) = shard.visitors().watched(visit) {
                        watched.borrow_mut().forget(&forgotten);
                    }
                });
                // What is asked next comes behind it: its answer is nothing to wait for.
                drop(told.await);
            }
        }
    }
}

/// Keeps what is watched for a session of another core, until it is dropped with the task that has it.
struct Visitor {
    shard: Rc<Shard>,
    id: VisitId,
}

impl Visitor {
    fn begin(shard: Rc<Shard>, id: VisitId) -> Self {
        shard.visitors().watched.borrow_mut().insert(id, Rc::default());
        Self { shard, id }
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.shard.visitors().watched.borrow_mut().remove(&self.id);
    }
}

impl Visitors {
    /// What is watched under a name; `None` once its session has ended. A poll keeps its session's watches, so it
    /// asks for what has ended only if it has ended itself, and nobody takes the answer.
    pub fn watched(&self, id: VisitId) -> Option<Rc<RefCell<WatchedPartitions>>> {
        self.watched.borrow().get(&id).cloned()
    }

    /// A name that no other session of `home` has or had.
    fn name(&self, home: CoreId) -> VisitId {
        let number = self.number_next.get();
        self.number_next.set(number + 1);
        VisitId { home, number }
    }
}
