//! The io_uring reactor of Flumen: one pinned thread per core, its tasks, timers, sockets, files and memory.
//!
//! The only crate of the workspace with unsafe code and run-time system calls. One [`Reactor`] per thread; its
//! handle, [`Ring`], is passed to whatever starts operations. Under `cfg(loom)` only what makes no system call
//! is built: the buffers, the mailbox's queue and the sleep flag.

#![deny(unsafe_op_in_unsafe_fn)]

mod buffer;
mod copy;
mod doorbell;
mod mailbox;
mod sync;

#[cfg(not(loom))]
mod address;
#[cfg(not(loom))]
mod chunk;
#[cfg(not(loom))]
mod driver;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod executor;
#[cfg(not(loom))]
mod file;
#[cfg(not(loom))]
pub mod gate;
#[cfg(not(loom))]
mod helper;
#[cfg(not(loom))]
mod huge;
#[cfg(not(loom))]
mod listener;
#[cfg(not(loom))]
mod op;
#[cfg(not(loom))]
mod prefetch;
#[cfg(not(loom))]
pub mod process;
#[cfg(not(loom))]
mod reactor;
#[cfg(not(loom))]
pub mod semaphore;
#[cfg(not(loom))]
mod socket;
#[cfg(not(loom))]
mod timer;
#[cfg(not(loom))]
pub mod topology;
#[cfg(not(loom))]
mod transfer;

pub use buffer::{AlignedBuffer, BUFFER_ALIGNMENT, Region, Slice};
#[cfg(not(loom))]
pub use chunk::{CHUNK_BYTES, Chunk, ChunkHelpers, ChunkPool, ChunkStats, PoolError};
#[cfg(not(loom))]
pub use error::SetupError;
#[cfg(not(loom))]
pub use executor::JoinHandle;
#[cfg(not(loom))]
pub use file::{Alignment, File, FileLock, LockError, OpenOptions, ProbeError, probe_direct_io};
#[cfg(not(loom))]
pub use helper::Helper;
#[cfg(not(loom))]
pub use listener::Listener;
#[cfg(not(loom))]
pub use mailbox::{Full, Inbox, Outbox, Receiver, Sender, mailbox};
#[cfg(not(loom))]
pub use prefetch::prefetch;
#[cfg(not(loom))]
pub use reactor::{Reactor, ReactorConfig, ReactorStats, Ring, SLOW_POLL};
#[cfg(not(loom))]
pub use socket::Socket;
#[cfg(not(loom))]
pub use timer::Sleep;
#[cfg(not(loom))]
pub use transfer::{Buffer, BufferMut, SendPiece};
