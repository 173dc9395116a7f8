//! What the fuzz targets call: each function takes any bytes and panics only where an invariant is broken.
//!
//! Whatever is accepted is written again and read back: a format that changes by a round trip is a finding too.

use bytes::Bytes;

use crate::batch::{BatchLimits, CheckedBatches, Placement, batches, check, check_verbatim, records};
use crate::checkpoint::Checkpoint;
use crate::checkpoints;
use crate::epochs::LeaderEpochs;
use crate::index::{OffsetIndex, SegmentIndexes, TimeIndex, TransactionIndex};
use crate::journal::format::{self, GROUP_HEADER_BYTES, JournalId};
use crate::producers::{Producers, TransactionEnd};
use crate::types::{LeaderEpoch, Offset, Position, Timestamp};

/// A target's name, which is its corpus', and what it does with one input.
pub type Target = (&'static str, fn(&[u8]));

/// The targets of this crate.
pub const TARGETS: &[Target] = &[
    ("batch", batch),
    ("index", index),
    ("producers", producers),
    ("text_files", text_files),
    ("journal", journal),
    ("checkpoint", checkpoint),
];

const LIMITS: BatchLimits = BatchLimits { max_message_bytes: 1 << 20 };

/// Where a batch's checksum ends and what it covers begins.
const CRC_END: usize = 21;

/// Batches as a client, a leader or a disk sends them, placed in a log and read back; and once more with the
/// length and the checksum made right, so that what is behind those checks is reached.
pub fn batch(bytes: &[u8]) {
    one_batch(bytes);
    if bytes.len() > CRC_END {
        let mut sound = bytes.to_vec();
        sound[8..12].copy_from_slice(&(bytes.len() as u32 - 12).to_be_bytes());
        sound[16] = 2;
        let crc = crc_fast::crc32_iscsi(&sound[CRC_END..]);
        sound[CRC_END - 4..CRC_END].copy_from_slice(&crc.to_be_bytes());
        one_batch(&sound);
    }
}

fn one_batch(bytes: &[u8]) {
    let given = Bytes::copy_from_slice(bytes);
    for checked in [check(given.clone(), &LIMITS), check_verbatim(given, &LIMITS)].into_iter().flatten() {
        for log_append_time in [None, Some(Timestamp(i64::MAX)), Some(Timestamp(0))] {
            place(&checked, log_append_time);
        }
    }
    for batch in batches(bytes).flatten() {
        if let Ok(records) = records(batch.1) {
            for record in records.flatten() {
                assert_eq!(record.headers.size_hint().0, record.headers.count());
            }
        }
        let _ = TransactionEnd::of_batch(batch.1);
    }
}

/// A placed batch is sound, and says what it was told to.
fn place(checked: &CheckedBatches, log_append_time: Option<Timestamp>) {
    let (base_offset, leader_epoch) = (Offset(1 << 40), LeaderEpoch(5));
    for summary in checked.summaries() {
        let placement = Placement { base_offset, leader_epoch, log_append_time };
        let mut batch = checked.placed_header(summary, &placement).to_vec();
        batch.extend_from_slice(checked.body(summary));
        let placed = check_verbatim(batch.into(), &LIMITS).expect("a placed batch is sound");
        let [found] = placed.summaries() else { panic!("one batch becomes one batch") };
        assert_eq!((found.base_offset, found.leader_epoch), (base_offset, leader_epoch));
        assert_eq!((found.records, found.producer), (summary.records, summary.producer));
        assert_eq!(found.max_timestamp, log_append_time.unwrap_or(summary.max_timestamp));
    }
}

/// The three indexes of a segment.
pub fn index(bytes: &[u8]) {
    let base = Offset(1000);
    if let Ok(index) = OffsetIndex::from_bytes(base, bytes, 1 << 31) {
        let written = index.to_bytes();
        assert_eq!(written[..], bytes[..written.len()]);
        assert!(bytes[written.len()..].iter().all(|byte| *byte == 0));
        let mut last = Position(0);
        for offset in (0..64).map(|power| Offset(base.0.saturating_add(1i64 << power.min(62)))) {
            let found = index.lookup(offset);
            assert!(found.position >= last && (found.offset <= offset || found.position == Position(0)));
            last = found.position;
        }
        let times = TimeIndex::new(base);
        let mut segment = SegmentIndexes::from_indexes(index, times, None);
        segment.truncate_to(Offset(base.0 + 100), None);
        assert!(segment.offsets.last().is_none_or(|last| last.offset < Offset(base.0 + 100)));
    }
    if let Ok(index) = TimeIndex::from_bytes(base, bytes) {
        let written = index.to_bytes();
        assert_eq!(written[..], bytes[..written.len()]);
        let _ = index.lookup(Timestamp(0));
    }
    if let Ok(index) = TransactionIndex::from_bytes(bytes) {
        assert_eq!(index.to_bytes(), bytes);
        let _ = index.aborted_in(base, Offset(base.0 + 100));
    }
}

/// Producers, in Kafka's form and in the engine's own; and once more with the checksum of the first made right.
pub fn producers(bytes: &[u8]) {
    some_producers(bytes);
    if bytes.len() >= 6 {
        let mut sound = bytes.to_vec();
        let crc = crc_fast::crc32_iscsi(&sound[6..]);
        sound[2..6].copy_from_slice(&crc.to_be_bytes());
        some_producers(&sound);
    }
}

fn some_producers(bytes: &[u8]) {
    let mut position = 0;
    let whole = Producers::read_whole(bytes, &mut position).ok();
    let kafka = Producers::from_snapshot(bytes).ok();
    for read in whole.into_iter().chain(kafka) {
        let snapshot = read.to_snapshot();
        let again = Producers::from_snapshot(&snapshot).expect("what was written is read");
        assert_eq!(again.to_snapshot(), snapshot);
        let mut written = Vec::new();
        read.write_whole(&mut written);
        let again = Producers::read_whole(&written, &mut 0).expect("what was written is read");
        let mut twice = Vec::new();
        again.write_whole(&mut twice);
        assert_eq!(twice, written);
    }
}

/// A journal's header block and a commit group; the group once more with the right length and checksum.
pub fn journal(bytes: &[u8]) {
    let _ = format::decode_file_header(bytes);
    one_group(bytes);
    if bytes.len() >= GROUP_HEADER_BYTES {
        let mut sound = bytes.to_vec();
        sound[..8].copy_from_slice(b"FLUMGRP1");
        sound[40..44].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        let crc = format::crc32c(&[&sound[..52], &sound[56..]].concat());
        sound[52..56].copy_from_slice(&crc.to_le_bytes());
        one_group(&sound);
    }
}

fn one_group(bytes: &[u8]) {
    let Some(id) = bytes.get(8..24) else { return };
    let id = JournalId::from_le_bytes(id.try_into().expect("16 bytes"));
    let Ok(group) = format::decode_group(id, bytes) else { return };
    let entries: Vec<_> = group.entries.iter().map(|(entry, _)| *entry).collect();
    let mut written = vec![0; group.length];
    for (entry, at) in &group.entries {
        let copied = *at..*at + entry.copied_bytes();
        written[copied.clone()].copy_from_slice(&bytes[copied]);
    }
    format::encode_group(&group.header, &entries, &mut written);
    let again = format::decode_group(id, &written).expect("what was written is read");
    // The checksum may differ: reserved bytes are not kept.
    assert_eq!((again.header, again.length, again.entries), (group.header, group.length, group.entries));
}

/// A core's own checkpoint, and once more with the right checksum.
pub fn checkpoint(bytes: &[u8]) {
    let _ = Checkpoint::decode(bytes);
    if bytes.len() >= 12 {
        let mut sound = bytes.to_vec();
        sound[..8].copy_from_slice(b"FLUMCHK2");
        let crc = format::crc32c(&sound[12..]);
        sound[8..12].copy_from_slice(&crc.to_le_bytes());
        let _ = Checkpoint::decode(&sound);
    }
}

/// Kafka's text files.
pub fn text_files(bytes: &[u8]) {
    if let Ok(offsets) = checkpoints::decode_offsets(bytes) {
        let text = checkpoints::encode_offsets(&offsets);
        assert_eq!(checkpoints::decode_offsets(text.as_bytes()), Ok(offsets));
    }
    if let Ok(epochs) = checkpoints::decode_epochs(bytes) {
        let text = checkpoints::encode_epochs(&epochs);
        assert_eq!(checkpoints::decode_epochs(text.as_bytes()), Ok(epochs.clone()));
        assert_eq!(LeaderEpochs::from_starts(epochs.starts().iter().copied()), epochs);
    }
    if let Ok(topic) = checkpoints::decode_partition_metadata(bytes) {
        let text = checkpoints::encode_partition_metadata(topic);
        assert_eq!(checkpoints::decode_partition_metadata(text.as_bytes()), Ok(topic));
    }
    let _ = checkpoints::decode_clean_shutdown(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::batch::BatchBuilder;
    use crate::types::Timestamp;

    /// A sound batch, to be altered: random bytes alone seldom come past the checks.
    fn sound_batch() -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        builder.append(Timestamp(5), Some(b"key"), None, &[]);
        builder.append(Timestamp(7), None, Some(b"value"), &[]);
        builder.build().to_vec()
    }

    proptest! {
        #[test]
        fn no_bytes_break_an_invariant(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            position in 0usize..100,
            value: u8,
        ) {
            super::batch(&bytes);
            super::index(&bytes);
            super::producers(&bytes);
            super::text_files(&bytes);
            super::journal(&bytes);
            super::checkpoint(&bytes);
            let mut batch = sound_batch();
            let position = position % batch.len();
            batch[position] = value;
            let crc = crc_fast::crc32_iscsi(&batch[21..]);
            batch[17..21].copy_from_slice(&crc.to_be_bytes());
            super::batch(&batch);
        }
    }
}
