//! Every format on the disk, against files that Apache Kafka wrote (see `golden/README.md`).

use std::path::PathBuf;

use flumen_engine::batch::{BatchLimits, ControlType, batches, check_verbatim, records};
use flumen_engine::checkpoints::{
    PartitionOffset, decode_clean_shutdown, decode_epochs, decode_offsets, decode_partition_metadata,
    encode_clean_shutdown, encode_epochs, encode_offsets, encode_partition_metadata,
};
use flumen_engine::index::{OffsetIndex, SegmentIndexes, TimeIndex};
use flumen_engine::layout::{SegmentFile, SegmentFileKind};
use flumen_engine::producers::{Producers, TransactionEnd};
use flumen_engine::{LeaderEpoch, Offset, Position, ProducerEpoch, ProducerId, Timestamp};

fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn segment(offset: i64, kind: SegmentFileKind) -> Vec<u8> {
    golden(&format!("golden-0/{}", SegmentFile::live(Offset(offset), kind).name()))
}

#[test]
fn the_log_is_read() {
    let log = segment(0, SegmentFileKind::Log);
    let limits = BatchLimits { max_message_bytes: 1 << 20 };
    let checked = check_verbatim(log.clone().into(), &limits).expect("Kafka's batches are sound");
    assert_eq!(checked.length(), log.len());
    assert_eq!(checked.offsets(), 92);
    let last = checked.summaries().last().unwrap();
    assert_eq!((last.last_offset(), last.leader_epoch), (Offset(91), LeaderEpoch(2)));
    let mut next = 0;
    let mut markers = Vec::new();
    for batch in batches(&log) {
        let (header, batch) = batch.unwrap();
        for record in records(batch).unwrap() {
            let record = record.unwrap();
            assert_eq!(record.offset, Offset(next));
            next += 1;
            if header.is_control() {
                markers.push(ControlType::of_key(record.key.unwrap()));
            } else {
                assert_eq!(record.value.map(<[u8]>::len), Some(100));
            }
        }
    }
    assert_eq!((next, markers), (92, vec![Some(ControlType::Commit); 2]));
}

#[test]
fn the_indexes_are_read_and_rebuilt() {
    let log = segment(0, SegmentFileKind::Log);
    let index = segment(0, SegmentFileKind::OffsetIndex);
    let times = segment(0, SegmentFileKind::TimeIndex);
    let offsets = OffsetIndex::from_bytes(Offset(0), &index, log.len() as u64).unwrap();
    assert_eq!(offsets.to_bytes(), index);
    assert_eq!(offsets.lookup(Offset(13)).position, Position(776));
    assert_eq!(TimeIndex::from_bytes(Offset(0), &times).unwrap().to_bytes(), times);

    // Our own, over the same batches. Kafka was restarted at offset 82, and began to count its interval anew.
    let mut built = SegmentIndexes::new(Offset(0));
    let mut position = 0;
    for batch in batches(&log) {
        let (header, batch) = batch.unwrap();
        if header.base_offset() == Offset(82) {
            built.seal();
            built = SegmentIndexes::from_indexes(built.offsets, built.times, None);
        }
        let (length, at) = (batch.len() as u64, Position(position));
        built.note_batch(at, length, header.last_offset(), header.max_timestamp(), 512);
        position += length;
    }
    built.seal();
    assert_eq!(built.offsets.to_bytes(), index);
    assert_eq!(built.times.to_bytes(), times);
}

#[test]
fn the_producers_are_read_and_rebuilt() {
    for offset in [82, 92] {
        let bytes = segment(offset, SegmentFileKind::ProducerSnapshot);
        let read = Producers::from_snapshot(&bytes).unwrap();
        assert_eq!(read.to_snapshot(), bytes);

        // The same from the batches below that offset.
        let log = segment(0, SegmentFileKind::Log);
        let limits_of_batches = BatchLimits { max_message_bytes: 1 << 20 };
        let checked = check_verbatim(log.into(), &limits_of_batches).unwrap();
        let mut built = Producers::default();
        for summary in checked.summaries().iter().filter(|it| it.base_offset < Offset(offset)) {
            let end = TransactionEnd::of_batch(&checked.bytes()[summary.range()]);
            let end = end.filter(|_| summary.control);
            built.note(summary, summary.base_offset, summary.max_timestamp, end);
        }
        assert_eq!(built.to_snapshot(), bytes);
    }
    let newest = segment(92, SegmentFileKind::ProducerSnapshot);
    let newest = Producers::from_snapshot(&newest).unwrap();
    let entry = newest.entry(ProducerId(1000)).unwrap();
    assert_eq!((entry.epoch, entry.last()), (ProducerEpoch(0), (9, Offset(91))));
    let bumped = newest.entry(ProducerId(1)).unwrap();
    assert_eq!((bumped.epoch, bumped.coordinator_epoch), (ProducerEpoch(2), 0));
    assert_eq!(bumped.last_timestamp, Timestamp(1_795_357_485_617));
}

#[test]
fn the_checkpoints_go_there_and_back() {
    for name in ["recovery-point", "replication", "log-start", "cleaner"] {
        let text = golden(&format!("{name}-offset-checkpoint"));
        let read = decode_offsets(&text).unwrap();
        if text.is_empty() {
            assert!(read.is_empty(), "a new node leaves {name} empty");
            continue;
        }
        assert_eq!(encode_offsets(&read).as_bytes(), text, "{name}");
    }
    let high_watermarks = decode_offsets(&golden("replication-offset-checkpoint")).unwrap();
    let golden_offset = PartitionOffset { topic: "golden".to_owned(), partition: 0, offset: Offset(92) };
    assert!(high_watermarks.contains(&golden_offset));

    let text = golden("golden-0/leader-epoch-checkpoint");
    let epochs = decode_epochs(&text).unwrap();
    assert_eq!(encode_epochs(&epochs).as_bytes(), text);
    assert_eq!(epochs.end_offset_for(LeaderEpoch(0), Offset(92)), (LeaderEpoch(0), Offset(82)));

    let text = golden("golden-0/partition.metadata");
    let topic = decode_partition_metadata(&text).unwrap();
    assert_eq!(encode_partition_metadata(topic).as_bytes(), text);

    let text = golden("kafka_cleanshutdown");
    assert_eq!(decode_clean_shutdown(&text), Some(42));
    assert_eq!(encode_clean_shutdown(42).as_bytes(), text);
}
