//! What a block device has done so far, from /sys. It counts for everybody who uses the device.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::BenchError;

/// The block device under a path.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its name, such as nvme0n1p2.
    pub name: String,
    folder: PathBuf,
}

/// What a device has done since the machine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceSample {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Write requests.
    pub writes: u64,
    /// Milliseconds that the write requests took, all together.
    pub writing_ms: u64,
    /// Flushes of its cache.
    pub flushes: u64,
    /// Milliseconds that the flushes took, all together.
    pub flushing_ms: u64,
}

impl DeviceSample {
    /// What came since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            read_bytes: self.read_bytes.saturating_sub(earlier.read_bytes),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            writes: self.writes.saturating_sub(earlier.writes),
            writing_ms: self.writing_ms.saturating_sub(earlier.writing_ms),
            flushes: self.flushes.saturating_sub(earlier.flushes),
            flushing_ms: self.flushing_ms.saturating_sub(earlier.flushing_ms),
        }
    }

    /// What one write took, in milliseconds, on average; 0 if there was none.
    pub fn write_ms(&self) -> f64 {
        self.writing_ms as f64 / self.writes.max(1) as f64
    }

    /// What one flush took, in milliseconds, on average; 0 if there was none.
    pub fn flush_ms(&self) -> f64 {
        self.flushing_ms as f64 / self.flushes.max(1) as f64
    }
}

impl Device {
    /// `None` where the file system has no block device of its own, such as tmpfs or an overlay.
    pub fn under(path: &Path) -> Option<Self> {
        let device = existing(path)?.metadata().ok()?.dev();
        let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        let folder = Path::new("/sys/dev/block").join(number);
        let name = fs::canonicalize(&folder).ok()?.file_name()?.to_str()?.to_owned();
        Some(Self { name, folder })
    }

    /// What it has done so far.
    pub fn sample(&self) -> DeviceSample {
        parse(&fs::read_to_string(self.folder.join("stat")).unwrap_or_default())
    }

    /// A line of its queue's settings, such as `scheduler` or `write_cache`.
    pub fn setting(&self, key: &str) -> Option<String> {
        // A partition's settings are those of its disk, one folder above.
        let places = [self.folder.join("queue").join(key), self.folder.join("../queue").join(key)];
        places.iter().find_map(|place| fs::read_to_string(place).ok()).map(|text| text.trim().to_owned())
    }
}

/// The fields of Documentation/block/stat.rst: reads, merged, sectors (of 512 bytes), time; the same of writes;
/// three of the queue; four of discards; flushes and their time.
fn parse(stat: &str) -> DeviceSample {
    let fields: Vec<u64> = stat.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    let field = |index: usize| fields.get(index).copied().unwrap_or(0);
    DeviceSample {
        read_bytes: field(2) * 512,
        written_bytes: field(6) * 512,
        writes: field(4),
        writing_ms: field(7),
        flushes: field(15),
        flushing_ms: field(16),
    }
}

/// Refuses where the file system under `path` has no room for `bytes`.
pub fn expect_room(path: &Path, bytes: u64) -> Result<(), BenchError> {
    let Some(place) = existing(path) else { return Ok(()) };
    let Ok(space) = rustix::fs::statvfs(&place) else { return Ok(()) };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free < bytes {
        return Err(BenchError::Refused(format!(
            "{} has {:.1} GB free, and this would write up to {:.1} GB: free some, take less time or a lower rate, or say --bytes-max",
            place.display(),
            free as f64 / 1e9,
            bytes as f64 / 1e9
        )));
    }
    Ok(())
}

/// The path, or the nearest folder above that exists.
fn existing(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().find(|above| above.exists()).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_device_are_those_of_the_kernels_document() {
        let stat = " 10 1 200 5 30 2 4000 9 0 50 60 0 0 0 0 70 80";
        let wanted = DeviceSample {
            read_bytes: 102_400,
            written_bytes: 2_048_000,
            writes: 30,
            writing_ms: 9,
            flushes: 70,
            flushing_ms: 80,
        };
        assert_eq!(parse(stat), wanted);
        assert_eq!((wanted.write_ms(), wanted.flush_ms()), (0.3, 80.0 / 70.0));
        assert_eq!(DeviceSample::default().flush_ms(), 0.0);
        assert_eq!(parse(""), DeviceSample::default());
    }

    #[test]
    fn a_disk_without_room_is_refused() {
        assert!(expect_room(Path::new("/"), 0).is_ok());
        let refused = expect_room(Path::new("/no/such/folder"), u64::MAX).expect_err("no disk is so large");
        assert!(refused.to_string().contains("GB free"), "{refused}");
    }
}
