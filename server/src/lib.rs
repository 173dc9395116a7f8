//! Kafka's front end: the protocol, metadata, groups and configuration on top of the engine.
#![forbid(unsafe_code)]

pub mod auto_creation;
pub mod broker;
pub mod budget;
pub mod compression;
pub mod config;
pub mod connection;
pub mod connections;
pub mod dispatch;
pub mod fetch_session;
pub mod fetch_watches;
#[doc(hidden)]
pub mod fuzzing;
pub mod groups;
pub mod handlers;
pub mod listener;
pub mod log_output;
pub mod memory;
pub mod messages;
pub mod metadata;
pub mod owners;
pub mod placement;
pub mod producer_ids;
pub mod shard;
pub mod time_slice;
