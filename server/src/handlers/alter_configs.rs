//! AlterConfigs (33), which replaces a resource's whole configuration, and what it has in common with
//! IncrementalAlterConfigs.

use std::ops::RangeInclusive;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Refusal, RequestContext};
use crate::metadata::controller::{AdminError, Change, ConfigChange};
use crate::metadata::image::{ConfigResource, ResourceKind};

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 0..=2;

/// Replaces the configuration of each resource, all of it or nothing.
pub async fn handle(
    context: &RequestContext,
    request: AlterConfigsRequest,
) -> Result<AlterConfigsResponse, Refusal> {
    let asked: Vec<Asked> = request
        .resources
        .into_iter()
        .map(|resource| {
            let changes = resource.configs.into_iter().map(|config| {
                let value = config.value.map(|value| value.to_string());
                Ok(ConfigChange { name: config.name.to_string(), change: Change::Set, value })
            });
            (resource.resource_type, resource.resource_name, changes.collect())
        })
        .collect();
    let answered = alter(context, asked, true, request.validate_only).await;
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
    Ok(AlterConfigsResponse::default().with_responses(responses.collect()))
}

/// A resource, and what is to become of its keys.
pub(super) type Asked = (i8, StrBytes, Result<Vec<ConfigChange>, AdminError>);

/// Changes one resource after the other; each has its own outcome.
pub(super) async fn alter(
    context: &RequestContext,
    asked: Vec<Asked>,
    replace: bool,
    validate_only: bool,
) -> Vec<(i8, StrBytes, Result<(), AdminError>)> {
    let resources: Vec<(i8, StrBytes)> = asked.iter().map(|(kind, name, _)| (*kind, name.clone())).collect();
    let mut answered = Vec::new();
    for (resource_type, resource_name, changes) in asked {
        let same = |other: &&(i8, StrBytes)| other.0 == resource_type && other.1 == resource_name;
        let twice = resources.iter().filter(same).count() > 1;
        let done = match checked(resource_type, &resource_name, changes, twice) {
            Err(error) => Err(error),
            Ok((resource, changes)) => {
                let altered = context.shard.with_controller(async move |controller| {
                    controller.alter_configs(resource, changes, replace, validate_only).await
                });
                altered.await
            }
        };
        answered.push((resource_type, resource_name, done));
    }
    answered
}

fn checked(
    resource_type: i8,
    resource_name: &str,
    changes: Result<Vec<ConfigChange>, AdminError>,
    twice: bool,
) -> Result<(ConfigResource, Vec<ConfigChange>), AdminError> {
    let invalid = |why: String| Err(AdminError::new(ResponseError::InvalidRequest, why));
    if twice {
        return invalid("Each resource must appear at most once.".into());
    }
    let Some(kind) = ResourceKind::from_number(resource_type) else {
        return invalid(format!("Unknown resource type {resource_type}"));
    };
    let changes = changes?;
    for (index, change) in changes.iter().enumerate() {
        if changes[..index].iter().any(|other| other.name == change.name) {
            return invalid("Error due to duplicate config keys".into());
        }
    }
    Ok((ConfigResource { kind, name: resource_name.to_owned() }, changes))
}
