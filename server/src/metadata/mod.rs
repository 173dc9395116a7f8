//! The cluster's metadata: KRaft records, the image made of them, and the controller that writes them.
//!
//! The records live in `__cluster_metadata-0` in Kafka's own format; core 0 writes them, every core holds
//! the same immutable image.

pub mod codec;
pub mod controller;
pub mod directory;
pub mod image;
pub mod log;
pub mod quorum;
pub mod records;
pub mod strays;
pub mod topic_config;
pub mod topic_name;
pub mod uuid_text;
