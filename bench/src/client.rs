//! Requests and record batches as a client writes them.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::{Encodable, Request, StrBytes};
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record,
    RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

use crate::load::BenchError;

/// Where a request's correlation id stands: behind size, key and version.
const CORRELATION_ID_AT: usize = 8;

/// A whole request, from its size on.
pub fn encode<R: Request>(request: &R, version: i16) -> Result<Vec<u8>, BenchError> {
    let mut out = BytesMut::new();
    out.put_i32(0);
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("flumen-bench")));
    header.encode(&mut out, R::header_version(version)).map_err(BenchError::codec)?;
    request.encode(&mut out, version).map_err(BenchError::codec)?;
    let size = u32::try_from(out.len() - 4)
        .map_err(|_| BenchError::Broker("a request of more than 4 GiB".to_owned()))?;
    out[..4].copy_from_slice(&size.to_be_bytes());
    Ok(out.to_vec())
}

/// Numbers a request that [`encode`] made.
pub fn set_correlation_id(request: &mut [u8], id: i32) {
    request[CORRELATION_ID_AT..CORRELATION_ID_AT + 4].copy_from_slice(&id.to_be_bytes());
}

/// One batch of random records with the time of now, without a producer id.
pub fn batch(record_count: usize, record_bytes: usize, seed: u64) -> Result<Bytes, BenchError> {
    let mut random = seed | 1;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
    let records: Vec<_> = (0..record_count as i64)
        .map(|offset| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            timestamp_type: TimestampType::Creation,
            offset,
            // The encoder begins a new batch where offsets and sequences do not go on together.
            sequence: NO_SEQUENCE + offset as i32,
            timestamp: now,
            key: None,
            value: Some(random_bytes(record_bytes, &mut random)),
            headers: IndexMap::new(),
        })
        .collect();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    let mut out = BytesMut::new();
    RecordBatchEncoder::encode(&mut out, &records, &options).map_err(BenchError::codec)?;
    Ok(out.freeze())
}

/// Xorshift: incompressible, and the same in every run.
fn random_bytes(length: usize, state: &mut u64) -> Bytes {
    let mut out = BytesMut::with_capacity(length + 8);
    while out.len() < length {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        out.put_u64(*state);
    }
    out.truncate(length);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use flumen_wire::frame::parse_request;
    use flumen_wire::produce::ProduceRequest;
    use kafka_protocol::messages;

    use super::*;

    #[test]
    fn a_request_is_what_a_broker_reads() {
        let mut encoded = encode(&messages::ProduceRequest::default().with_acks(1), 9).expect("it encodes");
        set_correlation_id(&mut encoded, 77);
        let request = parse_request(Bytes::from(encoded).slice(4..)).expect("well formed");
        assert_eq!(request.header.correlation_id, 77);
        assert_eq!(ProduceRequest::parse(&request.body, 9).expect("well formed").acks, 1);
    }

    #[test]
    fn a_batch_has_its_size_and_repeats_itself() {
        let one = batch(10, 100, 5).expect("it encodes");
        assert!(one.len() > 61 + 10 * 100);
        assert_eq!(one[61..], batch(10, 100, 5).expect("it encodes")[61..]);
    }
}
