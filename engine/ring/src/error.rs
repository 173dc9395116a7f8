//! Why a reactor cannot start here, and what to do about it.

use std::io;

/// A reactor could not be set up on this machine.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The kernel lacks what the reactor is built on.
    #[error(
        "the kernel is {found}, but Flumen needs Linux 6.1 or newer (io_uring with SINGLE_ISSUER and DEFER_TASKRUN)"
    )]
    KernelTooOld {
        /// What `uname` says.
        found: String,
    },
    /// `io_uring_setup` was refused with EPERM or EACCES.
    #[error(
        "io_uring is forbidden here: {}",
        forbidden_advice(*.sysctl)
    )]
    Forbidden {
        /// `kernel.io_uring_disabled`, if it can be read.
        sysctl: Option<u8>,
    },
    /// `io_uring_setup` answered ENOSYS although the kernel is new enough.
    #[error(
        "io_uring_setup answers ENOSYS: the kernel was built without CONFIG_IO_URING, or a sandbox (gVisor, an old \
         seccomp profile) hides it; allow io_uring_setup, io_uring_enter and io_uring_register there"
    )]
    Missing,
    /// The rings' memory could not be charged or allocated.
    #[error(
        "no memory for an io_uring of {entries} entries (ENOMEM; this process may lock {memlock_bytes} bytes): raise the \
         limit with `ulimit -l`, LimitMEMLOCK= of the systemd unit or --ulimit memlock= of the container"
    )]
    Memory {
        /// The entries asked for.
        entries: u32,
        /// The soft RLIMIT_MEMLOCK.
        memlock_bytes: u64,
    },
    /// Anything else.
    #[error("{call}: {source}")]
    System {
        /// The system call.
        call: &'static str,
        /// What it said.
        source: io::Error,
    },
}

fn forbidden_advice(sysctl: Option<u8>) -> &'static str {
    match sysctl {
        Some(2) => "the sysctl kernel.io_uring_disabled is 2 (for everyone); set it to 0",
        Some(1) => {
            "the sysctl kernel.io_uring_disabled is 1 (all but a group and CAP_SYS_ADMIN); set it to 0, or add this \
             user's group to kernel.io_uring_group"
        }
        _ => {
            "a seccomp profile refuses it, as those of Docker and containerd do by default; run with a profile that \
             allows io_uring_setup, io_uring_enter and io_uring_register (docker: --security-opt seccomp=profile.json)"
        }
    }
}

impl SetupError {
    /// Explains what `io_uring_setup` or `io_uring_register` said.
    pub(crate) fn from_setup(entries: u32, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Forbidden { sysctl: io_uring_disabled() },
            Some(libc::ENOSYS) => Self::Missing,
            Some(libc::ENOMEM) => Self::Memory { entries, memlock_bytes: memlock_bytes() },
            Some(libc::EINVAL) => Self::KernelTooOld { found: kernel_release() },
            _ => Self::System { call: "io_uring_setup", source },
        }
    }
}

fn io_uring_disabled() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

fn memlock_bytes() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the kernel to fill.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    if result == 0 { limit.rlim_cur } else { 0 }
}

/// What `uname -r` says.
pub(crate) fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "of unknown version".to_owned(), |release| release.trim().to_owned())
}

/// Refuses a kernel below 6.1. A release that cannot be read is left to `io_uring_setup` to judge.
pub(crate) fn check_kernel(release: &str) -> Result<(), SetupError> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < (6, 1) => {
            Err(SetupError::KernelTooOld { found: release.to_owned() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_refused_by_name() {
        assert!(check_kernel("6.1.0-13-amd64").is_ok());
        assert!(check_kernel("6.18.44-fc-v595").is_ok());
        assert!(check_kernel("7.0.0").is_ok());
        let error = check_kernel("5.15.0-91-generic").expect_err("5.15 is too old").to_string();
        assert!(error.contains("5.15.0-91-generic") && error.contains("6.1"), "{error}");
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let say = |errno| SetupError::from_setup(512, io::Error::from_raw_os_error(errno)).to_string();
        assert!(say(libc::EPERM).contains("seccomp") || say(libc::EPERM).contains("io_uring_disabled"));
        assert!(say(libc::ENOSYS).contains("CONFIG_IO_URING"));
        assert!(say(libc::ENOMEM).contains("ulimit -l"));
    }
}
