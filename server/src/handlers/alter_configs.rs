//! AlterConfigs (33), which replaces a resource's whole configuration, and what it has in common with
//! IncrementalAlterConfigs.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Refusal, RequestContext};
use crate::metadata::controller::{AdminError, Change, ConfigChange, RECORDS_PER_REQUEST_MAX};
use crate::metadata::image::{ConfigResource, ResourceKind};
use crate::metadata::topic_config;
use crate::time_slice::TimeSlice;

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

/// Changes all resources at once; each has its own outcome.
pub(super) async fn alter(
    context: &RequestContext,
    asked: Vec<Asked>,
    replace: bool,
    validate_only: bool,
) -> Vec<(i8, StrBytes, Result<(), AdminError>)> {
    let slice = TimeSlice::of(context.shard.ring());
    let (mut once, mut named_twice) = (BTreeSet::new(), BTreeSet::new());
    for (resource_type, resource_name, _) in &asked {
        let resource = (*resource_type, resource_name.clone());
        if let Some(again) = once.replace(resource) {
            named_twice.insert(again);
        }
        slice.pause().await;
    }
    let (mut answered, mut sound) = (Vec::new(), Vec::new());
    for (resource_type, resource_name, changes) in asked {
        slice.pause().await;
        let resource = (resource_type, resource_name);
        let twice = named_twice.contains(&resource);
        let (resource_type, resource_name) = resource;
        let checked = checked(resource_type, &resource_name, changes, twice, &slice).await;
        let done = checked.map(|changes| sound.push((answered.len(), changes)));
        answered.push((resource_type, resource_name, done));
    }
    let (places, sound): (Vec<usize>, Vec<_>) = sound.into_iter().unzip();
    let count = sound.len();
    let altered = context.shard.with_controller(async move |controller| {
        controller.alter_configs(sound, replace, validate_only).await
    });
    let altered = if count == 0 { Ok(Vec::new()) } else { altered.await };
    let altered = altered.unwrap_or_else(|error| vec![Err(error); count]);
    for (place, done) in places.into_iter().zip(altered) {
        answered[place].2 = done;
    }
    answered
}

async fn checked(
    resource_type: i8,
    resource_name: &str,
    changes: Result<Vec<ConfigChange>, AdminError>,
    twice: bool,
    slice: &TimeSlice,
) -> Result<(ConfigResource, Vec<ConfigChange>), AdminError> {
    let invalid = |why: String| Err(AdminError::new(ResponseError::InvalidRequest, why));
    if twice {
        return invalid("Each resource must appear at most once.".into());
    }
    let Some(kind) = ResourceKind::from_number(resource_type) else {
        return invalid(format!("Unknown resource type {resource_type}"));
    };
    let changes = changes?;
    let mut names = BTreeSet::new();
    for change in &changes {
        if !names.insert(change.name.as_str()) {
            return invalid("Error due to duplicate config keys".into());
        }
        slice.pause().await;
    }
    if changes.iter().filter(|change| change.change != Change::Delete).count() > RECORDS_PER_REQUEST_MAX {
        // No topic has as many keys.
        let unknown = names.iter().find(|name| topic_config::find(name).is_none());
        if let (ResourceKind::Topic, Some(name)) = (kind, unknown) {
            let why = format!("Unknown topic config name: {name}");
            return Err(AdminError::new(ResponseError::InvalidConfig, why));
        }
        return Err(AdminError::too_large());
    }
    Ok((ConfigResource { kind, name: resource_name.to_owned() }, changes))
}
