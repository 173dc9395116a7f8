//! The metadata image: what all records up to an offset amount to.
//!
//! Immutable once it is published as `Arc<Image>`; the controller's copy changes record by record, and
//! shares every section that a record did not touch with the images before it. Nothing here is on the disk:
//! the image is rebuilt from a snapshot and the log behind it at each start, and [`Image::records`] is what a
//! snapshot of it holds.

mod cluster;
mod configs;
mod replay;
mod security;
mod shared_map;
mod snapshot;
#[cfg(test)]
mod tests;
mod topics;

use std::sync::Arc;

pub use cluster::{BrokerImage, Cluster};
pub use configs::{ConfigResource, Configs, ResourceKind};
pub use replay::Replay;
pub use security::Security;
pub use topics::{PartitionImage, TopicImage, Topics};
use uuid::Uuid;

use super::records::{Levels, Record};

/// `metadata.version`, the feature that decides in which versions records are written.
pub const METADATA_VERSION: &str = "metadata.version";

/// A record that contradicts the records before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A partition of, or a removal of, a topic that is not there.
    #[error("topic id {0} is unknown")]
    UnknownTopic(Uuid),
    /// A topic of a name or id that is there.
    #[error("topic {0} exists")]
    TopicExists(String),
    /// A change of a partition that is not there.
    #[error("partition {partition} of topic id {topic} is unknown")]
    UnknownPartition {
        /// The topic's id.
        topic: Uuid,
        /// The partition's index.
        partition: i32,
    },
    /// A change of a broker that is not registered, or was registered again since.
    #[error("broker {broker} is not registered with epoch {epoch}")]
    UnknownBroker {
        /// The broker's id.
        broker: i32,
        /// The epoch that the record names.
        epoch: i64,
    },
    /// A configuration of a resource of a kind that is unknown.
    #[error("configuration of the unknown resource type {0}")]
    UnknownResource(i8),
    /// A metadata version that is not understood.
    #[error(
        "metadata.version {0} is not understood: {min} (3.3-IV3) to {max} (4.3-IV0) are",
        min = Levels::METADATA_VERSION_MIN,
        max = Levels::METADATA_VERSION_MAX
    )]
    MetadataVersion(i16),
    /// A metadata transaction inside another one, or an end without a begin.
    #[error("a metadata transaction that begins or ends out of turn")]
    Transaction,
}

/// The state of the cluster after all records up to [`Image::offset`].
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Invariant: every record up to this one, and none behind it, is applied; −1 before the first.
    offset: i64,
    /// The epoch of the controller that wrote the record at `offset`.
    epoch: i32,
    topics: Arc<Topics>,
    configs: Arc<Configs>,
    cluster: Arc<Cluster>,
    security: Arc<Security>,
    /// The first producer id that no broker was given yet.
    next_producer_id: i64,
}

impl Default for Image {
    fn default() -> Self {
        Self {
            offset: -1,
            epoch: -1,
            topics: Arc::default(),
            configs: Arc::default(),
            cluster: Arc::default(),
            security: Arc::default(),
            next_producer_id: 0,
        }
    }
}

impl Image {
    /// The offset of the last record in it; −1 for none.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The epoch of the controller that wrote that record.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// The topics and their partitions.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.named(name)
    }

    /// The topic of this id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<TopicImage>> {
        self.topics.with_id(id)
    }

    /// What is configured dynamically, by resource.
    pub fn configs(&self) -> &Configs {
        &self.configs
    }

    /// Brokers, controllers and features.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Quotas, access control entries and credentials.
    pub fn security(&self) -> &Security {
        &self.security
    }

    /// The first producer id that no broker was given yet.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// What decides in which versions records are written. Before the first FeatureLevel record, the oldest.
    pub fn levels(&self) -> Levels {
        let metadata_version = self.cluster.feature(METADATA_VERSION);
        Levels { metadata_version: metadata_version.max(Levels::METADATA_VERSION_MIN) }
    }

    /// The state after `record`, which is not part of a metadata transaction (see [`Replay`]). On an error
    /// nothing has changed.
    pub fn apply(&mut self, record: &Record) -> Result<(), ApplyError> {
        match record {
            Record::Topic(record) => Arc::make_mut(&mut self.topics).create(record),
            Record::RemoveTopic(record) => {
                let name = Arc::make_mut(&mut self.topics).remove(record.topic_id)?;
                let resource = ConfigResource::topic(&name);
                if self.configs.of(&resource).is_some() {
                    Arc::make_mut(&mut self.configs).remove(&resource);
                }
                Ok(())
            }
            Record::Partition(record) => Arc::make_mut(&mut self.topics).set_partition(record),
            Record::PartitionChange(record) => Arc::make_mut(&mut self.topics).change_partition(record),
            Record::ClearElr(record) => {
                Arc::make_mut(&mut self.topics).clear_eligible_leaders(&record.topic_name);
                Ok(())
            }
            Record::Config(record) => Arc::make_mut(&mut self.configs).apply(record),
            Record::ProducerIds(record) => {
                self.next_producer_id = record.next_producer_id;
                Ok(())
            }
            Record::RegisterBroker(_)
            | Record::UnregisterBroker(_)
            | Record::BrokerRegistrationChange(_)
            | Record::FenceBroker(_)
            | Record::UnfenceBroker(_)
            | Record::RegisterController(_)
            | Record::FeatureLevel(_) => Arc::make_mut(&mut self.cluster).apply(record),
            Record::ClientQuota(_)
            | Record::AccessControlEntry(_)
            | Record::RemoveAccessControlEntry(_)
            | Record::UserScramCredential(_)
            | Record::RemoveUserScramCredential(_)
            | Record::DelegationToken(_)
            | Record::RemoveDelegationToken(_) => {
                Arc::make_mut(&mut self.security).apply(record);
                Ok(())
            }
            Record::NoOp(_) | Record::ZkMigrationState(_) => Ok(()),
            Record::BeginTransaction(_) | Record::EndTransaction(_) | Record::AbortTransaction(_) => {
                Err(ApplyError::Transaction)
            }
        }
    }

    /// Says that everything up to `offset`, written in `epoch`, is in the image.
    pub fn advance(&mut self, offset: i64, epoch: i32) {
        assert!(offset >= self.offset, "the image goes forward");
        self.offset = offset;
        self.epoch = epoch;
    }

    /// Gives an image that was read from a snapshot its place in the log: the snapshot's own offsets say
    /// nothing.
    pub fn rebase(&mut self, offset: i64, epoch: i32) {
        self.offset = offset;
        self.epoch = epoch;
    }
}
