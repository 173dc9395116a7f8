//! OffsetCommit v10 and OffsetFetch v10: the two requests that `kafka-protocol` 0.18 lists and cannot
//! decode. They are v9 with a topic's id in the place of its name (KIP-848).
//!
//! Both functions expect a body that `check` has accepted.

use bytes::Bytes;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, OffsetFetchRequest};

use crate::primitives::{ParseError, Reader};

pub(super) const VERSION: i16 = 10;

pub(super) fn decode_commit(body: &Bytes) -> Result<OffsetCommitRequest, ParseError> {
    let mut reader = Reader::new(body);
    let mut request = OffsetCommitRequest::default()
        .with_group_id(GroupId(reader.string("group_id", true)?))
        .with_generation_id_or_member_epoch(reader.int32("generation_id_or_member_epoch")?)
        .with_member_id(reader.string("member_id", true)?)
        .with_group_instance_id(reader.nullable_string("group_instance_id", true)?);
    for _ in 0..reader.array_count("topics", true, 18)? {
        let mut topic = OffsetCommitRequestTopic::default().with_topic_id(reader.uuid("topic_id")?);
        for _ in 0..reader.array_count("partitions", true, 18)? {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(reader.int32("partition_index")?)
                .with_committed_offset(reader.int64("committed_offset")?)
                .with_committed_leader_epoch(reader.int32("committed_leader_epoch")?)
                .with_committed_metadata(reader.nullable_string("committed_metadata", true)?);
            reader.skip_tagged_fields()?;
            topic.partitions.push(partition);
        }
        reader.skip_tagged_fields()?;
        request.topics.push(topic);
    }
    reader.skip_tagged_fields()?;
    Ok(request)
}

pub(super) fn decode_fetch(body: &Bytes) -> Result<OffsetFetchRequest, ParseError> {
    let mut reader = Reader::new(body);
    let mut request = OffsetFetchRequest::default();
    for _ in 0..reader.array_count("groups", true, 8)? {
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(reader.string("group_id", true)?))
            .with_member_id(reader.nullable_string("member_id", true)?)
            .with_member_epoch(reader.int32("member_epoch")?)
            .with_topics(decode_fetch_topics(&mut reader)?);
        reader.skip_tagged_fields()?;
        request.groups.push(group);
    }
    request.require_stable = reader.int8("require_stable")? != 0;
    reader.skip_tagged_fields()?;
    Ok(request)
}

/// The topics of one group; `None` asks for all.
fn decode_fetch_topics(reader: &mut Reader<'_>) -> Result<Option<Vec<OffsetFetchRequestTopics>>, ParseError> {
    let Some(count) = reader.nullable_array_count("topics", true, 18)? else { return Ok(None) };
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let mut topic = OffsetFetchRequestTopics::default().with_topic_id(reader.uuid("topic_id")?);
        for _ in 0..reader.array_count("partition_indexes", true, 4)? {
            topic.partition_indexes.push(reader.int32("partition_index")?);
        }
        reader.skip_tagged_fields()?;
        topics.push(topic);
    }
    Ok(Some(topics))
}
