//! Messages from one core to another: a bounded queue, and a bell that is rung only for a sleeper.
//!
//! A mailbox has one sending and one receiving core. Its halves are made anywhere, travel to their threads,
//! and are attached to the ring there. While both cores are awake a message costs no system call.

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(not(loom))]
mod port;
mod queue;

#[cfg(not(loom))]
pub use port::{Full, Inbox, Outbox, Receiver, Sender, mailbox};
