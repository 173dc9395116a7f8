//! The storage engine of Flumen: what one core owns of the partitions' logs, from append to recovery.
//!
//! It knows partitions, batches, offsets and epochs; topic names, API versions and error codes are the
//! server's. Every type here is of one core, unless it says that it travels.

#![forbid(unsafe_code)]

mod append;
pub mod batch;
mod cache;
mod checkpoint;
pub mod checkpoints;
mod core;
mod engine;
pub mod epochs;
mod expiry;
mod extents;
#[doc(hidden)]
pub mod fuzzing;
pub mod index;
pub mod journal;
pub mod layout;
mod log_config;
mod partition;
mod partitions;
pub mod producers;
mod read;
mod recent;
pub mod recovery;
mod retention;
mod segment;
mod sequence;
pub mod storage;
mod turns;
mod types;
mod write_behind;

pub use append::{Append, AppendError, AppendOrigin, Appended};
pub use engine::{CloseError, CreateError, Engine, EngineConfig, EngineStats, OpenError, OpenPartition};
pub use log_config::LogConfig;
pub use partition::{Partition, Watches};
pub use read::{AbortedTransaction, Available, Read, ReadError, ReadLimit, TimestampedOffset};
pub use recovery::{ClosedCore, RecoveredJournal, RecoveryError};
pub use types::{CoreId, LeaderEpoch, Offset, PartitionId, Position, ProducerEpoch, ProducerId, Timestamp};
