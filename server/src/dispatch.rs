//! From a request's bytes to a response's: one table of the APIs that are served.
//!
//! On the connection's core. Every frame is bounded before a codec sees it; what cannot be parsed ends the
//! connection, as in Kafka. Produce and Fetch go their own way, without copying records.

use std::ops::RangeInclusive;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

use crate::handlers::{self, Refusal, RequestContext, RequestFacts};

macro_rules! served {
    ($($api:ident => $module:path),* $(,)?) => {
        /// The APIs that are served and the versions of each, by ascending key.
        pub static SERVED: &[(ApiKey, RangeInclusive<i16>)] = &[
            $((ApiKey::$api, { use $module as handler; handler::VERSIONS })),*
        ];

        /// Decodes the request, has it answered, encodes the answer as one whole frame.
        pub async fn answer(context: &RequestContext, body: Bytes) -> Result<Bytes, Refusal> {
            match context.request.api {
                $(ApiKey::$api => {
                    use $module as handler;
                    answer_with(context, body, handler::handle).await
                })*
                api => Err(Refusal::UnsupportedVersion { api, version: context.request.version }),
            }
        }
    };
}

// One line per API.
served! {
    ApiVersions => crate::handlers::api_versions,
}

/// Parses a request's header. `frame` starts behind the size; what remains of it is the body.
///
/// An ApiVersions request of a version that is not served is let through: it is the one that gets an
/// answer, see [`is_unsupported`].
pub fn parse_header(frame: &mut Bytes) -> Result<RequestFacts, Refusal> {
    let malformed = |why: &str| Refusal::Malformed { what: "request header".into(), why: why.into() };
    let Some((key, version)) = frame
        .get(..4)
        .map(|bytes| (i16::from_be_bytes([bytes[0], bytes[1]]), i16::from_be_bytes([bytes[2], bytes[3]])))
    else {
        return Err(malformed("shorter than an API key and version"));
    };
    let api = ApiKey::try_from(key).map_err(|()| Refusal::UnknownApi(key))?;
    let unsupported = !SERVED.iter().any(|(served, versions)| *served == api && versions.contains(&version));
    if unsupported && api == ApiKey::ApiVersions {
        // Only the correlation id can be relied on: the header of a version to come may look different.
        let correlation_id = frame.get(4..8).ok_or_else(|| malformed("no correlation id"))?;
        let correlation_id = i32::from_be_bytes(correlation_id.try_into().expect("four bytes"));
        return Ok(RequestFacts { api, version, correlation_id, client_id: None });
    }
    if unsupported {
        return Err(Refusal::UnsupportedVersion { api, version });
    }
    let header = RequestHeader::decode(frame, api.request_header_version(version))
        .map_err(|error| malformed(&error.to_string()))?;
    let client_id = header.client_id;
    Ok(RequestFacts { api, version, correlation_id: header.correlation_id, client_id })
}

/// Whether this is the ApiVersions request of a version that is not served.
pub fn is_unsupported(request: &RequestFacts) -> bool {
    request.api == ApiKey::ApiVersions && !handlers::api_versions::VERSIONS.contains(&request.version)
}

async fn answer_with<Q: Decodable, R: Encodable + HeaderVersion>(
    context: &RequestContext,
    mut body: Bytes,
    handle: impl AsyncFnOnce(&RequestContext, Q) -> Result<R, Refusal>,
) -> Result<Bytes, Refusal> {
    let RequestFacts { api, version, correlation_id, .. } = context.request;
    if is_unsupported(&context.request) {
        return encode(api, 0, correlation_id, &handlers::api_versions::unsupported());
    }
    let request = Q::decode(&mut body, version).map_err(|error| Refusal::Malformed {
        what: format!("{api:?} request, version {version}"),
        why: error.to_string(),
    })?;
    let response = handle(context, request).await?;
    encode(api, version, correlation_id, &response)
}

/// A response as one frame: size, header, body.
pub fn encode<R: Encodable + HeaderVersion>(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &R,
) -> Result<Bytes, Refusal> {
    let unencodable = |error: String| Refusal::Unencodable { api, version, why: error };
    let mut frame = BytesMut::with_capacity(256);
    frame.put_i32(0);
    ResponseHeader::default()
        .with_correlation_id(correlation_id)
        .encode(&mut frame, R::header_version(version))
        .map_err(|error| unencodable(error.to_string()))?;
    response.encode(&mut frame, version).map_err(|error| unencodable(error.to_string()))?;
    let size = i32::try_from(frame.len() - 4).map_err(|_| unencodable("more than 2 GiB".into()))?;
    frame[..4].copy_from_slice(&size.to_be_bytes());
    Ok(frame.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ascending_and_within_the_codec() {
        assert!(SERVED.is_sorted_by_key(|(key, _)| *key as i16));
    }

    #[test]
    fn a_header_is_parsed_and_the_rest_is_the_body() {
        let mut frame = Bytes::from_static(&[0, 18, 0, 0, 0, 0, 0, 7, 0, 1, b'x', 9]);
        let facts = parse_header(&mut frame).expect("a sound header");
        assert_eq!((facts.api, facts.version, facts.correlation_id), (ApiKey::ApiVersions, 0, 7));
        assert_eq!(facts.client_id.as_deref(), Some("x"));
        assert_eq!(&frame[..], &[9]);
    }

    #[test]
    fn a_version_to_come_is_answered_in_version_zero() {
        let mut frame = Bytes::from_static(&[0, 18, 0, 99, 0, 0, 0, 7]);
        let facts = parse_header(&mut frame).expect("ApiVersions is always answered");
        assert!(is_unsupported(&facts));
    }

    #[test]
    fn half_headers_and_unknown_keys_are_refused() {
        assert!(matches!(parse_header(&mut Bytes::from_static(&[0, 18, 0])), Err(Refusal::Malformed { .. })));
        let unknown = parse_header(&mut Bytes::from_static(&[3, 0, 0, 0, 0, 0, 0, 0]));
        assert!(matches!(unknown, Err(Refusal::UnknownApi(768))));
        let truncated = parse_header(&mut Bytes::from_static(&[0, 18, 0, 0, 0, 0, 0, 7, 0, 9]));
        assert!(matches!(truncated, Err(Refusal::Malformed { .. })));
    }
}
