//! What a topic's configuration amounts to: its own values, then the broker's dynamic ones, its files', the
//! defaults.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use flumen_engine::LogConfig;
use flumen_engine::batch::Codec;

use super::Treatment;
use super::dynamic::PRODUCER_EXPIRATION;
use super::table::{self, INTERNAL_SEGMENT_BYTES, TopicKey};
use super::validate::{check, list_elements};
use crate::compression::Compression;
use crate::config::{Settings, keys, requirements};
use crate::metadata::image::{ConfigResource, Image};

/// The level of gzip where `compression.gzip.level` is −1: zlib's own default, as in Kafka.
const GZIP_LEVEL: u32 = 6;

/// Where a value comes from. The numbers are those of DescribeConfigs (KIP-226).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    /// Set for the topic.
    Topic = 1,
    /// Set for this broker, dynamically.
    DynamicBroker = 2,
    /// Set for all brokers, dynamically.
    DynamicDefaultBroker = 3,
    /// Set in a file, the environment or on the command line.
    StaticBroker = 4,
    /// Nobody set it.
    Default = 5,
}

/// One place that a value could come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    /// The key in that place.
    pub name: &'static str,
    /// The value there.
    pub value: String,
    /// Which place.
    pub source: Source,
}

/// The configuration that topics' values are resolved against. What topics inherit is looked up once, for all that
/// one resolver is asked of.
#[derive(Debug, Clone)]
pub struct Resolver<'a> {
    settings: &'a Settings,
    image: &'a Image,
    node_id: i32,
    /// What a topic has that sets nothing of its own, in the order of the table.
    inherited: OnceCell<Vec<String>>,
    /// What that means.
    plain: OnceCell<(LogConfig, Treatment)>,
    producer_expiration_ms: OnceCell<i64>,
}

impl<'a> Resolver<'a> {
    /// Resolves against this broker's settings and the dynamic configuration in `image`.
    pub fn new(settings: &'a Settings, image: &'a Image, node_id: i32) -> Self {
        let (inherited, plain) = (OnceCell::new(), OnceCell::new());
        Self { settings, image, node_id, inherited, plain, producer_expiration_ms: OnceCell::new() }
    }

    /// Every place that sets a broker key or one that means the same, as Kafka lists them: by place, and
    /// without those in front of the first of the key's own name.
    pub fn broker_synonyms(&self, name: &'static str) -> Vec<Synonym> {
        let mut synonyms: Vec<Synonym> =
            same_meaning(name).iter().flat_map(|(name, _)| self.places(name)).collect();
        // Stable: of one place the keys keep their order.
        synonyms.sort_by_key(|synonym| synonym.source as i8);
        let first = synonyms.iter().position(|synonym| synonym.name == name).unwrap_or(synonyms.len());
        synonyms.split_off(first)
    }

    /// Every place that sets a broker key, the one that counts first; the default last, if there is one.
    fn places(&self, name: &'static str) -> Vec<Synonym> {
        let configs = self.image.configs();
        let dynamic = configs.value(&ConfigResource::broker(self.node_id), name);
        let dynamic_default = configs.value(&ConfigResource::all_brokers(), name);
        let default = keys::find(name).and_then(|key| key.default_value());
        [
            (dynamic, Source::DynamicBroker),
            (dynamic_default, Source::DynamicDefaultBroker),
            (self.settings.explicit(name), Source::StaticBroker),
            (default, Source::Default),
        ]
        .into_iter()
        .filter_map(|(value, source)| Some(Synonym { name, value: value?.to_owned(), source }))
        .collect()
    }

    /// What a topic has if it sets nothing of its own for this key.
    fn inherit(&self, topic_key: &TopicKey) -> String {
        let value = self.first_set(topic_key.broker_keys);
        value.unwrap_or_else(|| topic_key.key.default_value().unwrap_or_default().to_owned())
    }

    /// The value of the broker keys that mean the same, each with what it is multiplied by.
    fn first_set(&self, broker_keys: &[(&'static str, i64)]) -> Option<String> {
        let set = |source: fn(&Synonym) -> bool| {
            broker_keys.iter().find_map(|(name, factor)| {
                // A dynamic value that no broker would start with does not count; a directory can bring one along.
                let counts = |place: &Synonym| source(place) && requirements::is_met_by(name, &place.value);
                let synonym = self.places(name).into_iter().find(counts)?;
                Some((synonym.value, *factor))
            })
        };
        // As for the broker itself: of the keys that mean the same, the first that is set counts; a default
        // counts only if none is.
        let (value, factor) = set(|synonym| synonym.source != Source::Default && !synonym.value.is_empty())
            .or_else(|| set(|synonym| !synonym.value.is_empty()))?;
        Some(match value.trim().parse::<i64>() {
            Ok(number) if factor != 1 && number >= 0 => number.saturating_mul(factor).to_string(),
            _ => value,
        })
    }

    /// The value of every key for a topic with these values of its own, in the order of the table.
    pub fn values(&self, own: &BTreeMap<String, String>) -> Vec<(&'static TopicKey, String)> {
        let inherited = self
            .inherited
            .get_or_init(|| table::TOPIC_KEYS.iter().map(|topic_key| self.inherit(topic_key)).collect());
        table::TOPIC_KEYS
            .iter()
            .zip(inherited)
            .map(|(topic_key, inherited)| {
                let set = own.get(topic_key.key.name).filter(|value| check(&topic_key.key, value).is_ok());
                (topic_key, set.unwrap_or(inherited).clone())
            })
            .collect()
    }

    /// What the configuration of the topic of this name means to its logs.
    pub fn log_config(&self, topic: &str) -> LogConfig {
        self.topic(topic).0
    }

    /// What the configuration of the topic of this name means to its logs, and to what producers send.
    pub fn topic(&self, topic: &str) -> (LogConfig, Treatment) {
        match self.image.configs().of(&ConfigResource::topic(topic)) {
            Some(own) => self.meaning(own),
            None => self.plain.get_or_init(|| self.meaning(&BTreeMap::new())).clone(),
        }
    }

    /// What the configuration of a topic with these values of its own means.
    fn meaning(&self, own: &BTreeMap<String, String>) -> (LogConfig, Treatment) {
        let values: BTreeMap<&str, String> =
            self.values(own).into_iter().map(|(topic_key, value)| (topic_key.key.name, value)).collect();
        let number = |name: &str| -> i64 { values[name].trim().parse().unwrap_or(0) };
        let bytes = |name: &str| u32::try_from(number(name).max(0)).unwrap_or(u32::MAX);
        let internal = own.get(INTERNAL_SEGMENT_BYTES).and_then(|value| value.trim().parse::<u32>().ok());
        let policies = list_elements(&values["cleanup.policy"]);
        let log = LogConfig {
            flush_messages: number("flush.messages"),
            flush_ms: number("flush.ms"),
            segment_bytes: internal.unwrap_or_else(|| bytes("segment.bytes")),
            segment_ms: number("segment.ms"),
            index_interval_bytes: bytes("index.interval.bytes"),
            segment_index_bytes: bytes("segment.index.bytes"),
            max_message_bytes: bytes("max.message.bytes"),
            retention_ms: number("retention.ms"),
            retention_bytes: number("retention.bytes"),
            file_delete_delay_ms: number("file.delete.delay.ms"),
            delete: policies.contains(&"delete"),
            compact: policies.contains(&"compact"),
            log_append_time: values["message.timestamp.type"] == "LogAppendTime",
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            producer_expiration_ms: self.producer_expiration_ms(),
        };
        let gzip_level = u32::try_from(number("compression.gzip.level")).unwrap_or(GZIP_LEVEL);
        let codec = codec(&values["compression.type"]);
        let treatment = Treatment {
            needs_keys: log.compact,
            compression: codec.map(|codec| Compression { codec, gzip_level }),
            is_stamped: log.log_append_time,
            message_bytes_max: log.max_message_bytes,
        };
        (log, treatment)
    }

    fn producer_expiration_ms(&self) -> i64 {
        *self.producer_expiration_ms.get_or_init(|| {
            let set = self.first_set(&[(PRODUCER_EXPIRATION, 1)]);
            set.and_then(|value| value.trim().parse().ok()).unwrap_or(i64::MAX)
        })
    }

    /// In-sync replicas that acks=all needs for the topic of this name.
    pub fn min_insync_replicas(&self, topic: &str) -> i32 {
        let own = self.image.configs().value(&ConfigResource::topic(topic), "min.insync.replicas");
        let key = table::find("min.insync.replicas").expect("in the table");
        own.map_or_else(|| self.inherit(key), str::to_owned).trim().parse().unwrap_or(1)
    }
}

/// The codec of a `compression.type`; `None` for the producer's.
fn codec(compression_type: &str) -> Option<Codec> {
    match compression_type.trim() {
        "uncompressed" => Some(Codec::None),
        "gzip" => Some(Codec::Gzip),
        "snappy" => Some(Codec::Snappy),
        "lz4" => Some(Codec::Lz4),
        "zstd" => Some(Codec::Zstd),
        _ => None,
    }
}

/// The broker keys that mean the same as this one, which is among them.
fn same_meaning(name: &'static str) -> Vec<(&'static str, i64)> {
    let keys = table::TOPIC_KEYS.iter().map(|topic_key| topic_key.broker_keys);
    let mut named = keys.filter(|keys| keys.iter().any(|(other, _)| *other == name));
    named.next().map_or_else(|| vec![(name, 1)], <[_]>::to_vec)
}
