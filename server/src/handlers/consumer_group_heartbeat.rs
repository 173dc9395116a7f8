//! ConsumerGroupHeartbeat (68, KIP-848): refused, as by a Kafka that has the protocol switched off.
//!
//! A client that is told to use this protocol gives up at this answer and says why. Where the API is not advertised,
//! librdkafka looks for another coordinator, for ever and in silence.

use std::ops::RangeInclusive;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::{Refusal, RequestContext};

/// The versions that are refused.
pub const VERSIONS: RangeInclusive<i16> = 0..=1;

/// Says UNSUPPORTED_VERSION, which is Kafka's word for a protocol that is not in `group.coordinator.rebalance.protocols`.
pub async fn handle(
    _: &RequestContext,
    _: ConsumerGroupHeartbeatRequest,
) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
    Ok(ConsumerGroupHeartbeatResponse::default().with_error_code(ResponseError::UnsupportedVersion.code()))
}
