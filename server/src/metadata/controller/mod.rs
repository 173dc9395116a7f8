//! The embedded controller: what a request does to the cluster, as KRaft records.
//!
//! Its decisions are pure functions of an [`Image`] and a request, and give records and answers
//! ([`Decision`]). The driver, on core 0, appends the records of one decision as one batch, applies them once
//! they are durable, and lets every core have the new image before the answer leaves.

mod configs;
mod driver;
mod partitions;
mod requests;
mod start;
#[cfg(test)]
mod tests;
mod topics;

use kafka_protocol::error::ResponseError;
use uuid::Uuid;

use super::image::Image;
use super::records::Record;
use super::topic_config::Resolver;
use crate::config::{Settings, TopicDefaults};

pub use configs::{Change, ConfigChange, alter_configs};
pub use driver::{Controller, ControllerError, ControllerParts, MetadataLog, Publisher, Quorum, Unmade};
pub use partitions::create_partitions;
pub use requests::PRODUCER_ID_BLOCK;
pub use start::{Registration, SUPPORTED_FEATURES, bootstrap, register, resign};
pub use topics::{create_topics, delete_topics};

/// Records that one request may lead to, at most, as in Kafka (`QuorumController.MAX_RECORDS_PER_USER_OP`).
pub const RECORDS_PER_REQUEST_MAX: usize = 10_000;

/// Why the controller refuses something: Kafka's error and its words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error:?}: {}", .message.as_deref().unwrap_or("no message"))]
pub struct AdminError {
    /// The error code.
    pub error: ResponseError,
    /// What is said to the user.
    pub message: Option<String>,
}

impl AdminError {
    /// An error with words of its own.
    pub fn new(error: ResponseError, message: impl Into<String>) -> Self {
        Self { error, message: Some(message.into()) }
    }

    /// More records than one request may lead to.
    pub fn too_large() -> Self {
        Self::new(ResponseError::PolicyViolation, "Unable to perform excessively large batch operation.")
    }

    /// An error with the words that Kafka has for its code.
    pub fn plain(error: ResponseError) -> Self {
        let message = match error {
            ResponseError::UnknownTopicOrPartition => "This server does not host this topic-partition.",
            ResponseError::UnknownTopicId => "This server does not host this topic ID.",
            ResponseError::TopicDeletionDisabled => "Topic deletion is disabled.",
            _ => return Self { error, message: None },
        };
        Self::new(error, message)
    }
}

/// What a request leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<T> {
    /// To be written as one batch; none if nothing changes.
    pub records: Vec<Record>,
    /// The answer, once they are written.
    pub answer: T,
}

/// What decisions depend on beside the image.
pub struct Rules<'a> {
    /// This node.
    pub node_id: i32,
    /// Its log directory.
    pub directory_id: Uuid,
    /// What a new topic is like.
    pub topics: TopicDefaults,
    /// What a topic's configuration falls back to.
    pub settings: &'a Settings,
}

impl Rules<'_> {
    fn resolver<'a>(&'a self, image: &'a Image) -> Resolver<'a> {
        Resolver::new(self.settings, image, self.node_id)
    }
}
