//! Connections that produce.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, HeaderVersion, StrBytes};

use super::connection::Connection;
use super::{BenchError, Load, Tally, Work};
use crate::client;

/// The newest with topic names, so that no id has to be looked up.
const VERSION: i16 = 12;

/// Requests that are shorter go out together in one write.
const JOINED_BYTES_MAX: usize = 16 * 1024;

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const NOT_LEADER: i16 = 6;

/// What one connection will do.
pub struct Producer {
    request: Vec<u8>,
    batch_bytes: u64,
    depth: usize,
    acks: i16,
}

/// Encodes the request of connection `index` once; it sends the same over and over.
pub fn prepare(load: &Load, index: usize) -> Result<Producer, BenchError> {
    let Work::Produce { record_bytes, records_per_batch, batches_per_request, depth, acks } = load.work
    else {
        panic!("a producer's load is of produce requests");
    };
    let batches = batches_per_request.min(load.partitions as usize);
    let mut partition_data = Vec::with_capacity(batches);
    let mut batch_bytes = 0;
    for nth in 0..batches {
        let partition = ((index * batches + nth) % load.partitions as usize) as i32;
        let batch = client::batch(records_per_batch, record_bytes, (index * 1000 + nth) as u64)?;
        batch_bytes += batch.len() as u64;
        partition_data.push(PartitionProduceData::default().with_index(partition).with_records(Some(batch)));
    }
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_string(load.topic.clone())))
        .with_partition_data(partition_data);
    let request =
        ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    Ok(Producer { request: client::encode(&request, VERSION)?, batch_bytes, depth, acks })
}

impl Producer {
    /// Starts the connection.
    pub fn spawn(
        self,
        address: SocketAddr,
        tally: Rc<Tally>,
    ) -> tokio::task::JoinHandle<Result<(), BenchError>> {
        tokio_uring::spawn(async move {
            let connection = Connection::open(address).await?;
            match self.acks {
                0 => self.pour(connection, &tally).await,
                _ => self.converse(connection, &tally).await,
            }
        })
    }

    /// With acks=0: as fast as the socket takes it.
    async fn pour(mut self, connection: Connection, tally: &Tally) -> Result<(), BenchError> {
        while !tally.is_over() {
            let sent = Instant::now();
            self.request = connection.send(self.request).await?;
            tally.count(sent, self.batch_bytes);
        }
        Ok(())
    }

    /// Keeps `depth` requests in flight.
    async fn converse(mut self, mut connection: Connection, tally: &Tally) -> Result<(), BenchError> {
        let mut in_flight: VecDeque<(i32, Instant)> = VecDeque::with_capacity(self.depth);
        let mut correlation_id = 0;
        let mut joined = Vec::new();
        loop {
            joined.clear();
            while in_flight.len() < self.depth && !tally.is_over() {
                client::set_correlation_id(&mut self.request, correlation_id);
                in_flight.push_back((correlation_id, Instant::now()));
                correlation_id = correlation_id.wrapping_add(1);
                if self.depth > 1 && self.request.len() < JOINED_BYTES_MAX {
                    joined.extend_from_slice(&self.request);
                } else {
                    self.request = connection.send(self.request).await?;
                }
            }
            if !joined.is_empty() {
                joined = connection.send(joined).await?;
            }
            if in_flight.is_empty() {
                return Ok(());
            }
            let mut answer = Some(connection.receive().await?);
            while let Some(bytes) = answer {
                let (expected_id, sent) = in_flight
                    .pop_front()
                    .ok_or_else(|| BenchError::Broker("an answer that nobody asked for".to_owned()))?;
                if check(bytes, expected_id, tally)? {
                    tally.count(sent, self.batch_bytes);
                }
                answer = connection.next_pending();
            }
        }
    }
}

/// The answer is to this request; whether all went well. A broker may need a moment before it leads a topic
/// that it has just created; that is no failure.
fn check(mut answer: Bytes, expected_id: i32, tally: &Tally) -> Result<bool, BenchError> {
    let header = ResponseHeader::decode(&mut answer, ProduceResponse::header_version(VERSION))
        .map_err(BenchError::codec)?;
    if header.correlation_id != expected_id {
        let found = header.correlation_id;
        return Err(BenchError::Broker(format!("answer {found} came where {expected_id} was due")));
    }
    let response = ProduceResponse::decode(&mut answer, VERSION).map_err(BenchError::codec)?;
    for partition in response.responses.iter().flat_map(|topic| &topic.partition_responses) {
        if matches!(partition.error_code, UNKNOWN_TOPIC_OR_PARTITION | NOT_LEADER) && tally.is_settling() {
            return Ok(false);
        }
        if partition.error_code != 0 {
            let message = partition.error_message.as_deref().unwrap_or("");
            return Err(BenchError::Broker(format!(
                "Produce to partition {}: error {} {message}",
                partition.index, partition.error_code
            )));
        }
    }
    Ok(true)
}
