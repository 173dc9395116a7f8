//! A bound on a target's memory, its page cache included: a cgroup of its own, in which it is started.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::error::BenchError;

/// Numbers the groups of this process.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A cgroup. Dropped, it is removed; whoever was in it should be gone by then.
pub struct MemoryBound {
    group: PathBuf,
}

impl MemoryBound {
    /// Makes a group that may have so many bytes. That takes root, or a group that was delegated.
    pub fn make(bytes: u64) -> Result<Self, BenchError> {
        let membership = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let (home, file) = place(&membership, Path::new("/sys/fs/cgroup"))
            .ok_or_else(|| BenchError::Refused("no cgroup bounds memory here".to_owned()))?;
        let nth = MADE.fetch_add(1, Relaxed);
        let group = home.join(format!("flumen-bench-{}-{nth}", std::process::id()));
        let wrong = |source| BenchError::io(format!("bound memory in {}", group.display()), source);
        std::fs::create_dir(&group).map_err(wrong)?;
        let bound = Self { group: group.clone() };
        std::fs::write(group.join(file), bytes.to_string()).map_err(wrong)?;
        Ok(bound)
    }

    /// The command as one that starts in the group, with all that it starts itself.
    pub fn around(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        inside.args(["-c", r#"echo $$ >"$0" && exec "$@""#]);
        inside.arg(self.group.join("cgroup.procs")).arg(command.get_program()).args(command.get_args());
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        inside
    }
}

impl Drop for MemoryBound {
    fn drop(&mut self) {
        // An empty group that stays does no harm.
        let _ = std::fs::remove_dir(&self.group);
    }
}

/// The folder for a new group, and the file for its bound. In the first version of cgroups a group may be within
/// our own; in the second only beside it, as a group that has processes shares out nothing.
fn place(membership: &str, mount: &Path) -> Option<(PathBuf, &'static str)> {
    let mut second = None;
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, own) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        if controllers.split(',').any(|controller| controller == "memory") {
            return Some((mount.join("memory").join(own), "memory.limit_in_bytes"));
        }
        if controllers.is_empty() {
            let above = Path::new(own).parent().unwrap_or(Path::new(""));
            second = Some((mount.join(above), "memory.max"));
        }
    }
    second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_made_where_memory_is_bound() {
        let at = |membership| place(membership, Path::new("/m"));
        let second = |folder: &str| Some((PathBuf::from(folder), "memory.max"));
        assert_eq!(at("0::/user.slice/shell\n"), second("/m/user.slice"));
        assert_eq!(at("0::/\n"), second("/m/"));
        let first = Some((PathBuf::from("/m/memory/jobs/7"), "memory.limit_in_bytes"));
        assert_eq!(at("4:memory:/jobs/7\n1:cpu:/\n0::/\n"), first);
        assert_eq!(at(""), None);
    }

    #[test]
    fn a_command_keeps_its_arguments_and_its_environment() {
        let bound = MemoryBound { group: PathBuf::from("/nowhere") };
        let mut command = Command::new("echo");
        let inside = bound.around(command.arg("a b").env("HEAP", "1g"));
        let arguments: Vec<_> = inside.get_args().map(|argument| argument.to_string_lossy()).collect();
        assert_eq!(arguments[2..], ["/nowhere/cgroup.procs", "echo", "a b"]);
        assert!(inside.get_envs().any(|(name, value)| name == "HEAP" && value == Some("1g".as_ref())));
    }
}
