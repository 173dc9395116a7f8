//! From a request to the core that owns its group, and back.

use std::rc::Rc;

use flumen_engine::PartitionId;
use futures_util::stream::{StreamExt, iter};
use kafka_protocol::ResponseError;

use super::coordinator::GROUP_METADATA_TOPIC;
use super::messages::{Answer, ListedGroup};
use super::offsets::{CommitRequest, CommitTopic, PartitionResults};
use super::partition::Request;
use crate::metadata::image::Image;
use crate::shard::Shard;
use crate::time_slice::TimeSlice;

/// Groups that one request asks something of at one time: what is written for them shares a flush.
const GROUPS_AT_ONCE: usize = 32;

/// Asks something of a group, wherever it lives.
pub async fn ask(shard: &Rc<Shard>, group_id: &str, request: Request) -> Result<Answer, ResponseError> {
    let image = shard.image();
    let topic = image.topic(GROUP_METADATA_TOPIC).ok_or(ResponseError::NotCoordinator)?;
    let index = shard.groups().partition_for(topic.id, group_id).ok_or(ResponseError::NotCoordinator)?;
    let core = shard.core_of(&PartitionId { topic: topic.id, partition: index });
    if core == shard.core() {
        return ask_here(shard, index, group_id, request).await;
    }
    // Whoever joins or syncs waits for others: for as long as the connection is there, one wait each.
    let waits = matches!(request, Request::Join(_) | Request::Sync(_));
    let group_id = group_id.to_owned();
    let work = move |shard: Rc<Shard>| async move { ask_here(&shard, index, &group_id, request).await };
    if waits { shard.wait_for(core, work).await } else { shard.call(core, work).await }
}

/// Does what a request asks of many groups, some of them at a time; the outcomes in its order, each worded.
pub async fn some_at_a_time<F: Future, W>(
    shard: &Shard,
    asked: impl Iterator<Item = F>,
    word: impl Fn(F::Output) -> W,
) -> Vec<W> {
    let slice = TimeSlice::of(shard.ring());
    let mut asking = iter(asked).buffered(GROUPS_AT_ONCE);
    let mut worded = Vec::new();
    while let Some(outcome) = asking.next().await {
        worded.push(word(outcome));
        slice.pause().await;
    }
    worded
}

/// Asks something of a group of this core.
///
/// What a commit names is looked up once more. The connection's core may have gone by an image in which a topic
/// still was that this core knows to be deleted, and has taken the offsets of back: an offset that came after that
/// would stay, for a topic that is created later under the same name. Nothing waits between this look and the
/// commit's place in the log; and no image follows before the tombstones of what this one deletes.
async fn ask_here(
    shard: &Shard,
    index: i32,
    group_id: &str,
    request: Request,
) -> Result<Answer, ResponseError> {
    let Request::Commit(mut commit) = request else {
        return shard.groups().ask(index, group_id, request).await;
    };
    let deleted = take_deleted(&mut commit, &shard.image());
    if commit.topics.is_empty() && !deleted.topics.is_empty() {
        return Ok(Answer::Commit(deleted));
    }
    let mut answer = shard.groups().ask(index, group_id, Request::Commit(commit)).await?;
    if let Answer::Commit(results) = &mut answer {
        results.topics.extend(deleted.topics);
    }
    Ok(answer)
}

/// Takes the topics out of a commit that are no longer there, and fails them. An image that is older than the
/// one by which they were looked up has nothing to say: what it does not know may have been created since.
fn take_deleted(commit: &mut CommitRequest, image: &Image) -> PartitionResults {
    if image.offset() < commit.image_offset {
        return PartitionResults::default();
    }
    let is_deleted = |topic: &CommitTopic| image.topic_by_id(topic.id).is_none();
    let deleted = commit.topics.extract_if(.., |topic| is_deleted(topic)).map(|topic| {
        let indexes = topic.partitions.iter().map(|partition| partition.index);
        (topic.name, indexes.collect())
    });
    PartitionResults::failed(deleted.collect(), ResponseError::UnknownTopicOrPartition)
}

/// The broker stops. Whoever waits for a group is told to look for its coordinator elsewhere.
pub async fn stop(shard: &Rc<Shard>) {
    for core in shard.cores() {
        shard.call(core, async move |shard: Rc<Shard>| shard.groups().close_all()).await;
    }
}

/// The groups of all cores.
pub async fn list(shard: &Rc<Shard>) -> Result<Vec<ListedGroup>, ResponseError> {
    let mut groups = Vec::new();
    for core in shard.cores() {
        let listed = shard.call(core, |shard| async move {
            let slice = TimeSlice::of(shard.ring());
            shard.groups().list(async || slice.pause().await).await
        });
        groups.extend(listed.await?);
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::groups::offsets::CommitPartition;
    use crate::metadata::records::{Record, RemoveTopic, Topic};

    const KEPT: Uuid = Uuid::from_u128(1);
    const DELETED: Uuid = Uuid::from_u128(2);
    const CREATED_ANEW: Uuid = Uuid::from_u128(3);

    fn topic(name: &str, topic_id: Uuid) -> Record {
        Record::Topic(Topic { name: name.into(), topic_id })
    }

    /// A topic is kept, another one deleted and created anew under its name.
    fn image() -> Image {
        let removed = Record::RemoveTopic(RemoveTopic { topic_id: DELETED });
        let records = [topic("kept", KEPT), topic("topic", DELETED), removed, topic("topic", CREATED_ANEW)];
        let mut image = Image::default();
        for (offset, record) in (0..).zip(&records) {
            image.apply(record).expect("the records agree with each other");
            image.advance(offset, 1);
        }
        image
    }

    fn commit(image_offset: i64) -> CommitRequest {
        let partition =
            |index| CommitPartition { index, offset: 7, leader_epoch: -1, metadata: String::new() };
        let topic = |name: &str, id| CommitTopic {
            name: name.into(),
            id,
            partitions: vec![partition(0), partition(1)],
        };
        CommitRequest {
            generation: -1,
            member_id: String::new(),
            instance_id: None,
            retention_ms: None,
            knows_missing_groups: true,
            topics: vec![topic("topic", DELETED), topic("kept", KEPT)],
            image_offset,
        }
    }

    #[test]
    fn a_commit_looked_up_before_a_topic_was_deleted_leaves_nothing_to_the_one_created_anew() {
        let mut commit = commit(1);
        let deleted = take_deleted(&mut commit, &image());
        let unknown = Some(ResponseError::UnknownTopicOrPartition);
        assert_eq!(deleted.topics, [("topic".into(), vec![(0, unknown), (1, unknown)])]);
        assert_eq!(commit.topics.iter().map(|topic| topic.id).collect::<Vec<_>>(), [KEPT]);
    }

    #[test]
    fn an_older_image_does_not_say_what_is_deleted() {
        let mut commit = commit(4);
        assert_eq!(take_deleted(&mut commit, &image()), PartitionResults::default());
        assert_eq!(commit.topics.len(), 2);
    }
}
