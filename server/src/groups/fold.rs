//! Keeps the log of group state short, and so the time to load it.
//!
//! When the log holds several times more records than are alive, every live record is appended once more, piece
//! by piece, and then everything before the first piece is forgotten: what remains says the same. Newer
//! records may come between the pieces; they are behind the piece that held their key, or the piece that
//! comes has their value. So at every moment a replay of the whole log gives the newest state.
//!
//! On the core that owns the partition. A crash in the middle leaves a longer log, no other state. While a
//! transaction is open nothing is folded, because its records must stay before its marker.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use bytes::Bytes;
use flumen_engine::Offset;

use super::partition::GroupPartition;
use super::records::Record;

/// Logs of fewer records are left alone.
const RECORDS_MIN: usize = 50_000;
/// How many times more records than live ones a log may hold.
const EXCESS: usize = 4;
/// Records of one piece, about.
const RECORDS_PER_PIECE: usize = 512;
/// Bytes of one batch, at most, unless one record is larger.
const BATCH_BYTES: usize = 256 << 10;

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing, for now.
    Nothing,
    /// These batches are appended.
    Append(Vec<Vec<Record>>),
    /// Everything is in the log once more, from here on.
    Trim(Offset),
}

/// Where a fold is.
#[derive(Debug)]
enum Progress {
    /// The groups' own records, behind this key.
    Groups(Option<Bytes>),
    /// Offsets, of the groups behind this one.
    Offsets(Option<Rc<str>>),
    /// Everything is appended.
    Done,
}

/// A fold under way.
#[derive(Debug)]
struct Running {
    progress: Progress,
    /// Where its first record is, once it is known.
    first: Option<Offset>,
    /// Batches that are not durable yet.
    in_flight: usize,
}

/// What is needed to fold one partition's log.
#[derive(Debug, Default)]
pub(super) struct Fold {
    /// Live records other than offsets, as they were last appended.
    live: BTreeMap<Bytes, Bytes>,
    running: Option<Running>,
    /// An append failed, so `live` may be wrong: nothing is folded until the groups are loaded again.
    failed: bool,
    /// No look before the log has this many records.
    look_at: usize,
}

impl Fold {
    /// Notes what is appended or replayed.
    pub(super) fn note(&mut self, key: &Bytes, value: Option<&Bytes>) {
        // Versions 0 and 1 of a key are offsets', which are known elsewhere.
        if key.starts_with(&[0, 0]) || key.starts_with(&[0, 1]) {
            return;
        }
        match value {
            Some(value) => drop(self.live.insert(key.clone(), value.clone())),
            None => drop(self.live.remove(key)),
        }
    }

    /// A batch is durable (or failed, without a `base_offset`), in a log that begins at `start`.
    pub(super) fn appended(
        &mut self,
        start: Offset,
        base_offset: Option<Offset>,
        records: usize,
        folds: bool,
        groups: &GroupPartition,
    ) -> Step {
        let Some(base_offset) = base_offset else {
            self.failed = true;
            self.running = None;
            return Step::Nothing;
        };
        if folds {
            let Some(running) = &mut self.running else { return Step::Nothing };
            running.first.get_or_insert(base_offset);
            running.in_flight -= 1;
            return if running.in_flight == 0 { self.next(groups) } else { Step::Nothing };
        }
        let in_log = usize::try_from(base_offset.0 - start.0).unwrap_or(0) + records;
        if self.failed
            || self.running.is_some()
            || in_log < self.look_at.max(RECORDS_MIN)
            || groups.has_transactions()
        {
            return Step::Nothing;
        }
        self.look_at = EXCESS * (self.live.len() + groups.offsets_count());
        if in_log < self.look_at {
            return Step::Nothing;
        }
        self.running = Some(Running { progress: Progress::Groups(None), first: None, in_flight: 0 });
        self.next(groups)
    }

    fn next(&mut self, groups: &GroupPartition) -> Step {
        let Some(running) = &mut self.running else { return Step::Nothing };
        let mut records = Vec::new();
        while records.is_empty() {
            match &mut running.progress {
                Progress::Groups(after) => {
                    let from = after.take().map_or(Bound::Unbounded, Bound::Excluded);
                    let piece = self.live.range((from, Bound::Unbounded)).take(RECORDS_PER_PIECE);
                    let record = |(key, value): (&Bytes, &Bytes)| Record {
                        key: key.clone(),
                        value: Some(value.clone()),
                    };
                    records.extend(piece.map(record));
                    running.progress = match records.last() {
                        Some(last) => Progress::Groups(Some(last.key.clone())),
                        None => Progress::Offsets(None),
                    };
                }
                Progress::Offsets(after) => {
                    let mut last = None;
                    for group in groups.groups_with_offsets_after(after.as_deref(), RECORDS_PER_PIECE) {
                        records.extend(groups.offset_records(&group));
                        last = Some(group);
                        if records.len() >= RECORDS_PER_PIECE {
                            break;
                        }
                    }
                    running.progress = last.map_or(Progress::Done, |group| Progress::Offsets(Some(group)));
                }
                Progress::Done => {
                    let first = running.first;
                    self.running = None;
                    return first.map_or(Step::Nothing, Step::Trim);
                }
            }
        }
        let batches = into_batches(records);
        running.in_flight = batches.len();
        Step::Append(batches)
    }
}

fn into_batches(records: Vec<Record>) -> Vec<Vec<Record>> {
    let mut batches: Vec<Vec<Record>> = Vec::new();
    let mut bytes = usize::MAX;
    for record in records {
        if bytes.saturating_add(record.size()) > BATCH_BYTES {
            bytes = 0;
            batches.push(Vec::new());
        }
        bytes += record.size();
        batches.last_mut().expect("one was pushed first").push(record);
    }
    batches
}
