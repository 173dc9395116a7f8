//! A simulated world for the engine: a disk that fails in every way that is allowed to it, a clock that only
//! moves when nothing else can, and an executor that picks among ready tasks at random. One seed replays one
//! history.
//!
//! The fault model, written down before the code:
//!
//! - A sector (512 bytes) is atomic. Sectors that were written but not flushed are, after a crash, each the old
//!   or any of the newer contents, in no order: so a write of several sectors may be torn anywhere.
//! - A flush ([`DataFile::sync_data`]) makes durable what was written to **that file** before the flush began,
//!   and nothing else: space that was allocated but not flushed through the same file reads zeros after a crash,
//!   whatever was written to it (the conversion of an unwritten extent is metadata of the file).
//! - The length of a file (allocate, truncate, a write behind its end) changes durably only by its flush;
//!   unflushed changes survive a crash as a prefix of their order.
//! - Names (create, rename, unlink) are durable only after [`Directory::sync_directory`] of their folder; those
//!   that are not survive as a prefix of their order, folder by folder.
//! - Any operation may fail: no space, a failed write (some of its sectors may be there), a failed flush (what it
//!   should have flushed may never become durable, and no later flush says so), a failed read.
//! - Bits flip at rest where the history asks for it.
//! - A crash happens between any two operations, and in the middle of writes.
//!
//! What a correct engine never does is asserted, and fails the test: a position, length or address that is not
//! aligned, overlapping writes in flight, a resize over a write in flight.
//!
//! [`Directory::sync_directory`]: super::Directory::sync_directory
//! [`DataFile::sync_data`]: super::DataFile::sync_data

mod directory;
mod disk;
mod random;
mod runtime;

pub use directory::SimDirectory;
pub use disk::{DiskStats, FaultPlan, Mutation, SimDisk};
pub use random::Random;
pub use runtime::{SimRuntime, Stopped};

#[cfg(test)]
mod tests;
