//! What is accepted, what is refused and how, and that no bytes panic.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

const LIMITS: BatchLimits = BatchLimits { max_message_bytes: 1 << 20 };

fn sample() -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    let headers = [Header { key: b"trace", value: Some(b"1") }, Header { key: b"trace", value: None }];
    builder.append(Timestamp(1000), Some(b"a"), Some(b"first"), &headers);
    builder.append(Timestamp(900), None, None, &[]);
    builder.append(Timestamp(1_000_000_000_000), Some(b""), Some(&[7; 300]), &[]);
    builder
}

/// Changes bytes of a sound batch, then makes the CRC right again.
fn altered(change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = sample().build().to_vec();
    change(&mut bytes);
    let crc = header::checksum(&bytes[header::CRC_START..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

fn refusal(bytes: Bytes) -> BatchErrorKind {
    check(bytes, &LIMITS).expect_err("the batch is refused").kind()
}

#[test]
fn a_sound_batch_is_summarised() {
    let checked = check(sample().build(), &LIMITS).unwrap();
    let [summary] = checked.summaries() else { panic!("one batch") };
    assert_eq!((summary.records, summary.offsets), (3, 3));
    assert_eq!(summary.max_timestamp, Timestamp(1_000_000_000_000));
    assert_eq!(summary.min_timestamp, Timestamp(900));
    assert_eq!(summary.has_keyless, Some(true));
    assert_eq!((summary.producer, summary.codec), (None, Codec::None));
    let records: Vec<_> = checked.records(summary).unwrap().map(Result::unwrap).collect();
    assert_eq!(records[0].headers.clone().count(), 2);
    assert_eq!(records[1].key, None);
    assert_eq!(records[2].key, Some(&b""[..]));
    assert_eq!(records[2].offset, Offset(2));
}

#[test]
fn a_placed_header_leaves_the_batch_sound() {
    let checked = check(sample().build(), &LIMITS).unwrap();
    let summary = checked.summaries()[0];
    for log_append_time in [None, Some(Timestamp(77)), Some(Timestamp(i64::MAX))] {
        let placement =
            Placement { base_offset: Offset(1 << 40), leader_epoch: LeaderEpoch(9), log_append_time };
        let mut placed = checked.placed_header(&summary, &placement).to_vec();
        placed.extend_from_slice(checked.body(&summary));
        let header = BatchHeader::parse(&placed).unwrap();
        header.verify(&placed).unwrap();
        assert_eq!(header.last_offset(), Offset((1 << 40) + 2));
        assert_eq!(header.leader_epoch(), LeaderEpoch(9));
        assert_eq!(header.is_log_append_time(), log_append_time.is_some());
        let first = records(&placed).unwrap().next().unwrap().unwrap();
        assert_eq!(first.timestamp, log_append_time.unwrap_or(Timestamp(1000)));
    }
}

#[test]
fn a_header_that_lies_about_its_time_is_put_right() {
    let lying = altered(|bytes| {
        bytes[22] |= 8;
        bytes[35..43].copy_from_slice(&5i64.to_be_bytes());
    });
    let checked = check(lying, &LIMITS).unwrap();
    let summary = checked.summaries()[0];
    // Where LogAppendTime is set, the records' time is that of the header, as for Kafka.
    assert_eq!(summary.timestamp_type, TimestampType::LogAppendTime);
    assert_eq!(summary.max_timestamp, Timestamp(5));
    let lying = altered(|bytes| bytes[35..43].copy_from_slice(&5i64.to_be_bytes()));
    let checked = check(lying, &LIMITS).unwrap();
    let placement = Placement { base_offset: Offset(0), leader_epoch: LeaderEpoch(0), log_append_time: None };
    let mut placed = checked.placed_header(&checked.summaries()[0], &placement).to_vec();
    placed.extend_from_slice(checked.body(&checked.summaries()[0]));
    let header = BatchHeader::parse(&placed).unwrap();
    assert_eq!(header.max_timestamp(), Timestamp(1_000_000_000_000));
    header.verify(&placed).unwrap();
}

#[test]
fn faults_get_the_answers_of_kafka() {
    use BatchErrorKind::{Corrupt, Invalid, TooLarge, Unknown};
    let whole = sample().build();
    assert_eq!(refusal(Bytes::new()), Invalid);
    assert_eq!(refusal(whole.slice(..whole.len() - 1)), Invalid);
    assert_eq!(refusal([&whole[..], &whole[..]].concat().into()), Invalid);
    assert_eq!(refusal(altered(|b| b[16] = 1)), Invalid);
    assert_eq!(refusal(altered(|b| b[16] = 3)), Corrupt);
    assert_eq!(refusal(altered(|b| b[16] = 0x80)), Corrupt);
    assert_eq!(refusal(altered(|b| b[8..12].copy_from_slice(&(-1i32).to_be_bytes()))), Corrupt);
    assert_eq!(refusal(altered(|b| b[8..12].copy_from_slice(&20i32.to_be_bytes()))), Corrupt);
    assert_eq!(refusal(altered(|b| b[7] = 1)), Invalid);
    assert_eq!(refusal(altered(|b| b[22] = 5)), Unknown);
    assert_eq!(refusal(altered(|b| b[22] |= 0x20)), Invalid);
    assert_eq!(refusal(altered(|b| b[60] = 4)), Invalid);
    assert_eq!(refusal(altered(|b| b[26] = 9)), Invalid);
    assert_eq!(refusal(altered(|b| b[57..61].fill(0))), Invalid);
    assert_eq!(refusal(altered(|b| b[43..51].copy_from_slice(&5i64.to_be_bytes()))), Invalid);
    let mut flipped = whole.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(refusal(flipped.into()), Corrupt);
    let error = check(whole, &BatchLimits { max_message_bytes: 100 }).expect_err("it is larger");
    assert_eq!(error.kind(), TooLarge);
}

#[test]
fn a_part_of_a_batch_behind_it_is_cut_off() {
    let whole = sample().build();
    let with_tail = [&whole[..], &whole[..30]].concat();
    let checked = check(with_tail.into(), &LIMITS).unwrap();
    assert_eq!(checked.length(), whole.len());
}

#[test]
fn records_must_fill_the_batch_and_count_up() {
    let first_length = |bytes: &mut Vec<u8>| bytes[61] -= 2;
    assert!(matches!(check(altered(first_length), &LIMITS), Err(BatchError::InvalidRecord { .. })));
    // Length (1), attributes (1), timestamp delta (1): the offset delta of the first record is byte 64.
    let first_delta = |bytes: &mut Vec<u8>| bytes[64] = 2;
    assert!(matches!(check(altered(first_delta), &LIMITS), Err(BatchError::InvalidRecord { .. })));
    let longer = altered(|bytes| {
        bytes.push(0);
        let length = bytes.len() as i32 - 12;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
    });
    assert!(matches!(check(longer, &LIMITS), Err(BatchError::InvalidRecord { .. })));
}

#[test]
fn a_compressed_batch_is_not_walked() {
    let checked = check(altered(|bytes| bytes[22] |= 4), &LIMITS).unwrap();
    let summary = checked.summaries()[0];
    assert_eq!((summary.codec, summary.has_keyless), (Codec::Zstd, None));
    assert!(matches!(checked.records(&summary), Err(BatchError::Compressed)));
}

#[test]
fn verbatim_batches_keep_their_offsets() {
    let producer = ProducerStamp { id: ProducerId(4), epoch: ProducerEpoch(1), base_sequence: -1 };
    let marker = ControlRecord::EndTransaction { commit: true, coordinator_epoch: 3 };
    let bytes = [
        sample().base_offset(Offset(10)).leader_epoch(LeaderEpoch(2)).build(),
        BatchBuilder::control(Timestamp(5), &marker)
            .transactional()
            .producer(producer)
            .base_offset(Offset(20))
            .build(),
    ]
    .concat();
    let checked = check_verbatim(bytes.clone().into(), &LIMITS).unwrap();
    let [first, second] = checked.summaries() else { panic!("two batches") };
    assert_eq!((first.last_offset(), second.base_offset), (Offset(12), Offset(20)));
    assert!(second.control && second.transactional);
    assert_eq!(second.producer, Some(producer));
    let record = checked.records(second).unwrap().next().unwrap().unwrap();
    assert_eq!(ControlType::of_key(record.key.unwrap()), Some(ControlType::Commit));
    assert_eq!(record.value, Some(&[0, 0, 0, 0, 0, 3][..]));
    let backwards = [&bytes[first.length..], &bytes[..first.length]].concat();
    assert!(check_verbatim(backwards.into(), &LIMITS).is_err());
}

#[test]
fn internal_batches_are_numbered_end_to_end() {
    let checked = CheckedBatches::from_internal(vec![sample(), sample()]);
    assert_eq!(checked.offsets(), 6);
    assert_eq!(checked.summaries()[1].position, checked.length() / 2);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        let _ = check(bytes.clone(), &LIMITS);
        let _ = check_verbatim(bytes, &LIMITS);
    }

    #[test]
    fn no_altered_byte_panics(position in 0usize..400, value: u8) {
        let bytes = altered(|bytes| {
            let position = position % bytes.len();
            bytes[position] = value;
        });
        if let Ok(records) = records(&bytes) {
            let _ = records.count();
        }
        if let Ok(checked) = check_verbatim(bytes.clone(), &LIMITS) {
            let _ = checked.records(&checked.summaries()[0]).map(Iterator::count);
        }
        let _ = check(bytes, &LIMITS);
    }

    #[test]
    fn what_is_built_is_read_back(
        given in proptest::collection::vec(
            (0i64..1 << 50, proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
             proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200))), 1..20)
    ) {
        let mut builder = BatchBuilder::new().base_offset(Offset(5));
        for (timestamp, key, value) in &given {
            builder.append(Timestamp(*timestamp), key.as_deref(), value.as_deref(), &[]);
        }
        let bytes = builder.build();
        let read: Vec<_> = records(&bytes).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(read.len(), given.len());
        for (index, (record, (timestamp, key, value))) in read.iter().zip(&given).enumerate() {
            prop_assert_eq!(record.offset, Offset(5 + index as i64));
            prop_assert_eq!(record.timestamp, Timestamp(*timestamp));
            prop_assert_eq!(record.key, key.as_deref());
            prop_assert_eq!(record.value, value.as_deref());
        }
    }
}
