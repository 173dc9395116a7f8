//! What the fuzz targets call, and what replays their corpora: arbitrary bytes in, a panic if a rule breaks.

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, RequestKind};

use crate::bounds::{check, decode_request, versions};
use crate::fetch::{self, FetchRequest};
use crate::frame::{parse_request, request_bytes};
use crate::produce::{self, ProduceRequest};

/// A target's name, which is its corpus', and what it does with one input.
pub type Target = (&'static str, fn(&[u8]));

/// The targets of this crate.
pub const TARGETS: &[Target] =
    &[("frame", frame), ("request", request), ("produce", produce), ("fetch", fetch)];

/// A size and what follows it: bounded, split, and decoded as whatever request it says it is.
pub fn frame(data: &[u8]) {
    let Some((size, rest)) = data.split_first_chunk::<4>() else { return };
    let Ok(length) = request_bytes(*size, 1 << 20) else { return };
    assert!(length <= 1 << 20);
    let frame = Bytes::copy_from_slice(&rest[..length.min(rest.len())]);
    let Ok(request) = parse_request(frame.clone()) else { return };
    assert!(request.body.len() <= frame.len());
    decode(request.header.api_key, request.header.api_version, request.body);
}

/// Two bytes choose the request and its version, the rest is the body: so that no run is lost on the header.
pub fn request(data: &[u8]) {
    let Some(([which, version], body)) = data.split_first_chunk::<2>() else { return };
    let api_keys: Vec<_> = ApiKey::iter().collect();
    let api_key = api_keys[usize::from(*which) % api_keys.len()];
    decode(api_key, version_of(api_key, *version), Bytes::copy_from_slice(body));
}

/// The first byte chooses the version of a Produce request.
pub fn produce(data: &[u8]) {
    let Some((version, body)) = data.split_first() else { return };
    decode(ApiKey::Produce, version_of(ApiKey::Produce, *version), Bytes::copy_from_slice(body));
}

/// The first byte chooses the version of a Fetch request.
pub fn fetch(data: &[u8]) {
    let Some((version, body)) = data.split_first() else { return };
    decode(ApiKey::Fetch, version_of(ApiKey::Fetch, *version), Bytes::copy_from_slice(body));
}

fn version_of(api_key: ApiKey, choice: u8) -> i16 {
    let versions = versions(api_key);
    let count = versions.end() - versions.start() + 1;
    versions.start() + i16::from(choice) % count
}

fn decode(api_key: ApiKey, version: i16, body: Bytes) {
    let decoded = decode_request(api_key, version, body.clone());
    if decoded.is_ok() {
        let walked = check(api_key, version, &body).expect("what decodes is in bounds");
        assert!(walked <= body.len());
    }
    match (api_key, decoded) {
        (ApiKey::Produce, Ok(RequestKind::Produce(theirs))) if produce::VERSIONS.contains(&version) => {
            let ours = ProduceRequest::parse(&body, version).expect("what kafka-protocol reads, we read");
            assert_eq!(ours.acks, theirs.acks);
            assert_eq!(ours.topics.len(), theirs.topic_data.len());
            for (ours, theirs) in ours.topics.iter().zip(&theirs.topic_data) {
                assert_eq!((&ours.name, ours.id), (&theirs.name.0, theirs.topic_id));
                assert_eq!(ours.partitions.len(), theirs.partition_data.len());
                for (ours, theirs) in ours.partitions.iter().zip(&theirs.partition_data) {
                    assert_eq!((ours.index, &ours.records), (theirs.index, &theirs.records));
                }
            }
        }
        (ApiKey::Fetch, Ok(RequestKind::Fetch(theirs))) if fetch::VERSIONS.contains(&version) => {
            let ours = FetchRequest::parse(&body, version).expect("what kafka-protocol reads, we read");
            assert_eq!((ours.session_id, ours.session_epoch), (theirs.session_id, theirs.session_epoch));
            assert_eq!(ours.topics.len(), theirs.topics.len());
            assert_eq!(ours.forgotten.len(), theirs.forgotten_topics_data.len());
            for (ours, theirs) in ours.topics.iter().zip(&theirs.topics) {
                assert_eq!((&ours.name, ours.id), (&theirs.topic.0, theirs.topic_id));
                assert_eq!(ours.partitions.len(), theirs.partitions.len());
            }
        }
        (ApiKey::Produce, _) if produce::VERSIONS.contains(&version) => {
            let _ = ProduceRequest::parse(&body, version);
        }
        (ApiKey::Fetch, _) if fetch::VERSIONS.contains(&version) => {
            let _ = FetchRequest::parse(&body, version);
        }
        _ => {}
    }
}
