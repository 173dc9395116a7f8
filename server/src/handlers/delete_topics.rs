//! DeleteTopics (20), by name or by id; answered once no core serves the topics any more.

use std::ops::RangeInclusive;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{Refusal, RequestContext};

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 1..=6;

/// Deletes the topics that are there, and says why the others cannot be.
pub async fn handle(
    context: &RequestContext,
    request: DeleteTopicsRequest,
) -> Result<DeleteTopicsResponse, Refusal> {
    let names = request.topic_names.iter().map(|name| (Some(name.clone()), Uuid::nil()));
    let states = request.topics.iter().map(|topic| (topic.name.clone(), topic.topic_id));
    let asked: Vec<_> = names.chain(states).collect();
    let decided =
        context.shard.with_controller(async move |controller| controller.delete_topics(request).await);
    let mut results = decided.await.unwrap_or_else(|error| {
        let message = error.message.map(StrBytes::from_string);
        let failed = asked.into_iter().map(|(name, id)| {
            DeletableTopicResult::default()
                .with_name(name)
                .with_topic_id(id)
                .with_error_code(error.error.code())
                .with_error_message(message.clone())
        });
        failed.collect()
    });
    for result in &mut results {
        fit(result, context.request.version);
    }
    Ok(DeleteTopicsResponse::default().with_responses(results))
}

/// Leaves out what the version cannot say, and says it as older clients know it.
fn fit(result: &mut DeletableTopicResult, version: i16) {
    if version < 3 && result.error_code == ResponseError::TopicDeletionDisabled.code() {
        result.error_code = ResponseError::InvalidRequest.code();
    }
    if version < 5 {
        result.error_message = None;
    }
    if version < 6 {
        result.topic_id = Uuid::nil();
        // Before ids every topic has a name.
        result.name.get_or_insert_default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::cluster_view::{fixture, text, topic_text};
    use super::*;

    #[test]
    fn every_version_can_say_success_and_failure() {
        for version in VERSIONS {
            let mut success = DeletableTopicResult::default()
                .with_name(Some(topic_text("t")))
                .with_topic_id(Uuid::from_u128(1));
            let mut failure = DeletableTopicResult::default()
                .with_name(None)
                .with_error_code(ResponseError::TopicDeletionDisabled.code())
                .with_error_message(Some(text("no")));
            fit(&mut success, version);
            fit(&mut failure, version);
            let expected = if version < 3 {
                ResponseError::InvalidRequest
            } else {
                ResponseError::TopicDeletionDisabled
            };
            assert_eq!(failure.error_code, expected.code());
            fixture::encodes(
                &DeleteTopicsResponse::default().with_responses(vec![success, failure]),
                version,
            );
        }
    }
}
