//! InitProducerId (22): an id for an idempotent producer. Transactions are not served.

use std::ops::RangeInclusive;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::{Refusal, RequestContext};

/// The versions served. Version 6 is unstable in Kafka.
pub const VERSIONS: RangeInclusive<i16> = 0..=5;

/// Gives a new id with epoch 0. Without transactions an id that the producer had before says nothing: it is
/// given a new one, as by Kafka.
pub async fn handle(
    context: &RequestContext,
    request: InitProducerIdRequest,
) -> Result<InitProducerIdResponse, Refusal> {
    let id = match refused(&request) {
        Some(error) => Err(error),
        None => {
            let allocated = context.shard.producer_ids().allocate(&context.shard).await;
            allocated.map_err(|error| {
                tracing::warn!(%error, "no producer id could be allocated");
                error.error
            })
        }
    };
    Ok(match id {
        Ok(id) => InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0),
        Err(error) => InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1),
    })
}

fn refused(request: &InitProducerIdRequest) -> Option<ResponseError> {
    let has_id = request.producer_id.0 >= 0;
    let has_epoch = request.producer_epoch >= 0;
    match &request.transactional_id {
        _ if has_id != has_epoch => Some(ResponseError::InvalidRequest),
        None => None,
        Some(id) if id.is_empty() => Some(ResponseError::InvalidRequest),
        // The one answer that makes every client give up at once.
        Some(_) => Some(ResponseError::TransactionalIdAuthorizationFailed),
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TransactionalId;
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    #[test]
    fn only_idempotent_producers_get_ids() {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        assert_eq!(refused(&request), None);
        let bumped = request.clone().with_producer_id(ProducerId(7)).with_producer_epoch(3);
        assert_eq!(refused(&bumped), None);
        let half = request.clone().with_producer_id(ProducerId(7));
        assert_eq!(refused(&half), Some(ResponseError::InvalidRequest));
        let id = |text| Some(TransactionalId(StrBytes::from_static_str(text)));
        let transactional = request.clone().with_transactional_id(id("t"));
        assert_eq!(refused(&transactional), Some(ResponseError::TransactionalIdAuthorizationFailed));
        assert_eq!(refused(&request.with_transactional_id(id(""))), Some(ResponseError::InvalidRequest));
    }
}
