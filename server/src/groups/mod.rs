//! Consumer groups: who is in them, what each member is assigned, and how far each group has read.
//!
//! Everything that decides is a state machine without I/O: [`partition::GroupPartition`] holds the groups of
//! one `__consumer_offsets` partition, is told of requests, time and durable records, and says whom to answer
//! and what to append. Around it, the coordinator of each core reads, appends, waits and keeps time.

pub mod classic_group;
pub mod coordinator;
pub mod hosted;
pub mod log;
pub mod messages;
pub mod offsets;
pub mod partition;
pub mod records;
pub mod roster;
pub mod route;
pub mod settings;
pub mod timers;

mod commits;
mod fold;
mod joining;
mod membership;
mod rebalance;
mod replay;
mod syncing;
mod turn;
