//! From a request to the core that owns its group, and back.

use std::rc::Rc;

use flumen_engine::PartitionId;
use kafka_protocol::ResponseError;

use super::coordinator::{GROUP_METADATA_TOPIC, partition_of};
use super::messages::{Answer, ListedGroup};
use super::partition::Request;
use crate::shard::Shard;

/// Asks something of a group, wherever it lives.
pub async fn ask(shard: &Rc<Shard>, group_id: &str, request: Request) -> Result<Answer, ResponseError> {
    let image = shard.image();
    let topic = image.topic(GROUP_METADATA_TOPIC).ok_or(ResponseError::NotCoordinator)?;
    let count = i32::try_from(topic.partitions.len()).expect("partitions are numbered by 32 bits");
    if count == 0 {
        return Err(ResponseError::NotCoordinator);
    }
    let index = partition_of(group_id, count);
    let core = shard.core_of(&PartitionId { topic: topic.id, partition: index });
    if core == shard.core() {
        return shard.groups().ask(index, group_id, request).await;
    }
    // Whoever joins or syncs waits for others: for as long as the connection is there, one wait each.
    let waits = matches!(request, Request::Join(_) | Request::Sync(_));
    let group_id = group_id.to_owned();
    let work = move |shard: Rc<Shard>| async move { shard.groups().ask(index, &group_id, request).await };
    if waits { shard.wait_for(core, work).await } else { shard.call(core, work).await }
}

/// The groups of all cores.
pub async fn list(shard: &Rc<Shard>) -> Result<Vec<ListedGroup>, ResponseError> {
    let mut groups = Vec::new();
    for core in shard.cores() {
        groups.extend(shard.call(core, |shard| async move { shard.groups().list() }).await?);
    }
    Ok(groups)
}
