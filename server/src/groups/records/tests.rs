//! Golden bytes: what Apache Kafka 4.3.1 wrote for known groups, read and written again.

use flumen_engine::batch;
use proptest::prelude::*;

use super::*;

fn golden(bytes: &'static [u8]) -> Vec<Record> {
    let mut found = Vec::new();
    for batch in batch::batches(bytes) {
        let (header, batch) = batch.unwrap();
        header.verify(batch).unwrap();
        for record in batch::records(batch).unwrap() {
            let record = record.unwrap();
            let key = Bytes::copy_from_slice(record.key.unwrap());
            found.push(Record { key, value: record.value.map(Bytes::copy_from_slice) });
        }
    }
    found
}

/// Reads what is understood and writes it again.
fn rewritten(record: &Record) -> Option<Record> {
    Some(match (read_key(&record.key).unwrap(), &record.value) {
        (Key::Offset { group, topic, partition }, Some(value)) => {
            Record::offset(&group, &topic, partition, &read_offset(value).unwrap())
        }
        (Key::Offset { group, topic, partition }, None) => {
            Record::offset_tombstone(&group, &topic, partition)
        }
        (Key::Group { group }, Some(value)) => Record::group(&group, &read_group(value).unwrap()),
        (Key::Group { group }, None) => Record::group_tombstone(&group),
        (Key::Other { .. }, _) => return None,
    })
}

#[test]
fn a_classic_group_is_read_and_written_as_kafka_does() {
    let records = golden(include_bytes!("../../../testdata/consumer_offsets/classic_group.log"));
    assert_eq!(records.len(), 4);
    for record in &records {
        assert_eq!(rewritten(record).as_ref(), Some(record));
    }
    let empty = read_group(records[0].value.as_ref().unwrap()).unwrap();
    assert_eq!((empty.protocol_type.as_str(), empty.generation, empty.members.len()), ("", 0, 0));
    let stable = read_group(records[1].value.as_ref().unwrap()).unwrap();
    assert_eq!((stable.protocol_type.as_str(), stable.generation), ("consumer", 1));
    assert_eq!(stable.protocol_name.as_deref(), Some("range"));
    assert_eq!(stable.state_since_ms, 1_795_356_786_615);
    let [member] = &stable.members[..] else { panic!("one member") };
    assert_eq!(stable.leader.as_deref(), Some(member.member_id.as_str()));
    assert_eq!(member.instance_id.as_deref(), Some("instance-1"));
    assert_eq!((member.client_id.as_str(), member.client_host.as_str()), ("golden-client", "/127.0.0.1"));
    assert_eq!((member.rebalance_timeout_ms, member.session_timeout_ms), (300_000, 45_000));
    let commit = read_offset(records[2].value.as_ref().unwrap()).unwrap();
    assert_eq!((commit.offset, commit.leader_epoch, commit.commit_ms), (4, -1, 1_795_356_786_832));
    assert_eq!(commit.metadata, "some metadata\0");
    assert!(!commit.topic_id.is_nil());
}

#[test]
fn a_group_without_members_and_its_tombstones_are_read_and_written_as_kafka_does() {
    let records = golden(include_bytes!("../../../testdata/consumer_offsets/simple_group.log"));
    assert_eq!(records.len(), 3);
    for record in &records {
        assert_eq!(rewritten(record).as_ref(), Some(record));
    }
    let key = Key::Offset { group: "simple".into(), topic: "golden".into(), partition: 0 };
    assert_eq!(read_key(&records[1].key), Ok(key));
    assert_eq!((&records[1].value, &records[2].value), (&None, &None));
}

#[test]
fn records_of_the_newer_protocol_are_told_apart() {
    let records = golden(include_bytes!("../../../testdata/consumer_offsets/kip_848_group.log"));
    let versions: Vec<i16> = records
        .iter()
        .map(|record| match read_key(&record.key).unwrap() {
            Key::Other { version, group } => {
                assert_eq!(group, "golden-848");
                version
            }
            Key::Offset { .. } => 1,
            Key::Group { .. } => 2,
        })
        .collect();
    assert_eq!(versions, [5, 3, 7, 6, 8, 1, 1, 8, 7, 5, 3]);
}

#[test]
fn offsets_of_every_version_are_read() {
    let read = |bytes: &[u8]| read_offset(&Bytes::copy_from_slice(bytes)).unwrap();
    let offset = 7i64.to_be_bytes();
    let metadata = [0, 1, b'm'];
    let committed = 1_000i64.to_be_bytes();
    let expires = 2_000i64.to_be_bytes();
    let epoch = 3i32.to_be_bytes();
    let expected = |leader_epoch, expire_ms| OffsetCommit {
        offset: 7,
        leader_epoch,
        metadata: "m".into(),
        commit_ms: 1_000,
        expire_ms,
        topic_id: Uuid::nil(),
    };
    assert_eq!(read(&[&[0, 0], &offset[..], &metadata, &committed].concat()), expected(-1, None));
    assert_eq!(
        read(&[&[0, 1], &offset[..], &metadata, &committed, &expires].concat()),
        expected(-1, Some(2_000))
    );
    assert_eq!(read(&[&[0, 2], &offset[..], &metadata, &committed].concat()), expected(-1, None));
    assert_eq!(read(&[&[0, 3], &offset[..], &epoch, &metadata, &committed].concat()), expected(3, None));
    assert_eq!(
        read(&[&[0, 4], &offset[..], &epoch, &[2, b'm'], &committed, &[0]].concat()),
        expected(3, None)
    );
}

#[test]
fn what_is_cut_short_or_unknown_is_an_error() {
    let record = golden(include_bytes!("../../../testdata/consumer_offsets/classic_group.log")).remove(1);
    let value = record.value.unwrap();
    for length in 0..value.len() {
        assert!(read_group(&value.slice(..length)).is_err(), "{length} bytes");
    }
    for length in 0..record.key.len() {
        assert!(read_key(&record.key.slice(..length)).is_err(), "{length} bytes");
    }
    let unknown = Bytes::from_static(&[0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(read_offset(&unknown), Err(RecordError::Version { what: "OffsetCommitValue", version: 9 }));
    // A length far beyond what is there.
    let hostile = Bytes::from_static(&[
        0, 3, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff,
    ]);
    assert_eq!(read_group(&hostile), Err(RecordError::Short { field: "members" }));
}

proptest! {
    #[test]
    fn an_offset_comes_back_as_it_was(
        offset in any::<i64>(), leader_epoch in -1i32.., metadata in ".{0,200}", commit_ms in 0i64..,
        expire_ms in proptest::option::of(0i64..), topic_id in any::<u128>(),
    ) {
        let mut commit = OffsetCommit {
            offset, leader_epoch, metadata, commit_ms, expire_ms, topic_id: Uuid::from_u128(topic_id),
        };
        let record = Record::offset("group", "topic", 3, &commit);
        if expire_ms.is_some() {
            // Version 1 has neither.
            commit.leader_epoch = -1;
            commit.topic_id = Uuid::nil();
        }
        prop_assert_eq!(read_offset(&record.value.unwrap()).unwrap(), commit);
    }

    #[test]
    fn no_bytes_make_a_reader_fail_otherwise_than_by_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0u8..5) {
        let mut bytes = bytes;
        if bytes.len() > 2 {
            bytes[0] = 0;
            bytes[1] = version;
        }
        let bytes = Bytes::from(bytes);
        let _ = (read_key(&bytes), read_offset(&bytes), read_group(&bytes));
    }
}
