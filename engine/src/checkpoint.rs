//! The private checkpoint of one core: how far each of its partitions is durable in its segments, and what
//! recovery needs to go on from there without reading what lies below.
//!
//! One regular file per core, `.flumen-checkpoint-N`, replaced as a whole, and `.flumen-checkpoint-kept` of the
//! lives before, written once at a start after a crash; removed at a clean stop. What it says
//! is durable before it is said; what it says no longer is in the journal's ring for good.
//!
//! ```text
//! magic 8 · CRC-32C of the rest u32 · life u64 · journal id u128 · cursor · count u32 · partitions
//! cursor: group's sequence u64 · its position u64 · CRC of the group before u32 · end of the ring u64
//! partition: topic id 16 · index i32 · log start i64 · recovery point · proven point · void journal sequence u64 · epochs u32 × (i32, i64) · producers (their own form)
//! point: segment i64 · position u64 · offset i64
//! ```
//! Little-endian, but for the producers.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;

use uuid::Uuid;

use crate::core::Core;
use crate::epochs::{EpochStart, LeaderEpochs};
use crate::journal::format::{Cursor, JournalId, crc32c};
use crate::partition::{Partition, Point};
use crate::producers::Producers;
use crate::storage::{Directory, StorageError};
use crate::turns::Turns;
use crate::{CoreId, LeaderEpoch, Offset, PartitionId, Position};
use flumen_ring::gate::Turn;

/// What the names of these files start with.
pub(crate) const CHECKPOINT_PREFIX: &str = ".flumen-checkpoint-";
/// A checkpoint longer than this is not ours, in bytes.
pub(crate) const CHECKPOINT_BYTES_MAX: usize = 1 << 30;

const MAGIC: [u8; 8] = *b"FLUMCHK2";
const HEADER_BYTES: usize = 12;

/// Whether a file of this name is a checkpoint. One that was being replaced when a crash came left a temporary file beside
/// it: what that says was never said.
pub(crate) fn is_checkpoint(name: &str) -> bool {
    name.strip_prefix(CHECKPOINT_PREFIX).is_some_and(|of| !of.contains('.'))
}

/// What a checkpoint says of one partition.
#[derive(Debug, Clone)]
pub(crate) struct PartitionCheckpoint {
    pub(crate) id: PartitionId,
    pub(crate) log_start: Offset,
    /// Everything below is durable in the segments.
    pub(crate) recovery: Point,
    /// Everything below had been durable when this was said; only a damaged log ends before it.
    pub(crate) proven: Point,
    /// Entries of the journal up to this group say nothing any more: the log was cut after them.
    pub(crate) void_through: u64,
    /// As of the log's end then; what lies at or behind `recovery` may be lost.
    pub(crate) epochs: LeaderEpochs,
    /// As `epochs`.
    pub(crate) producers: Producers,
}

/// One core's checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    /// Which start of the broker wrote it; the newest one counts.
    pub(crate) life: u64,
    /// The journal that `void_through` counts in.
    pub(crate) journal: JournalId,
    /// The first group of it that says more than this checkpoint.
    pub(crate) cursor: Cursor,
    pub(crate) partitions: Vec<PartitionCheckpoint>,
}

/// When checkpoints are written, and that they are written in order.
#[derive(Default)]
pub(crate) struct CheckpointWriter {
    turn: Turn,
    /// How many were begun, and the number of the last one that became durable.
    started: Cell<u64>,
    written: Cell<u64>,
    /// None is written any more.
    ended: Cell<bool>,
}

/// The path of a core's checkpoint.
pub(crate) fn checkpoint_path(core: CoreId) -> PathBuf {
    PathBuf::from(format!("{CHECKPOINT_PREFIX}{core}"))
}

/// Completes once a checkpoint is durable that was begun after this call; then the ring may pass what it says.
pub(crate) async fn write(core: &Rc<Core>) -> Result<(), StorageError> {
    let writer = &core.checkpoints;
    let wanted = writer.started.get() + 1;
    let _turn = writer.turn.take().await;
    if writer.written.get() >= wanted {
        return Ok(());
    }
    if let Some(error) = core.failure() {
        return Err(error);
    }
    if writer.ended.get() {
        return Err(StorageError::refused("replace", checkpoint_path(core.config.core)));
    }
    let number = writer.started.get() + 1;
    writer.started.set(number);
    core.write_behind.checkpoint_is_stale.set(false);
    core.write_behind.flushed_bytes.set(0);
    let partitions = core.partitions.borrow().to_vec();
    let damaged = core.damaged.borrow().clone();
    let sound: Vec<Partition> =
        partitions.into_iter().filter(|partition| !damaged.contains_key(&partition.id())).collect();
    let mut turns = Turns::default();
    for partition in &sound {
        forget_flushed(core, partition);
        turns.took(core, 0).await;
    }
    // What is said below of a partition is of a later moment: its recovery point lies no further back, and what was cut
    // off since is said with it.
    let cursor = core.journal.cursor();
    let mut out = begin(core.life, core.journal.id(), &cursor, sound.len() + damaged.len());
    let mut said = Vec::with_capacity(sound.len());
    for partition in &sound {
        let before = out.bytes.len();
        said.push(encode_sound(partition, &mut out.bytes));
        out.count_in();
        turns.took(core, out.bytes.len() - before).await;
    }
    for held in damaged.values() {
        encode_held(held, &mut out.bytes);
    }
    if let Some(error) = core.failure() {
        return Err(error);
    }
    let result = core.directory.replace(&checkpoint_path(core.config.core), out.finish()).await;
    if let Err(error) = result {
        core.write_behind.checkpoint_is_stale.set(true);
        if !error.kind.is_shortage() {
            core.take_offline(&error);
        }
        return Err(error);
    }
    writer.written.set(number);
    for (partition, points) in sound.iter().zip(said) {
        note_said(partition, points);
        turns.took(core, 0).await;
    }
    core.journal.pass(&cursor);
    Ok(())
}

/// The ring may pass what the segments hold durably.
fn forget_flushed(core: &Core, partition: &Partition) {
    let mut log = partition.inner().log.borrow_mut();
    let flushed = log.flushed();
    while log.journaled.front().is_some_and(|entry| entry.end <= flushed) {
        core.journal.forget(log.journaled.pop_front().map(|entry| entry.sequence));
    }
}

/// Completes once no checkpoint is under way; none is written from then on. At the end of a clean stop: one that came
/// behind it would be believed by a later start, though Kafka may have changed the directory meanwhile.
pub(crate) async fn end(core: &Core) {
    let _turn = core.checkpoints.turn.take().await;
    core.checkpoints.ended.set(true);
}

/// Keeps what the lives before said, in one file that no core writes over. The number of cores may be another
/// one now: the first core that writes its own partitions would forget those that have moved to a core which
/// has not written yet. To be called when no journal is left that `void_through` could count in.
pub(crate) async fn keep<'a>(
    directory: &dyn Directory,
    life: u64,
    partitions: impl ExactSizeIterator<Item = &'a PartitionCheckpoint>,
) -> Result<(), StorageError> {
    let mut out = begin(life, JournalId::default(), &Cursor::default(), partitions.len());
    for partition in partitions {
        encode_held(partition, &mut out.bytes);
    }
    directory.replace(&PathBuf::from(format!("{CHECKPOINT_PREFIX}kept")), out.finish()).await
}

/// A file's bytes as they are put together, and the CRC of those that were counted in.
struct Encoded {
    bytes: Vec<u8>,
    crc: crc_fast::Digest,
    counted: usize,
}

impl Encoded {
    /// Counts in what was added.
    fn count_in(&mut self) {
        self.crc.update(&self.bytes[self.counted..]);
        self.counted = self.bytes.len();
    }

    /// The whole of it.
    fn finish(mut self) -> Vec<u8> {
        self.count_in();
        self.bytes[8..HEADER_BYTES].copy_from_slice(&(self.crc.finalize() as u32).to_le_bytes());
        self.bytes
    }
}

fn begin(life: u64, journal: JournalId, cursor: &Cursor, partitions: usize) -> Encoded {
    let mut out = Vec::with_capacity(HEADER_BYTES + 128 * partitions);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&life.to_le_bytes());
    out.extend_from_slice(&journal.to_le_bytes());
    out.extend_from_slice(&cursor.sequence.to_le_bytes());
    out.extend_from_slice(&cursor.position.to_le_bytes());
    out.extend_from_slice(&cursor.previous_crc.to_le_bytes());
    out.extend_from_slice(&cursor.capacity.to_le_bytes());
    out.extend_from_slice(&(partitions as u32).to_le_bytes());
    let crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    Encoded { bytes: out, crc, counted: HEADER_BYTES }
}

/// What is true of a partition now.
fn encode_sound(partition: &Partition, out: &mut Vec<u8>) -> Points {
    let log = partition.inner().log.borrow();
    let recovery = log.flushed();
    let points = Points { log_start: log.log_start, recovery, proven: recovery };
    encode_partition(partition.id(), &points, log.void_through, &log.epochs, &log.producers, out);
    points
}

/// What was said of a partition is durable.
fn note_said(partition: &Partition, said: Points) {
    let mut log = partition.inner().log.borrow_mut();
    log.checkpointed = said.recovery.segment;
    log.said_start = said.log_start;
}

fn encode_held(held: &PartitionCheckpoint, out: &mut Vec<u8>) {
    let points = Points { log_start: held.log_start, recovery: held.recovery, proven: held.proven };
    encode_partition(held.id, &points, held.void_through, &held.epochs, &held.producers, out);
}

/// Where a log starts, and how far it is durable.
struct Points {
    log_start: Offset,
    recovery: Point,
    proven: Point,
}

fn encode_partition(
    id: PartitionId,
    points: &Points,
    void_through: u64,
    epochs: &LeaderEpochs,
    producers: &Producers,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(id.topic.as_bytes());
    out.extend_from_slice(&id.partition.to_le_bytes());
    out.extend_from_slice(&points.log_start.0.to_le_bytes());
    for point in [points.recovery, points.proven] {
        out.extend_from_slice(&point.segment.0.to_le_bytes());
        out.extend_from_slice(&point.position.0.to_le_bytes());
        out.extend_from_slice(&point.offset.0.to_le_bytes());
    }
    out.extend_from_slice(&void_through.to_le_bytes());
    out.extend_from_slice(&(epochs.starts().len() as u32).to_le_bytes());
    for start in epochs.starts() {
        out.extend_from_slice(&start.epoch.0.to_le_bytes());
        out.extend_from_slice(&start.start.0.to_le_bytes());
    }
    producers.write_whole(out);
}

impl Checkpoint {
    /// From a file's bytes; `None` if they are not a sound checkpoint.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.get(HEADER_BYTES..)?;
        if bytes[..8] != MAGIC || bytes[8..12] != crc32c(rest).to_le_bytes() {
            return None;
        }
        let mut reader = Reader { bytes, position: HEADER_BYTES };
        let life = reader.u64()?;
        let journal = u128::from_le_bytes(reader.take()?);
        let cursor = Cursor {
            sequence: reader.u64()?,
            position: reader.u64()?,
            previous_crc: u32::from_le_bytes(reader.take()?),
            capacity: reader.u64()?,
        };
        let count = u32::from_le_bytes(reader.take()?);
        let mut partitions = Vec::new();
        for _ in 0..count {
            partitions.push(reader.partition()?);
        }
        (reader.position == bytes.len()).then_some(Self { life, journal, cursor, partitions })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = self.bytes.get(self.position..self.position + N)?;
        self.position += N;
        taken.try_into().ok()
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take()?))
    }

    fn offset(&mut self) -> Option<Offset> {
        Some(Offset(i64::from_le_bytes(self.take()?))).filter(|offset| offset.0 >= 0)
    }

    fn point(&mut self) -> Option<Point> {
        let segment = self.offset()?;
        let position = Position(self.u64()?);
        Some(Point { segment, position, offset: self.offset()? })
    }

    fn partition(&mut self) -> Option<PartitionCheckpoint> {
        let topic = Uuid::from_bytes(self.take()?);
        let partition = i32::from_le_bytes(self.take()?);
        let log_start = self.offset()?;
        let recovery = self.point()?;
        let proven = self.point()?;
        let void_through = self.u64()?;
        let mut starts = Vec::new();
        for _ in 0..u32::from_le_bytes(self.take()?) {
            let epoch = LeaderEpoch(i32::from_le_bytes(self.take()?));
            starts.push(EpochStart { epoch, start: self.offset()? });
        }
        let producers = Producers::read_whole(self.bytes, &mut self.position).ok()?;
        Some(PartitionCheckpoint {
            id: PartitionId { topic, partition },
            log_start,
            recovery,
            proven,
            void_through,
            epochs: LeaderEpochs::from_starts(starts),
            producers,
        })
    }
}
