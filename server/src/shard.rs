//! One core's composition root: what lives on it, and how the others are reached.
//!
//! A shard is of one thread and never shared. Another core's partitions and groups are reached by
//! [`Shard::call`], which runs work over there and brings back what it answers. A crash leaves behind what
//! the engine keeps; everything here is rebuilt.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use flumen_engine::storage::uring::RingRuntime;
use flumen_engine::{CoreId, Engine, Partition, PartitionId};
use flumen_ring::{Helper, ReactorStats, Receiver, Ring};
use futures_util::FutureExt;
use futures_util::future::{AbortHandle, LocalBoxFuture, abortable};
use kafka_protocol::error::ResponseError;
use uuid::Uuid;

use crate::auto_creation::AutoCreation;
use crate::config::BrokerConfig;
use crate::connections::Connections;
use crate::fetch_session::{FetchSessions, SessionLimits};
use crate::fetch_watches::{SessionWatches, Visitors};
use crate::groups::coordinator::GroupCoordinator;
use crate::groups::settings::GroupSettings;
use crate::log_output;
use crate::memory::{AnswerMemory, RequestMemory};
use crate::messages::{Answer, Links, Reply, ShardMessage, SlotId, Work};
use crate::metadata::controller::{AdminError, Controller};
use crate::metadata::image::Image;
use crate::metadata::topic_config::Treatment;
use crate::placement::METADATA_PARTITION;
use crate::producer_ids::ProducerIds;

/// Messages that are taken from one mailbox before other tasks have their turn.
const MESSAGES_PER_TURN: usize = 64;

/// What the process ends with when its log directory failed. Kafka halts with 1, too.
const OFFLINE_EXIT_CODE: i32 = 1;

/// Partitions in the fetch sessions of all cores together; one takes about 630 bytes with what is watched of it.
const SESSION_PARTITIONS_MAX: usize = 100_000;

/// What one core holds.
pub struct Shard {
    core: CoreId,
    cores: u16,
    config: Arc<BrokerConfig>,
    ring: Ring,
    engine: Engine,
    image: RefCell<Arc<Image>>,
    links: Links,
    /// Work that runs here for other cores, to be ended when nobody waits for it any more.
    visiting: RefCell<BTreeMap<(CoreId, SlotId), AbortHandle>>,
    groups: GroupCoordinator,
    fetch_sessions: RefCell<FetchSessions<Rc<SessionWatches>>>,
    visitors: Visitors,
    producer_ids: ProducerIds,
    auto_creation: AutoCreation,
    /// Of the topics whose batches are not just stored as they come.
    treatments: RefCell<BTreeMap<Uuid, Treatment>>,
    started: Instant,
    /// On core 0 only, once it has begun.
    controller: OnceCell<Rc<Controller>>,
    compute: Helper,
    memory: RequestMemory,
    answer_memory: AnswerMemory,
    connections: Connections,
}

/// What a shard is made of.
pub struct ShardParts {
    /// Which core it is.
    pub core: CoreId,
    /// How many there are.
    pub cores: u16,
    /// The resolved configuration.
    pub config: Arc<BrokerConfig>,
    /// This thread's reactor.
    pub ring: Ring,
    /// The opened engine.
    pub engine: Engine,
    /// The metadata at start.
    pub image: Arc<Image>,
    /// The ways to the other cores.
    pub links: Links,
    /// The thread for what would keep a core too long.
    pub compute: Helper,
    /// Memory for the requests of this core's connections, in bytes.
    pub request_memory_bytes: usize,
    /// What the answers to fetches may hold before they shrink, in bytes.
    pub answer_memory_bytes: usize,
}

impl Shard {
    /// The shard of a core, taking messages from the others.
    pub fn start(parts: ShardParts, receivers: Vec<(CoreId, Receiver<ShardMessage>)>) -> Rc<Self> {
        let memory = RequestMemory::new(parts.request_memory_bytes);
        let shard = Rc::new(Self {
            core: parts.core,
            cores: parts.cores,
            fetch_sessions: RefCell::new(fetch_sessions(&parts)),
            visitors: Visitors::default(),
            producer_ids: ProducerIds::default(),
            auto_creation: AutoCreation::default(),
            treatments: RefCell::default(),
            started: parts.ring.now(),
            groups: GroupCoordinator::new(
                RingRuntime::new(&parts.ring),
                GroupSettings::from(&parts.config.groups),
            ),
            connections: Connections::new(&parts.ring, parts.config.network.idle_max),
            config: parts.config,
            ring: parts.ring,
            engine: parts.engine,
            image: RefCell::new(parts.image),
            links: parts.links,
            visiting: RefCell::default(),
            controller: OnceCell::new(),
            compute: parts.compute,
            memory,
            answer_memory: AnswerMemory::new(parts.answer_memory_bytes),
        });
        for (peer, receiver) in receivers {
            let inbox = receiver.attach(&shard.ring);
            let receiving = shard.clone();
            shard.ring.spawn(async move {
                let mut taken = 0;
                while let Some(message) = inbox.recv().await {
                    receiving.receive(peer, message);
                    taken += 1;
                    if taken % MESSAGES_PER_TURN == 0 {
                        receiving.ring.yield_now().await;
                    }
                }
            });
        }
        shard
    }

    /// Which core this is.
    pub fn core(&self) -> CoreId {
        self.core
    }

    /// Every core of this broker.
    pub fn cores(&self) -> impl Iterator<Item = CoreId> + use<> {
        (0..self.cores).map(CoreId)
    }

    /// How many cores there are.
    pub fn core_count(&self) -> u16 {
        self.cores
    }

    /// The broker's configuration, as it was resolved at start.
    pub fn config(&self) -> &Arc<BrokerConfig> {
        &self.config
    }

    /// This core's reactor: tasks, time.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Says how long the turns of this core's tasks took.
    pub fn tell_turns(&self) {
        let ReactorStats { polls, slow_polls, longest_poll_us, .. } = self.ring.stats();
        tracing::debug!(core = %self.core, polls, slow_polls, longest_poll_us, "turns of tasks");
    }

    /// The partitions of this core.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The groups of this core.
    pub fn groups(&self) -> &GroupCoordinator {
        &self.groups
    }

    /// The fetch sessions of this core's connections.
    pub fn fetch_sessions(&self) -> &RefCell<FetchSessions<Rc<SessionWatches>>> {
        &self.fetch_sessions
    }

    /// What is watched here for fetch sessions of other cores.
    pub fn visitors(&self) -> &Visitors {
        &self.visitors
    }

    /// Producer ids that this core gives.
    pub fn producer_ids(&self) -> &ProducerIds {
        &self.producer_ids
    }

    /// Topics that this core's clients are making by asking for them.
    pub fn auto_creation(&self) -> &AutoCreation {
        &self.auto_creation
    }

    /// What is done to a topic's batches before they are appended, if anything.
    pub fn treatment(&self, topic: &Uuid) -> Option<Treatment> {
        self.treatments.borrow().get(topic).copied()
    }

    /// Keeps what is done to a topic's batches; `None` when it is gone.
    pub fn set_treatment(&self, topic: Uuid, treatment: Option<Treatment>) {
        match treatment.filter(Treatment::is_any) {
            Some(treatment) => drop(self.treatments.borrow_mut().insert(topic, treatment)),
            None => drop(self.treatments.borrow_mut().remove(&topic)),
        }
    }

    /// Milliseconds since the start, when this turn of the running task began; never goes back.
    pub fn monotonic_ms(&self) -> i64 {
        i64::try_from(self.ring.turn_began().duration_since(self.started).as_millis()).unwrap_or(i64::MAX)
    }

    /// The controller, on its own core and once it has begun.
    pub fn controller(&self) -> Option<&Rc<Controller>> {
        self.controller.get()
    }

    /// Gives this core the controller.
    pub fn set_controller(&self, controller: Rc<Controller>) {
        assert!(self.controller.set(controller).is_ok(), "one controller for the life of the broker");
    }

    /// Runs `work` with the controller, on its core.
    pub async fn with_controller<T, F>(
        self: &Rc<Self>,
        work: impl FnOnce(Rc<Controller>) -> F + Send + 'static,
    ) -> Result<T, AdminError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, AdminError>> + 'static,
    {
        self.call(core_of(&METADATA_PARTITION, self.cores), async move |shard: Rc<Shard>| {
            match shard.controller().cloned() {
                Some(controller) => work(controller).await,
                None => Err(AdminError::new(ResponseError::NotController, "The controller has not begun.")),
            }
        })
        .await
    }

    /// The thread for what would keep a core too long: decompression.
    pub fn compute(&self) -> &Helper {
        &self.compute
    }

    /// Memory for requests.
    pub fn memory(&self) -> &RequestMemory {
        &self.memory
    }

    /// What answers to fetches hold.
    pub fn answer_memory(&self) -> &AnswerMemory {
        &self.answer_memory
    }

    /// The connections of this core.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The metadata as this core knows it.
    pub fn image(&self) -> Arc<Image> {
        self.image.borrow().clone()
    }

    /// Makes newer metadata known to this core. What it means for the core's partitions is done before.
    pub fn set_image(&self, image: Arc<Image>) {
        *self.image.borrow_mut() = image;
    }

    /// The core that a partition lives on. Nothing on the disk depends on it.
    pub fn core_of(&self, id: &PartitionId) -> CoreId {
        core_of(id, self.cores)
    }

    /// A partition of this core, if it is here.
    pub fn partition(&self, id: &PartitionId) -> Option<Partition> {
        self.engine.partition(id)
    }

    /// Runs `work` on the shard of `core` and answers with what it answers.
    ///
    /// Calls from one core to another start in the order in which they were made, up to the first point
    /// where their work waits.
    pub async fn call<T, F>(
        self: &Rc<Self>,
        core: CoreId,
        work: impl FnOnce(Rc<Shard>) -> F + Send + 'static,
    ) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        if core == self.core {
            return work(self.clone()).await;
        }
        self.begin(core, work).await.await
    }

    /// Sends `work` to another core, and returns the way to its answer as soon as it is sent.
    pub async fn begin<T, F>(
        &self,
        core: CoreId,
        work: impl FnOnce(Rc<Shard>) -> F + Send + 'static,
    ) -> Reply<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        self.links.call(core, boxed(work)).await
    }

    /// As [`Shard::begin`], for work that may wait for long and ends when the reply is dropped. The caller
    /// sees to a bound.
    pub fn wait_for<T, F>(&self, core: CoreId, work: impl FnOnce(Rc<Shard>) -> F + Send + 'static) -> Reply<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        self.links.wait_for(core, boxed(work))
    }

    /// Ends the process if the log directory is offline: it is the only one, so nothing can be served, and
    /// what is on the disk is for the next start to find out. Called where an error may mean that, so that the
    /// answer is not sent; and by a task that waits for it.
    pub fn end_if_offline(&self) {
        if self.engine.directory_offline() {
            let directory = self.config.node.log_dir.display();
            tracing::error!(
                %directory,
                "the log directory failed and is offline; ending. Look at the disk, then start again: \
                 everything acknowledged is recovered"
            );
            log_output::exit(OFFLINE_EXIT_CODE);
        }
    }

    fn receive(self: &Rc<Self>, peer: CoreId, message: ShardMessage) {
        match message {
            ShardMessage::Call { slot, work, waits: false } => {
                let (working, shard) = (work(self.clone()), self.clone());
                self.ring.spawn(async move {
                    let answer = working.await;
                    shard.links.post(peer, ShardMessage::Answer { slot, answer });
                });
            }
            ShardMessage::Call { slot, work, waits: true } => {
                let (visitor, handle) = abortable(work(self.clone()));
                self.visiting.borrow_mut().insert((peer, slot), handle);
                let shard = self.clone();
                self.ring.spawn(async move {
                    let answer = visitor.await;
                    shard.visiting.borrow_mut().remove(&(peer, slot));
                    if let Ok(answer) = answer {
                        shard.links.post(peer, ShardMessage::Answer { slot, answer });
                    }
                });
            }
            ShardMessage::Answer { slot, answer } => self.links.fulfil(slot, answer),
            ShardMessage::Cancel { slot } => {
                let handle = self.visiting.borrow_mut().remove(&(peer, slot));
                if let Some(handle) = handle {
                    handle.abort();
                }
            }
        }
    }
}

/// This core's share of the sessions.
fn fetch_sessions(parts: &ShardParts) -> FetchSessions<Rc<SessionWatches>> {
    let cores = usize::from(parts.cores);
    let limits = SessionLimits {
        sessions_max: parts.config.fetch.sessions_max.div_ceil(cores),
        partitions_max: SESSION_PARTITIONS_MAX.div_ceil(cores),
    };
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    FetchSessions::new(limits, high ^ low).of_core(parts.core, parts.cores)
}

fn boxed<T, F>(work: impl FnOnce(Rc<Shard>) -> F + Send + 'static) -> Work
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    Box::new(move |shard| -> LocalBoxFuture<'static, Answer> {
        work(shard).map(|answer| Box::new(answer) as Answer).boxed_local()
    })
}

/// The core of a partition: the topic's id gives a seed, so that the partitions of one topic spread evenly
/// and those of many small topics too. The metadata log lives on core 0, with the controller.
pub fn core_of(id: &PartitionId, cores: u16) -> CoreId {
    let (high, low) = id.topic.as_u64_pair();
    if (high, low) == (0, 1) {
        return CoreId(0);
    }
    let seed = (high ^ low).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let index = seed.wrapping_add(u64::from(id.partition.unsigned_abs())) % u64::from(cores);
    CoreId(u16::try_from(index).expect("below the number of cores"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partitions_of_a_topic_spread_over_the_cores() {
        let topic = uuid::Uuid::new_v4();
        let mut counts = [0; 4];
        for partition in 0..64 {
            counts[usize::from(core_of(&PartitionId { topic, partition }, 4).0)] += 1;
        }
        assert_eq!(counts, [16; 4]);
        let metadata = PartitionId { topic: uuid::Uuid::from_u64_pair(0, 1), partition: 0 };
        assert_eq!(core_of(&metadata, 4), CoreId(0));
    }
}
