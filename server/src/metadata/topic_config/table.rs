//! Every topic configuration key of Apache Kafka 4.3: type, default, range, documentation, and the broker
//! keys that it falls back to.

use crate::config::key::Range::{Any, AtLeast, Between, BetweenOr, EachOneOf, Fraction, OneOf};
use crate::config::key::{Default, Effect, Key, Range, ValueType};

/// A key of a topic's configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopicKey {
    /// The key itself.
    pub key: Key,
    /// The broker keys that it falls back to, the first that is set, each with what its number is multiplied
    /// by; DescribeConfigs shows the first.
    pub broker_keys: &'static [(&'static str, i64)],
}

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;

macro_rules! topic_keys {
    ($($($inert:ident)? $name:literal : $value_type:ident = $default:literal, $range:expr,
        [$($broker:literal * $factor:expr),*]; $doc:literal)*) => {
        /// All keys, by ascending name.
        pub static TOPIC_KEYS: &[TopicKey] = &[$(TopicKey {
            key: Key {
                name: $name,
                value_type: ValueType::$value_type,
                default: Default::Value($default),
                range: $range,
                effect: topic_keys!(@effect $($inert)?),
                doc: $doc,
            },
            broker_keys: &[$(($broker, $factor)),*],
        }),*];
    };
    (@effect inert) => { Effect::None };
    (@effect) => { Effect::Yes };
}

const POLICIES: Range = EachOneOf(&["compact", "delete"]);
const COMPRESSIONS: Range = OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]);
const TIMESTAMP_TYPES: Range = OneOf(&["CreateTime", "LogAppendTime"]);

topic_keys! {
    "cleanup.policy": List = "delete", POLICIES, ["log.cleanup.policy" * 1];
        "What happens to old records: `delete` removes segments past the retention limits, `compact` keeps the last record of each key, both do both. Compaction refuses records without a key; old values are not removed yet."
    "compression.gzip.level": Int = "-1", BetweenOr(1, 9, -1), ["compression.gzip.level" * 1];
        "The level of gzip where `compression.type` is gzip and a batch comes otherwise; -1 for 6."
    inert "compression.lz4.level": Int = "9", Between(1, 17), ["compression.lz4.level" * 1];
        "The level of lz4 where the broker compresses; there is one level here."
    "compression.type": String = "producer", COMPRESSIONS, ["compression.type" * 1];
        "The codec that batches are stored under; one that comes under another is compressed anew. `producer` keeps batches as they came."
    inert "compression.zstd.level": Int = "3", Between(-131072, 22), ["compression.zstd.level" * 1];
        "The level of zstd where the broker compresses; there is one level here, about zstd's 1."
    inert "delete.retention.ms": Long = "86400000", AtLeast(0), ["log.cleaner.delete.retention.ms" * 1];
        "Milliseconds for which compaction keeps the markers of deleted keys."
    "file.delete.delay.ms": Long = "60000", AtLeast(0), ["log.segment.delete.delay.ms" * 1];
        "Milliseconds between the removal of a segment from the log and that of its files."
    "flush.messages": Long = "1", AtLeast(1), ["log.flush.interval.messages" * 1];
        "Records after which a partition is flushed: 1 acknowledges only what is on the disk, 9223372036854775807 acknowledges from memory, a number between acknowledges from memory and flushes every so many. Kafka's default is 9223372036854775807."
    "flush.ms": Long = "9223372036854775807", AtLeast(0), ["log.flush.interval.ms" * 1, "log.flush.scheduler.interval.ms" * 1];
        "Milliseconds after which an unflushed record is flushed."
    inert "follower.replication.throttled.replicas": List = "", Any, [];
        "Replicas whose replication is throttled on the follower: `partition:broker` pairs, or `*`."
    "index.interval.bytes": Int = "4096", AtLeast(0), ["log.index.interval.bytes" * 1];
        "An entry of the offset index at most every so many bytes of log."
    inert "leader.replication.throttled.replicas": List = "", Any, [];
        "Replicas whose replication is throttled on the leader: `partition:broker` pairs, or `*`."
    inert "local.retention.bytes": Long = "-2", AtLeast(-2), ["log.local.retention.bytes" * 1];
        "Tiered storage: bytes of a partition kept locally; -2 for `retention.bytes`."
    inert "local.retention.ms": Long = "-2", AtLeast(-2), ["log.local.retention.ms" * 1];
        "Tiered storage: milliseconds for which segments are kept locally; -2 for `retention.ms`."
    inert "max.compaction.lag.ms": Long = "9223372036854775807", AtLeast(1), ["log.cleaner.max.compaction.lag.ms" * 1];
        "Milliseconds after which a record must be compacted."
    "max.message.bytes": Int = "1048588", AtLeast(0), ["message.max.bytes" * 1];
        "The largest batch that is accepted, in bytes, with its header and as it came (compressed, if it is)."
    "message.timestamp.after.max.ms": Long = "3600000", AtLeast(0), ["log.message.timestamp.after.max.ms" * 1];
        "How many milliseconds a record's timestamp may lie in the future; without effect for LogAppendTime."
    "message.timestamp.before.max.ms": Long = "9223372036854775807", AtLeast(0), ["log.message.timestamp.before.max.ms" * 1];
        "How many milliseconds a record's timestamp may lie in the past; without effect for LogAppendTime."
    "message.timestamp.type": String = "CreateTime", TIMESTAMP_TYPES, ["log.message.timestamp.type" * 1];
        "Whether a record has the time that its producer gave it, or that of its append."
    inert "min.cleanable.dirty.ratio": Double = "0.5", Fraction(0.0, 1.0), ["log.cleaner.min.cleanable.ratio" * 1];
        "The part of a log that must be dirty before it is compacted."
    inert "min.compaction.lag.ms": Long = "0", AtLeast(0), ["log.cleaner.min.compaction.lag.ms" * 1];
        "Milliseconds for which a record is not compacted."
    "min.insync.replicas": Int = "1", AtLeast(1), ["min.insync.replicas" * 1];
        "In-sync replicas that must have a record before acks=all is answered; more than there are refuse it."
    inert "preallocate": Boolean = "false", Any, ["log.preallocate" * 1];
        "Whether a segment is allocated whole; here it grows in steps."
    inert "remote.log.copy.disable": Boolean = "false", Any, [];
        "Tiered storage: copy no more segments."
    inert "remote.log.delete.on.disable": Boolean = "false", Any, [];
        "Tiered storage: delete remote data when it is switched off."
    inert "remote.storage.enable": Boolean = "false", Any, [];
        "Tiered storage, which is not served."
    "retention.bytes": Long = "-1", Any, ["log.retention.bytes" * 1];
        "Bytes of a partition above which its oldest segments are removed; -1 for no limit."
    "retention.ms": Long = "604800000", AtLeast(-1), ["log.retention.ms" * 1, "log.retention.minutes" * MINUTE_MS, "log.retention.hours" * HOUR_MS];
        "Milliseconds after which a segment is removed, counted from its newest record; -1 for no limit."
    "segment.bytes": Int = "1073741824", AtLeast(1_048_576), ["log.segment.bytes" * 1];
        "Bytes after which a new segment is begun."
    "segment.index.bytes": Int = "10485760", AtLeast(4), ["log.index.size.max.bytes" * 1];
        "Bytes of an index above which a new segment is begun."
    inert "segment.jitter.ms": Long = "0", AtLeast(0), ["log.roll.jitter.ms" * 1, "log.roll.jitter.hours" * HOUR_MS];
        "Milliseconds by which segments begin earlier, at random; here they do not."
    "segment.ms": Long = "604800000", AtLeast(1), ["log.roll.ms" * 1, "log.roll.hours" * HOUR_MS];
        "Milliseconds after which a new segment is begun, counted from the first record."
    "unclean.leader.election.enable": Boolean = "false", Any, ["unclean.leader.election.enable" * 1];
        "Whether a replica that is not in sync may lead when no other can; without effect on one node."
}

/// A key that Kafka accepts and hides: its own tests make segments below `segment.bytes`' minimum with it.
pub const INTERNAL_SEGMENT_BYTES: &str = "internal.segment.bytes";

/// The key of this name.
pub fn find(name: &str) -> Option<&'static TopicKey> {
    TOPIC_KEYS.binary_search_by_key(&name, |key| key.key.name).ok().map(|index| &TOPIC_KEYS[index])
}
