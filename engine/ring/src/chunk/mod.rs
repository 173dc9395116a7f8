//! The memory of one core's cache: chunks of 2 MiB of one memfd, on huge pages.
//!
//! A chunk is at once the append buffer, the source of direct writes and the source of `sendfile`. Its life:
//!
//! ```text
//!        prepare (helper)        take            last region and slice dropped
//!  raw ------------------> ready -----> in use --------------------------------> ready   never sent by sendfile
//!   ^                                      |                                              (re-used in place)
//!   |                                      | sent by sendfile
//!   |                                      v
//!   |                                   retired
//!   |   every connection that took         | chunks are asked for: punched whole, on the helper,
//!   |   a part of it has drained           v and ready again with other memory if no connection pins it
//!   +------------------------------------ ghost
//! ```
//!
//! Memory that was not used before is found while a processor is idle, for the first chunks and for as many as were
//! missed: see `docs/decisions/grow-the-cache-slowly.md` and `docs/decisions/find-memory-when-idle.md`.
//!
//! **Invariants.** A page that `sendfile` handed to a socket is never written again: the network may refer to it
//! long after the peer acknowledged it. So a chunk that was sent is punched whole, which takes its pages out of
//! the file and leaves them to whoever still refers to them; never a part of it, which would split the huge page.
//! Until the connections have drained, the punched memory still exists: a ghost counts against the pool. Chunk
//! memory is never registered with io_uring, since after a punch the registered pages would be stale.

mod helpers;
mod mapping;
mod pool;
mod returns;
mod warm;

pub use helpers::ChunkHelpers;
pub use pool::{Chunk, ChunkPool, ChunkStats, PoolError};
pub(crate) use pool::{ChunkMemory, ChunkPin};

/// The size of a chunk: one huge page.
pub const CHUNK_BYTES: usize = crate::huge::HUGE_PAGE_BYTES;
