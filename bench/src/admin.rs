//! Before the load: the topic, made if it is not there. Plain blocking requests, one at a time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request, StrBytes};

use crate::client;
use crate::load::BenchError;

const METADATA_VERSION: i16 = 9;
const CREATE_TOPICS_VERSION: i16 = 5;
const DELETE_TOPICS_VERSION: i16 = 5;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const PATIENCE: Duration = Duration::from_secs(30);

/// Creates the topic where it does not exist; waits until all of its partitions have a leader, and says how
/// many there are.
pub fn prepare_topic(
    address: SocketAddr,
    topic: &str,
    partitions: i32,
    configs: &[String],
) -> Result<i32, BenchError> {
    let mut stream =
        TcpStream::connect(address).map_err(|source| BenchError::io("connect to the broker", source))?;
    let name = TopicName(StrBytes::from_string(topic.to_owned()));
    let mut wanted = CreatableTopic::default()
        .with_name(name.clone())
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    for config in configs {
        let (key, value) = config
            .split_once('=')
            .ok_or_else(|| BenchError::Broker(format!("--config {config}: want key=value")))?;
        wanted.configs.push(
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string(key.to_owned()))
                .with_value(Some(StrBytes::from_string(value.to_owned()))),
        );
    }
    let request = CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![wanted]);
    let created = call(&mut stream, &request, CREATE_TOPICS_VERSION)?;
    for topic in &created.topics {
        if topic.error_code != 0 && topic.error_code != TOPIC_ALREADY_EXISTS {
            let message = topic.error_message.as_deref().unwrap_or("");
            return Err(BenchError::Broker(format!("CreateTopics: error {} {message}", topic.error_code)));
        }
    }
    await_leaders(&mut stream, name)
}

/// Deletes the topic; that there is none is no error.
pub fn delete_topic(address: SocketAddr, topic: &str) -> Result<(), BenchError> {
    let mut stream =
        TcpStream::connect(address).map_err(|source| BenchError::io("connect to the broker", source))?;
    let request = DeleteTopicsRequest::default()
        .with_timeout_ms(30_000)
        .with_topic_names(vec![TopicName(StrBytes::from_string(topic.to_owned()))]);
    let deleted = call(&mut stream, &request, DELETE_TOPICS_VERSION)?;
    match deleted.responses.first().map_or(0, |topic| topic.error_code) {
        0 | UNKNOWN_TOPIC_OR_PARTITION => Ok(()),
        code => Err(BenchError::Broker(format!("DeleteTopics: error {code}"))),
    }
}

fn await_leaders(stream: &mut TcpStream, name: TopicName) -> Result<i32, BenchError> {
    let request = MetadataRequest::default()
        .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name))]));
    let started = Instant::now();
    loop {
        let metadata = call(stream, &request, METADATA_VERSION)?;
        let topic = metadata.topics.first().filter(|topic| topic.error_code == 0);
        let led = topic
            .filter(|topic| !topic.partitions.is_empty())
            .filter(|topic| topic.partitions.iter().all(|partition| partition.leader_id.0 >= 0));
        if let Some(topic) = led {
            return Ok(topic.partitions.len() as i32);
        }
        if started.elapsed() > PATIENCE {
            return Err(BenchError::Broker(format!("no leaders after {PATIENCE:?}: {metadata:?}")));
        }
        // The broker tells nobody when it is ready; ask again soon.
        thread::park_timeout(Duration::from_millis(20));
    }
}

fn call<R: Request>(stream: &mut TcpStream, request: &R, version: i16) -> Result<R::Response, BenchError> {
    let wrong = |source| BenchError::io("talk to the broker", source);
    stream.write_all(&client::encode(request, version)?).map_err(wrong)?;
    let mut size = [0; 4];
    stream.read_exact(&mut size).map_err(wrong)?;
    let mut answer = vec![0; u32::from_be_bytes(size) as usize];
    stream.read_exact(&mut answer).map_err(wrong)?;
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, R::Response::header_version(version)).map_err(BenchError::codec)?;
    R::Response::decode(&mut answer, version).map_err(BenchError::codec)
}
