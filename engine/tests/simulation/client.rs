//! The clients of a history: producers that retry, readers that follow, and an administrator.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use flumen_engine::batch::{BatchBuilder, CheckedBatches, ProducerStamp};
use flumen_engine::producers::ProducerError;
use flumen_engine::storage::Runtime;
use flumen_engine::storage::sim::{Random, SimRuntime};
use flumen_engine::{
    Append, AppendError, AppendOrigin, Appended, Engine, LogConfig, Offset, Partition, ProducerEpoch,
    ProducerId, Timestamp, Watches,
};
use futures_util::future::select;

use crate::life::Cheat;
use crate::model::{Checked, Held, PartitionModel, Sent, Trace};
use crate::plan::random_config;

/// What all clients of one life share.
#[derive(Clone)]
pub struct Context {
    /// Time and chance.
    pub runtime: Rc<SimRuntime>,
    /// What happened.
    pub trace: Trace,
    /// The next record's id.
    pub ids: Rc<Cell<u64>>,
    /// How many operations each client tries.
    pub operations: u64,
    /// What is done wrong on purpose.
    pub cheat: Cheat,
    /// Nothing may keep an append waiting: the disk has no faults, and readers let go what they have read, which the
    /// cache may need.
    pub is_prompt: bool,
}

impl Context {
    /// A random number below `count`.
    pub fn index(&self, count: u64) -> u64 {
        self.runtime.with_random(|random| random.range(0..count))
    }

    /// True so many times out of so many.
    pub fn chance(&self, numerator: u64, denominator: u64) -> bool {
        self.runtime.with_random(|random| random.chance(numerator, denominator))
    }

    /// Waits, mostly for a moment.
    pub async fn pause(&self) {
        let micros = match self.index(20) {
            0 => 400_000_000,
            1 => 2_000_000,
            2..=6 => 5000,
            7..=12 => 200,
            _ => return,
        };
        let micros = self.index(micros) + 1;
        self.runtime.sleep(Duration::from_micros(micros)).await;
    }

    /// Checks that an append that `began` then was not answered too late, where nothing may keep it waiting.
    pub fn check_answered(&self, model: &PartitionModel, began: Duration) -> Checked {
        let took = self.runtime.monotonic() - began;
        if self.is_prompt && took > ANSWER_TIME_MAX {
            return Err(format!("{}: an append was answered after {took:?}", model.name));
        }
        Ok(())
    }

    /// Waits while a partition is being cut, unless it is gone.
    pub async fn while_closed(&self, model: &PartitionModel, partition: &Partition) {
        while model.closed.get() && !partition.is_offline() && !model.is_gone() {
            self.runtime.sleep(Duration::from_millis(3)).await;
        }
    }
}

/// A producer; it outlives the broker.
pub struct Producer {
    /// Of an idempotent one.
    identity: Option<ProducerId>,
    epoch: Cell<i16>,
    next_sequence: Cell<i32>,
    /// Sent, and not acknowledged; only of an idempotent one, which sends them again.
    pending: RefCell<VecDeque<Attempt>>,
    /// Cuts of the log that it knows of.
    cuts: Cell<u32>,
    met_full_disk: Cell<bool>,
    /// Stops that it knows of.
    stops: Cell<u32>,
    /// A stop began before all that is pending was acknowledged. Of what is in the log already, Kafka's snapshot, which
    /// is all that a clean stop leaves, knows the last batch only; and so does what one leaves that is cut off.
    met_stop: Cell<bool>,
}

#[derive(Clone)]
struct Attempt {
    batches: CheckedBatches,
    sent: Vec<Sent>,
}

/// Whatever else is under way, an append waits no longer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// As many as an idempotent producer may have in flight.
const IN_FLIGHT_MAX: usize = 5;
/// Records of the largest batch.
const RECORDS_MAX: u64 = 6;
/// What a slow reader holds on to.
const HELD_MAX: usize = 4;

impl Producer {
    /// An idempotent producer, or one that does not retry.
    pub fn new(identity: Option<ProducerId>, first_sequence: i32) -> Self {
        Self {
            identity,
            epoch: Cell::new(0),
            next_sequence: Cell::new(first_sequence),
            pending: RefCell::default(),
            cuts: Cell::new(0),
            met_full_disk: Cell::new(false),
            stops: Cell::new(0),
            met_stop: Cell::new(false),
        }
    }

    /// Begins a new epoch: what is pending is given up.
    fn bump_epoch(&self) {
        self.epoch.set(self.epoch.get() + 1);
        self.next_sequence.set(0);
        self.pending.borrow_mut().clear();
        self.met_stop.set(false);
    }

    /// Sends until its operations are used up or the partition is gone.
    pub async fn run(&self, context: Context, model: Rc<PartitionModel>, partition: Partition) -> Checked {
        let mut left = context.operations;
        if self.stops.replace(model.stops.get()) != model.stops.get() && !self.pending.borrow().is_empty() {
            self.met_stop.set(true);
        }
        while left > 0 {
            context.pause().await;
            context.while_closed(&model, &partition).await;
            if model.closed.get() {
                return Ok(());
            }
            if self.cuts.replace(model.cuts.get()) != model.cuts.get() {
                self.bump_epoch();
            }
            let fresh = (context.index(IN_FLIGHT_MAX as u64) + 1).min(left);
            left -= fresh;
            if !self.send(&context, &model, &partition, fresh).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends what is pending again, and `fresh` new batches behind it; whether to go on.
    async fn send(
        &self,
        context: &Context,
        model: &Rc<PartitionModel>,
        partition: &Partition,
        fresh: u64,
    ) -> Checked<bool> {
        let mut attempts: Vec<Attempt> = self.pending.borrow().iter().cloned().collect();
        while attempts.len() < fresh as usize {
            attempts.push(self.attempt(context, model));
        }
        if self.identity.is_some() {
            *self.pending.borrow_mut() = attempts.iter().cloned().collect();
        }
        model.in_flight.set(model.in_flight.get() + 1);
        let began = context.runtime.monotonic();
        let mut appends: Vec<(Attempt, Append)> = Vec::new();
        for attempt in attempts {
            let append = partition.append(attempt.batches.clone(), AppendOrigin::Client);
            appends.push((attempt, append));
            if context.chance(1, 4) {
                context.runtime.yield_now().await;
            }
        }
        let mut go_on = true;
        let mut refused = false;
        for (attempt, append) in appends {
            let answer = append.await;
            context.check_answered(model, began)?;
            match answer {
                Ok(appended) => self.acknowledged(context, model, &attempt, &appended)?,
                Err(error) => {
                    context.trace.note(|| format!("{}: append: {error}", model.name));
                    go_on &= self.refused(model, &error, refused)?;
                    refused = true;
                }
            }
        }
        model.in_flight.set(model.in_flight.get() - 1);
        Ok(go_on)
    }

    fn acknowledged(
        &self,
        context: &Context,
        model: &PartitionModel,
        attempt: &Attempt,
        appended: &Appended,
    ) -> Checked {
        let first = attempt.sent[0].id;
        let last = Offset(appended.base_offset.0 + attempt.sent.len() as i64 - 1);
        if appended.last_offset != last {
            return Err(format!("{}: {appended:?} for {} records", model.name, attempt.sent.len()));
        }
        context.trace.note(|| {
            format!("{}: records {first}… acknowledged at {}..={last}", model.name, appended.base_offset)
        });
        self.pending.borrow_mut().retain(|pending| pending.sent[0].id != first);
        if self.pending.borrow().is_empty() {
            self.met_stop.set(false);
        }
        model.acknowledge(appended.base_offset, &attempt.sent, appended.log_append_time)
    }

    /// What a refusal means; whether to go on. `behind_refused`: one of the batches before it was refused too.
    fn refused(&self, model: &PartitionModel, error: &AppendError, behind_refused: bool) -> Checked<bool> {
        match error {
            AppendError::NoSpace => {
                self.met_full_disk.set(true);
                Ok(true)
            }
            AppendError::Offline => Ok(false),
            AppendError::Deleted if model.is_gone() => Ok(false),
            AppendError::Producer(ProducerError::OutOfOrderSequence { .. })
                if self.identity.is_some() && behind_refused =>
            {
                Ok(true)
            }
            // The broker lost what it had only in memory; or, not knowing the producer, it took a batch behind one
            // that found no room.
            AppendError::Producer(ProducerError::OutOfOrderSequence { .. })
                if model.was_relaxed.get() || self.met_full_disk.get() || self.met_stop.get() =>
            {
                self.bump_epoch();
                Ok(true)
            }
            other => Err(format!("{}: {other}", model.name)),
        }
    }

    /// A new batch.
    fn attempt(&self, context: &Context, model: &PartitionModel) -> Attempt {
        let mut builder = BatchBuilder::new();
        let records = records_of_batch(context);
        if let Some(id) = self.identity.filter(|_| !context.cheat.forgets_producers) {
            let (epoch, base_sequence) = (ProducerEpoch(self.epoch.get()), self.next_sequence.get());
            builder = builder.producer(ProducerStamp { id, epoch, base_sequence });
            let next = (base_sequence as u32 + records as u32) & i32::MAX as u32;
            self.next_sequence.set(next as i32);
        }
        let sent = fill(context, model, &mut builder, records);
        Attempt { batches: builder.build_checked(), sent }
    }
}

/// How many records a batch gets.
pub fn records_of_batch(context: &Context) -> u64 {
    if context.chance(1, 2) { 1 } else { context.index(RECORDS_MAX - 1) + 1 }
}

/// Puts new records into a batch, and notes that they are about to be sent.
pub fn fill(
    context: &Context,
    model: &PartitionModel,
    builder: &mut BatchBuilder,
    records: u64,
) -> Vec<Sent> {
    let mut sent = Vec::new();
    for _ in 0..records {
        let id = context.ids.replace(context.ids.get() + 1);
        let timestamp = Timestamp(1_700_000_000_000 + context.index(1000) as i64);
        let extra = context.index(model.plan.batch_bytes_max / records + 1) as usize;
        let mut value = id.to_be_bytes().to_vec();
        value.extend((0..extra).map(|index| (index as u64).wrapping_mul(id) as u8));
        builder.append(timestamp, Some(&id.to_le_bytes()), Some(&value), &[]);
        let record = Sent { id, timestamp };
        model.send(record);
        sent.push(record);
    }
    sent
}

/// Reads here and there, or follows the log's end.
pub async fn reader(context: Context, model: Rc<PartitionModel>, partition: Partition) -> Checked {
    let follows = context.chance(1, 2);
    let mut next = partition.log_start_offset();
    let mut held: VecDeque<Held> = VecDeque::new();
    for _ in 0..context.operations {
        context.pause().await;
        if context.chance(1, 4) {
            let_go(&model, &mut held)?;
        }
        model.check_watermarks(&partition)?;
        if partition.is_offline() || model.is_gone() {
            return Ok(());
        }
        let end = partition.high_watermark();
        if !follows {
            let start = partition.log_start_offset();
            next = Offset(start.0 + context.index((end.0 - start.0) as u64 + 1) as i64);
        }
        let bytes_max =
            *context.runtime.with_random(|random| *random.pick(&[&0usize, &500, &5000, &100_000]));
        let at_least_one = context.chance(3, 4);
        match model.read_and_hold(&partition, next, bytes_max, at_least_one).await? {
            Some((after, read)) => {
                next = after;
                if !context.is_prompt && held.len() < HELD_MAX && context.chance(1, 4) {
                    held.push_back(read);
                }
            }
            None => next = partition.log_start_offset(),
        }
        if follows && next == partition.high_watermark() {
            follow(&context, &model, &partition, next).await?;
        }
        if next > partition.high_watermark() {
            next = partition.log_start_offset();
        }
    }
    while !held.is_empty() {
        let_go(&model, &mut held)?;
    }
    Ok(())
}

/// Lets go of what was read first.
fn let_go(model: &PartitionModel, held: &mut VecDeque<Held>) -> Checked {
    match held.pop_front() {
        Some(read) if !read.is_unchanged() => Err(format!("{}: what a reader holds changed", model.name)),
        _ => Ok(()),
    }
}

/// Waits for news behind `from`; a wake-up that does not come is a fault.
async fn follow(context: &Context, model: &PartitionModel, partition: &Partition, from: Offset) -> Checked {
    let mut watches = Watches::default();
    watches.watch(partition);
    if partition.high_watermark() != from {
        return Ok(());
    }
    let timeout = context.runtime.sleep(Duration::from_secs(2));
    select(pin!(watches.news()), timeout).await;
    let told = !watches.take_news().is_empty() || model.is_gone() || model.closed.get();
    if !told && (partition.high_watermark() != from || partition.is_offline()) {
        return Err(format!("{}: nobody was told of what follows {from}", model.name));
    }
    Ok(())
}

/// Deletes records and cuts the log, now and then.
pub async fn administrator(context: Context, model: Rc<PartitionModel>, partition: Partition) -> Checked {
    for _ in 0..context.operations / 5 + 1 {
        context.pause().await;
        context.pause().await;
        if partition.is_offline() || model.is_gone() {
            return Ok(());
        }
        let (start, end) = (partition.log_start_offset(), partition.high_watermark());
        let target = Offset(start.0 + context.index((end.0 - start.0) as u64 + 1) as i64);
        if context.chance(2, 3) {
            model.begin_delete_records(target);
            let deleted = partition.delete_records(target).await;
            context.trace.note(|| format!("{}: records below {target} deleted: {deleted:?}", model.name));
            if let Ok(start) = deleted {
                if start < target {
                    return Err(format!("{}: starts at {start}, {target} was asked for", model.name));
                }
                model.end_delete_records(target);
            }
        } else if context.chance(1, 2) {
            cut(&context, &model, &partition, target).await?;
        }
    }
    Ok(())
}

/// Changes a partition's settings, now and then.
pub async fn settings(
    context: Context,
    model: Rc<PartitionModel>,
    partition: Partition,
    engine: Engine,
) -> Checked {
    for _ in 0..context.operations / 8 + 1 {
        context.pause().await;
        context.pause().await;
        let config = context.runtime.with_random(|random| change(random, model.config()));
        if model.is_gone() || !engine.set_config(&model.id, config.clone()) {
            return Ok(());
        }
        model.set_config(config, partition.log_end_offset());
        context.trace.note(|| format!("{}: {:?}", model.name, model.config()));
    }
    Ok(())
}

/// Some settings of another partition.
pub fn change(random: &mut Random, before: LogConfig) -> LogConfig {
    let other = random_config(random);
    match random.index(6) {
        0..=2 => LogConfig { flush_messages: other.flush_messages, flush_ms: other.flush_ms, ..before },
        3 => LogConfig { log_append_time: !before.log_append_time, ..before },
        4 => LogConfig {
            retention_ms: other.retention_ms,
            retention_bytes: other.retention_bytes,
            segment_bytes: other.segment_bytes,
            segment_index_bytes: other.segment_index_bytes,
            ..before
        },
        _ => other,
    }
}

/// Cuts the log, as a follower does: while nobody appends.
async fn cut(context: &Context, model: &PartitionModel, partition: &Partition, target: Offset) -> Checked {
    model.closed.set(true);
    while model.in_flight.get() > 0 {
        if partition.is_offline() || model.is_gone() {
            return Ok(());
        }
        context.runtime.sleep(Duration::from_millis(1)).await;
    }
    let target = Offset(target.0.max(partition.log_start_offset().0));
    // Inside a batch, the whole batch goes.
    model.begin_cut(Offset(target.0 - RECORDS_MAX as i64 + 1));
    let cut = partition.truncate_to(target).await;
    let end = partition.log_end_offset();
    context.trace.note(|| format!("{}: cut at {target}: {cut:?}, ends at {end}", model.name));
    if model.deleted.get() || partition.is_offline() || model.stopping.get() && cut.is_err() {
        return Ok(());
    }
    match cut {
        Ok(()) => model.end_cut(end, target)?,
        Err(_) => model.abandon_cut(),
    }
    model.closed.set(false);
    Ok(())
}
