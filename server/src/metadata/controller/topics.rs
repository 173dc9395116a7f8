//! CreateTopics and DeleteTopics. Kafka: `ReplicationControlManager` and `ControllerApis`.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::partitions::{check_assignment, new_partition, place};
use super::{AdminError, Decision, RECORDS_PER_REQUEST_MAX, Rules};
use crate::metadata::image::{Image, ResourceKind};
use crate::metadata::records::{self, Record};
use crate::metadata::topic_config::{self, Source};
use crate::metadata::topic_name;

/// CreateTopics; ids come from `random`, and `pause` between two steps.
pub async fn create_topics(
    image: &Image,
    rules: &Rules<'_>,
    topics: &[CreatableTopic],
    validate_only: bool,
    mut random: impl FnMut() -> Uuid,
    pause: impl AsyncFn(),
) -> Decision<Vec<CreatableTopicResult>> {
    let mut records = Vec::new();
    let (mut names, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for topic in topics {
        if !names.insert(&topic.name) {
            twice.insert(&topic.name);
        }
        pause().await;
    }
    let creation = Creation { image, rules, inherited: inherited_configs(image, rules) };
    let mut answer: Vec<CreatableTopicResult> = Vec::new();
    for topic in topics.iter().filter(|topic| !twice.contains(&topic.name)) {
        answer.push(match creation.create(topic, random(), records.len(), &pause).await {
            Ok((mut added, result)) => {
                records.append(&mut added);
                result
            }
            Err(error) => refused(topic.name.clone(), error),
        });
        pause().await;
    }
    answer.extend(twice.into_iter().map(|name| {
        refused(name.clone(), AdminError::new(ResponseError::InvalidRequest, "Duplicate topic name."))
    }));
    if validate_only {
        records.clear();
    }
    Decision { records, answer }
}

pub(super) fn refused(name: TopicName, error: AdminError) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(name)
        .with_error_code(error.error.code())
        .with_error_message(error.message.map(StrBytes::from_string))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(Some(Vec::new()))
}

/// What the topics of one request are created by.
struct Creation<'a> {
    image: &'a Image,
    rules: &'a Rules<'a>,
    /// The configuration of a topic that sets nothing, as it is told.
    inherited: Vec<CreatableTopicConfigs>,
}

impl Creation<'_> {
    async fn create(
        &self,
        topic: &CreatableTopic,
        topic_id: Uuid,
        records_before: usize,
        pause: impl AsyncFn(),
    ) -> Result<(Vec<Record>, CreatableTopicResult), AdminError> {
        let (image, rules) = (self.image, self.rules);
        let name = topic.name.as_str();
        check_name(image, name)?;
        let configs = creation_configs(topic)?;
        let replicas = placements(image, rules, topic, records_before, &pause).await?;
        let mut records = vec![records::Topic { name: name.to_owned(), topic_id }.into()];
        // Kafka's order: the topic, its configuration, its partitions.
        records.extend(configs.iter().map(|(key, value)| {
            records::Config {
                resource_type: ResourceKind::Topic as i8,
                resource_name: name.to_owned(),
                name: key.clone(),
                value: Some(value.clone()),
            }
            .into()
        }));
        for (index, replicas) in replicas.iter().enumerate() {
            records.push(new_partition(image, rules, topic_id, index as i32, replicas)?);
            pause().await;
        }
        let result = CreatableTopicResult::default()
            .with_name(topic.name.clone())
            .with_topic_id(topic_id)
            .with_error_message(None)
            .with_num_partitions(replicas.len() as i32)
            .with_replication_factor(replicas[0].len() as i16)
            .with_configs(Some(self.effective_configs(&configs)));
        Ok((records, result))
    }

    /// What a topic with these values of its own is configured like, as CreateTopics v5 and later tells.
    fn effective_configs(&self, own: &BTreeMap<String, String>) -> Vec<CreatableTopicConfigs> {
        let told = |inherited: &CreatableTopicConfigs| match own.get(inherited.name.as_str()) {
            Some(value) => inherited
                .clone()
                .with_value(Some(StrBytes::from_string(value.clone())))
                .with_config_source(Source::Topic as i8),
            None => inherited.clone(),
        };
        self.inherited.iter().map(told).collect()
    }
}

fn check_name(image: &Image, name: &str) -> Result<(), AdminError> {
    if name == topic_name::CLUSTER_METADATA {
        let message = format!("Creation of internal topic {name} is prohibited.");
        return Err(AdminError::new(ResponseError::InvalidRequest, message));
    }
    topic_name::validate(name).map_err(|why| AdminError::new(ResponseError::InvalidTopicException, why))?;
    if image.topic(name).is_some() {
        let message = format!("Topic '{name}' already exists.");
        return Err(AdminError::new(ResponseError::TopicAlreadyExists, message));
    }
    if topic_name::may_collide(name)
        && let Some(other) = image.topics().colliding_with(name)
    {
        let message = format!("Topic '{name}' collides with existing topic: {other}");
        return Err(AdminError::new(ResponseError::InvalidTopicException, message));
    }
    Ok(())
}

fn creation_configs(topic: &CreatableTopic) -> Result<BTreeMap<String, String>, AdminError> {
    let mut configs = BTreeMap::new();
    let mut nulls = Vec::new();
    for config in &topic.configs {
        match &config.value {
            Some(value) => drop(configs.insert(config.name.to_string(), value.to_string())),
            None => nulls.push(config.name.as_str()),
        }
    }
    let refused = |why: String| AdminError::new(ResponseError::InvalidConfig, why);
    if !nulls.is_empty() {
        return Err(refused(format!("Null value not supported for topic configs: {}", nulls.join(","))));
    }
    topic_config::validate(&configs).map_err(refused)?;
    Ok(configs)
}

/// The replicas of each partition.
async fn placements(
    image: &Image,
    rules: &Rules<'_>,
    topic: &CreatableTopic,
    records_before: usize,
    pause: impl AsyncFn(),
) -> Result<Vec<Vec<i32>>, AdminError> {
    let invalid = |error, why: &str| Err(AdminError::new(error, why));
    if !topic.assignments.is_empty() {
        return assigned(image, topic, pause).await;
    }
    if topic.replication_factor < -1 || topic.replication_factor == 0 {
        let why = "Replication factor must be larger than 0, or -1 to use the default value.";
        return invalid(ResponseError::InvalidReplicationFactor, why);
    }
    if topic.num_partitions < -1 || topic.num_partitions == 0 {
        let why = "Number of partitions was set to an invalid non-positive value.";
        return invalid(ResponseError::InvalidPartitions, why);
    }
    let partitions = if topic.num_partitions == -1 { rules.topics.partitions } else { topic.num_partitions };
    let replication_factor = match topic.replication_factor {
        -1 => rules.topics.replication_factor,
        factor => factor,
    };
    if records_before + partitions as usize + topic.configs.len() + 1 > RECORDS_PER_REQUEST_MAX {
        let why = "Excessively large number of partitions per request.";
        return invalid(ResponseError::PolicyViolation, why);
    }
    let mut placed = Vec::with_capacity(partitions as usize);
    for index in 0..partitions {
        placed.push(place(image, index, replication_factor)?);
        pause().await;
    }
    Ok(placed)
}

async fn assigned(
    image: &Image,
    topic: &CreatableTopic,
    pause: impl AsyncFn(),
) -> Result<Vec<Vec<i32>>, AdminError> {
    let invalid = |error, why: String| Err(AdminError::new(error, why));
    if topic.replication_factor != -1 {
        let why = "A manual partition assignment was specified, but replication factor was not set to -1.";
        return invalid(ResponseError::InvalidRequest, why.into());
    }
    if topic.num_partitions != -1 {
        let why = "A manual partition assignment was specified, but numPartitions was not set to -1.";
        return invalid(ResponseError::InvalidRequest, why.into());
    }
    let mut partitions: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let mut count = None;
    for assignment in &topic.assignments {
        let index = assignment.partition_index;
        let replicas: Vec<i32> = assignment.broker_ids.iter().map(|id| id.0).collect();
        if partitions.contains_key(&index) {
            let why = format!("Found multiple manual partition assignments for partition {index}");
            return invalid(ResponseError::InvalidReplicaAssignment, why);
        }
        check_assignment(image, &replicas, count)?;
        count = Some(replicas.len());
        partitions.insert(index, replicas);
        pause().await;
    }
    if !partitions.keys().copied().eq(0..partitions.len() as i32) {
        let why = "partitions should be a consecutive 0-based integer sequence";
        return invalid(ResponseError::InvalidReplicaAssignment, why.into());
    }
    Ok(partitions.into_values().collect())
}

/// What a topic is configured like that sets nothing.
fn inherited_configs(image: &Image, rules: &Rules<'_>) -> Vec<CreatableTopicConfigs> {
    let resolver = rules.resolver(image);
    let entries = resolver.values(&BTreeMap::new()).into_iter().map(|(topic_key, value)| {
        let first = topic_key.broker_keys.first();
        let synonyms = first.map(|(name, _)| resolver.broker_synonyms(name)).unwrap_or_default();
        let source = synonyms.first().map_or(Source::Default, |synonym| synonym.source);
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(topic_key.key.name))
            .with_value(Some(StrBytes::from_string(value)))
            .with_config_source(source as i8)
    });
    entries.collect()
}

/// DeleteTopics, by name or id; `pause` comes between two steps. Kafka: `ControllerApis.deleteTopics`.
pub async fn delete_topics(
    image: &Image,
    rules: &Rules<'_>,
    request: &DeleteTopicsRequest,
    pause: impl AsyncFn(),
) -> Decision<Vec<DeletableTopicResult>> {
    let asked: Vec<(Option<TopicName>, Uuid)> = request
        .topic_names
        .iter()
        .map(|name| (Some(name.clone()), Uuid::nil()))
        .chain(request.topics.iter().map(|topic| (topic.name.clone(), topic.topic_id)))
        .collect();
    let mut records = Vec::new();
    let mut deleted = BTreeSet::new();
    let mut told = BTreeSet::new();
    let mut answer = Vec::new();
    let (mut once, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for topic in &asked {
        if !once.insert(topic) {
            twice.insert(topic);
        }
        pause().await;
    }
    for topic in &asked {
        pause().await;
        let (name, id) = topic;
        let twice = twice.contains(topic);
        if twice && !told.insert(topic) {
            continue;
        }
        let done = delete(image, rules, name.as_ref(), *id, twice).and_then(|(found, topic_id)| {
            if !deleted.insert(topic_id) {
                let why = "The provided topic name maps to an ID that was already supplied.";
                return Err(AdminError::new(ResponseError::InvalidRequest, why));
            }
            records.push(records::RemoveTopic { topic_id }.into());
            Ok((found, topic_id))
        });
        answer.push(match done {
            Ok((found, topic_id)) => DeletableTopicResult::default()
                .with_name(Some(found))
                .with_topic_id(topic_id)
                .with_error_message(None),
            Err(error) => DeletableTopicResult::default()
                .with_name(name.clone())
                .with_topic_id(*id)
                .with_error_code(error.error.code())
                .with_error_message(error.message.map(StrBytes::from_string)),
        });
    }
    Decision { records, answer }
}

/// The topic that is meant, if it can be deleted.
fn delete(
    image: &Image,
    rules: &Rules<'_>,
    name: Option<&TopicName>,
    id: Uuid,
    twice: bool,
) -> Result<(TopicName, Uuid), AdminError> {
    let invalid = |why: &str| Err(AdminError::new(ResponseError::InvalidRequest, why));
    if !rules.topics.deletable {
        return Err(AdminError::plain(ResponseError::TopicDeletionDisabled));
    }
    match (name, id.is_nil()) {
        (None, true) => invalid("Neither topic name nor id were specified."),
        (Some(_), false) => invalid("You may not specify both topic name and topic id."),
        (Some(_), true) if twice => invalid("Duplicate topic name."),
        (None, false) if twice => invalid("Duplicate topic id."),
        (Some(name), true) => match image.topic(name) {
            Some(topic) => Ok((name.clone(), topic.id)),
            None => Err(AdminError::plain(ResponseError::UnknownTopicOrPartition)),
        },
        (None, false) => match image.topic_by_id(id) {
            Some(topic) => Ok((TopicName(StrBytes::from_string(topic.name.to_string())), id)),
            None => Err(AdminError::plain(ResponseError::UnknownTopicId)),
        },
    }
}
