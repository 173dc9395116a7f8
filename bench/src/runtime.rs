//! The runtime of everything here that uses sockets.

/// Operations that may be submitted at once.
const ENTRIES: u32 = 1024;

/// Runs a task, and those that it spawns, on the calling thread until it is done.
pub fn start<F: Future>(task: F) -> F::Output {
    let mut ring = tokio_uring::uring_builder();
    // What has come is looked at when this thread next enters the kernel, which it does all the time. Otherwise
    // whoever sends to it interrupts its core for every message, at the target's expense as well.
    ring.setup_coop_taskrun();
    tokio_uring::builder().entries(ENTRIES).uring_builder(&ring).start(task)
}
