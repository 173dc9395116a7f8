//! The io_uring reactor of Flumen: one pinned thread per core, its tasks, timers, sockets, files and memory.
//!
//! The only crate of the workspace with unsafe code and run-time system calls.

#![deny(unsafe_op_in_unsafe_fn)]

mod buffer;

pub use buffer::{AlignedBuffer, BUFFER_ALIGNMENT, Region, Slice};
