//! What folding wrote to the segments and still has in memory: whoever opens a partition need not read it again. What a start read
//! of a log to find where its scan begins is held in the same way.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::{Offset, PartitionId};

/// The bytes of every partition that was folded, until it is opened, wherever that is.
///
/// They are slices of what was kept of the journals, and keep the pieces that those were read in.
#[derive(Debug, Default)]
pub(super) struct Held {
    logs: Mutex<BTreeMap<PartitionId, HeldLog>>,
}

impl Held {
    /// A partition that two journals speak of is read from its segments: the later one may have written over what the
    /// earlier one had.
    pub(super) fn keep(&self, id: PartitionId, log: HeldLog) {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let first = !logs.contains_key(&id);
        logs.insert(id, if first { log } else { HeldLog::default() });
    }

    /// What is held of a partition, which is to be opened now.
    pub(super) fn take(&self, id: PartitionId) -> HeldLog {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).remove(&id).unwrap_or_default()
    }

    /// Lets go what nobody has taken.
    pub(super) fn clear(&self) {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Parts of one partition's segments, in order.
#[derive(Debug, Default)]
pub(super) struct HeldLog {
    parts: Vec<HeldPart>,
}

#[derive(Debug)]
struct HeldPart {
    segment: Offset,
    position: u64,
    bytes: Bytes,
}

impl HeldPart {
    fn end(&self) -> (Offset, u64) {
        (self.segment, self.position + self.bytes.len() as u64)
    }
}

impl HeldLog {
    /// As (segment, position in it, bytes). Nothing is held if they are not in order.
    pub(super) fn of(parts: impl Iterator<Item = (Offset, u64, Bytes)>) -> Self {
        let parts: Vec<_> =
            parts.map(|(segment, position, bytes)| HeldPart { segment, position, bytes }).collect();
        let in_order = parts.windows(2).all(|pair| pair[0].end() <= (pair[1].segment, pair[1].position));
        if in_order { Self { parts } } else { Self::default() }
    }

    /// So many bytes at `position` of a segment, if they are one part's.
    pub(super) fn at(&self, segment: Offset, position: u64, length: usize) -> Option<&[u8]> {
        let behind = self.parts.partition_point(|part| (part.segment, part.position) <= (segment, position));
        let part = &self.parts[behind.checked_sub(1)?];
        let from = usize::try_from(position.checked_sub(part.position)?).ok()?;
        part.bytes.get(from..from.checked_add(length)?).filter(|_| part.segment == segment)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn log(parts: &[(i64, u64, &'static str)]) -> HeldLog {
        HeldLog::of(parts.iter().map(|(segment, position, bytes)| {
            (Offset(*segment), *position, Bytes::from_static(bytes.as_bytes()))
        }))
    }

    #[test]
    fn only_what_one_part_has_is_found() {
        let log = log(&[(0, 10, "abcdef"), (0, 16, "ghi"), (7, 0, "jkl")]);
        let at = |segment, position, length| {
            log.at(Offset(segment), position, length).map(|bytes| str::from_utf8(bytes).expect("letters"))
        };
        assert_eq!(at(0, 10, 6), Some("abcdef"));
        assert_eq!(at(0, 12, 2), Some("cd"));
        assert_eq!(at(0, 16, 3), Some("ghi"));
        assert_eq!(at(7, 1, 2), Some("kl"));
        for nowhere in [(0, 9, 1), (0, 15, 2), (0, 18, 2), (0, 19, 1), (7, 2, 2), (3, 0, 1), (8, 0, 1)] {
            assert_eq!(at(nowhere.0, nowhere.1, nowhere.2), None, "{nowhere:?}");
        }
    }

    #[test]
    fn nothing_is_held_where_it_is_not_sure_what_was_written_last() {
        assert!(log(&[(0, 10, "abcdef"), (0, 15, "x")]).parts.is_empty());
        assert!(log(&[(7, 0, "abc"), (0, 0, "x")]).parts.is_empty());
        let (held, id) = (Held::default(), PartitionId { topic: Uuid::from_u128(1), partition: 0 });
        held.keep(id, log(&[(0, 0, "abc")]));
        assert_eq!(held.take(id).parts.len(), 1);
        assert!(held.take(id).parts.is_empty(), "it is opened");
        for _ in 0..3 {
            held.keep(id, log(&[(0, 0, "abc")]));
        }
        assert!(held.take(id).parts.is_empty(), "more than one journal had it");
        held.keep(id, log(&[(0, 0, "abc")]));
        held.clear();
        assert!(held.take(id).parts.is_empty(), "nobody took it");
    }
}
