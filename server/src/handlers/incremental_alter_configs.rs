//! IncrementalAlterConfigs (44, KIP-339): sets, deletes, appends to and subtracts from single keys.

use std::ops::RangeInclusive;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::alter_configs::{Asked, alter};
use super::{Refusal, RequestContext};
use crate::metadata::controller::{AdminError, Change, ConfigChange};

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 0..=1;

/// Changes each resource, all that is asked of it or nothing.
pub async fn handle(
    context: &RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> Result<IncrementalAlterConfigsResponse, Refusal> {
    let asked: Vec<Asked> = request
        .resources
        .into_iter()
        .map(|resource| {
            let changes = resource.configs.into_iter().map(change).collect();
            (resource.resource_type, resource.resource_name, changes)
        })
        .collect();
    let answered = alter(context, asked, false, request.validate_only).await;
    let responses = answered.into_iter().map(|(resource_type, resource_name, done)| {
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(resource_type)
            .with_resource_name(resource_name);
        match done {
            Ok(()) => response.with_error_message(None),
            Err(error) => response
                .with_error_code(error.error.code())
                .with_error_message(error.message.map(StrBytes::from_string)),
        }
    });
    Ok(IncrementalAlterConfigsResponse::default().with_responses(responses.collect()))
}

fn change(config: AlterableConfig) -> Result<ConfigChange, AdminError> {
    let name = config.name.to_string();
    let invalid = |why: String| Err(AdminError::new(ResponseError::InvalidRequest, why));
    let Some(change) = Change::from_number(config.config_operation) else {
        return invalid(format!("Unknown operation {} for {name}", config.config_operation));
    };
    let value = config.value.map(|value| value.to_string());
    if value.is_none() && change != Change::Delete {
        return invalid(format!("Null value not supported for : {name}"));
    }
    Ok(ConfigChange { name, change, value })
}
