//! ListConfigResources (74, KIP-1142): what can be configured.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use super::cluster_view::text;
use super::{Refusal, RequestContext};
use crate::metadata::image::{Image, ResourceKind};
use crate::time_slice::TimeSlice;

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
    let slice = TimeSlice::of(context.shard.ring());
    let pause = async || slice.pause().await;
    Ok(respond(&context.shard.image(), context.request.version, &request, pause).await)
}

/// `pause` comes between two steps.
async fn respond(
    image: &Image,
    version: i16,
    request: &ListConfigResourcesRequest,
    pause: impl AsyncFn(),
) -> ListConfigResourcesResponse {
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
        for name in names(image, kind) {
            let mut resource = ConfigResource::default().with_resource_name(text(&name));
            if version > 0 {
                resource.resource_type = kind as i8;
            }
            resources.push(resource);
            pause().await;
        }
    }
    ListConfigResourcesResponse::default().with_config_resources(resources)
}

fn names(image: &Image, kind: ResourceKind) -> Box<dyn Iterator<Item = String> + '_> {
    match kind {
        ResourceKind::Topic => Box::new(image.topics().iter().map(|topic| topic.name.to_string())),
        ResourceKind::Broker | ResourceKind::BrokerLogger => {
            let brokers = image.cluster().brokers();
            Box::new(brokers.map(|broker| broker.registration.broker_id.to_string()))
        }
        ResourceKind::ClientMetrics | ResourceKind::Group => {
            let set = image.configs().iter().filter(move |(resource, _)| resource.kind == kind);
            Box::new(set.map(|(resource, _)| resource.name.clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::cluster_view::fixture;
    use super::*;

    #[test]
    fn topics_and_brokers_are_listed() {
        let image = fixture::image();
        let listed = |version: i16, kinds: Vec<i8>| {
            let request = ListConfigResourcesRequest::default().with_resource_types(kinds);
            let responding = respond(&image, version, &request, async || ());
            let response = responding.now_or_never().expect("no pause waits");
            fixture::encodes(&response, version);
            (response.error_code, response.config_resources.len())
        };
        assert_eq!(listed(1, vec![]), (0, 4));
        assert_eq!(listed(1, vec![2]), (0, 2));
        assert_eq!(listed(0, vec![]), (0, 0));
        assert_eq!(listed(1, vec![77]).0, ResponseError::UnsupportedVersion.code());
    }
}
