//! CreateTopics (19): decided by the controller; answered once every core has the topics.

use std::ops::RangeInclusive;

use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Refusal, RequestContext};
use crate::time_slice::TimeSlice;

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 2..=7;

/// Creates the topics that can be, and says why the others cannot.
pub async fn handle(
    context: &RequestContext,
    request: CreateTopicsRequest,
) -> Result<CreateTopicsResponse, Refusal> {
    let names: Vec<_> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let (topics, validate_only) = (request.topics, request.validate_only);
    let decided = context
        .shard
        .with_controller(async move |controller| controller.create_topics(topics, validate_only).await);
    let mut results = decided.await.unwrap_or_else(|error| {
        let message = error.message.map(StrBytes::from_string);
        let failed = names.into_iter().map(|name| {
            CreatableTopicResult::default()
                .with_name(name)
                .with_error_code(error.error.code())
                .with_error_message(message.clone())
        });
        failed.collect()
    });
    let slice = TimeSlice::of(context.shard.ring());
    for result in &mut results {
        fit(result, context.request.version);
        slice.pause().await;
    }
    Ok(CreateTopicsResponse::default().with_topics(results))
}

/// Leaves out what the version cannot say.
fn fit(result: &mut CreatableTopicResult, version: i16) {
    let default = CreatableTopicResult::default();
    if version < 5 {
        result.num_partitions = default.num_partitions;
        result.replication_factor = default.replication_factor;
        result.configs = default.configs.clone();
    }
    if version < 7 {
        result.topic_id = default.topic_id;
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::create_topics_response::CreatableTopicConfigs;
    use uuid::Uuid;

    use super::super::cluster_view::{fixture, text, topic_text};
    use super::*;

    #[test]
    fn every_version_can_say_success_and_failure() {
        for version in VERSIONS {
            let config = CreatableTopicConfigs::default().with_name(text("k")).with_value(Some(text("v")));
            let mut success = CreatableTopicResult::default()
                .with_name(topic_text("t"))
                .with_topic_id(Uuid::from_u128(1))
                .with_num_partitions(3)
                .with_replication_factor(1)
                .with_configs(Some(vec![config]));
            let mut failure = CreatableTopicResult::default()
                .with_name(topic_text("t"))
                .with_error_code(36)
                .with_error_message(Some(text("there")));
            fit(&mut success, version);
            fit(&mut failure, version);
            fixture::encodes(&CreateTopicsResponse::default().with_topics(vec![success, failure]), version);
        }
    }
}
