//! Connections that fetch, each one partition, one request at a time.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, FetchResponse, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, HeaderVersion, StrBytes};

use super::connection::Connection;
use super::{BenchError, Load, Tally, Work};
use crate::client;

/// The newest with topic names, so that no id has to be looked up.
const VERSION: i16 = 12;

const OFFSET_OUT_OF_RANGE: i16 = 1;

/// What one connection will do.
pub struct Consumer {
    topic: String,
    partition: i32,
    max_bytes: i32,
    tail: bool,
}

/// What one answer brought.
struct Fetched {
    records: Bytes,
    log_start_offset: i64,
    is_out_of_range: bool,
}

/// Connection `index` reads one partition.
pub fn prepare(load: &Load, index: usize) -> Consumer {
    let Work::Fetch { max_bytes, tail } = load.work else {
        panic!("a consumer's load is of fetch requests");
    };
    let partition = (index % load.partitions as usize) as i32;
    Consumer { topic: load.topic.clone(), partition, max_bytes, tail }
}

impl Consumer {
    /// Starts the connection.
    pub fn spawn(
        self,
        address: SocketAddr,
        tally: Rc<Tally>,
    ) -> tokio::task::JoinHandle<Result<(), BenchError>> {
        tokio_uring::spawn(async move {
            let connection = Connection::open(address).await?;
            self.read(connection, &tally).await
        })
    }

    async fn read(self, mut connection: Connection, tally: &Tally) -> Result<(), BenchError> {
        let mut offset = 0;
        let mut start_offset = 0;
        while !tally.is_over() {
            let sent = Instant::now();
            connection.send(self.request(offset)?).await?;
            let fetched = parse(connection.receive().await?)?;
            start_offset = fetched.log_start_offset.max(start_offset);
            match next_offset(&fetched.records) {
                Some(next) => offset = next,
                // The end, or the beginning has moved on.
                None if !self.tail || fetched.is_out_of_range => offset = start_offset,
                None => {}
            }
            tally.count(sent, fetched.records.len() as u64);
        }
        Ok(())
    }

    fn request(&self, offset: i64) -> Result<Vec<u8>, BenchError> {
        let partition = FetchPartition::default()
            .with_partition(self.partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(self.max_bytes);
        let topic = FetchTopic::default()
            .with_topic(TopicName(StrBytes::from_string(self.topic.clone())))
            .with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_max_wait_ms(if self.tail { 500 } else { 0 })
            .with_min_bytes(1)
            .with_max_bytes(self.max_bytes)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        client::encode(&request, VERSION)
    }
}

fn parse(mut answer: Bytes) -> Result<Fetched, BenchError> {
    ResponseHeader::decode(&mut answer, FetchResponse::header_version(VERSION)).map_err(BenchError::codec)?;
    let response = FetchResponse::decode(&mut answer, VERSION).map_err(BenchError::codec)?;
    let partition = response
        .responses
        .into_iter()
        .flat_map(|topic| topic.partitions)
        .next()
        .ok_or_else(|| BenchError::Broker(format!("Fetch: error {}", response.error_code)))?;
    match partition.error_code {
        0 | OFFSET_OUT_OF_RANGE => Ok(Fetched {
            records: partition.records.unwrap_or_default(),
            log_start_offset: partition.log_start_offset,
            is_out_of_range: partition.error_code == OFFSET_OUT_OF_RANGE,
        }),
        code => {
            Err(BenchError::Broker(format!("Fetch of partition {}: error {code}", partition.partition_index)))
        }
    }
}

/// The offset behind the last whole batch, read from the batches' headers; `None` if there is none. The last
/// batch of an answer may be cut.
fn next_offset(records: &[u8]) -> Option<i64> {
    const HEADER_BYTES: usize = 61;
    let mut next = None;
    let mut rest = records;
    while rest.len() >= HEADER_BYTES {
        let base_offset = i64::from_be_bytes(rest[..8].try_into().expect("eight bytes"));
        let length = u32::from_be_bytes(rest[8..12].try_into().expect("four bytes")) as usize;
        let last_offset_delta = i32::from_be_bytes(rest[23..27].try_into().expect("four bytes"));
        let Some(behind) = rest.get(12 + length..) else { break };
        next = Some(base_offset + i64::from(last_offset_delta) + 1);
        rest = behind;
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_offset_is_behind_the_last_whole_batch() {
        let batch = client::batch(3, 10, 1).expect("it encodes");
        assert_eq!(next_offset(&batch), Some(3));
        let cut = [&batch[..], &batch[..70]].concat();
        assert_eq!(next_offset(&cut), Some(3));
        assert_eq!(next_offset(&batch[..60]), None);
    }
}
