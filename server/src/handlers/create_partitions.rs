//! CreatePartitions (37); answered once every core has the new partitions.

use std::ops::RangeInclusive;

use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Refusal, RequestContext};

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 0..=3;

/// Adds partitions where that can be done, and says why it cannot be elsewhere.
pub async fn handle(
    context: &RequestContext,
    request: CreatePartitionsRequest,
) -> Result<CreatePartitionsResponse, Refusal> {
    let names: Vec<_> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let (topics, validate_only) = (request.topics, request.validate_only);
    let decided = context
        .shard
        .with_controller(async move |controller| controller.create_partitions(topics, validate_only).await);
    let results = decided.await.unwrap_or_else(|error| {
        let message = error.message.map(StrBytes::from_string);
        let failed = names.into_iter().map(|name| {
            CreatePartitionsTopicResult::default()
                .with_name(name)
                .with_error_code(error.error.code())
                .with_error_message(message.clone())
        });
        failed.collect()
    });
    Ok(CreatePartitionsResponse::default().with_results(results))
}
