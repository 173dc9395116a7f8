//! An image as records: what its snapshot holds, in the order in which Kafka 4.3 writes it.

use super::{Image, METADATA_VERSION, TopicImage};
use crate::metadata::records::{self, Record};

impl Image {
    /// Records that give this image when they are applied to an empty one. `metadata.version` comes first:
    /// it says how to read the others.
    pub fn records(&self) -> impl Iterator<Item = Record> + use<'_> {
        let metadata_version = self.cluster.features().filter(|(name, _)| *name == METADATA_VERSION);
        let features = self.cluster.features().filter(|(name, _)| *name != METADATA_VERSION);
        let features = metadata_version
            .chain(features)
            .map(|(name, level)| Record::from(records::FeatureLevel { name: name.to_owned(), level }));
        let brokers = self.cluster.brokers().map(|broker| Record::from(broker.registration.clone()));
        let controllers = self.cluster.controllers().cloned().map(Record::from);
        let next_producer_id = (self.next_producer_id > 0).then(|| {
            let next_producer_id = self.next_producer_id;
            Record::from(records::ProducerIds { broker_id: -1, broker_epoch: -1, next_producer_id })
        });
        features
            .chain(brokers)
            .chain(controllers)
            .chain(self.topics.iter().flat_map(|topic| topic_records(topic)))
            .chain(self.config_records())
            .chain(self.security.quota_records())
            .chain(next_producer_id)
            .chain(self.security.other_records())
    }

    fn config_records(&self) -> impl Iterator<Item = Record> + use<'_> {
        self.configs.iter().flat_map(|(resource, values)| {
            values.iter().map(|(name, value)| {
                records::Config {
                    resource_type: resource.kind as i8,
                    resource_name: resource.name.clone(),
                    name: name.clone(),
                    value: Some(value.clone()),
                }
                .into()
            })
        })
    }
}

fn topic_records(topic: &TopicImage) -> impl Iterator<Item = Record> + use<'_> {
    let some_unless_empty = |ids: &Vec<i32>| Some(ids.clone()).filter(|ids| !ids.is_empty());
    let record = records::Topic { name: topic.name.to_string(), topic_id: topic.id }.into();
    let partitions = topic.partitions.iter().map(move |(index, partition)| {
        records::Partition {
            partition_id: *index,
            topic_id: topic.id,
            replicas: partition.replicas.clone(),
            isr: partition.isr.clone(),
            removing_replicas: partition.removing_replicas.clone(),
            adding_replicas: partition.adding_replicas.clone(),
            leader: partition.leader,
            leader_recovery_state: partition.leader_recovery_state,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            directories: partition.directories.clone(),
            eligible_leader_replicas: some_unless_empty(&partition.eligible_leader_replicas),
            last_known_elr: some_unless_empty(&partition.last_known_elr),
        }
        .into()
    });
    std::iter::once(record).chain(partitions)
}
