//! An image as records: what its snapshot holds, in the order in which Kafka 4.3 writes it.

use super::{Image, METADATA_VERSION};
use crate::metadata::records::{self, Record};

impl Image {
    /// Records that give this image when they are applied to an empty one. `metadata.version` comes first:
    /// it says how to read the others.
    pub fn records(&self) -> Vec<Record> {
        let mut out: Vec<Record> = Vec::new();
        let metadata_version = self.cluster.features().filter(|(name, _)| *name == METADATA_VERSION);
        let features = self.cluster.features().filter(|(name, _)| *name != METADATA_VERSION);
        out.extend(
            metadata_version
                .chain(features)
                .map(|(name, level)| records::FeatureLevel { name: name.to_owned(), level }.into()),
        );
        out.extend(self.cluster.brokers().map(|broker| broker.registration.clone().into()));
        out.extend(self.cluster.controllers().cloned().map(Record::from));
        self.topic_records(&mut out);
        for (resource, values) in self.configs.iter() {
            out.extend(values.iter().map(|(name, value)| {
                records::Config {
                    resource_type: resource.kind as i8,
                    resource_name: resource.name.clone(),
                    name: name.clone(),
                    value: Some(value.clone()),
                }
                .into()
            }));
        }
        out.extend(self.security.quota_records());
        if self.next_producer_id > 0 {
            let next_producer_id = self.next_producer_id;
            out.push(records::ProducerIds { broker_id: -1, broker_epoch: -1, next_producer_id }.into());
        }
        out.extend(self.security.other_records());
        out
    }

    fn topic_records(&self, out: &mut Vec<Record>) {
        let some_unless_empty = |ids: &Vec<i32>| Some(ids.clone()).filter(|ids| !ids.is_empty());
        for topic in self.topics.iter() {
            out.push(records::Topic { name: topic.name.to_string(), topic_id: topic.id }.into());
            out.extend(topic.partitions.iter().map(|(index, partition)| {
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
            }));
        }
    }
}
