//! The controller at work: one task at a time appends, applies and publishes.
//!
//! On core 0. A decision's records are one batch of `__cluster_metadata-0`, so that a crash leaves all of
//! them or none. They are applied once the batch is durable; the answer leaves once every core has the new
//! image. Work that has begun runs to its end, also when who asked for it is gone. An append that fails, but
//! for want of room, ends the controller: what is on the disk is then unknown, and the next start reads it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use flumen_engine::batch::{BatchBuilder, CheckedBatches, ControlRecord, Voter};
use flumen_engine::storage::{Directory, Runtime};
use flumen_engine::{
    AppendError, AppendOrigin, Appended, LeaderEpoch, Offset, Partition, ReadError, Timestamp,
};
use flumen_ring::gate::Turn;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use kafka_protocol::error::ResponseError;
use uuid::Uuid;

use super::{
    AdminError, Decision, RECORDS_PER_REQUEST_MAX, Registration, Rules, bootstrap, register, resign,
};
use crate::config::{BrokerConfig, GroupConfig, ListenerConfig};
use crate::metadata::directory::{Identity, METADATA_FOLDER, Opened};
use crate::metadata::image::{Image, METADATA_VERSION, Replay};
use crate::metadata::log::Voters;
use crate::metadata::records::{AbortTransaction, Levels, Record, RemoveTopic};
use crate::metadata::uuid_text;
use crate::time_slice::TimeSlice;

mod snapshots;

/// The log that the controller writes.
pub trait MetadataLog {
    /// Appends batches; complete when they are durable.
    fn append(&self, batches: CheckedBatches) -> LocalBoxFuture<'static, Result<Appended, AppendError>>;
    /// The offset that the next record gets.
    fn end_offset(&self) -> Offset;
    /// What is appended from now on goes to a file of its own.
    fn roll(&self);
    /// Moves the log's start up, durably, and removes the files that lie below it.
    fn delete_before(&self, start: Offset) -> LocalBoxFuture<'static, Result<(), ReadError>>;
}

impl MetadataLog for Partition {
    fn append(&self, batches: CheckedBatches) -> LocalBoxFuture<'static, Result<Appended, AppendError>> {
        Partition::append(self, batches, AppendOrigin::Coordinator).boxed_local()
    }

    fn end_offset(&self) -> Offset {
        self.log_end_offset()
    }

    fn roll(&self) {
        Partition::roll(self);
    }

    fn delete_before(&self, start: Offset) -> LocalBoxFuture<'static, Result<(), ReadError>> {
        let partition = self.clone();
        async move { partition.delete_records(start).await.map(drop) }.boxed_local()
    }
}

/// Who lets every core have a new image.
pub trait Publisher {
    /// Complete when every core answers by the image. Says which of its new partitions could not be created.
    fn publish(&self, image: Arc<Image>) -> LocalBoxFuture<'static, Vec<Unmade>>;
}

/// An answer, and which new partitions could not be created.
type Made<T> = Result<(T, Vec<Unmade>), AdminError>;

/// A partition of the image that the log directory has no place for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmade {
    /// Its topic.
    pub topic_id: Uuid,
    /// Its folder.
    pub name: String,
    /// What went wrong.
    pub why: String,
}

/// What is known of the metadata quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    /// Who leads, and is the one voter.
    pub leader_id: i32,
    /// The epoch that it leads in.
    pub leader_epoch: LeaderEpoch,
    /// The voter's log directory; nil in a static quorum, which names its voters by their ids alone.
    pub directory_id: Uuid,
    /// The end of what is durable.
    pub high_watermark: Offset,
    /// The end of what the voter has written.
    /// Invariant: `high_watermark <= log_end_offset`.
    pub log_end_offset: Offset,
    /// When this was so.
    pub now: Timestamp,
}

/// Why the controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// What was read at start is not what the engine opened.
    #[error(
        "{METADATA_FOLDER} ends at offset {found}, but {expected} was read from it: \
         the log directory changed, or is damaged"
    )]
    LogEnd {
        /// What was read.
        expected: i64,
        /// What the engine opened.
        found: i64,
    },
    /// The log cannot be written.
    #[error("cannot write {METADATA_FOLDER}: {0}")]
    Append(#[from] AppendError),
}

/// What the controller is made of.
pub struct ControllerParts {
    /// The broker's configuration.
    pub config: Arc<BrokerConfig>,
    /// The log directory as it was found.
    pub opened: Arc<Opened>,
    /// `__cluster_metadata-0`.
    pub log: Rc<dyn MetadataLog>,
    /// The way to all cores.
    pub publisher: Rc<dyn Publisher>,
    /// Where snapshots go.
    pub directory: Rc<dyn Directory>,
    /// Time and tasks.
    pub runtime: Rc<dyn Runtime>,
}

/// The embedded controller.
pub struct Controller {
    config: Arc<BrokerConfig>,
    identity: Identity,
    voters: Voters,
    log: Rc<dyn MetadataLog>,
    publisher: Rc<dyn Publisher>,
    directory: Rc<dyn Directory>,
    runtime: Rc<dyn Runtime>,
    /// Whoever holds it writes.
    turn: Turn,
    state: RefCell<State>,
    broker_epoch: Cell<i64>,
}

struct State {
    /// Invariant: holds every record that is durable, and no other.
    replay: Replay,
    epoch: i32,
    /// Whether an append failed, or the node resigned: nothing more is written.
    ended: bool,
    bytes_since_snapshot: u64,
    /// When there was a snapshot last; before the first, the start. On the clock that never goes back.
    last_snapshot: Duration,
    last_append: Timestamp,
}

impl Controller {
    /// Begins the new epoch, writes what an empty log begins with, registers this broker on these listeners,
    /// and publishes the image in which it leads.
    pub async fn start(
        parts: ControllerParts,
        listeners: &[ListenerConfig],
    ) -> Result<Rc<Self>, ControllerError> {
        let ControllerParts { config, opened, log, publisher, directory, runtime } = parts;
        let (expected, found) = (opened.loaded.end_offset, log.end_offset().0);
        if expected != found {
            return Err(ControllerError::LogEnd { expected, found });
        }
        let state = State {
            replay: Replay::new(opened.loaded.image.clone()),
            epoch: opened.epoch,
            ended: false,
            bytes_since_snapshot: opened.loaded.bytes_since_snapshot,
            last_snapshot: runtime.monotonic(),
            last_append: Timestamp(0),
        };
        let controller = Rc::new(Self {
            config,
            identity: opened.identity.clone(),
            voters: opened.loaded.voters.clone(),
            log,
            publisher,
            directory,
            runtime,
            turn: Turn::default(),
            state: RefCell::new(state),
            broker_epoch: Cell::new(-1),
        });
        {
            let _turn = controller.turn.take().await;
            controller.begin(&opened, listeners).await?;
            let image = Arc::new(controller.image());
            controller.publisher.publish(image).await;
        }
        // Nobody waits for it. Starts write records for each partition, and may be all that happens to a log.
        let starting = controller.clone();
        controller.runtime.spawn(Box::pin(async move {
            let _turn = starting.turn.take().await;
            starting.snapshot_when_due().await;
        }));
        Ok(controller)
    }

    /// The epoch of this broker's registration.
    pub fn broker_epoch(&self) -> i64 {
        self.broker_epoch.get()
    }

    /// The state after everything that is durable.
    pub fn image(&self) -> Image {
        self.state.borrow().replay.image().clone()
    }

    /// The quorum that the log is of: this node, which votes for itself and leads.
    pub fn quorum(&self) -> Quorum {
        let state = self.state.borrow();
        Quorum {
            leader_id: self.identity.node_id,
            leader_epoch: LeaderEpoch(state.epoch),
            directory_id: if self.voters.kraft_version > 0 {
                self.identity.directory_id
            } else {
                Uuid::nil()
            },
            high_watermark: Offset(state.replay.image().offset() + 1),
            log_end_offset: self.log.end_offset(),
            now: self.now(),
        }
    }

    /// Decides by the newest image, writes and publishes what was decided, and answers.
    pub async fn decide<T: 'static>(
        self: &Rc<Self>,
        decide: impl AsyncFnOnce(&Image, &Rules<'_>, &Turns) -> Decision<T> + 'static,
    ) -> Result<T, AdminError> {
        self.decide_and_make(decide).await.map(|(answer, _)| answer)
    }

    /// As [`Controller::decide`]; also says which new partitions could not be created. A topic that was to be
    /// created and has one of these is removed again, whole, before this completes.
    pub async fn decide_and_make<T: 'static>(
        self: &Rc<Self>,
        decide: impl AsyncFnOnce(&Image, &Rules<'_>, &Turns) -> Decision<T> + 'static,
    ) -> Made<T> {
        let answer: Rc<RefCell<Option<Made<T>>>> = Rc::default();
        // Held by the task, and free again when it is done.
        let done = Turn::default();
        let running = done.try_take().expect("it is new");
        let (controller, slot) = (self.clone(), answer.clone());
        // A task of its own: the caller may go away between the append and the publication.
        self.runtime.spawn(
            async move {
                let decided = controller.decide_in_turn(decide).await;
                slot.replace(Some(decided));
                drop(running);
            }
            .boxed_local(),
        );
        drop(done.take().await);
        answer.take().expect("set before the turn ended")
    }

    async fn decide_in_turn<T>(
        &self,
        decide: impl AsyncFnOnce(&Image, &Rules<'_>, &Turns) -> Decision<T>,
    ) -> Made<T> {
        let _turn = self.turn.take().await;
        if self.state.borrow().ended {
            return Err(AdminError::new(ResponseError::NotController, "The controller has stopped."));
        }
        let turns = Turns::of(&self.runtime);
        let Decision { records, answer } = decide(&self.image(), &self.rules(), &turns).await;
        if records.is_empty() {
            return Ok((answer, Vec::new()));
        }
        let new_topics = topics_in(&records);
        let unmade = self.make(records).await?;
        let withdrawn: BTreeSet<Uuid> =
            unmade.iter().map(|unmade| unmade.topic_id).filter(|id| new_topics.contains(id)).collect();
        if !withdrawn.is_empty() {
            let removals = withdrawn.into_iter().map(|topic_id| RemoveTopic { topic_id }.into());
            self.make(removals.collect()).await?;
        }
        self.snapshot_when_due().await;
        Ok((answer, unmade))
    }

    /// Writes records and lets every core have what they say.
    async fn make(&self, records: Vec<Record>) -> Result<Vec<Unmade>, AdminError> {
        self.append(records).await.map_err(|error| {
            tracing::error!(%error, "the change is not made");
            AdminError::new(ResponseError::KafkaStorageError, error.to_string())
        })?;
        Ok(self.publisher.publish(Arc::new(self.image())).await)
    }

    /// Leaves the partitions to whoever starts next on the directory, and writes no more.
    pub async fn stop(&self) -> Result<(), ControllerError> {
        let _turn = self.turn.take().await;
        if self.state.borrow().ended {
            return Ok(());
        }
        let records = resign(&self.image(), &self.rules(), self.broker_epoch());
        let appended = self.append(records).await;
        self.state.borrow_mut().ended = true;
        appended
    }

    /// What the groups' own topics are like.
    pub(super) fn groups(&self) -> &GroupConfig {
        &self.config.groups
    }

    fn rules(&self) -> Rules<'_> {
        Rules {
            node_id: self.identity.node_id,
            directory_id: self.identity.directory_id,
            topics: self.config.topics,
            settings: &self.config.settings,
        }
    }

    /// Everything that a start writes, in one append: one flush, however much it is.
    async fn begin(&self, opened: &Opened, listeners: &[ListenerConfig]) -> Result<(), ControllerError> {
        let node_id = self.identity.node_id;
        let voter = Voter { id: node_id, directory: None };
        let (voters, granting_voters) = (vec![voter], vec![voter]);
        let change = ControlRecord::LeaderChange { leader: node_id, voters, granting_voters };
        let mut staged = Staged {
            replay: Replay::new(opened.loaded.image.clone()),
            next: self.log.end_offset().0,
            epoch: opened.epoch,
            now: self.now(),
            batches: Vec::new(),
        };
        let turns = Turns::of(&self.runtime);
        staged.push_unseen(BatchBuilder::control(staged.now, &change));
        if opened.loaded.open_transaction {
            // The image never saw it begin, and must not see it end.
            let reason = Some("the controller that began it stopped".to_owned());
            staged.push_unseen(staged.batch(&[AbortTransaction { reason }.into()], &turns).await);
        }
        if !opened.bootstrap.is_empty() {
            let records = bootstrap(&opened.bootstrap, self.config.topics.min_insync_replicas);
            staged.push(records, &turns).await;
        }
        let registration = Registration {
            rack: self.config.node.rack.clone(),
            incarnation_id: uuid_text::random(),
            listeners,
            broker_epoch: staged.next,
        };
        let records = register(staged.replay.image(), &self.rules(), &registration);
        staged.push(records, &turns).await;
        self.append_staged(staged).await?;
        self.broker_epoch.set(registration.broker_epoch);
        Ok(())
    }

    /// Appends records, as one batch if they are those of one request, and applies them when durable.
    async fn append(&self, records: Vec<Record>) -> Result<(), ControllerError> {
        let (replay, epoch) = {
            let state = self.state.borrow();
            (Replay::new(state.replay.image().clone()), state.epoch)
        };
        let next = self.log.end_offset().0;
        let mut staged = Staged { replay, next, epoch, now: self.now(), batches: Vec::new() };
        staged.push(records, &Turns::of(&self.runtime)).await;
        self.append_staged(staged).await
    }

    /// Writes what is staged; it is the state once it is durable.
    async fn append_staged(&self, staged: Staged) -> Result<(), ControllerError> {
        let Staged { replay, next, now, batches, .. } = staged;
        let batches = CheckedBatches::from_internal(batches);
        let length = batches.length() as u64;
        let appended = self.log.append(batches).await;
        let mut state = self.state.borrow_mut();
        match &appended {
            Ok(appended) => {
                assert_eq!(appended.last_offset.0 + 1, next, "nobody else appends to the metadata log");
                state.replay = replay;
                state.bytes_since_snapshot += length;
                state.last_append = now;
            }
            // Nothing was placed: the disk may have room again later.
            Err(AppendError::NoSpace) => {}
            Err(_) => state.ended = true,
        }
        Ok(appended.map(drop)?)
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.runtime.wall_ms())
    }
}

/// Parts what the controller does into turns: a request may be of thousands of topics.
pub type Turns = TimeSlice<Rc<dyn Runtime>>;

/// The topics that these records create.
fn topics_in(records: &[Record]) -> BTreeSet<Uuid> {
    let created = records.iter().map(|record| match record {
        Record::Topic(topic) => Some(topic.topic_id),
        _ => None,
    });
    created.flatten().collect()
}

/// Batches that are not written yet, and the state once they are.
struct Staged {
    replay: Replay,
    /// The offset that the next record gets.
    next: i64,
    epoch: i32,
    now: Timestamp,
    /// Invariant: the records from the log's end to `next`.
    batches: Vec<BatchBuilder>,
}

impl Staged {
    /// Adds records that the image sees, in batches of what one request may have.
    async fn push(&mut self, records: Vec<Record>, turns: &Turns) {
        let mut left = records.into_iter();
        while !left.as_slice().is_empty() {
            let count = left.len().min(RECORDS_PER_REQUEST_MAX);
            let batch = self.batch(&left.as_slice()[..count], turns).await;
            self.batches.push(batch);
            for record in left.by_ref().take(count) {
                self.replay
                    .apply(self.next, self.epoch, record)
                    .expect("a decision fits the image that it was made for");
                self.next += 1;
                turns.pause().await;
            }
        }
    }

    /// Adds a batch that the image does not see.
    fn push_unseen(&mut self, batch: BatchBuilder) {
        self.next += batch.records() as i64;
        self.batches.push(batch);
        self.replay.skip(self.next - 1, self.epoch);
    }

    async fn batch(&self, records: &[Record], turns: &Turns) -> BatchBuilder {
        let levels = self.levels(records);
        let mut builder = BatchBuilder::new();
        let mut bytes = Vec::new();
        for record in records {
            bytes.clear();
            record.write(&mut bytes, levels);
            builder.append(self.now, None, Some(&bytes), &[]);
            turns.pause().await;
        }
        builder
    }

    /// The levels of the image; while it has none, what the records themselves begin with.
    fn levels(&self, records: &[Record]) -> Levels {
        let set = records.iter().find_map(|record| match record {
            Record::FeatureLevel(feature) if feature.name == METADATA_VERSION => Some(feature.level),
            _ => None,
        });
        match set {
            Some(metadata_version) => Levels { metadata_version },
            None => self.replay.image().levels(),
        }
    }
}

#[cfg(test)]
mod tests;
