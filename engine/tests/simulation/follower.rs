//! A partition that follows a leader elsewhere: batches come with their offsets and epochs, and stay as they are.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use flumen_engine::batch::{BatchBuilder, BatchLimits, CheckedBatches, ProducerStamp, check_verbatim};
use flumen_engine::storage::Runtime;
use flumen_engine::{AppendError, AppendOrigin, LeaderEpoch, Offset, Partition, ProducerEpoch, ProducerId};

use crate::client::{Context, fill, records_of_batch};
use crate::model::{Checked, PartitionModel, Sent};

/// What compaction leaves out between two batches at most.
const GAP_OFFSETS_MAX: u64 = 100;
/// Batches of one fetch.
const FETCH_BATCHES_MAX: u64 = 4;

/// The leader's log, and who follows it. It outlives the broker.
pub struct Leader {
    producer: ProducerId,
    producer_epoch: Cell<i16>,
    /// By base offset. What the follower lost it fetches again; what it was told to cut is another's now.
    log: RefCell<BTreeMap<i64, Batch>>,
    /// Cuts of the follower's log that it knows of.
    cuts: Cell<u32>,
    was_compacted: bool,
}

#[derive(Clone)]
struct Batch {
    base: i64,
    bytes: Vec<u8>,
    sent: Vec<Sent>,
    base_sequence: i32,
}

impl Batch {
    fn end(&self) -> Offset {
        Offset(self.base + self.sent.len() as i64)
    }

    fn next_sequence(&self) -> i32 {
        self.base_sequence + self.sent.len() as i32
    }
}

impl Leader {
    /// An empty log, that one idempotent producer writes to.
    pub fn new(producer: ProducerId, was_compacted: bool) -> Self {
        let (log, cuts, producer_epoch) = (RefCell::default(), Cell::new(0), Cell::new(0));
        Self { producer, log, cuts, producer_epoch, was_compacted }
    }

    /// Follows until the operations are used up or the partition is gone.
    pub async fn run(&self, context: Context, model: Rc<PartitionModel>, partition: Partition) -> Checked {
        for _ in 0..context.operations {
            context.pause().await;
            context.while_closed(&model, &partition).await;
            if model.closed.get() || partition.is_offline() {
                // Where it ends is what a cut that failed left in memory: after a restart nothing is cut, perhaps.
                return Ok(());
            }
            let end = partition.log_end_offset();
            if self.cuts.replace(model.cuts.get()) != model.cuts.get() {
                self.log.borrow_mut().split_off(&end.0);
                model.forget_batches(end);
                model.leader_epoch.set(model.leader_epoch.get() + 1);
            }
            if context.chance(1, 10) {
                self.misplace(&model, &partition, end).await?;
                continue;
            }
            model.in_flight.set(model.in_flight.get() + 1);
            let go_on = self.fetch(&context, &model, &partition, end).await?;
            model.in_flight.set(model.in_flight.get() - 1);
            if !go_on {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Appends what the leader has from `end`; whether to go on.
    async fn fetch(
        &self,
        context: &Context,
        model: &Rc<PartitionModel>,
        partition: &Partition,
        end: Offset,
    ) -> Checked<bool> {
        let count = context.index(FETCH_BATCHES_MAX) + 1;
        let mut fetched: Vec<Batch> = Vec::new();
        let mut next = end;
        if partition.log_start_offset() == end && !self.has_boundary(end) {
            // Its start was moved, durably, behind what a crash left of a relaxed log: a leader sends anew from here.
            // No producer uses its sequences twice in one epoch.
            self.log.borrow_mut().clear();
            model.forget_batches(Offset(0));
            self.producer_epoch.set(self.producer_epoch.get() + 1);
        }
        for _ in 0..count {
            let batch = self.batch_at(context, model, next)?;
            next = batch.end();
            fetched.push(batch);
        }
        let bytes: Vec<u8> = fetched.iter().flat_map(|batch| batch.bytes.iter().copied()).collect();
        let origin =
            if context.cheat.rewrites_verbatim { AppendOrigin::Client } else { AppendOrigin::Replica };
        let began = context.runtime.monotonic();
        let answer = partition.append(verbatim(bytes)?, origin).await;
        context.check_answered(model, began)?;
        match answer {
            Ok(appended) => {
                let last = Offset(next.0 - 1);
                context.trace.note(|| format!("{}: followed to {last}", model.name));
                let first = Offset(fetched[0].base);
                if (appended.base_offset, appended.last_offset) != (first, last) {
                    return Err(format!("{}: {first}..={last} was given {appended:?}", model.name));
                }
                for batch in &fetched {
                    model.acknowledge(Offset(batch.base), &batch.sent, appended.log_append_time)?;
                }
                self.lead(context, model, partition, &fetched[fetched.len() - 1]).await
            }
            Err(AppendError::NoSpace) => Ok(true),
            Err(AppendError::Offline) => Ok(false),
            Err(AppendError::Deleted) if model.is_gone() => Ok(false),
            Err(error) => Err(format!("{}: {error}", model.name)),
        }
    }

    /// The producer did not hear of its last batch and sends it again, to this broker, which leads now: it knows
    /// the batch from what it followed. Whether to go on.
    async fn lead(
        &self,
        context: &Context,
        model: &PartitionModel,
        partition: &Partition,
        batch: &Batch,
    ) -> Checked<bool> {
        let base = Offset(batch.base);
        if !context.chance(1, 6) {
            return Ok(true);
        }
        let again = verbatim(batch.bytes.clone())?;
        match partition.append(again, AppendOrigin::Client).await {
            Ok(appended) if appended.base_offset == base => Ok(true),
            Ok(appended) => Err(format!("{}: {base} again became {appended:?}", model.name)),
            Err(AppendError::NoSpace) => Ok(true),
            Err(AppendError::Offline) => Ok(false),
            Err(AppendError::Deleted) if model.is_gone() => Ok(false),
            Err(error) => Err(format!("{}: {base} again: {error}", model.name)),
        }
    }

    /// What does not follow the log's end is refused.
    async fn misplace(&self, model: &PartitionModel, partition: &Partition, end: Offset) -> Checked {
        let before = self.log.borrow().range(..end.0).next_back().map(|(_, batch)| batch.clone());
        let Some(before) = before else { return Ok(()) };
        match partition.append(verbatim(before.bytes)?, AppendOrigin::Replica).await {
            Err(AppendError::Misplaced { .. } | AppendError::NoSpace | AppendError::Offline) => Ok(()),
            Err(AppendError::Deleted) if model.is_gone() => Ok(()),
            other => Err(format!("{}: ends at {end}, an earlier batch: {other:?}", model.name)),
        }
    }

    fn has_boundary(&self, offset: Offset) -> bool {
        let log = self.log.borrow();
        let before = log.range(..offset.0).next_back();
        before.is_none_or(|(_, batch)| batch.end() <= offset)
    }

    /// The leader's first batch from an offset on; it makes a new one at its end. Its log was compacted now and then.
    fn batch_at(&self, context: &Context, model: &PartitionModel, from: Offset) -> Checked<Batch> {
        let mut log = self.log.borrow_mut();
        if let Some((_, batch)) = log.range(from.0..).next() {
            return Ok(batch.clone());
        }
        let last = log.last_key_value().map(|(_, last)| last.clone());
        if last.as_ref().is_some_and(|last| last.end() > from) {
            return Err(format!("{}: ends at {from}, inside of a batch of its leader", model.name));
        }
        let gap = if self.was_compacted && context.chance(1, 4) { context.index(GAP_OFFSETS_MAX) } else { 0 };
        let base = Offset(from.0 + gap as i64);
        let epoch = LeaderEpoch(model.leader_epoch.get());
        let base_sequence = last.map_or(0, |last| last.next_sequence());
        let stamp = ProducerStamp {
            id: self.producer,
            epoch: ProducerEpoch(self.producer_epoch.get()),
            base_sequence,
        };
        let mut builder = BatchBuilder::new().base_offset(base).leader_epoch(epoch).producer(stamp);
        let sent = fill(context, model, &mut builder, records_of_batch(context));
        let batch = Batch { base: base.0, bytes: builder.build().to_vec(), sent, base_sequence };
        model.expect_batch(base, batch.bytes.clone());
        log.insert(base.0, batch.clone());
        Ok(batch)
    }
}

fn verbatim(bytes: Vec<u8>) -> Checked<CheckedBatches> {
    let limits = BatchLimits { max_message_bytes: u32::MAX };
    check_verbatim(bytes.into(), &limits).map_err(|error| error.to_string())
}
