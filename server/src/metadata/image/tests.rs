use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::metadata::records;

fn golden_records() -> Vec<(i64, Record)> {
    include_str!("../golden/records.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let bytes: Vec<u8> = (0..words[2].len() / 2)
                .map(|i| u8::from_str_radix(&words[2][2 * i..2 * i + 2], 16).expect("hexadecimal"))
                .collect();
            (words[0].parse().expect("an offset"), Record::read(&bytes).expect("Kafka wrote it"))
        })
        .collect()
}

fn golden_image(up_to: i64) -> Image {
    let mut replay = Replay::default();
    for (offset, record) in golden_records().into_iter().filter(|(offset, _)| *offset <= up_to) {
        replay.apply(offset, 1, record).expect("Kafka's records agree with each other");
    }
    replay.finish().0
}

#[test]
fn kafkas_log_gives_kafkas_state() {
    let image = golden_image(45);
    let names: Vec<_> = image.topics().iter().map(|topic| (&*topic.name, topic.partitions.len())).collect();
    assert_eq!(names, [("configured", 1), ("plain", 3)]);
    assert_eq!((image.topics().count(), image.topics().partition_count()), (2, 4));
    let values = image.configs().of(&ConfigResource::topic("configured")).expect("two keys are set");
    let expected = [("cleanup.policy", "compact"), ("segment.bytes", "1048576")];
    assert_eq!(values, &BTreeMap::from(expected.map(|(key, value)| (key.to_owned(), value.to_owned()))));
    assert_eq!(image.configs().value(&ConfigResource::all_brokers(), "min.insync.replicas"), Some("1"));
    assert_eq!(image.cluster().feature("transaction.version"), 2);
    assert_eq!(image.levels().metadata_version, 30);
    assert_eq!(image.next_producer_id(), 1000);
    let broker = image.cluster().broker(1).expect("broker 1 registered");
    assert!(broker.is_active());
    assert_eq!(broker.endpoint("PLAINTEXT").map(|endpoint| endpoint.port), Some(9460));
    assert!(!image.security().has_access_control_entries());
    assert_eq!((image.offset(), image.epoch()), (45, 1));
}

#[test]
fn a_controlled_shutdown_leaves_nobody_in_charge() {
    let image = golden_image(52);
    let partition = image.topic("plain").and_then(|topic| topic.partition(0)).expect("plain-0");
    assert_eq!((partition.leader, partition.leader_epoch, partition.partition_epoch), (-1, 1, 1));
    assert_eq!((&partition.isr[..], &partition.eligible_leader_replicas[..]), (&[][..], &[1][..]));
    assert!(!image.cluster().broker(1).expect("still registered").is_active());
}

#[test]
fn a_transaction_applies_whole_or_not_at_all() {
    let topic = |name: &str| records::Topic { name: name.into(), topic_id: Uuid::new_v4() }.into();
    let begin = || records::BeginTransaction { name: None }.into();
    let mut replay = Replay::default();
    replay.apply(0, 1, begin()).expect("begins");
    replay.apply(1, 1, topic("a")).expect("buffered");
    assert!(replay.in_transaction() && replay.image().topic("a").is_none());
    assert_eq!(replay.apply(2, 1, begin()), Err(ApplyError::Transaction));
    replay.apply(2, 1, records::EndTransaction {}.into()).expect("ends");
    assert!(replay.image().topic("a").is_some());
    replay.apply(3, 1, begin()).expect("begins");
    replay.apply(4, 1, topic("b")).expect("buffered");
    replay.apply(5, 1, records::AbortTransaction { reason: None }.into()).expect("aborted");
    let (image, open) = replay.finish();
    assert!(image.topic("b").is_none() && !open);
}

#[test]
fn contradictions_are_named() {
    let mut image = golden_image(45);
    let unknown = Uuid::from_u128(7);
    let change = records::PartitionChange { topic_id: unknown, ..Default::default() };
    assert_eq!(image.apply(&change.into()), Err(ApplyError::UnknownTopic(unknown)));
    let again = records::Topic { name: "plain".into(), topic_id: unknown };
    assert_eq!(image.apply(&again.into()), Err(ApplyError::TopicExists("plain".into())));
    let stale = records::FenceBroker { broker_id: 1, broker_epoch: 11 };
    assert_eq!(image.apply(&stale.into()), Err(ApplyError::UnknownBroker { broker: 1, epoch: 11 }));
    let newer = records::FeatureLevel { name: METADATA_VERSION.into(), level: 31 };
    assert_eq!(image.apply(&newer.into()), Err(ApplyError::MetadataVersion(31)));
}

#[test]
fn a_snapshot_gives_the_same_image() {
    for up_to in [9, 31, 42, 45, 52] {
        let image = golden_image(up_to);
        let mut restored = Image::default();
        for record in image.records() {
            let bytes = record.to_bytes(image.levels());
            restored.apply(&Record::read(&bytes).expect("our own bytes")).expect("our own records");
        }
        restored.advance(image.offset(), image.epoch());
        assert_eq!(restored, image, "up to {up_to}");
    }
}

/// A step of the model below.
#[derive(Debug, Clone)]
enum Step {
    Create(u8),
    Remove(u8),
    Grow(u8),
    Configure(u8, Option<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..6).prop_map(Step::Create),
        (0u8..6).prop_map(Step::Remove),
        (0u8..6).prop_map(Step::Grow),
        ((0u8..6), prop::option::of(any::<u8>())).prop_map(|(topic, value)| Step::Configure(topic, value)),
    ]
}

proptest! {
    /// A map of names is the oracle; older images never change.
    #[test]
    fn the_image_follows_a_simple_model(steps in prop::collection::vec(step(), 0..60)) {
        let mut image = Image::default();
        let mut model: BTreeMap<String, (Uuid, i32, Option<u8>)> = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            let before = image.clone();
            let frozen = format!("{before:?}");
            let (Step::Create(topic) | Step::Remove(topic) | Step::Grow(topic) | Step::Configure(topic, _)) = step;
            let name = format!("t{topic}");
            match step {
                Step::Create(_) => {
                    let topic_id = Uuid::from_u128(number as u128 + 1);
                    let done = image.apply(&records::Topic { name: name.clone(), topic_id }.into());
                    prop_assert_eq!(done.is_err(), model.contains_key(&name));
                    model.entry(name).or_insert((topic_id, 0, None));
                }
                Step::Remove(_) => if let Some((topic_id, ..)) = model.remove(&name) {
                    prop_assert_eq!(image.apply(&records::RemoveTopic { topic_id }.into()), Ok(()));
                },
                Step::Grow(_) => if let Some((topic_id, partitions, _)) = model.get_mut(&name) {
                    let record = records::Partition {
                        partition_id: *partitions, topic_id: *topic_id, replicas: vec![1], isr: vec![1],
                        removing_replicas: vec![], adding_replicas: vec![], leader: 1, leader_recovery_state: 0,
                        leader_epoch: 0, partition_epoch: 0, directories: vec![], eligible_leader_replicas: None,
                        last_known_elr: None,
                    };
                    *partitions += 1;
                    prop_assert_eq!(image.apply(&record.into()), Ok(()));
                },
                Step::Configure(_, value) => if let Some((.., set)) = model.get_mut(&name) {
                    *set = value;
                    let value = value.map(|value| value.to_string());
                    let record = records::Config {
                        resource_type: 2, resource_name: name, name: "retention.ms".into(), value,
                    };
                    prop_assert_eq!(image.apply(&record.into()), Ok(()));
                },
            }
            prop_assert_eq!(format!("{before:?}"), frozen, "an image that was published never changes");
        }
        prop_assert_eq!(image.topics().count(), model.len());
        for (name, (id, partitions, value)) in &model {
            let topic = image.topic(name).expect("in the model");
            prop_assert_eq!((topic.id, topic.partitions.len() as i32), (*id, *partitions));
            for index in -1..=*partitions {
                prop_assert_eq!(topic.has_partition(index), topic.partition(index).is_some());
            }
            let set = image.configs().value(&ConfigResource::topic(name), "retention.ms");
            prop_assert_eq!(set.map(str::to_owned), value.map(|value| value.to_string()));
        }
        prop_assert_eq!(image.configs().iter().count(), model.values().filter(|topic| topic.2.is_some()).count());
    }
}
