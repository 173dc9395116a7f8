//! DescribeConfigs (32): every key of a topic or of this broker, with its value, where that comes from, what
//! else sets it, its type and what it means.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::cluster_view::text;
use super::{Refusal, RequestContext};
use crate::config::key::Key;
use crate::config::keys;
use crate::metadata::controller::AdminError;
use crate::metadata::image::{ConfigResource, Image, ResourceKind};
use crate::metadata::topic_config::{Resolver, Source, Synonym, is_dynamic};
use crate::metadata::topic_name;
use crate::time_slice::TimeSlice;

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 1..=4;

/// Answers for each resource.
pub async fn handle(
    context: &RequestContext,
    request: DescribeConfigsRequest,
) -> Result<DescribeConfigsResponse, Refusal> {
    let image = context.shard.image();
    let config = context.shard.config();
    let describer = Describer {
        image: &image,
        resolver: Resolver::new(&config.settings, &image, config.node_id()),
        node_id: config.node_id(),
        version: context.request.version,
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    // As Kafka: one type that does not exist fails the whole request.
    let is_known =
        |resource: &DescribeConfigsResource| ResourceKind::from_number(resource.resource_type).is_some();
    let is_sound = request.resources.iter().all(is_known);
    let (slice, mut results) = (TimeSlice::of(context.shard.ring()), Vec::new());
    for resource in &request.resources {
        results.push(if is_sound { describer.describe(resource) } else { malformed(resource) });
        slice.pause().await;
    }
    Ok(DescribeConfigsResponse::default().with_results(results))
}

/// A broker's id, by the name that it had before KRaft and by the one that it has since.
const BROKER_ID: &str = "broker.id";
const NODE_ID: &str = "node.id";

/// Keys of older Kafkas and Kafka's internal ones: taken from a file, and told by no Kafka 4.3.
static UNTOLD: [&str; 37] = [
    "auto.include.jmx.reporter",
    "broker.id.generation.enable",
    "control.plane.listener.name",
    "controller.performance.always.log.threshold.ms",
    "controller.performance.sample.period.ms",
    "eligible.leader.replicas.enable",
    "group.consumer.regex.refresh.interval.ms",
    "group.coordinator.new.enable",
    "group.share.initialize.retry.interval.ms",
    "group.share.persister.class.name",
    "inter.broker.protocol.version",
    "internal.metadata.delete.delay.millis",
    "internal.metadata.log.segment.bytes",
    "internal.metadata.max.batch.size.in.bytes",
    "leader.imbalance.per.broker.percentage",
    "log.initial.task.delay.ms",
    "log.message.downconversion.enable",
    "log.message.format.version",
    "log.message.timestamp.difference.max.ms",
    "password.encoder.secret",
    "producer.id.expiration.check.interval.ms",
    "remote.log.index.file.cache.ttl.ms",
    "remote.log.manager.task.retry.backoff.max.ms",
    "remote.log.manager.task.retry.backoff.ms",
    "remote.log.manager.task.retry.jitter",
    "reserved.broker.max.id",
    "server.max.startup.time.ms",
    "share.coordinator.cold.partition.snapshot.interval.ms",
    "share.coordinator.state.topic.prune.interval.ms",
    "unclean.leader.election.interval.ms",
    "unstable.api.versions.enable",
    "unstable.feature.versions.enable",
    "zookeeper.connect",
    "zookeeper.connection.timeout.ms",
    "zookeeper.metadata.migration.enable",
    "zookeeper.session.timeout.ms",
    "zookeeper.set.acl",
];

fn malformed(resource: &DescribeConfigsResource) -> DescribeConfigsResult {
    let message = "This most likely occurs because of a request being malformed by the client library or the \
                   message was sent to an incompatible broker. See the broker logs for more details.";
    DescribeConfigsResult::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name.clone())
        .with_error_code(ResponseError::InvalidRequest.code())
        .with_error_message(Some(StrBytes::from_static_str(message)))
}

struct Describer<'a> {
    image: &'a Image,
    resolver: Resolver<'a>,
    node_id: i32,
    version: i16,
    synonyms: bool,
    documentation: bool,
}

/// One key with its value, before it is fitted to what was asked for.
struct Entry<'a> {
    key: &'a Key,
    value: Option<String>,
    /// The one that counts first.
    synonyms: Vec<Synonym>,
    read_only: bool,
}

impl Describer<'_> {
    fn describe(&self, resource: &DescribeConfigsResource) -> DescribeConfigsResult {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match self.entries(resource) {
            Ok(entries) => {
                let names = resource.configuration_keys.as_deref().unwrap_or_default();
                let names: BTreeSet<&str> = names.iter().map(|name| &**name).collect();
                // As Kafka, which tells everything to whoever asks for nothing.
                let wanted = |entry: &Entry<'_>| names.is_empty() || names.contains(entry.key.name);
                let entries = entries.into_iter().filter(wanted).map(|entry| self.fit(entry));
                // Kafka's words for no error are none, and not null.
                result.with_error_message(Some(StrBytes::default())).with_configs(entries.collect())
            }
            Err(error) => result
                .with_error_code(error.error.code())
                .with_error_message(error.message.map(StrBytes::from_string)),
        }
    }

    fn entries(&self, resource: &DescribeConfigsResource) -> Result<Vec<Entry<'static>>, AdminError> {
        let invalid = |why: String| AdminError::new(ResponseError::InvalidRequest, why);
        let name = resource.resource_name.as_str();
        match ResourceKind::from_number(resource.resource_type) {
            Some(ResourceKind::Topic) => {
                topic_name::validate(name)
                    .map_err(|why| AdminError::new(ResponseError::InvalidTopicException, why))?;
                if self.image.topic(name).is_none() {
                    return Err(AdminError::new(ResponseError::UnknownTopicOrPartition, ""));
                }
                Ok(self.topic(name))
            }
            Some(ResourceKind::Broker) if name.is_empty() => Ok(self.all_brokers()),
            Some(ResourceKind::Broker) => match name.parse::<i32>() {
                Ok(id) if id == self.node_id => Ok(self.broker()),
                Ok(id) => Err(invalid(format!(
                    "Unexpected broker id, expected {} or empty string, but received {id}",
                    self.node_id
                ))),
                Err(_) => Err(invalid(format!("Broker id must be an integer, but it is: {name}"))),
            },
            Some(kind) => Err(invalid(format!("Unsupported resource type: {kind:?}"))),
            None => Err(invalid(format!("Unsupported resource type: {}", resource.resource_type))),
        }
    }

    fn topic(&self, name: &str) -> Vec<Entry<'static>> {
        let empty = BTreeMap::new();
        let own = self.image.configs().of(&ConfigResource::topic(name)).unwrap_or(&empty);
        let resolver = &self.resolver;
        let values = resolver.values(own).into_iter();
        values
            .map(|(topic_key, value)| {
                let key = &topic_key.key;
                let set = own.contains_key(key.name).then(|| Synonym {
                    name: key.name,
                    value: value.clone(),
                    source: Source::Topic,
                });
                // Of several broker keys that mean the same Kafka shows the first.
                let broker_key = topic_key.broker_keys.first();
                let inherited =
                    broker_key.map(|(name, _)| resolver.broker_synonyms(name)).unwrap_or_default();
                let synonyms = set.into_iter().chain(inherited).collect();
                Entry { key, value: Some(value), synonyms, read_only: false }
            })
            .collect()
    }

    fn broker(&self) -> Vec<Entry<'static>> {
        let resolver = &self.resolver;
        let mut entries: Vec<Entry<'static>> = keys::all()
            .filter(|key| !UNTOLD.contains(&key.name))
            .map(|key| {
                let synonyms = synonyms(resolver, key.name);
                let value = synonyms.first().map(|synonym| synonym.value.clone());
                Entry { key, value, synonyms, read_only: !is_dynamic(key.name) }
            })
            .collect();
        entries.sort_by_key(|entry| entry.key.name);
        entries
    }

    /// What is set for all brokers at once, and nothing else: what a value falls back to is a matter of each broker.
    fn all_brokers(&self) -> Vec<Entry<'static>> {
        let resolver = &self.resolver;
        let set = self.image.configs().of(&ConfigResource::all_brokers());
        set.into_iter()
            .flatten()
            .filter_map(|(name, value)| {
                let key = keys::find(name)?;
                let synonyms = resolver.broker_synonyms(key.name).into_iter();
                let synonyms =
                    synonyms.filter(|synonym| synonym.source == Source::DynamicDefaultBroker).collect();
                Some(Entry { key, value: Some(value.clone()), synonyms, read_only: !is_dynamic(name) })
            })
            .collect()
    }

    fn fit(&self, entry: Entry<'_>) -> DescribeConfigsResourceResult {
        let Entry { key, value, synonyms, read_only } = entry;
        let sensitive = key.is_sensitive();
        let shown = |value: String| Some(StrBytes::from_string(value)).filter(|_| !sensitive);
        let source = synonyms.first().map_or(Source::Default, |synonym| synonym.source);
        let mut result = DescribeConfigsResourceResult::default()
            .with_name(text(key.name))
            .with_value(value.and_then(shown))
            .with_read_only(read_only)
            .with_is_sensitive(sensitive)
            .with_documentation(None)
            .with_config_source(source as i8);
        if self.synonyms {
            let synonyms = synonyms.into_iter().map(|synonym| {
                DescribeConfigsSynonym::default()
                    .with_name(text(synonym.name))
                    .with_value(shown(synonym.value))
                    .with_source(synonym.source as i8)
            });
            result.synonyms = synonyms.collect();
        }
        if self.version >= 3 {
            result.config_type = key.value_type.code();
            if self.documentation {
                result.documentation = Some(StrBytes::from_static_str(key.doc));
            }
        }
        result
    }
}

/// What sets a broker's key. Where only one of the names of its id is set, that sets the other one, too (Kafka:
/// `KafkaConfig.populateSynonyms`).
fn synonyms(resolver: &Resolver<'_>, name: &'static str) -> Vec<Synonym> {
    let own = resolver.broker_synonyms(name);
    if name != BROKER_ID || !own.is_empty() {
        return own;
    }
    let of_node = resolver.broker_synonyms(NODE_ID).into_iter();
    of_node.map(|synonym| Synonym { name: BROKER_ID, ..synonym }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::cluster_view::fixture;
    use super::*;
    use crate::config::Settings;
    use crate::metadata::records::Config;

    fn describe(version: i16, kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResult {
        let mut image = fixture::image();
        for (resource_type, resource_name, name, value) in [
            (2, "t", "cleanup.policy", "compact"),
            (4, "", "min.insync.replicas", "1"),
            (4, "1", "log.retention.ms", "9"),
        ] {
            let record = Config {
                resource_type,
                resource_name: resource_name.into(),
                name: name.into(),
                value: Some(value.into()),
            };
            image.apply(&record.into()).expect("applied");
        }
        let overrides = [("log.segment.bytes", "2097152"), ("node.id", "1")];
        let overrides = overrides.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = Settings::gather(None, [], &overrides).expect("valid");
        let describer = Describer {
            image: &image,
            resolver: Resolver::new(&settings, &image, 1),
            node_id: 1,
            version,
            synonyms: true,
            documentation: true,
        };
        let resource = DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()));
        let result = describer.describe(&resource);
        fixture::encodes(&DescribeConfigsResponse::default().with_results(vec![result.clone()]), version);
        result
    }

    fn entry(result: &DescribeConfigsResult, name: &str) -> (Option<String>, i8, Vec<(String, i8)>) {
        let entry = result.configs.iter().find(|entry| &*entry.name == name).expect("in the answer");
        let synonyms = entry.synonyms.iter().map(|synonym| (synonym.name.to_string(), synonym.source));
        (entry.value.as_deref().map(str::to_owned), entry.config_source, synonyms.collect())
    }

    #[test]
    fn a_topic_has_every_key_with_where_it_comes_from() {
        for version in VERSIONS {
            let result = describe(version, 2, "t", None);
            assert_eq!((result.error_code, result.configs.len()), (0, 33));
            let own = |value: &str, source, synonyms: &[(&str, i8)]| {
                let synonyms = synonyms.iter().map(|(name, source)| ((*name).to_owned(), *source)).collect();
                (Some(value.to_owned()), source, synonyms)
            };
            let policy = own("compact", 1, &[("cleanup.policy", 1), ("log.cleanup.policy", 5)]);
            assert_eq!(entry(&result, "cleanup.policy"), policy);
            let segment = own("2097152", 4, &[("log.segment.bytes", 4), ("log.segment.bytes", 5)]);
            assert_eq!(entry(&result, "segment.bytes"), segment);
            let replicas = own("1", 3, &[("min.insync.replicas", 3), ("min.insync.replicas", 5)]);
            assert_eq!(entry(&result, "min.insync.replicas"), replicas);
            assert_eq!(
                entry(&result, "retention.ms"),
                own("9", 2, &[("log.retention.ms", 2), ("log.retention.hours", 5)])
            );
            assert_eq!(entry(&result, "segment.ms"), own("604800000", 5, &[]), "as Kafka shows it");
            let documented = result.configs.iter().all(|entry| entry.documentation.is_some());
            assert_eq!(documented, version >= 3);
        }
    }

    #[test]
    fn a_broker_has_every_key_and_all_brokers_what_is_set_for_them() {
        let broker = describe(4, 4, "1", None);
        assert!(broker.configs.len() > 300);
        let password = broker.configs.iter().find(|entry| &*entry.name == "ssl.key.password").expect("there");
        assert!(password.is_sensitive && password.value.is_none());
        for name in [BROKER_ID, NODE_ID] {
            assert_eq!(entry(&broker, name).0.as_deref(), Some("1"));
            assert_eq!(entry(&broker, name).1, Source::StaticBroker as i8);
        }
        let all = describe(4, 4, "", None);
        assert_eq!(all.configs.len(), 1);
        let only = vec![("min.insync.replicas".to_owned(), 3)];
        assert_eq!(entry(&all, "min.insync.replicas"), (Some("1".to_owned()), 3, only));
    }

    #[test]
    fn only_keys_that_are_asked_for_are_told() {
        let result = describe(4, 2, "t", Some(&["retention.ms", "nope"]));
        assert_eq!(result.configs.len(), 1);
        assert_eq!(describe(4, 2, "t", Some(&[])), describe(4, 2, "t", None), "no key is every key");
    }

    #[test]
    fn what_cannot_be_described_is_said_in_kafkas_words() {
        for (kind, name, error, message) in [
            (2, "nope", ResponseError::UnknownTopicOrPartition, Some("")),
            (
                2,
                "",
                ResponseError::InvalidTopicException,
                Some("Topic name is invalid: the empty string is not allowed"),
            ),
            (
                4,
                "2",
                ResponseError::InvalidRequest,
                Some("Unexpected broker id, expected 1 or empty string, but received 2"),
            ),
            (4, "x", ResponseError::InvalidRequest, Some("Broker id must be an integer, but it is: x")),
        ] {
            let result = describe(4, kind, name, None);
            assert_eq!((result.error_code, result.error_message.as_deref()), (error.code(), message));
        }
    }
}
