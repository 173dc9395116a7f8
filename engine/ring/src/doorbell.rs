//! Waking a sleeping core, and only a sleeping one.
//!
//! A core that is about to sleep announces it, then looks at its queues a last time. A sender publishes, then
//! looks whether the core sleeps. Each side stores before it loads, with a `SeqCst` fence between, so at least
//! one of them sees the other: no message is left behind a sleeping core. loom proves it (`mailbox` tests).

#[cfg(not(loom))]
use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use crate::sync::{AtomicBool, Ordering, fence};

/// Whether a core sleeps. Free of system calls.
#[derive(Debug)]
pub(crate) struct SleepFlag {
    sleeping: AtomicBool,
}

impl SleepFlag {
    pub(crate) fn new() -> Self {
        Self { sleeping: AtomicBool::new(false) }
    }

    /// By the owner, before it looks at its queues for the last time.
    pub(crate) fn announce(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// By the owner, when it does not sleep (any longer).
    pub(crate) fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// By a sender, after it published: whether it is the one who must wake the owner.
    pub(crate) fn take_sleeper(&self) -> bool {
        fence(Ordering::SeqCst);
        self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel)
    }
}

/// The bell of one core: everything that wants to wake its reactor rings it.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct Doorbell {
    flag: SleepFlag,
    /// In blocking mode: the reactor keeps a read of it pending in its ring.
    event: OwnedFd,
}

#[cfg(not(loom))]
impl Doorbell {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointers.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and has no other owner.
        let event = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Self { flag: SleepFlag::new(), event })
    }

    pub(crate) fn flag(&self) -> &SleepFlag {
        &self.flag
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// Wakes the core if it sleeps. To be called after what it shall find was published.
    pub(crate) fn ring(&self) {
        if !self.flag.take_sleeper() {
            return;
        }
        let one = 1u64.to_ne_bytes();
        loop {
            // SAFETY: `one` is eight readable bytes.
            let written = unsafe { libc::write(self.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
            if written == one.len() as isize {
                return;
            }
            let error = io::Error::last_os_error();
            assert!(
                error.kind() == io::ErrorKind::Interrupted,
                "an eventfd takes a write of one while its counter is small: {error}"
            );
        }
    }
}
