//! Where a run took place: what a reader needs to judge its figures.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::device::Device;

/// The machine and the programs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// The processor's model.
    pub cpu: String,
    /// Cores of the machine.
    pub cores: usize,
    /// The machine's memory.
    pub memory_bytes: u64,
    /// The kernel's version.
    pub kernel: String,
    /// Processes that were ready to run in the last minute, on average. More than the cores: a busy machine.
    pub load_average: f64,
    /// The commit that the program was run from, if it stands in a checkout.
    pub commit: Option<String>,
    /// This program's version.
    pub version: String,
    /// The command that was given.
    pub command: Vec<String>,
    /// The data's file system and device, if the target is on this machine.
    pub storage: Option<Storage>,
}

/// A file system and its device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Storage {
    /// The type of file system, such as ext4.
    pub filesystem: String,
    /// The device's name.
    pub device: String,
    /// `write back` or `write through`.
    pub write_cache: String,
    /// The device's scheduler; the chosen one stands in brackets.
    pub scheduler: String,
}

impl Environment {
    /// Of now. `data`: where the target's data is.
    pub fn observe(data: Option<&Path>) -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
        let cpu = cpu.lines().find(|line| line.starts_with("model name"));
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            cpu: cpu.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, model)| model).to_owned(),
            cores,
            memory_bytes: first_number(memory.split_once("MemTotal:").map_or("", |(_, rest)| rest)) as u64
                * 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            load_average: first_number(&load),
            commit: commit(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: std::env::args().collect(),
            storage: data.and_then(Storage::under),
        }
    }

    /// One line of it.
    pub fn summary(&self) -> String {
        let storage = self.storage.as_ref().map_or(String::new(), |storage| {
            format!(", {} on {} ({})", storage.filesystem, storage.device, storage.write_cache)
        });
        let commit = self.commit.as_ref().map_or(String::new(), |commit| format!(", commit {commit}"));
        format!(
            "{} × {}, {:.0} GB, Linux {}{storage}{commit}, load average {:.1} at the start",
            self.cores,
            self.cpu,
            self.memory_bytes as f64 / 1e9,
            self.kernel,
            self.load_average
        )
    }
}

impl Storage {
    fn under(path: &Path) -> Option<Self> {
        let device = Device::under(path)?;
        Some(Self {
            filesystem: filesystem(path).unwrap_or_default(),
            write_cache: device.setting("write_cache").unwrap_or_default(),
            scheduler: device.setting("scheduler").unwrap_or_default(),
            device: device.name,
        })
    }
}

/// The type of the mount that is nearest above the path.
fn filesystem(path: &Path) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let nearest = mounts.filter(|(at, _)| path.starts_with(at)).max_by_key(|(at, _)| at.len());
    nearest.map(|(_, kind)| kind.to_owned())
}

fn first_number(text: &str) -> f64 {
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

fn commit() -> Option<String> {
    let folder = std::env::current_exe().ok()?.parent()?.to_owned();
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=9"])
        .current_dir(folder)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_cores_and_memory() {
        let environment = Environment::observe(Some(Path::new("/")));
        assert!(environment.cores > 0 && environment.memory_bytes > 1 << 20, "{environment:?}");
        assert!(environment.summary().contains("Linux"));
    }
}
