//! ListConfigResources (74, KIP-1142): what can be configured.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use super::cluster_view::text;
use super::{Refusal, RequestContext};
use crate::metadata::image::{Image, ResourceKind};

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 0..=1;

const ALL: [ResourceKind; 5] = [
    ResourceKind::Topic,
    ResourceKind::Broker,
    ResourceKind::BrokerLogger,
    ResourceKind::ClientMetrics,
    ResourceKind::Group,
];

/// Lists the resources of the kinds that are asked for; version 0 asks for client metrics only.
pub async fn handle(
    context: &RequestContext,
    request: ListConfigResourcesRequest,
) -> Result<ListConfigResourcesResponse, Refusal> {
    Ok(respond(&context.shard.image(), context.request.version, &request))
}

fn respond(image: &Image, version: i16, request: &ListConfigResourcesRequest) -> ListConfigResourcesResponse {
    let kinds: Option<Vec<ResourceKind>> = match (version, request.resource_types.as_slice()) {
        (0, _) => Some(vec![ResourceKind::ClientMetrics]),
        (_, []) => Some(ALL.to_vec()),
        (_, numbers) => numbers.iter().map(|number| ResourceKind::from_number(*number)).collect(),
    };
    let Some(mut kinds) = kinds else {
        let error = ResponseError::UnsupportedVersion.code();
        return ListConfigResourcesResponse::default().with_error_code(error);
    };
    // A kind that is asked for twice is told once.
    let mut seen = BTreeSet::new();
    kinds.retain(|kind| seen.insert(*kind as i8));
    let mut resources = Vec::new();
    for kind in kinds {
        resources.extend(names(image, kind).iter().map(|name| {
            let mut resource = ConfigResource::default().with_resource_name(text(name));
            if version > 0 {
                resource.resource_type = kind as i8;
            }
            resource
        }));
    }
    ListConfigResourcesResponse::default().with_config_resources(resources)
}

fn names(image: &Image, kind: ResourceKind) -> Vec<String> {
    match kind {
        ResourceKind::Topic => image.topics().iter().map(|topic| topic.name.to_string()).collect(),
        ResourceKind::Broker | ResourceKind::BrokerLogger => {
            let brokers = image.cluster().brokers();
            brokers.map(|broker| broker.registration.broker_id.to_string()).collect()
        }
        ResourceKind::ClientMetrics | ResourceKind::Group => {
            let set = image.configs().iter().filter(|(resource, _)| resource.kind == kind);
            set.map(|(resource, _)| resource.name.clone()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cluster_view::fixture;
    use super::*;

    #[test]
    fn topics_and_brokers_are_listed() {
        let image = fixture::image();
        let listed = |version: i16, kinds: Vec<i8>| {
            let request = ListConfigResourcesRequest::default().with_resource_types(kinds);
            let response = respond(&image, version, &request);
            fixture::encodes(&response, version);
            (response.error_code, response.config_resources.len())
        };
        assert_eq!(listed(1, vec![]), (0, 4));
        assert_eq!(listed(1, vec![2]), (0, 2));
        assert_eq!(listed(0, vec![]), (0, 0));
        assert_eq!(listed(1, vec![77]).0, ResponseError::UnsupportedVersion.code());
    }
}
