//! What this process may use of the machine: its cores and its memory limit.

use std::io;
use std::path::{Path, PathBuf};

/// The cores that the calling thread may run on (affinity, cpusets), in ascending order; never empty.
pub fn allowed_cores() -> Vec<usize> {
    let mut cores = affinity::get_thread_affinity().unwrap_or_default();
    cores.sort_unstable();
    if cores.is_empty() { vec![0] } else { cores }
}

/// How many cores a process should use by default: those allowed, less what a cgroup's CPU quota denies.
pub fn available_parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Pins the calling thread to one core of the machine.
pub fn pin_current(core: usize) -> io::Result<()> {
    affinity::set_thread_affinity([core]).map_err(|error| io::Error::other(error.to_string()))
}

/// The core that the calling thread is on, for now. `None` where the kernel does not say.
pub fn current_core() -> Option<usize> {
    // SAFETY: sched_getcpu takes no pointers.
    usize::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// Runs `job` with the calling thread pinned to `core`; on any core where that cannot be done.
pub fn run_on<T>(core: Option<usize>, job: impl FnOnce() -> T) -> T {
    let allowed = affinity::get_thread_affinity();
    let is_pinned = core.is_some_and(|core| allowed.is_ok() && pin_current(core).is_ok());
    let result = job();
    if is_pinned && let Ok(allowed) = allowed {
        // It may be on all of them, as before: they were the kernel's own answer.
        affinity::set_thread_affinity(allowed).ok();
    }
    result
}

/// The memory that this process may use, in bytes: the lowest limit of its cgroup (v2 or v1) and those above
/// it, or the machine's memory.
pub fn memory_limit_bytes() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory(&text));
    let limit = std::fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|text| cgroup_limit(&text, Path::new("/sys/fs/cgroup")));
    match (machine, limit) {
        (Some(machine), Some(limit)) => machine.min(limit),
        (Some(bytes), None) | (None, Some(bytes)) => bytes,
        (None, None) => 1 << 30,
    }
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn cgroup_limit(membership: &str, mount: &Path) -> Option<u64> {
    let mut lowest: Option<u64> = None;
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (root, file) = if controllers.is_empty() {
            (mount.to_path_buf(), "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (mount.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        for folder in ancestors(&root, path) {
            let limit = std::fs::read_to_string(folder.join(file)).ok();
            let limit = limit.and_then(|text| text.trim().parse::<u64>().ok());
            lowest = match (lowest, limit) {
                (Some(lowest), Some(limit)) => Some(lowest.min(limit)),
                (lowest, limit) => lowest.or(limit),
            };
        }
    }
    lowest
}

/// `path` below `root`, and every folder between them; `root` itself last.
fn ancestors(root: &Path, path: &str) -> Vec<PathBuf> {
    let relative = Path::new(path.trim_start_matches('/'));
    relative.ancestors().map(|part| root.join(part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_on_the_way_up_counts() {
        let mount = tempfile::tempdir().expect("a folder");
        let leaf = mount.path().join("system.slice/broker.service");
        std::fs::create_dir_all(&leaf).expect("folders");
        std::fs::write(leaf.join("memory.max"), "max\n").expect("written");
        std::fs::write(mount.path().join("system.slice/memory.max"), "1048576\n").expect("written");
        let membership = "0::/system.slice/broker.service\n";
        assert_eq!(cgroup_limit(membership, mount.path()), Some(1 << 20));
        std::fs::write(leaf.join("memory.max"), "4096\n").expect("written");
        assert_eq!(cgroup_limit(membership, mount.path()), Some(4096));
        assert_eq!(cgroup_limit("0::/elsewhere\n", mount.path()), None);
    }

    #[test]
    fn a_job_runs_on_its_core_and_the_thread_is_free_again() {
        let allowed = allowed_cores();
        for core in &allowed {
            assert_eq!(run_on(Some(*core), || (current_core(), allowed_cores())), (Some(*core), vec![*core]));
            assert_eq!(allowed_cores(), allowed);
        }
        assert_eq!(run_on(Some(1023), allowed_cores), allowed, "no such core");
        assert_eq!(run_on(None, || 7), 7);
    }

    #[test]
    fn the_machine_is_not_empty() {
        assert_eq!(total_memory("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert!(memory_limit_bytes() > 1 << 20);
        assert!(!allowed_cores().is_empty());
        assert!(available_parallelism() >= 1);
    }
}
