//! What a process and a thread have cost so far, from /proc.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::BenchError;

/// The unit of CPU times in /proc/PID/stat. Linux shows user space 100 a second, whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has cost since its start, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessSample {
    /// CPU seconds in user and in system mode, with all of its threads, those that ended and the kernel's io
    /// workers included. Resolution: 10 ms.
    pub cpu_seconds: f64,
    /// Memory that is resident.
    pub rss_bytes: u64,
    /// Bytes that it caused to be read from storage.
    pub read_bytes: u64,
    /// Bytes that it caused to be written to storage, pages that were dirtied included.
    pub write_bytes: u64,
}

/// Reads a process's sample. What needs a right that we lack is zero, except for the CPU time.
pub fn sample(pid: u32) -> Result<ProcessSample, BenchError> {
    let wrong = |source| BenchError::io(format!("read the state of process {pid}"), source);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(wrong)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    Ok(ProcessSample {
        cpu_seconds: cpu_seconds(&stat)
            .ok_or_else(|| BenchError::Broker(format!("/proc/{pid}/stat is not as proc(5) describes it")))?,
        rss_bytes: number_after(&status, "VmRSS:") * 1024,
        read_bytes: number_after(&io, "read_bytes:"),
        write_bytes: number_after(&io, "\nwrite_bytes:"),
    })
}

/// How often a process's threads have gone to sleep and been woken, the living ones together.
pub fn wake_ups(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok())
        .map(|status| number_after(&status, "\nvoluntary_ctxt_switches:"))
        .sum()
}

/// How long each thread of a process has run.
pub fn thread_times(pid: u32) -> BTreeMap<OsString, Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    threads
        .filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            Some((thread.file_name(), ThreadTimes::of(&text).busy))
        })
        .collect()
}

/// The fields utime (14) and stime (15) of proc(5). The second field, the command, may contain anything, so
/// counting starts behind its closing bracket.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn number_after(text: &str, label: &str) -> u64 {
    let rest = text.split_once(label).map_or("", |(_, rest)| rest);
    rest.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// What the calling thread has had of its core.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ThreadTimes {
    /// It ran.
    pub busy: Duration,
    /// It was ready, and waited for a core.
    pub waited: Duration,
}

impl ThreadTimes {
    /// Of the calling thread, since its start.
    pub fn now() -> Self {
        Self::of(&fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default())
    }

    fn of(schedstat: &str) -> Self {
        let mut fields = schedstat.split_whitespace().map(|field| field.parse().unwrap_or(0));
        let mut next = || Duration::from_nanos(fields.next().unwrap_or(0));
        Self { busy: next(), waited: next() }
    }

    /// What came since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            busy: self.busy.saturating_sub(earlier.busy),
            waited: self.waited.saturating_sub(earlier.waited),
        }
    }
}

/// The process on this machine that listens on a port of this machine. Other users' processes are not found
/// without the right to look.
pub fn listening_on(address: SocketAddr) -> Option<u32> {
    let is_here = address.ip().is_loopback() || address.ip().is_unspecified();
    let inode = is_here.then(|| listener_inode(address.port())).flatten()?;
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok());
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|pid| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
        descriptors
            .filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok())
            .any(|target| target.as_os_str() == wanted.as_str())
    })
}

fn listener_inode(port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let table = fs::read_to_string(table).ok()?;
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let local_port = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
            (local_port == port && *fields.get(3)? == LISTEN).then(|| fields.get(9)?.parse().ok())?
        })
    })
}

/// Makes room for so many descriptors; says how many there may be if that is not enough.
pub fn allow_descriptors(wanted: u64) -> Result<(), BenchError> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        let maximum = limit.maximum.unwrap_or(0);
        return Err(BenchError::Refused(format!(
            "{wanted} file descriptors are needed, and this process may have {maximum}: raise `ulimit -Hn`, or use fewer connections"
        )));
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })
        .map_err(|errno| BenchError::io("raise the limit of file descriptors", io::Error::from(errno)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_command_with_brackets_and_spaces_is_passed_over() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 5 0 0";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("nonsense"), None);
    }

    #[test]
    fn this_process_has_memory_and_a_thread_that_ran() {
        assert!(sample(std::process::id()).expect("/proc is there").rss_bytes > 0);
        assert!(ThreadTimes::now().busy > Duration::ZERO);
        assert!(thread_times(std::process::id()).values().any(|busy| *busy > Duration::ZERO));
    }

    #[test]
    fn the_written_bytes_are_not_the_cancelled_ones() {
        let io = "rchar: 1\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 7\n";
        assert_eq!(number_after(io, "\nwrite_bytes:"), 8192);
        assert_eq!(number_after(io, "read_bytes:"), 4096);
    }

    #[test]
    fn a_listener_is_found_by_its_port() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        assert_eq!(listening_on(address), Some(std::process::id()));
        drop(listener);
        assert_eq!(listening_on(address), None);
    }

    #[test]
    fn too_many_descriptors_are_refused_by_name() {
        let refused = allow_descriptors(u64::MAX).map_err(|error| error.to_string());
        // A process without a limit may have any number.
        assert!(refused.is_ok() || refused.is_err_and(|error| error.contains("ulimit -Hn")));
    }
}
