//! What the other rooms ask of the controller.

use std::collections::BTreeMap;
use std::rc::Rc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::protocol::StrBytes;

use super::driver::{Controller, Unmade};
use super::topics::refused;
use super::{
    AdminError, ConfigChange, Decision, RECORDS_PER_REQUEST_MAX, alter_configs, create_partitions,
    create_topics, delete_topics,
};
use crate::config::GroupConfig;
use crate::metadata::image::ConfigResource;
use crate::metadata::records::ProducerIds;
use crate::metadata::topic_name::{self, CONSUMER_OFFSETS};
use crate::metadata::uuid_text;

/// Producer ids that a broker is given at once. Kafka: `ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`.
pub const PRODUCER_ID_BLOCK: i64 = 1000;

impl Controller {
    /// CreateTopics.
    pub async fn create_topics(
        self: &Rc<Self>,
        topics: Vec<CreatableTopic>,
        validate_only: bool,
    ) -> Result<Vec<CreatableTopicResult>, AdminError> {
        let made = self.decide_and_make(async move |image, rules, turns| {
            let pause = async || turns.pause().await;
            create_topics(image, rules, &topics, validate_only, uuid_text::random, pause).await
        });
        let (mut results, unmade) = made.await?;
        let unmade = by_topic(&unmade);
        for result in results.iter_mut().filter(|result| unmade.contains_key(result.name.as_str())) {
            // Kafka answers with success here, and its broker halts for want of a log directory.
            *result = refused(result.name.clone(), unmade_error(unmade[result.name.as_str()]));
        }
        Ok(results)
    }

    /// DeleteTopics.
    pub async fn delete_topics(
        self: &Rc<Self>,
        request: DeleteTopicsRequest,
    ) -> Result<Vec<DeletableTopicResult>, AdminError> {
        self.decide(async move |image, rules, turns| {
            delete_topics(image, rules, &request, async || turns.pause().await).await
        })
        .await
    }

    /// CreatePartitions.
    pub async fn create_partitions(
        self: &Rc<Self>,
        topics: Vec<CreatePartitionsTopic>,
        validate_only: bool,
    ) -> Result<Vec<CreatePartitionsTopicResult>, AdminError> {
        let made = self.decide_and_make(async move |image, rules, turns| {
            create_partitions(image, rules, &topics, validate_only, async || turns.pause().await).await
        });
        let (mut results, unmade) = made.await?;
        let unmade = by_topic(&unmade);
        for result in results.iter_mut().filter(|result| unmade.contains_key(result.name.as_str())) {
            // A topic cannot lose partitions again: the next start creates those that are missing.
            let AdminError { error, message } = unmade_error(unmade[result.name.as_str()]);
            result.error_code = error.code();
            result.error_message = message.map(StrBytes::from_string);
        }
        Ok(results)
    }

    /// AlterConfigs (`replace`) and IncrementalAlterConfigs: what becomes of each resource, none of which is named
    /// twice. All that is changed is one batch.
    pub async fn alter_configs(
        self: &Rc<Self>,
        asked: Vec<(ConfigResource, Vec<ConfigChange>)>,
        replace: bool,
        validate_only: bool,
    ) -> Result<Vec<Result<(), AdminError>>, AdminError> {
        self.decide(async move |image, rules, turns| {
            let (mut records, mut answer) = (Vec::new(), Vec::with_capacity(asked.len()));
            for (resource, changes) in &asked {
                let mut decision = alter_configs(image, rules, resource, changes, replace);
                records.append(&mut decision.records);
                answer.push(decision.answer);
                turns.pause().await;
            }
            if records.len() > RECORDS_PER_REQUEST_MAX {
                answer.fill(Err(AdminError::too_large()));
            }
            if validate_only || records.len() > RECORDS_PER_REQUEST_MAX {
                records.clear();
            }
            Decision { records, answer }
        })
        .await
    }

    /// The first of [`PRODUCER_ID_BLOCK`] producer ids that nobody else gets, also after a crash.
    pub async fn allocate_producer_ids(self: &Rc<Self>) -> Result<i64, AdminError> {
        let broker_epoch = self.broker_epoch();
        self.decide(async move |image, rules, _| {
            let first = image.next_producer_id();
            let next_producer_id = first + PRODUCER_ID_BLOCK;
            let record = ProducerIds { broker_id: rules.node_id, broker_epoch, next_producer_id };
            Decision { records: vec![record.into()], answer: first }
        })
        .await
    }

    /// Creates topics that a client asked the metadata of, with the broker's defaults; says which could not
    /// be. One that is there meanwhile is no error.
    pub async fn create_automatically(
        self: &Rc<Self>,
        names: Vec<TopicName>,
    ) -> Result<Vec<(TopicName, AdminError)>, AdminError> {
        let topics = names.into_iter().map(|name| {
            if topic_name::is_internal(&name) {
                return internal_topic(&name, self.groups());
            }
            CreatableTopic::default().with_name(name).with_num_partitions(-1).with_replication_factor(-1)
        });
        let results = self.create_topics(topics.collect(), false).await?;
        Ok(results.into_iter().filter_map(|result| Some((result.name.clone(), failure(result)?))).collect())
    }

    /// Creates one of the broker's own topics if it is not there: `__consumer_offsets` with
    /// `offsets.topic.num.partitions` and what Kafka configures for it.
    pub async fn ensure_internal_topic(self: &Rc<Self>, name: &str) -> Result<(), AdminError> {
        assert!(topic_name::is_internal(name), "{name} is no internal topic");
        self.create_unless_there(internal_topic(name, self.groups())).await
    }

    async fn create_unless_there(self: &Rc<Self>, topic: CreatableTopic) -> Result<(), AdminError> {
        if self.image().topic(&topic.name).is_some() {
            return Ok(());
        }
        let result = self.create_topics(vec![topic], false).await?.remove(0);
        failure(result).map_or(Ok(()), Err)
    }
}

/// The first partition of each topic that could not be created.
fn by_topic(unmade: &[Unmade]) -> BTreeMap<&str, &Unmade> {
    let mut topics = BTreeMap::new();
    for unmade in unmade {
        if let Some((topic, _)) = unmade.name.rsplit_once('-') {
            topics.entry(topic).or_insert(unmade);
        }
    }
    topics
}

/// The error of a topic of which a partition could not be created.
fn unmade_error(first: &Unmade) -> AdminError {
    let message = format!("Cannot create partition {}: {}", first.name, first.why);
    AdminError::new(ResponseError::KafkaStorageError, message)
}

/// Why a creation failed, unless the topic is there.
fn failure(result: CreatableTopicResult) -> Option<AdminError> {
    let error = ResponseError::try_from_code(result.error_code)?;
    let message = result.error_message.map(|message| message.to_string());
    (error != ResponseError::TopicAlreadyExists).then_some(AdminError { error, message })
}

/// Kafka: `DefaultAutoTopicCreationManager.creatableTopic`, `GroupCoordinatorService.groupMetadataTopicConfigs`.
fn internal_topic(name: &str, groups: &GroupConfig) -> CreatableTopic {
    let config = |name: &'static str, value: String| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_string(value)))
    };
    let mut configs = vec![config("cleanup.policy", "compact".into())];
    let mut topic = CreatableTopic::default().with_name(TopicName(StrBytes::from_string(name.to_owned())));
    if name == CONSUMER_OFFSETS {
        topic.num_partitions = groups.offsets_partitions;
        topic.replication_factor = groups.offsets_replication_factor;
        configs.push(config("segment.bytes", groups.offsets_segment_bytes.to_string()));
        configs.push(config("compression.type", "producer".into()));
    } else {
        topic.num_partitions = 50;
        topic.replication_factor = -1;
        configs.push(config("segment.bytes", (100 << 20).to_string()));
        configs.push(config("compression.type", "uncompressed".into()));
    }
    topic.with_configs(configs)
}
