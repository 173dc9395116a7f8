//! What the metadata means to one core: which partitions live here, with which settings.
//!
//! At start the core opens what the image gives it; later each new image is compared with the one before, and
//! partitions are created, changed and deleted, durably, before the core answers by the new image.

use std::rc::{Rc, Weak};
use std::sync::Arc;

use flumen_engine::{CoreId, LeaderEpoch, LogConfig, OpenPartition, PartitionId};
use futures_util::future::{LocalBoxFuture, join_all};
use futures_util::stream::{StreamExt, iter};

use crate::config::BrokerConfig;
use crate::groups::coordinator::GROUP_METADATA_TOPIC;
use crate::groups::log::CoordinatorLog;
use crate::metadata::controller::{Publisher, Unmade};
use crate::metadata::directory::METADATA_FOLDER;
use crate::metadata::image::{ConfigResource, Image, PartitionImage, ResourceKind, TopicImage};
use crate::metadata::topic_config::Resolver;
use crate::metadata::uuid_text::METADATA_TOPIC_ID;
use crate::shard::{Shard, core_of};
use crate::time_slice::TimeSlice;

/// Partitions that are created or deleted at one time: they share flushes.
const AT_ONCE: usize = 64;

/// The metadata log's own partition.
pub const METADATA_PARTITION: PartitionId = PartitionId { topic: METADATA_TOPIC_ID, partition: 0 };

/// The partitions that a core opens at start: those that the image gives it, and on core 0 the metadata log,
/// written in `controller_epoch`.
pub fn partitions_of(
    core: CoreId,
    cores: u16,
    config: &BrokerConfig,
    image: &Image,
    controller_epoch: LeaderEpoch,
) -> Vec<OpenPartition> {
    let mut partitions = Vec::new();
    if core_of(&METADATA_PARTITION, cores) == core {
        partitions.push(metadata_partition(config, controller_epoch));
    }
    let resolver = Resolver::new(&config.settings, image, config.node_id());
    for topic in image.topics().iter() {
        let mut log = None;
        for (index, partition) in &topic.partitions {
            let id = PartitionId { topic: topic.id, partition: *index };
            if core_of(&id, cores) == core {
                let log = log.get_or_insert_with(|| resolver.log_config(&topic.name));
                partitions.push(open(topic, id, partition, log.clone()));
            }
        }
    }
    partitions
}

fn metadata_partition(config: &BrokerConfig, epoch: LeaderEpoch) -> OpenPartition {
    // Kafka keeps this log by snapshots, not by age or size; nothing of it is ever thinned out here.
    let log = LogConfig {
        flush_messages: 1,
        flush_ms: i64::MAX,
        segment_bytes: config.metadata.segment_bytes,
        segment_ms: config.metadata.segment_ms,
        retention_ms: -1,
        retention_bytes: -1,
        max_message_bytes: u32::MAX,
        delete: false,
        compact: false,
        log_append_time: false,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: i64::MAX,
        ..config.log.clone()
    };
    OpenPartition {
        id: METADATA_PARTITION,
        name: METADATA_FOLDER.to_string(),
        config: log,
        leader_epoch: epoch,
        exact: true,
    }
}

fn open(topic: &TopicImage, id: PartitionId, partition: &PartitionImage, config: LogConfig) -> OpenPartition {
    OpenPartition {
        id,
        name: format!("{}-{}", topic.name, id.partition),
        config,
        leader_epoch: LeaderEpoch(partition.leader_epoch),
        exact: false,
    }
}

/// Gives a newer image to every core; complete when each of them answers by it. Says what could not be created.
pub async fn publish(shard: &Rc<Shard>, image: Arc<Image>) -> Vec<Unmade> {
    let adopted = shard.cores().map(|core| {
        let image = image.clone();
        shard.call(core, move |shard| adopt(shard, image))
    });
    join_all(adopted).await.concat()
}

/// The controller's way to all cores.
pub struct ToAllCores {
    shard: Weak<Shard>,
}

impl ToAllCores {
    /// By way of the controller's own core.
    pub fn from(shard: &Rc<Shard>) -> Self {
        Self { shard: Rc::downgrade(shard) }
    }
}

impl Publisher for ToAllCores {
    fn publish(&self, image: Arc<Image>) -> LocalBoxFuture<'static, Vec<Unmade>> {
        let shard = self.shard.clone();
        Box::pin(async move {
            match shard.upgrade() {
                Some(shard) => publish(&shard, image).await,
                // There is nobody left to tell.
                None => Vec::new(),
            }
        })
    }
}

/// Makes this core's partitions what `image` says, then answers by it. One at a time: the controller waits. Looks at
/// those topics only that are not as they were.
pub async fn adopt(shard: Rc<Shard>, image: Arc<Image>) -> Vec<Unmade> {
    let before = shard.image();
    let slice = TimeSlice::of(shard.ring());
    let mut deleted = Vec::new();
    for (_, known, _) in before.topics().changes(image.topics()).filter(|(.., topic)| topic.is_none()) {
        slice.pause().await;
        let known = known.expect("what is gone was there");
        deleted.push(&**known);
        shard.set_treatment(known.id, None);
    }
    delete(&shard, &deleted).await;
    let mut created = Vec::new();
    let config = shard.config();
    let resolver = Resolver::new(&config.settings, &image, config.node_id());
    for topic in changed(&before, &image) {
        slice.pause().await;
        let known = before.topic_by_id(topic.id);
        let (log, treatment) = resolver.topic(&topic.name);
        shard.set_treatment(topic.id, Some(treatment));
        for (index, partition) in &topic.partitions {
            let id = PartitionId { topic: topic.id, partition: *index };
            if shard.core_of(&id) != shard.core() {
                continue;
            }
            match known.and_then(|known| known.partition(*index)) {
                Some(known) => change(&shard, &id, known, partition, &log),
                None => created.push(open(topic, id, partition, log.clone())),
            }
        }
    }
    let unmade = create(&shard, created).await;
    shard.set_image(image.clone());
    host_groups(&shard);
    if !deleted.is_empty() {
        let deleted: Vec<_> = deleted.iter().map(|topic| topic.name.to_string()).collect();
        shard.groups().topics_deleted(&deleted, async || slice.pause().await).await;
    }
    unmade
}

/// The topics of `image` that are not as they were, or may be configured otherwise, each once.
fn changed<'a>(before: &'a Image, image: &'a Image) -> Box<dyn Iterator<Item = &'a Arc<TopicImage>> + 'a> {
    let configured = before.configs().changes(image.configs());
    if before.configs().changes(image.configs()).any(|resource| resource.kind == ResourceKind::Broker) {
        // What all of them inherit.
        return Box::new(image.topics().iter());
    }
    let topics = before.topics().changes(image.topics()).filter_map(|(_, _, topic)| topic);
    let is_of_topic = |resource: &&ConfigResource| resource.kind == ResourceKind::Topic;
    let configured = configured.filter(is_of_topic).filter_map(move |resource| image.topic(&resource.name));
    // One that is another one is among the topics.
    let is_known = move |topic: &&Arc<TopicImage>| {
        before.topic_by_id(topic.id).is_some_and(|known| Arc::ptr_eq(known, topic))
    };
    Box::new(topics.chain(configured.filter(is_known)))
}

async fn create(shard: &Rc<Shard>, partitions: Vec<OpenPartition>) -> Vec<Unmade> {
    let mut unmade = Vec::new();
    let mut partitions = partitions.into_iter().peekable();
    while partitions.peek().is_some() {
        let creating = partitions.by_ref().take(AT_ONCE).map(async |partition| {
            let (topic_id, name) = (partition.id.topic, partition.name.clone());
            let error = shard.engine().create_partition(partition).await.err()?;
            tracing::error!(partition = name, %error, "cannot create a partition");
            Some(Unmade { topic_id, name, why: error.to_string() })
        });
        unmade.extend(join_all(creating).await.into_iter().flatten());
    }
    unmade
}

fn change(shard: &Shard, id: &PartitionId, before: &PartitionImage, now: &PartitionImage, log: &LogConfig) {
    let Some(partition) = shard.partition(id) else { return };
    if now.leader_epoch > before.leader_epoch {
        partition.set_leader_epoch(LeaderEpoch(now.leader_epoch));
    }
    if partition.config() != *log {
        shard.engine().set_config(id, log.clone());
    }
}

async fn delete(shard: &Rc<Shard>, topics: &[&TopicImage]) {
    let partitions = topics.iter().flat_map(|topic| topic.partitions.keys().map(|index| (*topic, *index)));
    let mut deleting = iter(partitions)
        .map(async |(topic, index)| {
            let id = PartitionId { topic: topic.id, partition: index };
            if shard.core_of(&id) != shard.core() {
                return;
            }
            if &*topic.name == GROUP_METADATA_TOPIC {
                shard.groups().close(index);
            }
            if let Err(error) = shard.engine().delete_partition(&id).await {
                tracing::error!(topic = %topic.name, partition = index, %error, "cannot delete a partition");
            }
        })
        .buffer_unordered(AT_ONCE);
    while deleting.next().await.is_some() {}
}

/// Hosts the groups of every partition of `__consumer_offsets` that lives here.
pub fn host_groups(shard: &Shard) {
    let image = shard.image();
    let Some(topic) = image.topic(GROUP_METADATA_TOPIC) else { return };
    shard.groups().spread_over(topic.id, topic.partitions.len());
    for index in topic.partitions.keys() {
        if let Some(partition) = shard.partition(&PartitionId { topic: topic.id, partition: *index }) {
            let log = CoordinatorLog::new(partition, shard.compute());
            shard.groups().open(*index, Rc::new(log));
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::metadata::records::{Config, Record, RemoveTopic, Topic};

    fn after(image: &Image, records: Vec<Record>) -> Image {
        let mut image = image.clone();
        records.iter().for_each(|record| image.apply(record).expect("it fits"));
        image
    }

    fn topic(name: &str, id: u128) -> Record {
        Record::Topic(Topic { name: name.into(), topic_id: Uuid::from_u128(id) })
    }

    fn config(kind: ResourceKind, name: &str) -> Record {
        let (resource_name, value) = (name.to_owned(), Some("1".to_owned()));
        Record::Config(Config { resource_type: kind as i8, resource_name, name: "key".into(), value })
    }

    #[test]
    fn topics_that_are_as_they_were_are_not_looked_at() {
        let removed = |id| Record::RemoveTopic(RemoveTopic { topic_id: Uuid::from_u128(id) });
        let topics = (0..500).map(|number| topic(&format!("topic-{number}"), number + 1));
        let before = after(&Image::default(), topics.collect());
        let changed = |records: Vec<Record>| {
            let image = after(&before, records);
            let mut names: Vec<String> =
                super::changed(&before, &image).map(|topic| topic.name.to_string()).collect();
            names.sort_unstable();
            names
        };
        assert!(changed(vec![]).is_empty());
        assert_eq!(changed(vec![topic("new", 900), config(ResourceKind::Topic, "new")]), ["new"]);
        assert_eq!(changed(vec![config(ResourceKind::Topic, "topic-7")]), ["topic-7"]);
        assert!(changed(vec![config(ResourceKind::Topic, "topic-7"), removed(8)]).is_empty());
        assert_eq!(changed(vec![removed(8), topic("topic-7", 901)]), ["topic-7"], "another one");
        assert_eq!(changed(vec![config(ResourceKind::Broker, "1")]).len(), 500, "all of them inherit it");
    }
}
