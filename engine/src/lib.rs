//! The storage engine of Flumen: what one core owns of the partitions' logs, from append to recovery.
//!
//! It knows partitions, batches, offsets and epochs; topic names, API versions and error codes are the
//! server's. Every type here is of one core, unless it says that it travels.

#![forbid(unsafe_code)]

mod log_config;
pub mod storage;
mod types;

pub use log_config::LogConfig;
pub use types::{CoreId, LeaderEpoch, Offset, PartitionId, Position, ProducerEpoch, ProducerId, Timestamp};
