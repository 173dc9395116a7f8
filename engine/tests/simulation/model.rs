//! What must hold, whatever happened: the record at an offset, once known, never changes.
//!
//! - **Durable class**: a record that was appended under it, and acknowledged or read, is there after every restart,
//!   at its offset, with everything below it, until the log's start passes it or the log is cut below it.
//! - **Relaxed class**: a crash may take a suffix. A clean stop takes nothing.
//! - The class, like every other setting, may change at any time.
//! - Offsets are dense from the log's start to its end, but for what a follower's leader has left out; every batch
//!   carries its CRC and its epoch, and the epochs that the partition knows say the same.
//! - What a reader holds does not change under its hands.
//! - Every record is the one that some client sent, and is there once (for a producer's retries: idempotence).
//! - The log's start moves up to where it was asked to, and no further, unless retention is configured.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use flumen_engine::batch::{BatchHeader, batches, records};
use flumen_engine::{
    LeaderEpoch, LogConfig, Offset, Partition, PartitionId, Read, ReadError, ReadLimit, Timestamp,
};

use crate::plan::PartitionPlan;
use crate::promises::Promises;

/// A failed check: the history ends with it.
pub type Checked<T = ()> = Result<T, String>;

/// What happened last, for the report of a failure.
#[derive(Clone)]
pub struct Trace {
    events: Rc<RefCell<VecDeque<String>>>,
    print: bool,
}

const EVENTS_MAX: usize = 60;

impl Trace {
    /// No event yet; `print`s each as it comes.
    pub fn new(print: bool) -> Self {
        Self { events: Rc::default(), print }
    }

    /// Notes an event.
    pub fn note(&self, event: impl FnOnce() -> String) {
        let event = event();
        if self.print {
            println!("{event}");
        }
        let mut events = self.events.borrow_mut();
        if events.len() == EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(event);
    }

    /// The last events, oldest first.
    pub fn last_events(&self) -> String {
        self.events.borrow().iter().map(|event| format!("  {event}\n")).collect()
    }
}

/// A record as its client sent it: its value begins with the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Unique in the history.
    pub id: u64,
    /// As the client set it.
    pub timestamp: Timestamp,
}

/// What is known of one partition, across all lives.
pub struct PartitionModel {
    /// Its id: another one after it was deleted and created again.
    pub id: PartitionId,
    /// Its folder.
    pub name: String,
    /// Its plan.
    pub plan: PartitionPlan,
    /// The epoch of this life's leader.
    pub leader_epoch: Cell<i32>,
    /// Its creation was acknowledged.
    pub created: Cell<bool>,
    /// It was deleted, or is about to be.
    pub deleted: Cell<bool>,
    /// A clean stop began: its clients are about to be refused.
    pub stopping: Cell<bool>,
    /// In how many lives before this one a clean stop began.
    pub stops: Cell<u32>,
    /// Nobody may append now: it is being cut.
    pub closed: Cell<bool>,
    /// Appends under way.
    pub in_flight: Cell<u32>,
    /// Bumped by each cut: its producers begin a new epoch.
    pub cuts: Cell<u32>,
    /// Its settings now.
    config: RefCell<LogConfig>,
    /// They were of a relaxed class, ever.
    pub was_relaxed: Cell<bool>,
    /// They let the engine move the log's start on its own, ever.
    had_retention: Cell<bool>,
    /// The kind of timestamps changed: an answer may tell the time of a batch that was placed before.
    changed_timestamps: Cell<bool>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// Every record whose offset was ever seen or acknowledged.
    known: BTreeMap<i64, Known>,
    /// Where each id is.
    places: BTreeMap<u64, i64>,
    /// Every record that was ever sent.
    sent: BTreeMap<u64, Timestamp>,
    /// Ids that a crash or a cut may have taken: they must not be where they were, nor elsewhere twice.
    gone: BTreeSet<u64>,
    /// The log's start is at or above this: acknowledged.
    start_min: i64,
    /// … and, without retention, at or below this: asked for.
    start_max: i64,
    /// The log may end anywhere from here: a cut was asked for and not acknowledged.
    cut_from: Option<i64>,
    /// The largest high watermark seen in this life.
    high_watermark: i64,
    /// What a follower's batches look like, by base offset.
    verbatim: BTreeMap<i64, Vec<u8>>,
    promises: Promises,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    id: u64,
    /// `None` until it is read.
    timestamp: Option<i64>,
}

impl State {
    /// The log starts at `start` after a cut that nobody heard of.
    fn admit_cut(&mut self, start: i64) {
        if self.cut_from.is_some_and(|from| from <= start) {
            self.start_min = self.start_min.min(start);
        }
    }
}

/// What a reader took and has not let go of.
pub struct Held {
    read: Read,
    bytes: Vec<u8>,
}

impl Held {
    /// Lets go of it; says whether it is what it was.
    pub fn is_unchanged(&self) -> bool {
        self.read.slices.iter().flat_map(|slice| slice.iter()).eq(&self.bytes)
    }
}

fn is_durable(plan: &PartitionPlan, config: &LogConfig) -> bool {
    plan.exact || config.flush_messages <= 1
}

fn has_retention(config: &LogConfig) -> bool {
    config.delete && (config.retention_bytes >= 0 || config.retention_ms >= 0)
}

impl PartitionModel {
    /// An empty one.
    pub fn new(id: PartitionId, name: String, plan: PartitionPlan) -> Self {
        Self {
            id,
            name,
            config: RefCell::new(plan.config.clone()),
            was_relaxed: Cell::new(!is_durable(&plan, &plan.config)),
            had_retention: Cell::new(has_retention(&plan.config)),
            changed_timestamps: Cell::new(false),
            plan,
            leader_epoch: Cell::new(0),
            created: Cell::new(false),
            deleted: Cell::new(false),
            stopping: Cell::new(false),
            stops: Cell::new(0),
            closed: Cell::new(false),
            in_flight: Cell::new(0),
            cuts: Cell::new(0),
            state: RefCell::default(),
        }
    }

    /// Whether its clients may find it gone.
    pub fn is_gone(&self) -> bool {
        self.deleted.get() || self.stopping.get()
    }

    /// Its settings now.
    pub fn config(&self) -> LogConfig {
        self.config.borrow().clone()
    }

    /// Notes new settings; the log ends at `end` as they begin to count.
    pub fn set_config(&self, config: LogConfig, end: Offset) {
        let durable = is_durable(&self.plan, &config);
        self.state.borrow_mut().promises.set_class(durable, end.0);
        self.was_relaxed.set(self.was_relaxed.get() || !durable);
        self.had_retention.set(self.had_retention.get() || has_retention(&config));
        let before = self.config.replace(config);
        if before.log_append_time != self.config.borrow().log_append_time {
            self.changed_timestamps.set(true);
        }
    }

    /// Notes that a record is about to be sent.
    pub fn send(&self, record: Sent) {
        self.state.borrow_mut().sent.insert(record.id, record.timestamp);
    }

    /// Notes that `sent` was acknowledged from `base`; `append_time` is what the broker stamped.
    pub fn acknowledge(&self, base: Offset, sent: &[Sent], append_time: Timestamp) -> Checked {
        for (index, record) in sent.iter().enumerate() {
            let timestamp = match self.changed_timestamps.get() {
                true => None,
                false if self.config.borrow().log_append_time && !self.plan.replica => Some(append_time.0),
                false => Some(record.timestamp.0),
            };
            let known = Known { id: record.id, timestamp };
            self.learn(base.0 + index as i64, known, "acknowledged")?;
        }
        Ok(())
    }

    fn learn(&self, offset: i64, found: Known, how: &str) -> Checked {
        let state = &mut *self.state.borrow_mut();
        let name = &self.name;
        state.promises.note(offset);
        match state.known.get_mut(&offset) {
            Some(known)
                if known.id == found.id
                    && (known.timestamp == found.timestamp
                        || known.timestamp.is_none()
                        || found.timestamp.is_none()) =>
            {
                known.timestamp = known.timestamp.or(found.timestamp);
                return Ok(());
            }
            Some(known) => {
                return Err(format!("{name}: offset {offset} held {known:?}, now {how}: {found:?}"));
            }
            None => {}
        }
        if let Some(place) = state.places.get(&found.id) {
            return Err(format!("{name}: record {} is at {place} and, {how}, at {offset}", found.id));
        }
        if !state.sent.contains_key(&found.id) {
            return Err(format!("{name}: nobody sent record {} ({how} at {offset})", found.id));
        }
        state.known.insert(offset, found);
        state.places.insert(found.id, offset);
        state.gone.remove(&found.id);
        Ok(())
    }

    /// Forgets what was known from `end`: it was taken rightly.
    fn forget_from(&self, end: i64) {
        let state = &mut *self.state.borrow_mut();
        for (_, known) in state.known.split_off(&end) {
            state.places.remove(&known.id);
            state.gone.insert(known.id);
        }
        state.high_watermark = state.high_watermark.min(end);
        state.promises.cut(end);
    }

    /// The log's start may move up to `before` from now on.
    pub fn begin_delete_records(&self, before: Offset) {
        let mut state = self.state.borrow_mut();
        state.start_max = state.start_max.max(before.0);
    }

    /// The log's start is at least `start`, for good.
    pub fn end_delete_records(&self, start: Offset) {
        let mut state = self.state.borrow_mut();
        state.start_min = state.start_min.max(start.0);
    }

    /// The log may be cut at `end` from now on; in a gap, where the gap begins.
    pub fn begin_cut(&self, end: Offset) {
        let end = if self.plan.replica { end.min(self.batches_end(end)) } else { end };
        self.state.borrow_mut().cut_from = Some(end.0);
        self.cuts.set(self.cuts.get() + 1);
    }

    /// The log was cut at `end`: `target`, or the start of the batch that holds it.
    pub fn end_cut(&self, end: Offset, target: Offset) -> Checked {
        let may_begin = self.state.borrow().cut_from.unwrap_or(0);
        if !(may_begin..=target.0).contains(&end.0) {
            return Err(format!("{}: ends at {end}, cut at {target}", self.name));
        }
        self.forget_from(end.0);
        let mut state = self.state.borrow_mut();
        state.cut_from = None;
        state.start_min = state.start_min.min(end.0);
        state.start_max = state.start_max.min(end.0);
        Ok(())
    }

    /// Notes the bytes of the batch that a leader has at `base`.
    pub fn expect_batch(&self, base: Offset, bytes: Vec<u8>) {
        self.state.borrow_mut().verbatim.insert(base.0, bytes);
    }

    /// The leader has no batch from here on any more.
    pub fn forget_batches(&self, from: Offset) {
        self.state.borrow_mut().verbatim.split_off(&from.0);
    }

    /// Whether a follower's leader has nothing at all of these offsets.
    fn is_gap(&self, from: Offset, to: Offset) -> bool {
        self.plan.replica && self.batches_end(to) <= from
    }

    /// Where the leader's batches that begin before `before` end.
    fn batches_end(&self, before: Offset) -> Offset {
        let state = self.state.borrow();
        let last = state.verbatim.range(..before.0).next_back();
        let last = last.map(|(_, bytes)| BatchHeader::parse(bytes).expect("a whole batch").last_offset());
        Offset(last.map_or(0, |last| last.0 + 1))
    }

    /// Nothing was cut, and nothing will be.
    pub fn abandon_cut(&self) {
        self.state.borrow_mut().cut_from = None;
    }

    /// A new life begins: the high watermark begins again.
    pub fn begin_life(&self) {
        self.closed.set(false);
        self.stops.set(self.stops.get() + u32::from(self.stopping.replace(false)));
        self.in_flight.set(0);
        let mut state = self.state.borrow_mut();
        state.high_watermark = 0;
        state.promises.begin_life(is_durable(&self.plan, &self.config.borrow()));
    }

    /// Checks the partition as it was opened after a life that ended cleanly or not.
    pub async fn check_recovered(&self, partition: &Partition, ended_cleanly: bool) -> Checked {
        let end = partition.log_end_offset().0;
        let start = partition.log_start_offset().0;
        let name = &self.name;
        if partition.high_watermark().0 != end {
            let high_watermark = partition.high_watermark();
            return Err(format!("{name}: opened with {high_watermark} visible of {end}"));
        }
        // A cut that was not acknowledged may have taken the log's start along.
        self.state.borrow_mut().admit_cut(start);
        self.check_start(start)?;
        let must_reach = {
            let state = self.state.borrow();
            let known = state.known.last_key_value().map_or(0, |(offset, _)| offset + 1);
            let promised = if ended_cleanly { known } else { state.promises.reaches() };
            promised.min(state.cut_from.unwrap_or(i64::MAX))
        };
        if end < must_reach {
            return Err(format!("{name}: ends at {end} after the restart, {must_reach} was promised"));
        }
        if end < start {
            return Err(format!("{name}: starts at {start}, ends at {end}"));
        }
        self.forget_from(end);
        self.state.borrow_mut().cut_from = None;
        self.read_all(partition).await
    }

    /// Checks a partition of a disk whose bits flipped: it may be short or fail, but what it serves is right.
    pub async fn check_damaged(&self, partition: &Partition) -> Checked {
        let mut next = partition.log_start_offset();
        let mut is_behind_damage = false;
        while next < partition.high_watermark() {
            let read = match partition.read(next, 64 << 10, true, ReadLimit::HighWatermark).await {
                Ok(read) => read,
                Err(_) => return Ok(()),
            };
            let bytes: Vec<u8> = read.slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let before = next;
            for batch in batches(&bytes) {
                let Ok((header, batch)) = batch else { return Ok(()) };
                if std::mem::take(&mut is_behind_damage) {
                    next = header.base_offset();
                }
                // A reader finds a batch whose checksum is wrong by itself. Where it ends is not known then: the
                // last offset may be what is wrong. The batch behind it tells.
                if header.verify(batch).is_err() {
                    next = Offset(header.last_offset().max(header.base_offset()).0 + 1);
                    is_behind_damage = true;
                    continue;
                }
                // A journal that is read without its checkpoint may bring back some of what was deleted.
                let base = header.base_offset();
                if next < base && base.0 <= self.state.borrow().start_min {
                    next = base;
                }
                next = self.check_batch(header, batch, next, next == before)?;
            }
            if next <= before {
                return Ok(());
            }
        }
        Ok(())
    }

    fn check_start(&self, start: i64) -> Checked {
        let state = self.state.borrow();
        let name = &self.name;
        if start < state.start_min {
            return Err(format!("{name}: starts at {start}, {} was acknowledged", state.start_min));
        }
        if start > state.start_max && !self.had_retention.get() {
            return Err(format!("{name}: starts at {start}, at most {} was asked for", state.start_max));
        }
        Ok(())
    }

    /// Reads everything that is visible, and checks it.
    pub async fn read_all(&self, partition: &Partition) -> Checked {
        let mut next = partition.log_start_offset();
        let end = partition.high_watermark();
        while next < end {
            let Some(after) = self.read_once(partition, next, 64 << 10, true).await? else {
                return Ok(());
            };
            if after == next {
                return Err(format!("{}: nothing at {next}, though {end} is visible", self.name));
            }
            next = after;
        }
        Ok(())
    }

    /// Reads once from `from` and checks what comes; the offset behind it. `None` if the partition is offline or
    /// the log's start has passed.
    pub async fn read_once(
        &self,
        partition: &Partition,
        from: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Checked<Option<Offset>> {
        let read = self.read_and_hold(partition, from, bytes_max, at_least_one).await?;
        Ok(read.map(|(after, _)| after))
    }

    /// As `read_once`; what was read comes along.
    pub async fn read_and_hold(
        &self,
        partition: &Partition,
        from: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Checked<Option<(Offset, Held)>> {
        let name = &self.name;
        let end_before = partition.high_watermark();
        let (closed_before, cuts_before) = (self.closed.get(), self.cuts.get());
        // What a cut takes may have been visible when the read began.
        let met_cut = || closed_before || self.closed.get() || self.cuts.get() != cuts_before;
        let read = match partition.read(from, bytes_max, at_least_one, ReadLimit::HighWatermark).await {
            Ok(read) => read,
            Err(ReadError::OutOfRange { .. })
                if from < partition.log_start_offset()
                    || from > end_before
                    || met_cut()
                    || self.deleted.get() =>
            {
                return Ok(None);
            }
            Err(ReadError::Offline | ReadError::Deleted | ReadError::Storage(_)) => return Ok(None),
            Err(error) => return Err(format!("{name}: read from {from}: {error}")),
        };
        self.check_high_watermark(read.high_watermark)?;
        let bytes: Vec<u8> = read.slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let mut next = from;
        let mut consumed = 0;
        for batch in batches(&bytes) {
            let (header, batch) = batch.map_err(|error| format!("{name}: read from {from}: {error}"))?;
            consumed += batch.len();
            if consumed > bytes_max && !(at_least_one && consumed == batch.len()) {
                return Err(format!("{name}: {consumed} bytes from {from}, {bytes_max} asked for"));
            }
            next = self.check_batch(header, batch, next, next == from)?;
            // Nothing ran since the bytes were taken: the partition knows what they say.
            let within = header.base_offset().max(partition.log_start_offset());
            let epoch = partition.epoch_of(within);
            if epoch != Some(header.leader_epoch()) && !self.deleted.get() {
                return Err(format!("{name}: epoch {:?} at {within}, not {epoch:?}", header.leader_epoch()));
            }
        }
        if consumed != bytes.len() {
            return Err(format!("{name}: read from {from}: {} bytes are no batch", bytes.len() - consumed));
        }
        if next > read.high_watermark {
            return Err(format!("{name}: read up to {next}, {} is visible", read.high_watermark));
        }
        let stable = !met_cut() && !self.deleted.get();
        if at_least_one && next == from && from < end_before && stable {
            return Err(format!("{name}: nothing read at {from} of {end_before}"));
        }
        Ok(Some((next, Held { read, bytes })))
    }

    /// Checks one batch that was read; the offset behind it.
    fn check_batch(
        &self,
        header: &BatchHeader,
        batch: &[u8],
        next: Offset,
        is_first: bool,
    ) -> Checked<Offset> {
        let name = &self.name;
        let (base, last) = (header.base_offset(), header.last_offset());
        header.verify(batch).map_err(|error| format!("{name}: batch at {base}: {error}"))?;
        let continues = if is_first { base <= next && next <= last } else { base == next };
        let continues = continues || next < base && self.is_gap(next, base);
        if !continues {
            return Err(format!("{name}: batch {base}..={last} where {next} was expected"));
        }
        if header.leader_epoch() > LeaderEpoch(self.leader_epoch.get()) {
            return Err(format!("{name}: batch at {base} of epoch {}", header.leader_epoch()));
        }
        let state = self.state.borrow();
        if self.plan.replica && state.verbatim.get(&base.0).is_none_or(|bytes| bytes != batch) {
            return Err(format!("{name}: the batch at {base} is not the leader's"));
        }
        drop(state);
        let mut expected = base;
        for record in records(batch).map_err(|error| format!("{name}: batch at {base}: {error}"))? {
            let record = record.map_err(|error| format!("{name}: batch at {base}: {error}"))?;
            let id = record.value.and_then(|value| value.first_chunk()).map(|id| u64::from_be_bytes(*id));
            let Some(id) = id.filter(|_| record.offset == expected) else {
                return Err(format!("{name}: a foreign record at {}", record.offset));
            };
            let sent = self.state.borrow().sent.get(&id).copied();
            if !header.is_log_append_time() && sent.is_some_and(|sent| sent != record.timestamp) {
                return Err(format!("{name}: record {id} of {sent:?} is of {}", record.timestamp));
            }
            self.learn(record.offset.0, Known { id, timestamp: Some(record.timestamp.0) }, "read")?;
            expected = Offset(expected.0 + 1);
        }
        Ok(Offset(last.0 + 1))
    }

    /// Checks that the high watermark did not go back in this life.
    pub fn check_high_watermark(&self, high_watermark: Offset) -> Checked {
        if self.closed.get() {
            return Ok(());
        }
        let mut state = self.state.borrow_mut();
        if high_watermark.0 < state.high_watermark {
            let before = state.high_watermark;
            return Err(format!("{}: {high_watermark} visible, {before} was", self.name));
        }
        state.high_watermark = high_watermark.0;
        Ok(())
    }

    /// Checks watermarks and bounds of a partition that is served.
    pub fn check_watermarks(&self, partition: &Partition) -> Checked {
        if self.closed.get() || self.deleted.get() || partition.is_offline() {
            return Ok(());
        }
        let (start, visible, end) =
            (partition.log_start_offset(), partition.high_watermark(), partition.log_end_offset());
        if !(start <= visible && visible <= end) {
            return Err(format!("{}: start {start}, visible {visible}, end {end}", self.name));
        }
        self.check_start(start.0)?;
        self.check_high_watermark(visible)
    }

    /// Checks a look-up by time, while nobody writes.
    pub async fn check_time(&self, partition: &Partition, timestamp: Timestamp) -> Checked {
        let (start, end) = (partition.log_start_offset().0, partition.high_watermark().0);
        let expected = {
            let state = self.state.borrow();
            let mut known = state.known.range(start.min(end)..end);
            if known.clone().any(|(_, known)| known.timestamp.is_none()) {
                // It could not be read.
                return Ok(());
            }
            known.find(|(_, known)| known.timestamp >= Some(timestamp.0)).map(|(offset, _)| *offset)
        };
        let found = match partition.offset_for_timestamp(timestamp, ReadLimit::HighWatermark).await {
            Ok(found) => found,
            Err(ReadError::Offline | ReadError::Deleted | ReadError::Storage(_)) => return Ok(()),
            Err(error) => return Err(format!("{}: at time {timestamp}: {error}", self.name)),
        };
        if partition.log_start_offset().0 != start {
            return Ok(());
        }
        let found = found.map(|found| found.offset.0);
        if found != expected {
            return Err(format!("{}: time {timestamp}: {found:?}, not {expected:?}", self.name));
        }
        Ok(())
    }

    /// A timestamp that some record has, or one near it.
    pub fn pick_time(&self, chance: u64) -> Timestamp {
        let state = self.state.borrow();
        let index = chance as usize % (state.known.len() + 1);
        let known = state.known.values().nth(index).and_then(|known| known.timestamp).unwrap_or(0);
        Timestamp(known + (chance >> 32) as i64 % 3 - 1)
    }
}
