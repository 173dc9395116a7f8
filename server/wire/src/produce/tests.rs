use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{self, ResponseHeader, TopicName, TransactionalId, produce_response};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = StrBytes> {
    "[a-zé.]{0,20}".prop_map(StrBytes::from_string)
}

fn id() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn records() -> impl Strategy<Value = Option<Bytes>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from))
}

prop_compose! {
    fn request()(
        transactional_id in prop::option::of(text()),
        acks in -1i16..=1,
        timeout_ms: i32,
        topics in prop::collection::vec(topic(), 0..4),
    ) -> ProduceRequest {
        ProduceRequest { transactional_id, acks, timeout_ms, topics }
    }
}

prop_compose! {
    fn topic()(
        name in text(),
        id in id(),
        partitions in prop::collection::vec((any::<i32>(), records()), 0..4),
    ) -> ProduceTopic {
        let partitions =
            partitions.into_iter().map(|(index, records)| ProducePartition { index, records }).collect();
        ProduceTopic { name, id, partitions }
    }
}

/// Encoded by `kafka-protocol`, with an unknown tagged field wherever there may be one.
fn encode(request: &ProduceRequest, version: i16) -> Bytes {
    let unknown = Bytes::from_static(b"unknown");
    let flexible = version >= 9;
    let mut message = messages::ProduceRequest::default()
        .with_transactional_id(request.transactional_id.clone().map(TransactionalId))
        .with_acks(request.acks)
        .with_timeout_ms(request.timeout_ms);
    for topic in &request.topics {
        let mut data = TopicProduceData::default();
        if version >= 13 {
            data = data.with_topic_id(topic.id);
        } else {
            data = data.with_name(TopicName(topic.name.clone()));
        }
        for partition in &topic.partitions {
            let mut produce_data = PartitionProduceData::default()
                .with_index(partition.index)
                .with_records(partition.records.clone());
            if flexible {
                produce_data = produce_data.with_unknown_tagged_field(9, unknown.clone());
            }
            data.partition_data.push(produce_data);
        }
        if flexible {
            data = data.with_unknown_tagged_field(300, unknown.clone());
        }
        message.topic_data.push(data);
    }
    if flexible {
        message = message.with_unknown_tagged_field(70_000, unknown);
    }
    let mut out = BytesMut::new();
    message.encode(&mut out, version).expect("kafka-protocol encodes");
    out.freeze()
}

fn as_of(mut request: ProduceRequest, version: i16) -> ProduceRequest {
    for topic in &mut request.topics {
        match version {
            13.. => topic.name = StrBytes::new(),
            _ => topic.id = Uuid::nil(),
        }
    }
    request
}

prop_compose! {
    fn response()(
        topics in prop::collection::vec((text(), id(), prop::collection::vec(partition_response(), 0..4)), 0..4),
        throttle_time_ms: i32,
        node_endpoints in prop::collection::vec((any::<i32>(), "[a-z]{0,9}", any::<i32>()), 0..3),
    ) -> ProduceResponse {
        let topics = topics
            .into_iter()
            .map(|(name, id, partitions)| ProduceTopicResponse { name, id, partitions })
            .collect();
        let node_endpoints = node_endpoints
            .into_iter()
            .map(|(node_id, host, port)| NodeEndpoint { node_id, rack: Some(host.clone()), host, port })
            .collect();
        ProduceResponse { topics, throttle_time_ms, node_endpoints }
    }
}

prop_compose! {
    fn partition_response()(
        index: i32,
        error_code: i16,
        base_offset: i64,
        log_append_time_ms: i64,
        log_start_offset: i64,
        record_errors in prop::collection::vec((any::<i32>(), prop::option::of(".{0,9}")), 0..3),
        error_message in prop::option::of(".{0,200}"),
        leader in prop::option::of((any::<i32>(), any::<i32>())),
    ) -> ProducePartitionResponse {
        ProducePartitionResponse {
            index,
            error_code,
            base_offset,
            log_append_time_ms,
            log_start_offset,
            record_errors: record_errors
                .into_iter()
                .map(|(batch_index, message)| RecordError { batch_index, message })
                .collect(),
            error_message,
            current_leader: leader
                .map(|(leader_id, leader_epoch)| LeaderIdAndEpoch { leader_id, leader_epoch }),
        }
    }
}

fn agrees(
    ours: &ProducePartitionResponse,
    theirs: &produce_response::PartitionProduceResponse,
    version: i16,
) {
    assert_eq!(theirs.index, ours.index);
    assert_eq!(theirs.error_code, ours.error_code);
    assert_eq!(theirs.base_offset, ours.base_offset);
    assert_eq!(theirs.log_append_time_ms, ours.log_append_time_ms);
    assert_eq!(theirs.log_start_offset, if version >= 5 { ours.log_start_offset } else { -1 });
    if version >= 8 {
        assert_eq!(theirs.error_message.as_deref(), ours.error_message.as_deref());
        assert_eq!(theirs.record_errors.len(), ours.record_errors.len());
        for (theirs, ours) in theirs.record_errors.iter().zip(&ours.record_errors) {
            assert_eq!(theirs.batch_index, ours.batch_index);
            assert_eq!(theirs.batch_index_error_message.as_deref(), ours.message.as_deref());
        }
    }
    let leader = ours.current_leader.filter(|_| version >= 10);
    assert_eq!(theirs.current_leader.leader_id.0, leader.map_or(-1, |leader| leader.leader_id));
    assert_eq!(theirs.current_leader.leader_epoch, leader.map_or(-1, |leader| leader.leader_epoch));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_request_is_read_as_it_was_encoded(request in request()) {
        for version in VERSIONS {
            let body = encode(&request, version);
            let parsed = ProduceRequest::parse(&body, version);
            prop_assert_eq!(parsed, Ok(as_of(request.clone(), version)), "v{}", version);
        }
    }

    #[test]
    fn a_request_cut_anywhere_is_an_error(request in request(), cut in any::<prop::sample::Index>()) {
        for version in VERSIONS {
            let body = encode(&request, version);
            let cut = cut.index(body.len());
            prop_assert!(ProduceRequest::parse(&body.slice(..cut), version).is_err(), "v{}", version);
        }
    }

    #[test]
    fn an_answer_is_what_kafka_protocol_reads(response in response(), correlation_id: i32) {
        for version in VERSIONS {
            let mut out = BytesMut::from(&b"before"[..]);
            response.put(&mut out, version, correlation_id);
            let mut bytes = out.freeze();
            prop_assert_eq!(bytes.split_to(6), &b"before"[..]);
            let size = bytes.split_to(4);
            prop_assert_eq!(i32::from_be_bytes(size[..].try_into().expect("four bytes")), bytes.len() as i32);
            let header_version = messages::ProduceResponse::header_version(version);
            let header = ResponseHeader::decode(&mut bytes, header_version).expect("a header");
            prop_assert_eq!(header.correlation_id, correlation_id);
            let decoded = messages::ProduceResponse::decode(&mut bytes, version).expect("an answer");
            prop_assert!(bytes.is_empty());
            prop_assert_eq!(decoded.throttle_time_ms, response.throttle_time_ms);
            prop_assert_eq!(decoded.responses.len(), response.topics.len());
            for (theirs, ours) in decoded.responses.iter().zip(&response.topics) {
                match version {
                    13.. => prop_assert_eq!(theirs.topic_id, ours.id),
                    _ => prop_assert_eq!(&theirs.name.0, &ours.name),
                }
                prop_assert_eq!(theirs.partition_responses.len(), ours.partitions.len());
                for (theirs, ours) in theirs.partition_responses.iter().zip(&ours.partitions) {
                    agrees(ours, theirs, version);
                }
            }
            let endpoints = if version >= 10 { &response.node_endpoints[..] } else { &[] };
            prop_assert_eq!(decoded.node_endpoints.len(), endpoints.len());
            for (theirs, ours) in decoded.node_endpoints.iter().zip(endpoints) {
                prop_assert_eq!(theirs.node_id.0, ours.node_id);
                prop_assert_eq!(theirs.host.as_str(), &ours.host);
                prop_assert_eq!(theirs.port, ours.port);
                prop_assert_eq!(theirs.rack.as_deref(), ours.rack.as_deref());
            }
        }
    }
}

#[test]
fn records_share_the_bodys_memory() {
    let records = Bytes::from(vec![7u8; 4096]);
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 1000,
        topics: vec![ProduceTopic {
            name: StrBytes::from_static_str("t"),
            id: Uuid::nil(),
            partitions: vec![ProducePartition { index: 0, records: Some(records) }],
        }],
    };
    let body = encode(&request, 9);
    let parsed = ProduceRequest::parse(&body, 9).expect("as encoded");
    let slice = parsed.topics[0].partitions[0].records.as_ref().expect("records");
    assert!(body.as_ptr_range().contains(&slice.as_ptr()));
}

#[test]
fn a_false_count_is_refused_before_it_is_reserved() {
    // No transactional id, acks −1, timeout, then two thousand million topics.
    let body = Bytes::from_static(b"\xff\xff\xff\xff\x00\x00\x00\x00\x7f\xff\xff\xff");
    let error = ProduceRequest::parse(&body, 3).expect_err("cannot fit");
    assert!(matches!(error.problem, Problem::TooManyElements { .. }), "{error}");
    // More topics than any request may have, though their bytes are there.
    let mut body = BytesMut::new();
    body.put_slice(b"\x00\xff\xff\x00\x00\x00\x00");
    put_array_count(&mut body, ELEMENTS_MAX + 1, true);
    body.resize(body.len() + 3 * (ELEMENTS_MAX + 1), 1);
    let error = ProduceRequest::parse(&body.freeze(), 9).expect_err("too many");
    assert_eq!(error.problem, Problem::ElementLimit { limit: ELEMENTS_MAX });
}
