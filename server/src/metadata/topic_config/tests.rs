use std::collections::BTreeMap;

use super::*;
use crate::config::{Settings, keys};
use crate::metadata::image::Image;
use crate::metadata::records::Config;

fn own(values: &[(&str, &str)]) -> BTreeMap<String, String> {
    values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn settings(values: &[(&str, &str)]) -> Settings {
    let overrides: Vec<(String, String)> = own(values).into_iter().collect();
    Settings::gather(None, [], &overrides).expect("valid settings")
}

fn image(values: &[(i8, &str, &str, &str)]) -> Image {
    let mut image = Image::default();
    for (resource_type, resource_name, name, value) in values {
        let record = Config {
            resource_type: *resource_type,
            resource_name: (*resource_name).into(),
            name: (*name).into(),
            value: Some((*value).into()),
        };
        image.apply(&record.into()).expect("applied");
    }
    image
}

#[test]
fn the_table_is_sorted_sound_and_points_at_broker_keys_that_exist() {
    assert!(TOPIC_KEYS.is_sorted_by_key(|key| key.key.name));
    assert_eq!(TOPIC_KEYS.len(), 33, "Kafka 4.3 has 33");
    for topic_key in TOPIC_KEYS {
        let default = topic_key.key.default_value().expect("every topic key has a default");
        assert_eq!(validate(&own(&[(topic_key.key.name, default)])), Ok(()));
        for (broker_key, _) in topic_key.broker_keys {
            assert!(keys::find(broker_key).is_some(), "{broker_key} of {}", topic_key.key.name);
        }
        assert_eq!(find(topic_key.key.name), Some(topic_key));
    }
}

/// Asked of Apache Kafka 4.3.1 by CreateTopics with one key set.
#[test]
fn errors_are_kafkas() {
    for (key, value, expected) in [
        ("foo", "bar", "Unknown topic config name: foo"),
        ("message.format.version", "3.0", "Unknown topic config name: message.format.version"),
        ("retention.ms", "-5", "Invalid value -5 for configuration retention.ms: Value must be at least -1"),
        ("retention.ms", "x", "Invalid value x for configuration retention.ms: Not a number of type LONG"),
        ("retention.ms", "", "Invalid value  for configuration retention.ms: Not a number of type LONG"),
        (
            "cleanup.policy",
            "bla",
            "Invalid value bla for configuration cleanup.policy: String must be one of: compact, delete",
        ),
        ("cleanup.policy", "compact, delete,", "Configuration 'cleanup.policy' values must not be empty."),
        (
            "compression.type",
            "GZIP",
            "Invalid value GZIP for configuration compression.type: \
             String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer",
        ),
        (
            "compression.gzip.level",
            "0",
            "Invalid value 0 for configuration compression.gzip.level: \
             Value must be between 1 and 9 or equal to -1",
        ),
        (
            "compression.lz4.level",
            "18",
            "Invalid value 18 for configuration compression.lz4.level: Value must be no more than 17",
        ),
        (
            "segment.bytes",
            "100",
            "Invalid value 100 for configuration segment.bytes: Value must be at least 1048576",
        ),
        (
            "segment.bytes",
            "99999999999",
            "Invalid value 99999999999 for configuration segment.bytes: Not a number of type INT",
        ),
        (
            "min.cleanable.dirty.ratio",
            "1.5",
            "Invalid value 1.5 for configuration min.cleanable.dirty.ratio: Value must be no more than 1",
        ),
        (
            "preallocate",
            "yes",
            "Invalid value yes for configuration preallocate: Expected value to be either true or false",
        ),
        (
            "message.timestamp.type",
            "createtime",
            "Invalid value createtime for configuration message.timestamp.type: \
             String must be one of: CreateTime, LogAppendTime",
        ),
        (
            "leader.replication.throttled.replicas",
            "abc",
            "Invalid value [abc] for configuration leader.replication.throttled.replicas: \
             leader.replication.throttled.replicas must be the literal '*' or a list of replicas in the \
             following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...",
        ),
        (
            "remote.storage.enable",
            "true",
            "Tiered Storage functionality is disabled in the broker. \
             Topic cannot be configured with remote log storage.",
        ),
    ] {
        assert_eq!(validate(&own(&[(key, value)])), Err(expected.to_owned()), "{key}={value}");
    }
    let conflict = own(&[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")]);
    let expected = "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)";
    assert_eq!(validate(&conflict), Err(expected.to_owned()));
}

/// Asked of Apache Kafka 4.3.1, which accepts them.
#[test]
fn what_kafka_takes_is_taken() {
    for (key, value) in [
        ("retention.ms", " 5 "),
        ("cleanup.policy", ""),
        ("cleanup.policy", "compact,delete"),
        ("cleanup.policy", "compact,compact"),
        ("preallocate", "TRUE"),
        ("min.insync.replicas", "2"),
        ("leader.replication.throttled.replicas", "*"),
        ("leader.replication.throttled.replicas", "0:1,1:1"),
        ("internal.segment.bytes", "1000"),
        ("max.compaction.lag.ms", "5"),
        ("local.retention.ms", "999999999999"),
        ("retention.bytes", "-77"),
    ] {
        assert_eq!(validate(&own(&[(key, value)])), Ok(()), "{key}={value}");
    }
}

#[test]
fn a_topic_inherits_from_the_broker_and_from_what_is_set_dynamically() {
    let file = settings(&[("log.retention.hours", "2"), ("log.roll.ms", "77"), ("log.roll.hours", "9")]);
    let empty = image(&[]);
    let resolver = Resolver::new(&file, &empty, 1);
    let config = resolver.log_config("t");
    assert_eq!((config.retention_ms, config.segment_ms), (7_200_000, 77));
    assert_eq!((config.flush_messages, config.delete, config.compact), (1, true, false));

    let dynamic = image(&[
        (4, "", "log.retention.ms", "10"),
        (4, "", "min.insync.replicas", "3"),
        (4, "1", "message.max.bytes", "99"),
        (2, "t", "cleanup.policy", "compact"),
        (2, "t", "flush.messages", "9223372036854775807"),
    ]);
    let resolver = Resolver::new(&file, &dynamic, 1);
    let config = resolver.log_config("t");
    assert_eq!((config.retention_ms, config.max_message_bytes), (10, 99));
    assert_eq!((config.delete, config.compact, config.flush_messages), (false, true, i64::MAX));
    assert_eq!(resolver.min_insync_replicas("t"), 3);
    assert_eq!(Resolver::new(&file, &dynamic, 2).log_config("t").max_message_bytes, 1_048_588);
    let synonyms = resolver.broker_synonyms("log.retention.ms");
    let told: Vec<_> = synonyms.iter().map(|synonym| (synonym.name, synonym.source)).collect();
    let expected = [
        ("log.retention.ms", Source::DynamicDefaultBroker),
        ("log.retention.hours", Source::StaticBroker),
        ("log.retention.hours", Source::Default),
    ];
    assert_eq!(told, expected);
    assert_eq!(Resolver::new(&settings(&[]), &empty, 1).broker_synonyms("log.retention.ms"), []);
}

#[test]
fn a_dynamic_value_that_would_delete_everything_does_not_count() {
    let file = settings(&[("log.retention.hours", "2")]);
    let brought = image(&[(4, "", "log.retention.ms", "0"), (4, "1", "log.roll.ms", "0")]);
    let config = Resolver::new(&file, &brought, 1).log_config("t");
    assert_eq!((config.retention_ms, config.segment_ms), (7_200_000, 604_800_000));
    // A topic may say so of itself, as in Kafka.
    let own = image(&[(2, "t", "retention.ms", "0")]);
    assert_eq!(Resolver::new(&file, &own, 1).log_config("t").retention_ms, 0);
}

#[test]
fn defaults_are_the_engines() {
    let (none, empty) = (settings(&[]), image(&[]));
    let config = Resolver::new(&none, &empty, 1).log_config("t");
    assert_eq!(config, flumen_engine::LogConfig::default());
}
