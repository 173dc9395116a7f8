use kafka_protocol::messages::{self, BrokerId, ResponseHeader, TopicName, fetch_request, fetch_response};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = StrBytes> {
    "[a-zé.]{0,20}".prop_map(StrBytes::from_string)
}

fn id() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

prop_compose! {
    fn partition()(
        index: i32,
        current_leader_epoch: i32,
        fetch_offset: i64,
        last_fetched_epoch: i32,
        log_start_offset: i64,
        max_bytes: i32,
        directory in id(),
        high_watermark: i64,
    ) -> FetchPartition {
        FetchPartition {
            index,
            current_leader_epoch,
            fetch_offset,
            last_fetched_epoch,
            log_start_offset,
            max_bytes,
            replica_directory_id: directory,
            high_watermark,
        }
    }
}

prop_compose! {
    fn request()(
        cluster_id in prop::option::of(text()),
        numbers in any::<(i32, i64, i32, i32, i32, i8, i32, i32)>(),
        topics in prop::collection::vec((text(), id(), prop::collection::vec(partition(), 0..4)), 0..4),
        forgotten in prop::collection::vec((text(), id(), prop::collection::vec(any::<i32>(), 0..4)), 0..3),
        rack_id in text(),
    ) -> FetchRequest {
        FetchRequest {
            cluster_id,
            replica_id: numbers.0,
            replica_epoch: numbers.1,
            max_wait_ms: numbers.2,
            min_bytes: numbers.3,
            max_bytes: numbers.4,
            isolation_level: numbers.5,
            session_id: numbers.6,
            session_epoch: numbers.7,
            topics: topics.into_iter().map(|(name, id, partitions)| FetchTopic { name, id, partitions }).collect(),
            forgotten: forgotten
                .into_iter()
                .map(|(name, id, partitions)| ForgottenTopic { name, id, partitions })
                .collect(),
            rack_id,
        }
    }
}

/// What is left of a request when `version` carries it: the rest is at its default.
fn as_of(mut request: FetchRequest, version: i16) -> FetchRequest {
    for topic in &mut request.topics {
        match version {
            13.. => topic.name = StrBytes::new(),
            _ => topic.id = Uuid::nil(),
        }
        for partition in &mut topic.partitions {
            if version < 5 {
                partition.log_start_offset = -1;
            }
            if version < 9 {
                partition.current_leader_epoch = -1;
            }
            if version < 12 {
                partition.last_fetched_epoch = -1;
            }
            if version < 17 {
                partition.replica_directory_id = Uuid::nil();
            }
            if version < 18 {
                partition.high_watermark = i64::MAX;
            }
        }
    }
    for topic in &mut request.forgotten {
        match version {
            13.. => topic.name = StrBytes::new(),
            _ => topic.id = Uuid::nil(),
        }
    }
    if version < 7 {
        (request.session_id, request.session_epoch) = (0, -1);
        request.forgotten.clear();
    }
    if version < 11 {
        request.rack_id = StrBytes::new();
    }
    if version < 12 {
        request.cluster_id = None;
    }
    if version < 15 {
        request.replica_epoch = -1;
    }
    request
}

/// Encoded by `kafka-protocol`, with an unknown tagged field wherever there may be one.
fn encode(request: &FetchRequest, version: i16) -> Bytes {
    let unknown = Bytes::from_static(b"unknown");
    let flexible = version >= 12;
    let mut message = messages::FetchRequest::default()
        .with_cluster_id(request.cluster_id.clone())
        .with_max_wait_ms(request.max_wait_ms)
        .with_min_bytes(request.min_bytes)
        .with_max_bytes(request.max_bytes)
        .with_isolation_level(request.isolation_level)
        .with_session_id(request.session_id)
        .with_session_epoch(request.session_epoch)
        .with_rack_id(request.rack_id.clone());
    if version >= 15 {
        message.replica_state = fetch_request::ReplicaState::default()
            .with_replica_id(BrokerId(request.replica_id))
            .with_replica_epoch(request.replica_epoch);
    } else {
        message.replica_id = BrokerId(request.replica_id);
    }
    for topic in &request.topics {
        let mut fetch_topic = fetch_request::FetchTopic::default()
            .with_topic(TopicName(topic.name.clone()))
            .with_topic_id(topic.id);
        for partition in &topic.partitions {
            let mut fetch_partition = fetch_request::FetchPartition::default()
                .with_partition(partition.index)
                .with_current_leader_epoch(partition.current_leader_epoch)
                .with_fetch_offset(partition.fetch_offset)
                .with_last_fetched_epoch(partition.last_fetched_epoch)
                .with_log_start_offset(partition.log_start_offset)
                .with_partition_max_bytes(partition.max_bytes)
                .with_replica_directory_id(partition.replica_directory_id)
                .with_high_watermark(partition.high_watermark);
            if flexible {
                fetch_partition = fetch_partition.with_unknown_tagged_field(9, unknown.clone());
            }
            fetch_topic.partitions.push(fetch_partition);
        }
        message.topics.push(fetch_topic);
    }
    for topic in &request.forgotten {
        message.forgotten_topics_data.push(
            fetch_request::ForgottenTopic::default()
                .with_topic(TopicName(topic.name.clone()))
                .with_topic_id(topic.id)
                .with_partitions(topic.partitions.clone()),
        );
    }
    if flexible {
        message = message.with_unknown_tagged_field(70_000, unknown);
    }
    let mut out = BytesMut::new();
    message.encode(&mut out, version).expect("kafka-protocol encodes");
    out.freeze()
}

fn epoch_end() -> impl Strategy<Value = Option<EpochEndOffset>> {
    prop::option::of(any::<(i32, i64)>().prop_map(|(epoch, end_offset)| EpochEndOffset { epoch, end_offset }))
}

prop_compose! {
    fn partition_response()(
        index: i32,
        error_code: i16,
        offsets in any::<(i64, i64, i64)>(),
        diverging_epoch in epoch_end(),
        leader in prop::option::of((any::<i32>(), any::<i32>())),
        snapshot_id in epoch_end(),
        aborted in prop::option::of(prop::collection::vec(any::<(i64, i64)>(), 0..3)),
        preferred_read_replica: i32,
        records_bytes in prop_oneof![Just(0usize), 1usize..200, 16_000usize..17_000],
    ) -> FetchPartitionResponse {
        FetchPartitionResponse {
            index,
            error_code,
            high_watermark: offsets.0,
            last_stable_offset: offsets.1,
            log_start_offset: offsets.2,
            diverging_epoch,
            current_leader: leader
                .map(|(leader_id, leader_epoch)| LeaderIdAndEpoch { leader_id, leader_epoch }),
            snapshot_id,
            aborted_transactions: aborted.map(|list| {
                list.into_iter()
                    .map(|(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset })
                    .collect()
            }),
            preferred_read_replica,
            records_bytes,
        }
    }
}

prop_compose! {
    fn response()(
        numbers in any::<(i32, i16, i32)>(),
        topics in prop::collection::vec((text(), id(), prop::collection::vec(partition_response(), 0..4)), 0..4),
        endpoints in prop::collection::vec((any::<i32>(), "[a-z]{0,9}", any::<i32>()), 0..3),
    ) -> FetchResponse {
        FetchResponse {
            throttle_time_ms: numbers.0,
            error_code: numbers.1,
            session_id: numbers.2,
            topics: topics
                .into_iter()
                .map(|(name, id, partitions)| FetchTopicResponse { name, id, partitions })
                .collect(),
            node_endpoints: endpoints
                .into_iter()
                .map(|(node_id, host, port)| NodeEndpoint { node_id, host, port, rack: None })
                .collect(),
        }
    }
}

/// Fills the gaps with bytes that say which partition they are of.
fn fill(framed: &FramedFetch) -> Bytes {
    let mut out = BytesMut::new();
    for part in &framed.parts {
        match part {
            Part::Bytes(bytes) => out.put_slice(bytes),
            Part::Records { topic, partition, bytes } => {
                out.put_bytes((topic * 16 + partition) as u8, *bytes)
            }
        }
    }
    assert_eq!(out.len(), framed.bytes);
    out.freeze()
}

fn agrees(ours: &FetchPartitionResponse, theirs: &fetch_response::PartitionData, version: i16, fill: u8) {
    assert_eq!(theirs.partition_index, ours.index);
    assert_eq!(theirs.error_code, ours.error_code);
    assert_eq!(theirs.high_watermark, ours.high_watermark);
    assert_eq!(theirs.last_stable_offset, ours.last_stable_offset);
    assert_eq!(theirs.log_start_offset, if version >= 5 { ours.log_start_offset } else { -1 });
    let preferred = if version >= 11 { ours.preferred_read_replica } else { -1 };
    assert_eq!(theirs.preferred_read_replica.0, preferred);
    let aborted = theirs.aborted_transactions.as_ref().map(|list| {
        list.iter()
            .map(|one| AbortedTransaction { producer_id: one.producer_id.0, first_offset: one.first_offset })
            .collect::<Vec<_>>()
    });
    assert_eq!(aborted, ours.aborted_transactions);
    assert_eq!(theirs.records.as_deref(), Some(&vec![fill; ours.records_bytes][..]));
    let flexible = version >= 12;
    let none = EpochEndOffset { epoch: -1, end_offset: -1 };
    let diverging = ours.diverging_epoch.filter(|_| flexible).unwrap_or(none);
    let theirs_diverging = &theirs.diverging_epoch;
    assert_eq!(
        (theirs_diverging.epoch, theirs_diverging.end_offset),
        (diverging.epoch, diverging.end_offset)
    );
    let snapshot = ours.snapshot_id.filter(|_| flexible).unwrap_or(none);
    assert_eq!(
        (theirs.snapshot_id.epoch, theirs.snapshot_id.end_offset),
        (snapshot.epoch, snapshot.end_offset)
    );
    let leader = ours
        .current_leader
        .filter(|_| flexible)
        .unwrap_or(LeaderIdAndEpoch { leader_id: -1, leader_epoch: -1 });
    assert_eq!(theirs.current_leader.leader_id.0, leader.leader_id);
    assert_eq!(theirs.current_leader.leader_epoch, leader.leader_epoch);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_request_is_read_as_it_was_encoded(request in request()) {
        for version in VERSIONS {
            let request = as_of(request.clone(), version);
            let body = encode(&request, version);
            prop_assert_eq!(FetchRequest::parse(&body, version), Ok(request), "v{}", version);
        }
    }

    #[test]
    fn a_request_cut_anywhere_is_an_error(request in request(), cut in any::<prop::sample::Index>()) {
        for version in VERSIONS {
            let body = encode(&as_of(request.clone(), version), version);
            let cut = cut.index(body.len());
            prop_assert!(FetchRequest::parse(&body.slice(..cut), version).is_err(), "v{}", version);
        }
    }

    #[test]
    fn an_answer_is_what_kafka_protocol_reads(response in response(), correlation_id: i32) {
        for version in VERSIONS {
            let mut bytes = fill(&response.frame(version, correlation_id));
            let size = bytes.split_to(4);
            prop_assert_eq!(i32::from_be_bytes(size[..].try_into().expect("four bytes")), bytes.len() as i32);
            let header_version = messages::FetchResponse::header_version(version);
            let header = ResponseHeader::decode(&mut bytes, header_version).expect("a header");
            prop_assert_eq!(header.correlation_id, correlation_id);
            let decoded = messages::FetchResponse::decode(&mut bytes, version).expect("an answer");
            prop_assert!(bytes.is_empty());
            prop_assert_eq!(decoded.throttle_time_ms, response.throttle_time_ms);
            if version >= 7 {
                prop_assert_eq!(decoded.error_code, response.error_code);
                prop_assert_eq!(decoded.session_id, response.session_id);
            }
            prop_assert_eq!(decoded.responses.len(), response.topics.len());
            for (topic, (theirs, ours)) in decoded.responses.iter().zip(&response.topics).enumerate() {
                match version {
                    13.. => prop_assert_eq!(theirs.topic_id, ours.id),
                    _ => prop_assert_eq!(&theirs.topic.0, &ours.name),
                }
                prop_assert_eq!(theirs.partitions.len(), ours.partitions.len());
                for (partition, (theirs, ours)) in theirs.partitions.iter().zip(&ours.partitions).enumerate() {
                    agrees(ours, theirs, version, (topic * 16 + partition) as u8);
                }
            }
            let endpoints = if version >= 16 { response.node_endpoints.len() } else { 0 };
            prop_assert_eq!(decoded.node_endpoints.len(), endpoints);
        }
    }
}

#[test]
fn an_empty_record_set_has_length_zero() {
    let response = FetchResponse {
        topics: vec![FetchTopicResponse {
            name: StrBytes::from_static_str("t"),
            id: Uuid::nil(),
            partitions: vec![FetchPartitionResponse::error(0, 3)],
        }],
        ..FetchResponse::default()
    };
    let framed = response.frame(11, 1);
    assert_eq!(framed.parts.len(), 1);
    assert_eq!(&fill(&framed)[framed.bytes - 4..], &[0; 4]);
}

#[test]
fn a_tag_below_its_version_is_an_error_as_in_kafka() {
    let request = FetchRequest {
        cluster_id: None,
        replica_id: -1,
        replica_epoch: -1,
        max_wait_ms: 0,
        min_bytes: 0,
        max_bytes: 0,
        isolation_level: 0,
        session_id: 0,
        session_epoch: -1,
        topics: Vec::new(),
        forgotten: Vec::new(),
        rack_id: StrBytes::new(),
    };
    let mut body = BytesMut::from(&encode(&request, 12)[..]);
    // The last nine bytes are the unknown field: one field, its tag in three bytes, length 7, "unknown".
    body.truncate(body.len() - 12);
    body.put_slice(b"\x01\x01\x0d\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00");
    let error = FetchRequest::parse(&body.freeze(), 12).expect_err("replica_state is of v15");
    assert_eq!(error.problem, Problem::UnexpectedTag { tag: 1 });
}
