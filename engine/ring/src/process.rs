//! What a server asks of the system beside its reactors: descriptors, its file systems, its host's name, word of a stop.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Raises the limit of open descriptors to what the system allows this process; returns it.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the kernel to fill.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a valid rlimit, and only read.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

/// Makes everything on the file system of `file`, which may be a folder, durable (syncfs(2)). Errors of earlier writes
/// are reported since Linux 5.8, once for each time that a file was opened: who has to hear of all of them keeps one
/// open. Blocks.
pub fn sync_file_system(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file` lives, behind the call.
    if unsafe { libc::syncfs(file.as_raw_fd()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // ext4 without a journal flushes its device before it writes the last blocks of inodes (sync_filesystem of kernel
    // 6.18, and seen there by block_rq_issue). What they are written behind is this file's flush.
    file.sync_data()
}

/// How much of the file system of `path` this user may still write to, from 0 to 1 (statvfs(3)).
pub fn free_share(path: &Path) -> io::Result<f64> {
    let path =
        CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: statvfs is plain memory, for the kernel to fill.
    let mut status: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with a 0, and both live over the call.
    if unsafe { libc::statvfs(path.as_ptr(), &mut status) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(status.f_bavail as f64 / (status.f_blocks as f64).max(1.0))
}

/// What this machine calls itself (gethostname(2)).
pub fn host_name() -> io::Result<String> {
    let mut name = [0_u8; 256];
    // SAFETY: at most the buffer's length is written; its last byte stays 0.
    if unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let name = CStr::from_bytes_until_nul(&name).expect("the last byte is 0");
    Ok(name.to_string_lossy().into_owned())
}

/// What ends the process, held back from every thread until somebody waits for it: SIGTERM, SIGINT, and the loss of its
/// terminal, SIGHUP, unless whoever started the process has it ignored (nohup(1)).
#[derive(Debug)]
pub struct StopSignals {
    set: libc::sigset_t,
}

impl StopSignals {
    /// Blocks the signals for this thread and those that it starts from now on: call it before any other
    /// thread runs.
    pub fn block() -> io::Result<Self> {
        let hangs_up = !is_ignored(libc::SIGHUP)?;
        // SAFETY: sigset_t is plain memory; sigemptyset gives it its first meaning.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is valid for these calls, and the signals are real ones.
        let result = unsafe {
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGTERM);
            libc::sigaddset(&mut set, libc::SIGINT);
            if hangs_up {
                libc::sigaddset(&mut set, libc::SIGHUP);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut())
        };
        if result == 0 { Ok(Self { set }) } else { Err(io::Error::from_raw_os_error(result)) }
    }

    /// Waits for one of them; returns its name. Blocks this thread: never on a reactor's.
    pub fn wait(&self) -> &'static str {
        loop {
            let mut signal = 0;
            // SAFETY: both pointers are valid for the call.
            let result = unsafe { libc::sigwait(&self.set, &mut signal) };
            match (result, signal) {
                (0, libc::SIGINT) => return "SIGINT",
                (0, libc::SIGHUP) => return "SIGHUP",
                (0, _) => return "SIGTERM",
                _ => {}
            }
        }
    }
}

/// Whether the process was started with the signal ignored.
fn is_ignored(signal: libc::c_int) -> io::Result<bool> {
    // SAFETY: sigaction is plain memory, for the kernel to fill.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: nothing is changed, and `action` lives over the call.
    if unsafe { libc::sigaction(signal, std::ptr::null(), &mut action) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(action.sa_sigaction == libc::SIG_IGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_has_a_name_and_descriptors_a_limit() {
        assert!(!host_name().expect("gethostname works").is_empty());
        assert!(raise_descriptor_limit().expect("the hard limit is allowed") >= 256);
    }
}
