//! Around the load: the topic, made if it is not there, the leaders, offsets, producer ids. Plain blocking
//! requests, one at a time, each with a deadline.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, BrokerId, CreateTopicsRequest, DeleteTopicsRequest, InitProducerIdRequest,
    ListOffsetsRequest, MetadataRequest, MetadataResponse, ProducerId, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request, StrBytes};

use super::requests::ProducerIdentity;
use super::{codes, encode, explain};
use crate::error::BenchError;

/// How long a broker has for a connection and for each answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a broker has until all partitions of a topic have a leader, or a coordinator is loaded.
const SETTLING_TIME: Duration = Duration::from_secs(60);
/// An answer of this size is nonsense.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The topic that a load wants.
#[derive(Clone, Debug)]
pub struct WantedTopic {
    /// Its name.
    pub name: String,
    /// How many partitions it gets, if it is created.
    pub partitions: i32,
    /// Its replicas, if it is created.
    pub replication: i16,
    /// Its settings, if it is created.
    pub configs: Vec<(String, String)>,
}

/// One partition, and who leads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Led {
    /// The partition.
    pub partition: i32,
    /// Its leader.
    pub leader: SocketAddr,
}

/// The partitions of each leader.
pub fn by_leader(led: &[Led]) -> BTreeMap<SocketAddr, Vec<i32>> {
    let mut leaders = BTreeMap::<_, Vec<_>>::new();
    for Led { partition, leader } in led {
        leaders.entry(*leader).or_default().push(*partition);
    }
    leaders
}

/// A connection for requests that are not measured.
pub struct Admin {
    stream: TcpStream,
    address: SocketAddr,
    /// API key -> the versions that the broker speaks.
    versions: BTreeMap<i16, (i16, i16)>,
}

impl Admin {
    /// Connects to the first of `bootstrap` that answers, and asks what it speaks.
    pub fn connect(bootstrap: &str) -> Result<Self, BenchError> {
        let mut last = BenchError::Refused("--bootstrap names no address".to_owned());
        for name in bootstrap.split(',') {
            match resolve(name).and_then(Self::open) {
                Ok(admin) => return Ok(admin),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn open(address: SocketAddr) -> Result<Self, BenchError> {
        let what = || format!("no connection to {address}");
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .map_err(|source| BenchError::network(what(), source))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|source| BenchError::io(what(), source))?;
        stream.set_nodelay(true).map_err(|source| BenchError::io(what(), source))?;
        let mut admin = Self { stream, address, versions: BTreeMap::new() };
        let answer = admin.call(&ApiVersionsRequest::default(), 0)?;
        for api in answer.api_keys {
            admin.versions.insert(api.api_key, (api.min_version, api.max_version));
        }
        Ok(admin)
    }

    /// The address that answered.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The newest version of a request that both sides speak.
    pub fn version<R: Request>(&self, ours: RangeInclusive<i16>) -> Result<i16, BenchError> {
        let (least, most) = self.versions.get(&R::KEY).copied().unwrap_or((0, -1));
        let version = most.min(*ours.end());
        if version < least.max(*ours.start()) {
            return Err(BenchError::Refused(format!(
                "the target speaks API {} in versions {least} to {most}; this program in {ours:?}",
                R::KEY
            )));
        }
        Ok(version)
    }

    /// Creates the topic where it does not exist; waits until all of its partitions have a leader.
    pub fn prepare_topic(&mut self, wanted: &WantedTopic) -> Result<Vec<Led>, BenchError> {
        let configs = wanted.configs.iter().map(|(key, value)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string(key.clone()))
                .with_value(Some(StrBytes::from_string(value.clone())))
        });
        let topic = CreatableTopic::default()
            .with_name(name(&wanted.name))
            .with_num_partitions(wanted.partitions)
            .with_replication_factor(wanted.replication)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![topic]);
        // Thousands of partitions take their time.
        let created = self.patient_call(&request, self.version::<CreateTopicsRequest>(2..=5)?)?;
        for topic in &created.topics {
            if topic.error_code != 0 && topic.error_code != codes::TOPIC_ALREADY_EXISTS {
                let message = topic.error_message.as_deref().unwrap_or("");
                let code = explain(topic.error_code);
                return Err(BenchError::Broker(format!("CreateTopics of {}: {code} {message}", wanted.name)));
            }
        }
        let is_new = created.topics.iter().any(|topic| topic.error_code == 0);
        let led = self.await_leaders(&wanted.name, is_new.then_some(wanted.partitions))?;
        if is_new {
            Self::await_partitions(&wanted.name, &led)?;
        }
        Ok(led)
    }

    /// The leaders of a topic that is there, as soon as all of its partitions have one.
    pub fn leaders(&mut self, topic: &str) -> Result<Vec<Led>, BenchError> {
        self.await_leaders(topic, None)
    }

    /// Deletes the topic; that there is none is no error.
    pub fn delete_topic(&mut self, topic: &str) -> Result<(), BenchError> {
        let request =
            DeleteTopicsRequest::default().with_timeout_ms(30_000).with_topic_names(vec![name(topic)]);
        let deleted = self.patient_call(&request, self.version::<DeleteTopicsRequest>(1..=5)?)?;
        match deleted.responses.first().map_or(0, |topic| topic.error_code) {
            0 | codes::UNKNOWN_TOPIC_OR_PARTITION => Ok(()),
            code => Err(BenchError::Broker(format!("DeleteTopics of {topic}: {}", explain(code)))),
        }
    }

    /// A new idempotent producer's identity.
    pub fn producer_identity(&mut self) -> Result<ProducerIdentity, BenchError> {
        let version = self.version::<InitProducerIdRequest>(0..=4)?;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let started = Instant::now();
        loop {
            let answer = self.call(&request, version)?;
            match answer.error_code {
                0 => return Ok(ProducerIdentity { id: answer.producer_id.0, epoch: answer.producer_epoch }),
                codes::COORDINATOR_LOAD_IN_PROGRESS | codes::COORDINATOR_NOT_AVAILABLE
                    if started.elapsed() < SETTLING_TIME =>
                {
                    pause();
                }
                code => return Err(BenchError::Broker(format!("InitProducerId: {}", explain(code)))),
            }
        }
    }

    /// The first (`is_earliest`) or the next offset of partitions that this address leads.
    pub fn offsets(
        leader: SocketAddr,
        topic: &str,
        partitions: &[i32],
        is_earliest: bool,
    ) -> Result<Vec<i64>, BenchError> {
        let mut admin = Self::open(leader)?;
        let asked =
            partitions.iter().map(|partition| {
                ListOffsetsPartition::default()
                    .with_partition_index(*partition)
                    .with_timestamp(if is_earliest { -2 } else { -1 })
            });
        let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(asked.collect());
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let version = admin.version::<ListOffsetsRequest>(1..=6)?;
        let started = Instant::now();
        loop {
            let answer = admin.call(&request, version)?;
            let found = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let found: BTreeMap<_, _> =
                found.map(|found| (found.partition_index, (found.error_code, found.offset))).collect();
            let is_settling = |code: &i16| codes::is_passing(*code) && started.elapsed() < SETTLING_TIME;
            if found.values().any(|(code, _)| is_settling(code)) {
                pause();
                continue;
            }
            let offset = |partition: &i32| match found.get(partition) {
                Some((0, offset)) => Ok(*offset),
                Some((code, _)) => Err(BenchError::Broker(format!(
                    "ListOffsets of partition {partition}: {}",
                    explain(*code)
                ))),
                None => Err(BenchError::Broker(format!("ListOffsets: no word of partition {partition}"))),
            };
            return partitions.iter().map(offset).collect();
        }
    }

    /// A leader that is named may still be making its partitions, thousands of them for many seconds; asked for
    /// their offsets it says so.
    fn await_partitions(topic: &str, led: &[Led]) -> Result<(), BenchError> {
        for (leader, partitions) in by_leader(led) {
            Self::offsets(leader, topic, &partitions, false)?;
        }
        Ok(())
    }

    /// `created`: how many partitions a topic has that was made just now; another's are as they are.
    fn await_leaders(&mut self, topic: &str, created: Option<i32>) -> Result<Vec<Led>, BenchError> {
        let version = self.version::<MetadataRequest>(4..=9)?;
        let request = MetadataRequest::default()
            .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name(topic)))]));
        let started = Instant::now();
        loop {
            let metadata = self.patient_call(&request, version)?;
            let whole = led(&metadata)?
                .filter(|led| created.is_none_or(|partitions| partitions as usize == led.len()));
            if let Some(led) = whole {
                return Ok(led);
            }
            if started.elapsed() > SETTLING_TIME {
                return Err(BenchError::Silent(format!(
                    "topic {topic} has partitions without a leader after {SETTLING_TIME:?}"
                )));
            }
            pause();
        }
    }

    fn patient_call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, BenchError> {
        let patience = |source| BenchError::io("set a deadline", source);
        self.stream.set_read_timeout(Some(SETTLING_TIME)).map_err(patience)?;
        let answer = self.call(request, version);
        self.stream.set_read_timeout(Some(PATIENCE)).map_err(patience)?;
        answer
    }

    fn call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, BenchError> {
        let address = self.address;
        let wrong = |source| BenchError::network(format!("no answer from {address}"), source);
        self.stream.write_all(&encode(request, version)?).map_err(wrong)?;
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).map_err(wrong)?;
        let size = u32::from_be_bytes(size) as usize;
        if size > ANSWER_BYTES_MAX {
            return Err(BenchError::Silent(format!("{address} does not speak Kafka's protocol")));
        }
        let mut answer = vec![0; size];
        self.stream.read_exact(&mut answer).map_err(wrong)?;
        let mut answer = Bytes::from(answer);
        ResponseHeader::decode(&mut answer, R::Response::header_version(version))
            .map_err(BenchError::codec)?;
        R::Response::decode(&mut answer, version).map_err(BenchError::codec)
    }
}

/// The first address of a host and port.
pub fn resolve(name: &str) -> Result<SocketAddr, BenchError> {
    let resolved =
        name.to_socket_addrs().map_err(|source| BenchError::io(format!("resolve {name}"), source))?;
    resolved.into_iter().next().ok_or_else(|| BenchError::Refused(format!("{name} has no address")))
}

/// All partitions with their leaders, or `None` where some have none yet.
fn led(metadata: &MetadataResponse) -> Result<Option<Vec<Led>>, BenchError> {
    let Some(topic) = metadata.topics.first().filter(|topic| topic.error_code == 0) else { return Ok(None) };
    let mut addresses = BTreeMap::new();
    for broker in &metadata.brokers {
        addresses.insert(broker.node_id, resolve(&format!("{}:{}", &*broker.host, broker.port))?);
    }
    let mut led = Vec::with_capacity(topic.partitions.len());
    for partition in &topic.partitions {
        let Some(leader) = addresses.get(&partition.leader_id) else { return Ok(None) };
        led.push(Led { partition: partition.partition_index, leader: *leader });
    }
    led.sort_by_key(|led| led.partition);
    Ok((!led.is_empty()).then_some(led))
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// A broker tells nobody when it is ready; ask again soon.
fn pause() {
    thread::park_timeout(Duration::from_millis(20));
}
