//! One `__consumer_offsets` partition and its groups, on the core that owns it: loads, appends, keeps time.
//!
//! The state machine of [`super::partition`] decides; here its effects happen. Writes are appended at once, in
//! order, so that many share one commit group; a task waits for them in the same order and tells the state
//! machine of each. A timer is armed for the earliest deadline, and none without one. Invariants: nothing is
//! answered from groups that are not wholly loaded; what waits for a write is answered after it is durable.
//! A crash loses what was not durable, and nobody was told of that.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use flumen_engine::batch::{self, BatchBuilder, BatchError, CheckedBatches, ControlType};
use flumen_engine::storage::Runtime;
use flumen_engine::{AppendError, Offset, ReadError, Timestamp};
use futures_util::future::LocalBoxFuture;
use kafka_protocol::ResponseError;

use super::fold::{Fold, Step};
use super::log::{GroupLog, append_error};
use super::messages::{Answer, Effects, ListedGroup, Now, Then, Waiter, Write};
use super::partition::{GroupPartition, Request};
use super::records::{Record, RecordError};
use super::settings::GroupSettings;
use crate::compression::OpenError;

/// Records that are replayed before other tasks of the core have their turn.
const RECORDS_PER_TURN: usize = 256;

/// Why groups could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A batch that is damaged.
    #[error("after offset {offset}: {source}")]
    Batch {
        /// The first offset of what was being read.
        offset: Offset,
        /// What is wrong.
        source: BatchError,
    },
    /// A compressed batch that cannot be opened.
    #[error("after offset {offset}: {source}")]
    Compressed {
        /// The batch's first offset.
        offset: Offset,
        /// Why.
        source: OpenError,
    },
    /// A record that is no group's.
    #[error("record at offset {offset}: {source}")]
    Record {
        /// The record's offset.
        offset: Offset,
        /// What is wrong.
        source: RecordError,
    },
}

enum State {
    Loading {
        /// Topics that were deleted in the meantime: their offsets go as soon as they are known.
        deleted: Vec<String>,
    },
    Active(Box<GroupPartition>),
    /// The log failed: nobody is answered from here any more.
    Failed,
}

struct Pending {
    /// None if nothing was to be appended: it only waits for its turn.
    append: Option<LocalBoxFuture<'static, Result<Offset, AppendError>>>,
    then: Then,
    /// How many records are appended.
    records: usize,
    /// It is a piece of a fold.
    folds: bool,
}

#[derive(Default)]
struct Slot {
    answer: Option<Answer>,
    waker: Option<Waker>,
}

/// One partition's groups.
pub struct Hosted {
    index: i32,
    runtime: Rc<dyn Runtime>,
    log: Rc<dyn GroupLog>,
    settings: GroupSettings,
    state: RefCell<State>,
    pending: RefCell<VecDeque<Pending>>,
    /// Whether a task waits for `pending`.
    waits_for_log: Cell<bool>,
    slots: RefCell<BTreeMap<Waiter, Slot>>,
    last_waiter: Cell<u64>,
    fold: RefCell<Fold>,
    /// When the timers go off that are armed, on the monotonic clock. Invariant: each earlier than the one before it.
    armed_for_ms: RefCell<Vec<i64>>,
}

impl Hosted {
    /// Takes over partition `index` and begins to load its groups.
    pub fn open(
        index: i32,
        runtime: Rc<dyn Runtime>,
        log: Rc<dyn GroupLog>,
        settings: GroupSettings,
    ) -> Rc<Self> {
        let hosted = Rc::new(Self {
            index,
            runtime,
            log,
            settings,
            state: RefCell::new(State::Loading { deleted: Vec::new() }),
            pending: RefCell::default(),
            waits_for_log: Cell::new(false),
            slots: RefCell::default(),
            last_waiter: Cell::new(0),
            fold: RefCell::default(),
            armed_for_ms: RefCell::default(),
        });
        let loading = hosted.clone();
        hosted.runtime.spawn(Box::pin(async move { loading.load().await }));
        hosted
    }

    /// Asks something of a group, and waits for the answer for as long as it takes.
    pub async fn ask(self: &Rc<Self>, group_id: &str, request: Request) -> Result<Answer, ResponseError> {
        let waiter = Waiter(self.last_waiter.get() + 1);
        let seat = {
            let mut state = self.state.borrow_mut();
            let State::Active(groups) = &mut *state else { return Err(self.unavailable(&state)) };
            self.last_waiter.set(waiter.0);
            self.slots.borrow_mut().insert(waiter, Slot::default());
            let mut effects = Effects::default();
            groups.handle(group_id, request, waiter, self.now(), &mut effects);
            self.carry_out(groups, effects);
            Seat { hosted: self.clone(), waiter }
        };
        self.follow_up();
        Ok(seat.answer().await)
    }

    /// Every group.
    pub fn list(&self) -> Result<Vec<ListedGroup>, ResponseError> {
        match &*self.state.borrow() {
            State::Active(groups) => Ok(groups.list()),
            // Kafka leaves partitions out that it does not own, and fails while one is loaded.
            State::Failed => Ok(Vec::new()),
            state @ State::Loading { .. } => Err(self.unavailable(state)),
        }
    }

    /// Topics were deleted.
    pub fn topics_deleted(self: &Rc<Self>, topics: &[String]) {
        if let State::Loading { deleted } = &mut *self.state.borrow_mut() {
            deleted.extend_from_slice(topics);
        }
        self.event(|groups, _, effects| groups.topics_deleted(topics, effects));
    }

    /// The partition is gone.
    pub fn close(self: &Rc<Self>) {
        self.fail(ResponseError::NotCoordinator);
    }

    fn unavailable(&self, state: &State) -> ResponseError {
        match state {
            State::Loading { .. } => ResponseError::CoordinatorLoadInProgress,
            _ => ResponseError::NotCoordinator,
        }
    }

    fn now(&self) -> Now {
        let monotonic_ms = i64::try_from(self.runtime.monotonic().as_millis()).unwrap_or(i64::MAX);
        Now { monotonic_ms, wall_ms: self.runtime.wall_ms() }
    }

    /// Lets something happen to the groups, if they are there.
    fn event(self: &Rc<Self>, happen: impl FnOnce(&mut GroupPartition, Now, &mut Effects)) {
        {
            let mut state = self.state.borrow_mut();
            let State::Active(groups) = &mut *state else { return };
            let mut effects = Effects::default();
            happen(groups, self.now(), &mut effects);
            self.carry_out(groups, effects);
        }
        self.follow_up();
    }

    /// Gives answers and appends records. What only waits for its turn is done at once if nothing is before it.
    fn carry_out(&self, groups: &mut GroupPartition, effects: Effects) {
        let mut writes: VecDeque<Write> = effects.writes.into();
        self.give(effects.answers);
        while let Some(Write { records, then }) = writes.pop_front() {
            if !records.is_empty() {
                self.append(&records, then, false);
            } else if !self.pending.borrow().is_empty() || self.waits_for_log.get() {
                self.pending.borrow_mut().push_back(Pending { append: None, then, records: 0, folds: false });
            } else {
                let mut effects = Effects::default();
                groups.written(then, Ok(self.log.start().0), self.now(), &mut effects);
                self.give(effects.answers);
                writes.extend(effects.writes);
            }
        }
    }

    fn append(&self, records: &[Record], then: Then, folds: bool) {
        let mut batches = vec![BatchBuilder::new()];
        let timestamp = Timestamp(self.runtime.wall_ms());
        for record in records {
            let mut batch = batches.last_mut().expect("there is one from the start");
            if batch.records() > 0 && batch.length() + record.size() > self.settings.batch_bytes_max {
                batches.push(BatchBuilder::new());
                batch = batches.last_mut().expect("it was pushed");
            }
            batch.append(timestamp, Some(&record.key), record.value.as_deref(), &[]);
            self.fold.borrow_mut().note(&record.key, record.value.as_ref());
        }
        let append = Some(self.log.append(CheckedBatches::from_internal(batches)));
        let pending = Pending { append, then, records: records.len(), folds };
        self.pending.borrow_mut().push_back(pending);
    }

    fn give(&self, answers: Vec<(Waiter, Answer)>) {
        for (waiter, answer) in answers {
            // Whoever no longer waits has no slot.
            let mut slots = self.slots.borrow_mut();
            let Some(slot) = slots.get_mut(&waiter) else { continue };
            slot.answer = Some(answer);
            let waker = slot.waker.take();
            drop(slots);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// After an event: somebody waits for the log if there is something to wait for, and a timer is armed for
    /// the earliest deadline.
    fn follow_up(self: &Rc<Self>) {
        if !self.waits_for_log.get() && !self.pending.borrow().is_empty() {
            self.waits_for_log.set(true);
            let hosted = self.clone();
            self.runtime.spawn(Box::pin(async move { hosted.wait_for_log().await }));
        }
        let deadline_ms = match &*self.state.borrow() {
            State::Active(groups) => groups.next_deadline_ms(),
            State::Loading { .. } | State::Failed => None,
        };
        let Some(deadline_ms) = deadline_ms else { return };
        let mut armed_for_ms = self.armed_for_ms.borrow_mut();
        if armed_for_ms.last().is_none_or(|armed_ms| deadline_ms < *armed_ms) {
            armed_for_ms.push(deadline_ms);
            let wait_ms = u64::try_from(deadline_ms - self.now().monotonic_ms).unwrap_or(0);
            // One more than the clock shows, which is rounded down.
            let sleep = self.runtime.sleep(Duration::from_millis(wait_ms + 1));
            self.runtime.spawn(Box::pin(wake_up(Rc::downgrade(self), deadline_ms, sleep)));
        }
    }

    async fn wait_for_log(self: Rc<Self>) {
        loop {
            let next = self.pending.borrow_mut().pop_front();
            let Some(Pending { append, then, records, folds }) = next else { break };
            let result = match append {
                Some(append) => append.await,
                None => Ok(self.log.start()),
            };
            let base_offset = result.as_ref().map(|offset| offset.0).map_err(append_error);
            self.event(|groups, now, effects| groups.written(then, base_offset, now, effects));
            if let Err(error) = result {
                tracing::error!(partition = self.index, %error, "group state could not be written");
                if base_offset == Err(ResponseError::NotCoordinator) {
                    self.fail(ResponseError::NotCoordinator);
                }
            }
            if records > 0 {
                self.go_on_folding(base_offset.ok().map(Offset), records, folds);
            }
        }
        self.waits_for_log.set(false);
    }

    /// After an append: if the log holds much more than what is alive, or a piece of a fold is durable, the
    /// next piece is appended; see [`super::fold`].
    fn go_on_folding(self: &Rc<Self>, base_offset: Option<Offset>, records: usize, folds: bool) {
        let state = self.state.borrow();
        let State::Active(groups) = &*state else { return };
        let mut fold = self.fold.borrow_mut();
        let step = fold.appended(self.log.start(), base_offset, records, folds, groups);
        drop(fold);
        match step {
            Step::Nothing => {}
            Step::Append(batches) => {
                for records in batches {
                    self.append(&records, Then::Nothing, true);
                }
            }
            Step::Trim(start) => {
                let (index, trim) = (self.index, self.log.trim(start));
                self.runtime.spawn(Box::pin(async move {
                    match trim.await {
                        Ok(()) => tracing::debug!(partition = index, %start, "group state is folded"),
                        Err(error) => {
                            tracing::warn!(partition = index, %error, "old group state stays in the log")
                        }
                    }
                }));
            }
        }
    }

    /// Nothing is known for sure any more: everyone who waits is sent to look for the coordinator again.
    fn fail(&self, error: ResponseError) {
        let before = std::mem::replace(&mut *self.state.borrow_mut(), State::Failed);
        let mut effects = Effects::default();
        if let State::Active(mut groups) = before {
            for Pending { then, .. } in std::mem::take(&mut *self.pending.borrow_mut()) {
                groups.written(then, Err(error), self.now(), &mut effects);
            }
            groups.unload(error, self.now(), &mut effects);
        }
        self.give(effects.answers);
    }

    async fn load(self: Rc<Self>) {
        let mut groups = Box::new(GroupPartition::new(self.settings.clone()));
        let started = self.runtime.monotonic();
        let mut deleted_topics = Vec::new();
        match self.replay(&mut groups).await {
            Ok(records) => {
                let ms = (self.runtime.monotonic() - started).as_millis();
                tracing::debug!(
                    partition = self.index,
                    groups = groups.len(),
                    records,
                    ms,
                    "groups are loaded"
                );
                let mut state = self.state.borrow_mut();
                if let State::Loading { deleted } = &mut *state {
                    deleted_topics = std::mem::take(deleted);
                    *state = State::Active(groups);
                }
            }
            Err(error) => {
                tracing::error!(partition = self.index, %error, "groups cannot be loaded; they are not served");
                *self.state.borrow_mut() = State::Failed;
            }
        }
        self.event(|groups, now, effects| {
            groups.loaded(now, effects);
            groups.topics_deleted(&deleted_topics, effects);
        });
    }

    async fn replay(&self, groups: &mut GroupPartition) -> Result<usize, LoadError> {
        let (mut next, mut count) = (self.log.start(), 0);
        loop {
            let piece = self.log.read(next).await?;
            if piece.bytes.is_empty() {
                return Ok(count);
            }
            let before = next;
            for batch in batch::batches(&piece.bytes) {
                let (header, bytes) = batch.map_err(|source| LoadError::Batch { offset: next, source })?;
                let damaged = |source| LoadError::Batch { offset: header.base_offset(), source };
                header.verify(bytes).map_err(damaged)?;
                let producer_id = header.is_transactional().then(|| header.producer_id.get());
                let after = Offset(header.last_offset().0 + 1);
                let opened;
                let bytes = if header.is_compressed() {
                    let opening = self.log.open(piece.bytes.slice_ref(bytes)).await;
                    let failed = |source| LoadError::Compressed { offset: header.base_offset(), source };
                    opened = opening.map_err(failed)?;
                    &opened[..]
                } else {
                    bytes
                };
                for record in batch::records(bytes).map_err(damaged)? {
                    let record = record.map_err(damaged)?;
                    let Some(key) = record.key.filter(|_| record.offset >= next) else { continue };
                    if header.is_control() {
                        if let (Some(producer_id), Some(kind)) = (producer_id, ControlType::of_key(key)) {
                            groups.replay_marker(producer_id, kind == ControlType::Commit);
                        }
                        continue;
                    }
                    let (key, value) =
                        (Bytes::copy_from_slice(key), record.value.map(Bytes::copy_from_slice));
                    match groups.replay(record.offset.0, producer_id, &key, value.as_ref(), self.now()) {
                        Ok(()) => {}
                        Err(error @ RecordError::Version { .. }) => {
                            tracing::warn!(partition = self.index, offset = %record.offset, %error, "a record is skipped");
                        }
                        Err(source) => return Err(LoadError::Record { offset: record.offset, source }),
                    }
                    self.fold.borrow_mut().note(&key, value.as_ref());
                    count += 1;
                    if count % RECORDS_PER_TURN == 0 {
                        self.runtime.yield_now().await;
                    }
                }
                next = after;
            }
            if next >= piece.end {
                return Ok(count);
            }
            if next == before {
                let source = BatchError::NoBatch { length: piece.bytes.len() };
                return Err(LoadError::Batch { offset: next, source });
            }
        }
    }
}

async fn wake_up(hosted: Weak<Hosted>, deadline_ms: i64, sleep: LocalBoxFuture<'static, ()>) {
    sleep.await;
    let Some(hosted) = hosted.upgrade() else { return };
    // Those that were to go off later are still armed: no other one is for the same moment.
    hosted.armed_for_ms.borrow_mut().retain(|armed_ms| *armed_ms != deadline_ms);
    hosted.event(GroupPartition::time_passed);
}

/// A place to wait for an answer; who leaves it is not answered.
struct Seat {
    hosted: Rc<Hosted>,
    waiter: Waiter,
}

impl Seat {
    async fn answer(&self) -> Answer {
        poll_fn(|context| {
            let mut slots = self.hosted.slots.borrow_mut();
            let slot = slots.get_mut(&self.waiter).expect("a seat has its slot as long as it is there");
            match slot.answer.take() {
                Some(answer) => Poll::Ready(answer),
                None => {
                    slot.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hosted.slots.borrow_mut().remove(&self.waiter);
    }
}

#[cfg(test)]
mod tests;
