use proptest::prelude::*;

use super::*;

const LEVELS: Levels = Levels { metadata_version: Levels::METADATA_VERSION_MAX };

/// (Kafka's offset, the record's name, its bytes).
fn golden() -> Vec<(i64, &'static str, Vec<u8>)> {
    include_str!("../golden/records.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split(' ');
            let offset = words.next().and_then(|word| word.parse().ok()).expect("an offset");
            let name = words.next().expect("a name");
            let hex = words.next().expect("bytes");
            let bytes = (0..hex.len() / 2)
                .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("two hexadecimal digits"));
            (offset, name, bytes.collect())
        })
        .collect()
}

fn golden_at(offset: i64) -> Record {
    let (_, _, bytes) = golden().into_iter().find(|(at, ..)| *at == offset).expect("a golden record");
    Record::read(&bytes).expect("Kafka wrote it")
}

#[test]
fn what_kafka_wrote_is_read_and_written_byte_for_byte() {
    for (offset, name, bytes) in golden() {
        let record = Record::read(&bytes).unwrap_or_else(|error| panic!("{offset} {name}: {error}"));
        assert!(format!("{record:?}").starts_with(name), "{offset}: {record:?} is no {name}");
        assert_eq!(record.to_bytes(LEVELS), bytes, "{offset} {name}: {record:?}");
    }
}

#[test]
fn fields_land_where_they_belong() {
    let Record::RegisterBroker(broker) = golden_at(12) else { panic!("a RegisterBroker") };
    assert_eq!((broker.broker_id, broker.broker_epoch, broker.fenced), (1, 12, true));
    assert_eq!((broker.endpoints[0].host.as_str(), broker.endpoints[0].port), ("127.0.0.1", 9460));
    assert_eq!((broker.features.len(), broker.rack.as_deref(), broker.log_directories.len()), (7, None, 1));

    let Record::Partition(partition) = golden_at(25) else { panic!("a Partition") };
    assert_eq!((partition.partition_id, partition.leader, partition.leader_epoch), (1, 1, 0));
    assert_eq!((partition.replicas, partition.isr), (vec![1], vec![1]));

    let Record::PartitionChange(change) = golden_at(47) else { panic!("a PartitionChange") };
    assert_eq!((change.isr, change.leader, change.replicas), (Some(vec![]), Some(-1), None));
    assert_eq!((change.eligible_leader_replicas, change.last_known_elr), (Some(vec![1]), Some(vec![1])));

    let Record::BrokerRegistrationChange(change) = golden_at(15) else { panic!("a change") };
    assert_eq!(change.fence, FenceChange::Unfenced);
    let Record::ClientQuota(quota) = golden_at(38) else { panic!("a ClientQuota") };
    assert_eq!((quota.key.as_str(), quota.value), ("producer_byte_rate", 1024.0));
    let Record::Config(config) = golden_at(34) else { panic!("a Config") };
    assert_eq!((config.name.as_str(), config.value), ("retention.ms", None));
}

#[test]
fn older_metadata_gets_older_versions() {
    let broker = golden_at(12);
    for (metadata_version, version) in [(7, 1), (8, 2), (17, 3), (29, 3), (30, 4)] {
        let bytes = broker.to_bytes(Levels { metadata_version });
        assert_eq!(bytes[2], version, "at metadata version {metadata_version}");
        assert!(matches!(Record::read(&bytes), Ok(Record::RegisterBroker(_))));
    }
    for (metadata_version, version) in [(16, 0), (17, 1), (22, 1), (23, 2)] {
        assert_eq!(golden_at(24).to_bytes(Levels { metadata_version })[2], version);
        assert_eq!(golden_at(47).to_bytes(Levels { metadata_version })[2], version);
    }
}

#[test]
fn records_of_a_later_kafka_are_named() {
    assert_eq!(Record::read(&[2, 0, 0]), Err(RecordError::Frame(2)));
    let unknown = RecordError::UnknownRecord { api_key: 6, version: 1 };
    assert_eq!(Record::read(&[1, 6, 1, 0]), Err(unknown));
    let later = RecordError::UnknownVersion { name: "Topic", version: 1, version_max: 0 };
    assert_eq!(Record::read(&[1, 2, 1, 0]), Err(later));
}

#[test]
fn a_cut_record_is_damaged_wherever_it_is_cut() {
    for (_, name, bytes) in golden() {
        for length in 0..bytes.len() {
            let cut = Record::read(&bytes[..length]);
            assert!(matches!(cut, Err(RecordError::Damaged { .. })), "{name} cut to {length}: {cut:?}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(api_key in 0u8..30, version in 0u8..5, rest in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = vec![1, api_key, version];
        bytes.extend(rest);
        if let Ok(record) = Record::read(&bytes) {
            let written = record.to_bytes(LEVELS);
            let again = Record::read(&written);
            prop_assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, RecordError>(record)));
        }
    }
}
