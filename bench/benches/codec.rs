//! What one request costs before it reaches its partition: frame, request, checksum, batch.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flumen_engine::Timestamp;
use flumen_engine::batch::{BatchBuilder, BatchLimits, check};
use flumen_wire::bounds::decode_request;
use flumen_wire::fetch::{FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopicResponse};
use flumen_wire::frame::parse_request;
use flumen_wire::produce::ProduceRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{self, ApiKey, RequestHeader, TopicName};
use kafka_protocol::protocol::{Request, StrBytes};
use uuid::Uuid;

/// (records, bytes of a value): one small record, and batches of 16 KiB and 256 KiB.
const BATCHES: [(usize, usize); 3] = [(1, 100), (16, 1024), (256, 1024)];

fn batch(records: usize, value_bytes: usize) -> Bytes {
    let value = vec![7; value_bytes];
    let mut builder = BatchBuilder::new();
    for _ in 0..records {
        builder.append(Timestamp(1_700_000_000_000), None, Some(&value), &[]);
    }
    builder.build()
}

/// A request without its size, as a connection reads it.
fn frame<R: Request>(request: &R, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("bench")));
    kafka_protocol::protocol::Encodable::encode(&header, &mut out, R::header_version(version))
        .expect("a header encodes");
    request.encode(&mut out, version).expect("a request encodes");
    out.freeze()
}

fn topic_name() -> TopicName {
    TopicName(StrBytes::from_static_str("a-topic-of-usual-length"))
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch-check");
    let limits = BatchLimits { max_message_bytes: 1 << 20 };
    for (records, value_bytes) in BATCHES {
        let batch = batch(records, value_bytes);
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{records}x{value_bytes}")), |bencher| {
            bencher.iter(|| check(black_box(batch.clone()), &limits).expect("a sound batch"));
        });
    }
    group.finish();
}

fn checksum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crc-32c");
    for bytes in [100, 4096, 65_536] {
        let block = vec![5u8; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(|| crc_fast::crc32_iscsi(black_box(&block)));
        });
    }
    group.finish();
}

fn requests(criterion: &mut Criterion) {
    let produce = messages::ProduceRequest::default().with_acks(-1).with_topic_data(vec![
        TopicProduceData::default().with_name(topic_name()).with_partition_data(vec![
            PartitionProduceData::default().with_index(1).with_records(Some(batch(1, 100))),
        ]),
    ]);
    let produce = frame(&produce, 12);
    let mut group = criterion.benchmark_group("frame");
    group.bench_function("produce, one batch of 100 bytes", |bencher| {
        bencher.iter(|| {
            let request = parse_request(black_box(produce.clone())).expect("well formed");
            ProduceRequest::parse(&request.body, request.header.api_version).expect("well formed")
        });
    });
    for partitions in [1, 100] {
        let topic = FetchTopic::default().with_topic_id(Uuid::from_u128(7)).with_partitions(
            (0..partitions).map(|index| FetchPartition::default().with_partition(index)).collect(),
        );
        let fetch = frame(&messages::FetchRequest::default().with_topics(vec![topic]), 17);
        group.bench_function(format!("fetch, {partitions} partitions"), |bencher| {
            bencher.iter(|| {
                let request = parse_request(black_box(fetch.clone())).expect("well formed");
                FetchRequest::parse(&request.body, request.header.api_version).expect("well formed")
            });
        });
        let answer = FetchResponse {
            topics: vec![FetchTopicResponse {
                name: StrBytes::new(),
                id: Uuid::from_u128(7),
                partitions: (0..partitions)
                    .map(|index| FetchPartitionResponse {
                        records_bytes: 1000,
                        ..FetchPartitionResponse::error(index, 0)
                    })
                    .collect(),
            }],
            ..FetchResponse::default()
        };
        group.bench_function(format!("answer to a fetch, {partitions} partitions"), |bencher| {
            bencher.iter(|| black_box(&answer).frame(17, 1));
        });
    }
    group.finish();
}

fn decoding(criterion: &mut Criterion) {
    let mut body = BytesMut::new();
    let topics = vec![MetadataRequestTopic::default().with_name(Some(topic_name())); 10];
    let request = messages::MetadataRequest::default().with_topics(Some(topics));
    kafka_protocol::protocol::Encodable::encode(&request, &mut body, 12).expect("a request encodes");
    let body = body.freeze();
    criterion.bench_function("bounds and decode, metadata of 10 topics", |bencher| {
        bencher.iter(|| decode_request(ApiKey::Metadata, 12, black_box(body.clone())).expect("well formed"));
    });
}

criterion_group!(benches, batches, checksum, requests, decoding);
criterion_main!(benches);
