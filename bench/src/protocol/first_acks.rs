//! One record to each of many partitions, in one request to each leader: who acknowledges?

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use kafka_protocol::messages::ProduceRequest;

use super::admin::{Admin, Led, by_leader};
use super::answers;
use super::batches::{BatchShape, Codec};
use super::requests::ProduceTemplate;
use crate::clock::Moment;
use crate::error::BenchError;

const PATIENCE: Duration = Duration::from_secs(60);

/// The partitions that acknowledged.
pub fn produce_one(admin: &Admin, topic: &str, partitions: &[Led]) -> Result<BTreeSet<i32>, BenchError> {
    let mut acknowledged = BTreeSet::new();
    for (leader, partitions) in by_leader(partitions) {
        let mut request = OneRecord::new(admin, topic, &partitions)?;
        acknowledged.extend(request.send(&mut connect(leader)?)?);
    }
    Ok(acknowledged)
}

/// A connection for such requests: plain and blocking.
pub fn connect(leader: SocketAddr) -> Result<TcpStream, BenchError> {
    let wrong = |source| BenchError::network(format!("no connection to {leader}"), source);
    let stream = TcpStream::connect_timeout(&leader, PATIENCE).map_err(wrong)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(wrong)?;
    stream.set_nodelay(true).map_err(wrong)?;
    Ok(stream)
}

/// A request with one record for each of some partitions that one broker leads.
pub struct OneRecord {
    template: ProduceTemplate,
    version: i16,
}

impl OneRecord {
    /// Makes it, in a version that the target speaks.
    pub fn new(admin: &Admin, topic: &str, partitions: &[i32]) -> Result<Self, BenchError> {
        let version = admin.version::<ProduceRequest>(3..=12)?;
        let shape = BatchShape {
            records: 1,
            record_bytes: 100,
            keys: None,
            codec: Codec::None,
            compressible: 0.0,
            is_stamped: false,
        };
        let template = ProduceTemplate::new(topic, partitions, &shape, -1, version, None, 1)?;
        Ok(Self { template, version })
    }

    /// Sends it and waits for the answer: the partitions that acknowledged.
    pub fn send(&mut self, stream: &mut TcpStream) -> Result<BTreeSet<i32>, BenchError> {
        let wrong = |source| BenchError::network("no answer to one record".to_owned(), source);
        self.template.prepare(1, Moment::now());
        stream.write_all(&self.template.bytes).map_err(wrong)?;
        let mut size = [0; 4];
        stream.read_exact(&mut size).map_err(wrong)?;
        let mut frame = vec![0; u32::from_be_bytes(size) as usize];
        stream.read_exact(&mut frame).map_err(wrong)?;
        let mut acknowledged = BTreeSet::new();
        answers::produce(&frame, self.version, |produced| {
            if produced.error_code == 0 {
                acknowledged.insert(produced.partition);
            }
        })
        .map_err(BenchError::codec)?;
        Ok(acknowledged)
    }
}
