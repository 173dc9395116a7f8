//! DescribeCluster (60): the cluster's id, its brokers as this listener's clients reach them.

use std::ops::RangeInclusive;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::cluster_view::{CLUSTER_OPERATIONS, ClusterView, text};
use super::{Refusal, RequestContext};

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 0..=2;

/// Brokers, as opposed to controllers (KIP-919).
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers with the brokers.
pub async fn handle(
    context: &RequestContext,
    request: DescribeClusterRequest,
) -> Result<DescribeClusterResponse, Refusal> {
    let image = context.shard.image();
    let view = ClusterView::new(&image, &context.connection.listener.name);
    let cluster_id = context.shard.config().node.cluster_id.clone().unwrap_or_default();
    Ok(respond(&view, context.request.version, &request, cluster_id))
}

fn respond(
    view: &ClusterView<'_>,
    version: i16,
    request: &DescribeClusterRequest,
    cluster_id: String,
) -> DescribeClusterResponse {
    // Version 0 cannot ask for anything else.
    let endpoint_type = if version == 0 { BROKERS } else { request.endpoint_type };
    let refused = |error: ResponseError, message: String| {
        DescribeClusterResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_string(message)))
            .with_controller_id(BrokerId(-1))
    };
    match endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            return refused(
                ResponseError::MismatchedEndpointType,
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type \
                 CONTROLLER"
                    .into(),
            );
        }
        other => {
            let message = format!("Unsupported endpoint type {other}");
            return refused(ResponseError::UnsupportedEndpointType, message);
        }
    }
    let all = view.image.cluster().brokers();
    let brokers = all
        .filter(|broker| !broker.registration.fenced || (version >= 2 && request.include_fenced_brokers))
        .map(|broker| (broker, view.endpoint(broker)))
        .filter_map(|(broker, endpoint)| {
            let endpoint = endpoint?;
            Some(
                DescribeClusterBroker::default()
                    .with_broker_id(BrokerId(broker.registration.broker_id))
                    .with_host(text(&endpoint.host))
                    .with_port(i32::from(endpoint.port))
                    .with_rack(broker.registration.rack.as_deref().map(text))
                    .with_is_fenced(version >= 2 && broker.registration.fenced),
            )
        });
    let mut response = DescribeClusterResponse::default()
        .with_cluster_id(StrBytes::from_string(cluster_id))
        .with_controller_id(BrokerId(view.controller()))
        .with_brokers(brokers.collect());
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

#[cfg(test)]
mod tests {
    use super::super::cluster_view::fixture;
    use super::*;

    #[test]
    fn every_version_names_the_brokers_of_the_listener() {
        let image = fixture::image();
        let view = ClusterView::new(&image, "OUTSIDE");
        for version in VERSIONS {
            let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
            let response = respond(&view, version, &request, "cluster".into());
            fixture::encodes(&response, version);
            assert_eq!(response.brokers.len(), 1);
            assert_eq!((response.brokers[0].host.as_str(), response.brokers[0].port), ("out.example", 29092));
            assert_eq!((response.controller_id, response.cluster_authorized_operations), (BrokerId(1), 8096));
        }
    }

    #[test]
    fn controllers_have_no_listener() {
        let image = fixture::image();
        let view = ClusterView::new(&image, "PLAINTEXT");
        for (endpoint_type, error) in
            [(2, ResponseError::MismatchedEndpointType), (7, ResponseError::UnsupportedEndpointType)]
        {
            let request = DescribeClusterRequest::default().with_endpoint_type(endpoint_type);
            let response = respond(&view, 1, &request, "cluster".into());
            assert_eq!(response.error_code, error.code());
            fixture::encodes(&response, 1);
        }
    }
}
