//! ApiVersions (18): which APIs are served, in which versions. Answers from the dispatch table alone.

use std::ops::RangeInclusive;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

use kafka_protocol::protocol::StrBytes;

use super::{Refusal, RequestContext};
use crate::dispatch;
use crate::metadata::controller::SUPPORTED_FEATURES;
use crate::metadata::image::Image;

/// The versions served.
pub const VERSIONS: RangeInclusive<i16> = 0..=4;

/// Lists the APIs; version 3 and later must bring a well-formed client name and version (KIP-511).
pub async fn handle(
    context: &RequestContext,
    request: ApiVersionsRequest,
) -> Result<ApiVersionsResponse, Refusal> {
    if context.request.version >= 3
        && !(is_software_name(&request.client_software_name)
            && is_software_name(&request.client_software_version))
    {
        return Ok(ApiVersionsResponse::default().with_error_code(ResponseError::InvalidRequest.code()));
    }
    let mut response = ApiVersionsResponse::default().with_api_keys(served());
    features(&mut response, &context.shard.image(), context.request.version);
    Ok(response)
}

/// Tells the features that this broker keeps, and their finalized levels (KIP-584). What Apache Kafka finalized
/// beyond them stays so on the disk, and is not told.
fn features(response: &mut ApiVersionsResponse, image: &Image, version: i16) {
    if version < 3 {
        return;
    }
    // Clients before version 4 fail on a lowest level of 0 (KAFKA-17011).
    for (name, level_min, level_max) in
        SUPPORTED_FEATURES.iter().filter(|feature| version >= 4 || feature.1 > 0)
    {
        let name = StrBytes::from_static_str(name);
        let supported = SupportedFeatureKey::default()
            .with_name(name.clone())
            .with_min_version(*level_min)
            .with_max_version(*level_max);
        response.supported_features.push(supported);
        let level = image.cluster().feature(&name).min(*level_max);
        if level > 0 {
            let finalized = FinalizedFeatureKey::default()
                .with_name(name)
                .with_min_version_level(level)
                .with_max_version_level(level);
            response.finalized_features.push(finalized);
        }
    }
    response.finalized_features_epoch = image.offset();
}

/// The answer to a version that is not served: in version 0, so that any client can read it, and with the
/// one key that it needs to ask again.
pub fn unsupported() -> ApiVersionsResponse {
    let own = api_version(ApiKey::ApiVersions, &VERSIONS);
    ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(vec![own])
}

fn served() -> Vec<ApiVersion> {
    dispatch::SERVED.iter().map(|(key, versions)| api_version(*key, versions)).collect()
}

fn api_version(key: ApiKey, versions: &RangeInclusive<i16>) -> ApiVersion {
    // Older librdkafka compresses only if it sees a Produce below version 3 (KAFKA-18659), so Kafka
    // advertises 0 to 2 although it serves them no more.
    let lowest = if key == ApiKey::Produce { 0 } else { *versions.start() };
    ApiVersion::default().with_api_key(key as i16).with_min_version(lowest).with_max_version(*versions.end())
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_software_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_are_as_kafka_wants_them() {
        for good in ["librdkafka", "apache-kafka-java", "3.9.1", "a"] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", "ä"] {
            assert!(!is_software_name(bad), "{bad}");
        }
    }

    #[test]
    fn produce_is_advertised_from_version_zero() {
        let produce = api_version(ApiKey::Produce, &(3..=13));
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
    }
}
