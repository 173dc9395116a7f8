//! Sequences, epochs, eviction, transactions, and both forms on the disk.

use proptest::prelude::*;

use super::*;
use crate::batch::{BatchBuilder, CheckedBatches, ControlRecord, ProducerStamp};

/// A batch of `count` records of producer `id`.
fn batch(id: i64, epoch: i16, base_sequence: i32, count: u32) -> BatchSummary {
    let stamp = ProducerStamp { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence };
    let mut builder = BatchBuilder::new().producer(stamp);
    for _ in 0..count {
        builder.append(Timestamp(1000), None, None, &[]);
    }
    CheckedBatches::from_internal(vec![builder]).summaries()[0]
}

fn append(producers: &mut Producers, batch: &BatchSummary, offset: i64) {
    assert_eq!(producers.check(batch, AppendOrigin::Client), Ok(Verdict::Append));
    producers.note(batch, Offset(offset), Timestamp(1000), None);
}

fn producers() -> Producers {
    Producers::default()
}

#[test]
fn a_duplicate_of_the_last_five_is_recognised() {
    let mut held = producers();
    for index in 0..6 {
        append(&mut held, &batch(1, 0, index * 3, 3), i64::from(index) * 10);
    }
    for index in 1..6 {
        let verdict = held.check(&batch(1, 0, index * 3, 3), AppendOrigin::Client).unwrap();
        let Verdict::Duplicate(found) = verdict else { panic!("{index} is there already") };
        assert_eq!(found.base_offset(), Offset(i64::from(index) * 10));
    }
    let oldest = held.check(&batch(1, 0, 0, 3), AppendOrigin::Client);
    assert!(matches!(oldest, Err(ProducerError::OutOfOrderSequence { expected: 18, found: 0, .. })));
    // The same first sequence with another count is no duplicate.
    assert!(held.check(&batch(1, 0, 15, 2), AppendOrigin::Client).is_err());
    assert!(held.check(&batch(1, 0, 19, 1), AppendOrigin::Client).is_err());
}

#[test]
fn they_can_be_looked_at_in_turns() {
    let mut held = producers();
    for id in [7, 3, i64::MAX] {
        append(&mut held, &batch(id, 0, 0, 1), 0);
    }
    let after = |last: Option<i64>| -> Vec<i64> {
        held.entries_after(last.map(ProducerId)).map(|(id, _)| id.0).collect()
    };
    assert_eq!(after(None), [3, 7, i64::MAX]);
    assert_eq!(after(Some(3)), [7, i64::MAX]);
    assert_eq!((after(Some(8)), after(Some(i64::MAX))), (vec![i64::MAX], vec![]));
}

#[test]
fn sequences_wrap() {
    let mut held = producers();
    append(&mut held, &batch(1, 0, i32::MAX - 1, 2), 0);
    append(&mut held, &batch(1, 0, 0, 2), 2);
    let mut held = producers();
    append(&mut held, &batch(1, 0, i32::MAX - 1, 5), 0);
    let entry = held.entry(ProducerId(1)).unwrap();
    assert_eq!((entry.last().0, entry.batches()[0].base_sequence()), (2, i32::MAX - 1));
    let again = held.check(&batch(1, 0, i32::MAX - 1, 5), AppendOrigin::Client);
    assert!(matches!(again, Ok(Verdict::Duplicate(_))));
    append(&mut held, &batch(1, 0, 3, 1), 5);
}

#[test]
fn epochs_rise_and_begin_at_zero() {
    let mut held = producers();
    append(&mut held, &batch(1, 3, 77, 1), 0);
    assert!(matches!(
        held.check(&batch(1, 2, 78, 1), AppendOrigin::Client),
        Err(ProducerError::InvalidEpoch { .. })
    ));
    assert!(matches!(
        held.check(&batch(1, 4, 78, 1), AppendOrigin::Client),
        Err(ProducerError::OutOfOrderSequence { expected: 0, .. })
    ));
    append(&mut held, &batch(1, 4, 0, 1), 1);
    // A replica keeps what its leader decided.
    assert_eq!(held.check(&batch(1, 2, 9, 1), AppendOrigin::Replica), Ok(Verdict::Append));
}

#[test]
fn silent_producers_go_and_may_come_back_with_any_sequence() {
    let mut held = Producers::bounded(8);
    for id in 0..9 {
        append(&mut held, &batch(id, 0, 5, 1), id);
    }
    assert_eq!(held.len(), 8);
    append(&mut held, &batch(0, 0, 42, 1), 9);
    let mut expire = |last: Option<i64>, count, now| {
        let next = held.remove_expired(last.map(ProducerId), count, Timestamp(now), 100);
        (next.map(|id| id.0), held.len())
    };
    assert_eq!(expire(None, 9, 1099), (None, 8));
    assert_eq!(expire(None, 3, 1100), (Some(3), 5), "0, 2 and 3: there is no 1");
    assert_eq!(expire(Some(3), 3, 1100), (Some(6), 2));
    assert_eq!(expire(Some(6), 3, 1100), (None, 0));
}

#[test]
fn a_transaction_holds_the_last_stable_offset() {
    let mut held = producers();
    let mut open = batch(1, 0, 0, 2);
    open.transactional = true;
    append(&mut held, &open, 10);
    assert_eq!(held.first_unstable_offset(), Some(Offset(10)));
    assert!(matches!(
        held.check(&batch(1, 0, 2, 1), AppendOrigin::Client),
        Err(ProducerError::InvalidTransactionState { .. })
    ));
    let stamp = ProducerStamp { id: ProducerId(1), epoch: ProducerEpoch(1), base_sequence: -1 };
    let record = ControlRecord::EndTransaction { commit: false, coordinator_epoch: 7 };
    let marker = BatchBuilder::control(Timestamp(2000), &record).producer(stamp).transactional();
    let checked = marker.build_checked();
    let end = TransactionEnd::of_batch(checked.bytes()).unwrap();
    assert_eq!(end, TransactionEnd { commit: false, coordinator_epoch: 7 });
    let summary = checked.summaries()[0];
    assert_eq!(held.check(&summary, AppendOrigin::Coordinator), Ok(Verdict::Append));
    let completed = held.note(&summary, Offset(12), Timestamp(2000), Some(end)).unwrap();
    assert_eq!((completed.first, completed.last, completed.commit), (Offset(10), Offset(12), false));
    assert_eq!(held.last_stable_after(&completed), Offset(13));
    assert_eq!(held.first_unstable_offset(), Some(Offset(10)));
    held.advance_high_watermark(Offset(13));
    assert_eq!(held.first_unstable_offset(), None);
    let older = TransactionEnd { commit: true, coordinator_epoch: 6 };
    assert!(held.check_end(ProducerId(1), &older).is_err());
    // The marker's epoch is the new one: it begins at 0.
    append(&mut held, &batch(1, 1, 0, 1), 13);
}

#[test]
fn faults_of_a_snapshot_are_told_apart() {
    let mut held = producers();
    append(&mut held, &batch(1, 0, 0, 2), 10);
    let sound = held.to_snapshot();
    let read = |bytes: &[u8]| Producers::from_snapshot(bytes).map(|held| held.len());
    assert_eq!(read(&sound), Ok(1));
    let mut other = sound.clone();
    other[1] = 9;
    assert_eq!(read(&other), Err(SnapshotError::Version { version: 9 }));
    other = sound.clone();
    *other.last_mut().unwrap() ^= 1;
    assert!(matches!(read(&other), Err(SnapshotError::Checksum { .. })));
    assert!(read(&sound[..sound.len() - 1]).is_err());
    assert!(read(&[]).is_err());
}

proptest! {
    /// Both forms keep what decides about the next batch; the engine's own keeps all.
    #[test]
    fn both_forms_go_there_and_back(
        appends in proptest::collection::vec((0i64..4, 1u32..5, any::<bool>()), 0..40)
    ) {
        let mut held = producers();
        let mut offset = 0;
        for (id, count, bump) in appends {
            let (epoch, next) = match held.entry(ProducerId(id)) {
                Some(entry) if bump => (entry.epoch.0 + 1, 0),
                Some(entry) => (entry.epoch.0, entry.next_sequence(entry.epoch)),
                None => (0, 7),
            };
            append(&mut held, &batch(id, epoch, next, count), offset);
            offset += i64::from(count);
        }
        let mut whole = vec![1, 2, 3];
        held.write_whole(&mut whole);
        whole.push(9);
        let mut position = 3;
        let read = Producers::read_whole(&whole, &mut position).unwrap();
        prop_assert_eq!(position, whole.len() - 1);
        prop_assert_eq!(&read.entries, &held.entries);
        let read = Producers::from_snapshot(&held.to_snapshot()).unwrap();
        prop_assert_eq!(read.to_snapshot(), held.to_snapshot());
        for (id, entry) in held.entries() {
            prop_assert_eq!(read.entry(id).unwrap().last(), entry.last());
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Producers::from_snapshot(&bytes);
        let _ = Producers::read_whole(&bytes, &mut 0);
    }
}
