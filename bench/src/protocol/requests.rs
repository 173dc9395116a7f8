//! The two requests of the load, encoded once and patched before each sending.

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::batches::{self, BatchShape};
use super::{encode, set_correlation_id};
use crate::clock::Moment;
use crate::error::BenchError;

/// A producer's identity, if it is idempotent.
#[derive(Clone, Copy, Debug)]
pub struct ProducerIdentity {
    /// The id that the broker gave.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
}

/// A Produce request with one batch for each of some partitions.
pub struct ProduceTemplate {
    /// The whole request, from its size on. It is handed to the socket and comes back.
    pub bytes: Vec<u8>,
    batches: Vec<BatchPlace>,
    identity: Option<ProducerIdentity>,
    /// Bytes of its batches.
    pub batch_bytes: u64,
    /// Records in all of its batches.
    pub records: u64,
}

/// Where a batch stands in its request, and what is patched in it.
struct BatchPlace {
    start: usize,
    length: usize,
    stamp_at: Option<usize>,
    records: i32,
    next_sequence: i32,
}

impl ProduceTemplate {
    /// A request for one batch in each of these partitions.
    pub fn new(
        topic: &str,
        partitions: &[i32],
        shape: &BatchShape,
        acks: i16,
        version: i16,
        identity: Option<ProducerIdentity>,
        seed: u64,
    ) -> Result<Self, BenchError> {
        let mut encoded = Vec::with_capacity(partitions.len());
        for (nth, partition) in partitions.iter().enumerate() {
            encoded.push((*partition, batches::encode(shape, seed.wrapping_add(nth as u64))?));
        }
        let data = encoded.iter().map(|(partition, batch)| {
            PartitionProduceData::default().with_index(*partition).with_records(Some(batch.clone()))
        });
        let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(data.collect());
        let request =
            ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic]);
        let bytes = encode(&request, version)?;
        let places = places(&bytes, &encoded, shape.records as i32);
        Ok(Self {
            batches: places,
            identity,
            batch_bytes: encoded.iter().map(|(_, batch)| batch.len() as u64).sum(),
            records: (shape.records * partitions.len()) as u64,
            bytes,
        })
    }

    /// How many batches it has.
    pub fn batch_count(&self) -> u64 {
        self.batches.len() as u64
    }

    /// Makes it the next request: its number, its stamps, its sequences, its checksums.
    pub fn prepare(&mut self, correlation_id: i32, intended: Moment) {
        set_correlation_id(&mut self.bytes, correlation_id);
        for place in &mut self.batches {
            let batch = &mut self.bytes[place.start..place.start + place.length];
            if let Some(at) = place.stamp_at {
                batches::set_stamp(batch, at, intended);
            }
            if let Some(ProducerIdentity { id, epoch }) = self.identity {
                batches::set_producer(batch, id, epoch, place.next_sequence);
                // Sequences wrap from the greatest to zero.
                place.next_sequence = place.next_sequence.wrapping_add(place.records) & i32::MAX;
            }
            if place.stamp_at.is_some() || self.identity.is_some() {
                batches::seal(batch);
            }
        }
    }
}

/// Finds the batches in the request. They stand in it as they are, one after the other.
fn places(request: &[u8], encoded: &[(i32, Bytes)], records: i32) -> Vec<BatchPlace> {
    let mut from = 0;
    let mut places = Vec::with_capacity(encoded.len());
    for (_, batch) in encoded {
        let start = from + find(&request[from..], batch).expect("a request contains its batches");
        let stamp_at = batches::stamp_at(batch);
        places.push(BatchPlace { start, length: batch.len(), stamp_at, records, next_sequence: 0 });
        from = start + batch.len();
    }
    places
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    (0..haystack.len().checked_sub(needle.len())? + 1).find(|at| haystack[*at..].starts_with(needle))
}

/// How a consumer asks.
#[derive(Clone, Debug)]
pub struct FetchShape {
    /// The most bytes of one answer, and of one partition in it.
    pub max_bytes: i32,
    /// How long the broker may wait for the first byte.
    pub wait_ms: i32,
    /// How many bytes the broker waits for.
    pub min_bytes: i32,
}

/// A Fetch request for some partitions.
pub struct FetchTemplate {
    /// The whole request, from its size on. It is handed to the socket and comes back.
    pub bytes: Vec<u8>,
    /// Where each partition's offset stands.
    offsets_at: Vec<usize>,
}

impl FetchTemplate {
    /// A request without a session.
    pub fn new(
        topic: &str,
        partitions: &[i32],
        shape: &FetchShape,
        version: i16,
    ) -> Result<Self, BenchError> {
        // Offsets that nothing else in the request looks like; each is found by its value, and replaced.
        let landmark = |nth: usize| 0x7E57_AB1E_0000_0000_i64 + nth as i64;
        let asked = partitions.iter().enumerate().map(|(nth, partition)| {
            FetchPartition::default()
                .with_partition(*partition)
                .with_fetch_offset(landmark(nth))
                .with_partition_max_bytes(shape.max_bytes)
        });
        let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(asked.collect());
        let mut request = FetchRequest::default()
            .with_max_wait_ms(shape.wait_ms)
            .with_min_bytes(shape.min_bytes)
            .with_max_bytes(shape.max_bytes)
            .with_topics(vec![topic]);
        if version >= 7 {
            request = request.with_session_epoch(-1);
        }
        let bytes = encode(&request, version)?;
        let mut offsets_at = Vec::with_capacity(partitions.len());
        let mut from = 0;
        for nth in 0..partitions.len() {
            let found = find(&bytes[from..], &landmark(nth).to_be_bytes());
            from += found.expect("a request contains its offsets");
            offsets_at.push(from);
        }
        Ok(Self { bytes, offsets_at })
    }

    /// Makes it the next request.
    pub fn prepare(&mut self, correlation_id: i32, offsets: &[i64]) {
        set_correlation_id(&mut self.bytes, correlation_id);
        for (at, offset) in self.offsets_at.iter().zip(offsets) {
            self.bytes[*at..at + 8].copy_from_slice(&offset.to_be_bytes());
        }
    }
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::messages::RequestHeader;
    use kafka_protocol::protocol::{Decodable, HeaderVersion};
    use kafka_protocol::records::RecordBatchDecoder;

    use super::*;

    fn decode<R: Decodable + HeaderVersion>(request: &[u8], version: i16) -> (i32, R) {
        let mut bytes = Bytes::copy_from_slice(request);
        assert_eq!(bytes.get_i32() as usize, request.len() - 4);
        let header = RequestHeader::decode(&mut bytes, R::header_version(version)).expect("a header");
        (header.correlation_id, R::decode(&mut bytes, version).expect("a request"))
    }

    #[test]
    fn a_produce_request_counts_its_sequences_and_seals_its_batches() {
        let shape = BatchShape {
            records: 3,
            record_bytes: 64,
            keys: None,
            codec: batches::Codec::None,
            compressible: 0.0,
            is_stamped: true,
        };
        let identity = Some(ProducerIdentity { id: 40, epoch: 2 });
        for version in [3, 8, 9, 12] {
            let mut template =
                ProduceTemplate::new("t", &[4, 5], &shape, -1, version, identity, 9).expect("it encodes");
            template.prepare(1, Moment::from_nanos(5));
            template.prepare(2, Moment::from_nanos(6));
            let (correlation_id, request) = decode::<ProduceRequest>(&template.bytes, version);
            assert_eq!(correlation_id, 2);
            let partitions = &request.topic_data[0].partition_data;
            assert_eq!(partitions.iter().map(|partition| partition.index).collect::<Vec<_>>(), [4, 5]);
            for partition in partitions {
                let batch = partition.records.clone().expect("records");
                assert_eq!(batches::stamp(&batch), Some(Moment::from_nanos(6)));
                let decoded = RecordBatchDecoder::decode(&mut batch.clone()).expect("the checksum holds");
                assert_eq!((decoded.records[0].producer_id, decoded.records[0].sequence), (40, 3));
            }
        }
    }

    #[test]
    fn a_fetch_request_asks_for_the_offsets_it_is_given() {
        let shape = FetchShape { max_bytes: 1000, wait_ms: 5, min_bytes: 1 };
        for version in [4, 7, 11, 12] {
            let mut template = FetchTemplate::new("t", &[7, 3], &shape, version).expect("it encodes");
            template.prepare(9, &[1234, 99]);
            let (correlation_id, request) = decode::<FetchRequest>(&template.bytes, version);
            assert_eq!((correlation_id, request.max_bytes), (9, 1000));
            let asked = &request.topics[0].partitions;
            let asked: Vec<_> = asked.iter().map(|asked| (asked.partition, asked.fetch_offset)).collect();
            assert_eq!(asked, [(7, 1234), (3, 99)]);
        }
    }
}
