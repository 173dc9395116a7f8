//! One record to each of many partitions, in one request to each leader: who acknowledges?

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use kafka_protocol::messages::ProduceRequest;

use super::admin::{Admin, Led};
use super::answers;
use super::batches::{BatchShape, Codec};
use super::requests::ProduceTemplate;
use crate::clock::Moment;
use crate::error::BenchError;

const PATIENCE: Duration = Duration::from_secs(60);

/// The partitions that acknowledged.
pub fn produce_one(admin: &Admin, topic: &str, partitions: &[Led]) -> Result<BTreeSet<i32>, BenchError> {
    let version = admin.version::<ProduceRequest>(3..=12)?;
    let shape = BatchShape {
        records: 1,
        record_bytes: 100,
        keys: None,
        codec: Codec::None,
        compressible: 0.0,
        is_stamped: false,
    };
    let mut by_leader = BTreeMap::<_, Vec<_>>::new();
    for led in partitions {
        by_leader.entry(led.leader).or_default().push(led.partition);
    }
    let mut acknowledged = BTreeSet::new();
    for (leader, partitions) in by_leader {
        let wrong = |source| BenchError::network(format!("no answer from {leader}"), source);
        let mut template = ProduceTemplate::new(topic, &partitions, &shape, -1, version, None, 1)?;
        template.prepare(1, Moment::now());
        let mut stream = TcpStream::connect_timeout(&leader, PATIENCE).map_err(wrong)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(wrong)?;
        stream.write_all(&template.bytes).map_err(wrong)?;
        let mut size = [0; 4];
        stream.read_exact(&mut size).map_err(wrong)?;
        let mut frame = vec![0; u32::from_be_bytes(size) as usize];
        stream.read_exact(&mut frame).map_err(wrong)?;
        answers::produce(&frame, version, |produced| {
            if produced.error_code == 0 {
                acknowledged.insert(produced.partition);
            }
        })
        .map_err(BenchError::codec)?;
    }
    Ok(acknowledged)
}
