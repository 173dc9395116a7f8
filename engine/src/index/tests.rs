//! The indexes against maps, and against files that are not sound.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::types::ProducerId;

#[test]
fn a_tail_of_zeros_is_left_out() {
    let mut index = OffsetIndex::new(Offset(100));
    index.push(Offset(105), Position(500));
    index.push(Offset(110), Position(900));
    let mut bytes = index.to_bytes();
    bytes.resize(10 << 20, 0);
    let read = OffsetIndex::from_bytes(Offset(100), &bytes, 1000).unwrap();
    assert_eq!(read.to_bytes(), index.to_bytes());
    bytes[100] = 1;
    assert!(OffsetIndex::from_bytes(Offset(100), &bytes, 1000).is_err());

    let mut times = TimeIndex::new(Offset(100));
    times.push(TimeEntry { timestamp: Timestamp(7), offset: Offset(105) });
    let mut bytes = times.to_bytes();
    bytes.resize(12 * 100, 0);
    assert_eq!(TimeIndex::from_bytes(Offset(100), &bytes).unwrap().len(), 1);
}

#[test]
fn what_is_not_sound_is_refused() {
    let entry = |offset: u32, position: u32| [offset.to_be_bytes(), position.to_be_bytes()].concat();
    let read = |bytes: &[u8]| OffsetIndex::from_bytes(Offset(0), bytes, 1000).map(|index| index.len());
    assert_eq!(read(&entry(1, 10)[..7]), Err(IndexError::Length { length: 7 }));
    assert_eq!(read(&[entry(5, 10), entry(5, 20)].concat()), Err(IndexError::Order { index: 1 }));
    assert_eq!(read(&[entry(5, 10), entry(6, 10)].concat()), Err(IndexError::Order { index: 1 }));
    assert_eq!(read(&entry(1 << 31, 10)), Err(IndexError::Order { index: 0 }));
    assert_eq!(read(&entry(5, 1000)), Err(IndexError::BehindLog { index: 0 }));
    assert_eq!(read(&[]), Ok(0));
}

#[test]
fn an_offset_too_far_from_the_base_has_no_entry() {
    let mut index = OffsetIndex::new(Offset(0));
    index.push(Offset(1 << 31), Position(1));
    index.push(Offset(1), Position(1 << 32));
    assert!(index.is_empty());
    assert_eq!(index.lookup(Offset(5)).position, Position(0));
}

#[test]
fn entries_rise_above_those_that_were_read_and_those_that_a_cut_left() {
    let entry = |offset, position| OffsetEntry { offset: Offset(offset), position: Position(position) };
    let mut written = OffsetIndex::new(Offset(0));
    written.push(Offset(5), Position(50));
    written.push(Offset(8), Position(80));
    let mut read = OffsetIndex::from_bytes(Offset(0), &written.to_bytes(), 1000).unwrap();
    assert_eq!(read.last(), Some(entry(8, 80)));
    read.push(Offset(7), Position(90));
    assert_eq!(read.len(), 2, "it does not rise");
    read.truncate_to(Offset(8));
    assert_eq!(read.last(), Some(entry(5, 50)));
    read.push(Offset(7), Position(70));
    assert_eq!((read.last(), read.len()), (Some(entry(7, 70)), 2));
    read.truncate_to(Offset(0));
    assert_eq!(read.last(), None);
}

#[test]
fn aborted_transactions_are_found_by_overlap() {
    let mut index = TransactionIndex::default();
    let entry = |producer, first, last, last_stable| AbortedEntry {
        producer: ProducerId(producer),
        first: Offset(first),
        last: Offset(last),
        last_stable: Offset(last_stable),
    };
    index.push(entry(1, 0, 10, 5));
    index.push(entry(2, 5, 20, 21));
    let read = TransactionIndex::from_bytes(&index.to_bytes()).unwrap();
    assert_eq!(read, index);
    assert_eq!(read.aborted_in(Offset(11), Offset(15)), (vec![entry(2, 5, 20, 21)], true));
    assert_eq!(read.aborted_in(Offset(0), Offset(30)).0.len(), 2);
    assert!(!read.aborted_in(Offset(0), Offset(30)).1);
    assert!(TransactionIndex::from_bytes(&index.to_bytes()[..40]).is_err());
}

proptest! {
    #[test]
    fn lookups_agree_with_maps(
        batches in proptest::collection::vec((1i64..50, 61u64..400, 0i64..1000), 1..100),
        interval in 0u32..1500,
        cut in 0i64..3000,
        base in 0i64..1 << 40,
    ) {
        let mut indexes = SegmentIndexes::new(Offset(base));
        // Offset of the last record → position, timestamp.
        let mut model = BTreeMap::new();
        let (mut next, mut position) = (base, 0);
        for (count, length, timestamp) in batches {
            let last = next + count - 1;
            indexes.note_batch(Position(position), length, Offset(last), Timestamp(timestamp), interval);
            model.insert(last, (position, timestamp));
            next += count;
            position += length;
        }
        let cut = base + cut;
        if cut < next {
            let max = model.range(..cut).map(|(last, (_, timestamp))|
                TimeEntry { timestamp: Timestamp(*timestamp), offset: Offset(*last) });
            let max = max.reduce(|max, entry| if entry.timestamp > max.timestamp { entry } else { max });
            indexes.truncate_to(Offset(cut), max);
            model.retain(|last, _| *last < cut);
        }
        indexes.seal();
        let offsets = OffsetIndex::from_bytes(Offset(base), &indexes.offsets.to_bytes(), position).unwrap();
        let times = TimeIndex::from_bytes(Offset(base), &indexes.times.to_bytes()).unwrap();
        for (last, (position, _)) in &model {
            let found = offsets.lookup(Offset(*last));
            prop_assert!(found.position <= Position(*position));
            prop_assert!(found.position == Position(0) || model[&found.offset.0].0 == found.position.0);
        }
        for target in 0..1000 {
            let start = times.lookup(Timestamp(target));
            // No batch before the one that ends at `start` holds a record that late.
            let first = model.iter().find(|(_, (_, timestamp))| *timestamp >= target);
            if let Some((last, _)) = first {
                prop_assert!(start.0 <= *last);
            }
        }
        let largest = model.values().map(|(_, timestamp)| *timestamp).max();
        prop_assert_eq!(times.last().map(|entry| entry.timestamp.0), largest);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), base: i64) {
        let base = Offset(base & i64::MAX >> 1);
        if let Ok(index) = OffsetIndex::from_bytes(base, &bytes, 1 << 31) {
            index.lookup(Offset(base.0 + 5));
        }
        if let Ok(index) = TimeIndex::from_bytes(base, &bytes) {
            index.lookup(Timestamp(5));
        }
        let _ = TransactionIndex::from_bytes(&bytes);
    }
}
