//! One request in a connection's stream: its size, its header, and where its body begins; and the first
//! bytes of an answer.
//!
//! ```text
//! size INT32 | api key INT16 | api version INT16 | correlation id INT32 | client id STRING, nullable
//!            | tagged fields, from request header v2 on | body ...
//! ```
//!
//! The client id is a classic string in every header version. A request's header is v2 where its message
//! is flexible, v1 otherwise; an answer's is v1 where the message is flexible, except that ApiVersions is
//! always answered under header v0, since its client cannot know yet what the broker speaks. (v0 of the
//! request header was ControlledShutdown v0's alone, which Kafka has removed.)

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;
use thiserror::Error;

use crate::primitives::{ParseError, Reader};

/// Bytes of the size in front of each request and answer.
pub const SIZE_BYTES: usize = 4;

/// The shortest request that can be: key, version, correlation id and a null client id.
pub const HEADER_BYTES_MIN: usize = 10;

/// A frame that cannot be served. Kafka closes the connection without an answer, and so do we.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A size below zero.
    #[error("a request of {found} bytes: the size is negative")]
    NegativeSize {
        /// The size as sent.
        found: i32,
    },
    /// A size above `socket.request.max.bytes`.
    #[error("a request of {found} bytes, the limit (socket.request.max.bytes) is {limit}")]
    TooLarge {
        /// The size as sent.
        found: i32,
        /// The limit.
        limit: i32,
    },
    /// No API of Kafka's has this key.
    #[error("no API has the key {found}")]
    UnknownApiKey {
        /// The key as sent.
        found: i16,
    },
    /// The header itself is cut short or malformed.
    #[error("request header: {0}")]
    Header(#[from] ParseError),
}

/// How many bytes follow this size, or why the connection must end. `request_bytes_max` is
/// `socket.request.max.bytes`.
pub fn request_bytes(size: [u8; SIZE_BYTES], request_bytes_max: i32) -> Result<usize, FrameError> {
    let found = i32::from_be_bytes(size);
    if found > request_bytes_max {
        return Err(FrameError::TooLarge { found, limit: request_bytes_max });
    }
    usize::try_from(found).map_err(|_| FrameError::NegativeSize { found })
}

/// A request's header. Kafka: RequestHeader, v1 and v2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API. Known to Kafka, though not necessarily served here.
    pub api_key: ApiKey,
    /// Which version of it; any number that the peer chose.
    pub api_version: i16,
    /// What the answer has to repeat.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Option<StrBytes>,
}

/// A request, split but not decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its header.
    pub header: RequestHeader,
    /// What is behind the header, sharing the frame's memory.
    pub body: Bytes,
}

/// Reads the header of `frame`, which is everything behind the size.
pub fn parse_request(frame: Bytes) -> Result<Request, FrameError> {
    let mut reader = Reader::new(&frame);
    let key = reader.int16("api key")?;
    let api_version = reader.int16("api version")?;
    let api_key = ApiKey::try_from(key).map_err(|()| FrameError::UnknownApiKey { found: key })?;
    let correlation_id = reader.int32("correlation id")?;
    let client_id = reader.nullable_string("client id", false)?;
    if api_key.request_header_version(api_version) >= 2 {
        reader.skip_tagged_fields()?;
    }
    let body = frame.slice(reader.position()..);
    Ok(Request { header: RequestHeader { api_key, api_version, correlation_id, client_id }, body })
}

/// Writes an answer's header.
pub fn put_response_header(out: &mut BytesMut, api_key: ApiKey, api_version: i16, correlation_id: i32) {
    out.put_i32(correlation_id);
    if api_key.response_header_version(api_version) >= 1 {
        out.put_u8(0);
    }
}

/// Puts a whole answer behind what is there: its size, its header, and what `put_body` writes. Returns what that returns.
///
/// # Panics
/// If the answer is longer than an INT32 can say; the server's own bounds are far below.
pub fn put_response<R>(
    out: &mut BytesMut,
    api_key: ApiKey,
    api_version: i16,
    correlation_id: i32,
    put_body: impl FnOnce(&mut BytesMut) -> R,
) -> R {
    let start = out.len();
    out.put_i32(0);
    put_response_header(out, api_key, api_version, correlation_id);
    let result = put_body(out);
    let size = i32::try_from(out.len() - start - SIZE_BYTES).expect("an answer is shorter than 2 GiB");
    out[start..start + SIZE_BYTES].copy_from_slice(&size.to_be_bytes());
    result
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages;
    use kafka_protocol::protocol::Encodable;

    use super::*;

    #[test]
    fn a_size_is_bounded_before_anything_is_reserved() {
        assert_eq!(request_bytes([0, 0, 0, 9], 100), Ok(9));
        assert_eq!(request_bytes([0, 0, 0, 0], 100), Ok(0));
        assert_eq!(request_bytes([0, 0, 0, 100], 100), Ok(100));
        assert_eq!(request_bytes([0, 0, 0, 101], 100), Err(FrameError::TooLarge { found: 101, limit: 100 }));
        assert_eq!(request_bytes([255; 4], 100), Err(FrameError::NegativeSize { found: -1 }));
        // "GET " of a browser, "\x16\x03\x01" of TLS.
        assert!(matches!(request_bytes(*b"GET ", 104_857_600), Err(FrameError::TooLarge { .. })));
        assert!(matches!(request_bytes([0x16, 3, 1, 0], 104_857_600), Err(FrameError::TooLarge { .. })));
    }

    #[test]
    fn every_header_of_the_crate_is_read_back() {
        for api_key in ApiKey::iter() {
            for api_version in 0..=20 {
                let header_version = api_key.request_header_version(api_version);
                let header = messages::RequestHeader::default()
                    .with_request_api_key(api_key as i16)
                    .with_request_api_version(api_version)
                    .with_correlation_id(77)
                    .with_client_id(Some(StrBytes::from_static_str("me")));
                let mut frame = BytesMut::new();
                header.encode(&mut frame, header_version).expect("a header encodes");
                frame.put_slice(b"body");
                let request = parse_request(frame.freeze()).expect("as encoded");
                assert_eq!(request.header.api_key, api_key);
                assert_eq!(request.header.api_version, api_version);
                assert_eq!(request.header.correlation_id, 77);
                assert_eq!(request.header.client_id.as_deref(), Some("me"));
                assert_eq!(&request.body[..], b"body", "{api_key:?} v{api_version}");
            }
        }
    }

    #[test]
    fn tagged_fields_of_a_header_are_skipped() {
        // ApiVersions v3, correlation 1, client id null, one tag 7 of two bytes.
        let frame = Bytes::from_static(b"\x00\x12\x00\x03\x00\x00\x00\x01\xff\xff\x01\x07\x02xxrest");
        assert_eq!(&parse_request(frame).expect("skipped").body[..], b"rest");
    }

    #[test]
    fn what_cannot_be_a_header_is_told() {
        let unknown = Bytes::from_static(b"\x03\xe7\x00\x00\x00\x00\x00\x01\xff\xff");
        assert_eq!(parse_request(unknown), Err(FrameError::UnknownApiKey { found: 999 }));
        for length in 0..HEADER_BYTES_MIN {
            let frame = Bytes::from_static(&[0; HEADER_BYTES_MIN]).slice(..length);
            assert!(matches!(parse_request(frame), Err(FrameError::Header(_))), "{length} bytes");
        }
    }

    #[test]
    fn api_versions_is_answered_under_header_v0() {
        let answer = |api_key, version| {
            let mut out = BytesMut::new();
            put_response(&mut out, api_key, version, 9, |_| ());
            out
        };
        let api_versions = answer(ApiKey::ApiVersions, 4);
        assert_eq!(&api_versions[..], &[0, 0, 0, 4, 0, 0, 0, 9]);
        assert_eq!(&answer(ApiKey::Produce, 9)[..], &[0, 0, 0, 5, 0, 0, 0, 9, 0]);
        assert_eq!(&answer(ApiKey::Produce, 8)[..], &[0, 0, 0, 4, 0, 0, 0, 9]);
    }
}
