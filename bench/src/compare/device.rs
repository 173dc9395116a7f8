//! A file system of a target's own whose power can be cut: ext4 on a loop device over an image file. It takes root.
//!
//! At a cut the file system stops at one moment, whatever load there is: what it has not handed to the device by then
//! never gets there, and whoever waits for a write or a flush hears of an error. What the device has got stays on it,
//! as if it had no volatile cache of its own. Mounted again, the file system replays its journal.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::BenchError;

/// What a killed process had under way holds the file system for a moment.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(30);
const GLANCE: Duration = Duration::from_millis(5);
/// What stops a file system, ext4's as well.
const CUTTER: &str = "xfs_io";
/// Where the tools are that an ordinary user's path leaves out.
const TOOLS: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// An image file, and the folder where its file system is mounted. Dropped, it is unmounted and removed; whoever uses
/// it should be gone by then.
pub struct Device {
    image: PathBuf,
    folder: PathBuf,
    is_mounted: bool,
}

impl Device {
    /// Makes an empty file system of so many bytes, most of which the image has not yet, and mounts it in `folder`.
    pub fn make(folder: &Path, bytes: u64) -> Result<Self, BenchError> {
        if !rustix::process::geteuid().is_root() {
            return Err(BenchError::Refused("a file system of its own takes root".to_owned()));
        }
        // Needed at the cut only, but nobody is to find out then.
        run(CUTTER, &["-V"], &[]).map_err(|error| {
            BenchError::Refused(format!(
                "a file system that can be stopped takes {CUTTER}, of xfsprogs: {error}"
            ))
        })?;
        let wrong = |source| BenchError::io(format!("make {}", folder.display()), source);
        std::fs::create_dir_all(folder).map_err(wrong)?;
        let image = folder.with_extension("image");
        File::create(&image).and_then(|file| file.set_len(bytes)).map_err(wrong)?;
        let device = Self { image, folder: folder.to_owned(), is_mounted: false };
        // A new image is zeros already.
        let options = ["-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1"];
        run("mkfs.ext4", &options, &[&device.image])?;
        device.mounted()
    }

    /// Stops the file system.
    pub fn cut(&self) -> Result<(), BenchError> {
        run(CUTTER, &["-x", "-c", "shutdown"], &[&self.folder]).map(drop)
    }

    /// Unmounts what is left after a cut, and mounts it again: the power is back.
    pub fn restore(mut self) -> Result<Self, BenchError> {
        self.unmount()?;
        self.mounted()
    }

    fn mounted(mut self) -> Result<Self, BenchError> {
        // The image is not to be in the page cache as well.
        let attached = run("losetup", &["--find", "--show", "--direct-io=on"], &[&self.image])?;
        let attached = Path::new(attached.trim());
        // The inode tables of a new file system are not made ready beside what is measured.
        let options = ["-t", "ext4", "-o", "noinit_itable"];
        let mounted = run("mount", &options, &[attached, &self.folder]);
        self.is_mounted = mounted.is_ok();
        // It is let go when the file system is.
        run("losetup", &["--detach"], &[attached])?;
        mounted.map(|_| self)
    }

    fn unmount(&mut self) -> Result<(), BenchError> {
        let began = Instant::now();
        while self.is_mounted {
            match run("umount", &[], &[&self.folder]) {
                Ok(_) => self.is_mounted = false,
                Err(error) if began.elapsed() > UNMOUNT_PATIENCE => return Err(error),
                Err(_) => std::thread::park_timeout(GLANCE),
            }
        }
        Ok(())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // What cannot be unmounted now goes when the last who uses it does.
        if self.unmount().is_err() {
            let _ = run("umount", &["--lazy"], &[&self.folder]);
        }
        let _ = std::fs::remove_file(&self.image);
    }
}

/// What a tool printed; what it complained of is the error.
fn run(tool: &str, options: &[&str], paths: &[&Path]) -> Result<String, BenchError> {
    let search = format!("{}:{TOOLS}", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(tool).args(options).args(paths).env("PATH", search).output();
    let output = output.map_err(|source| BenchError::io(format!("run {tool}"), source))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(BenchError::Refused(format!("{tool}: {words}")))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    #[test]
    fn after_a_cut_there_is_what_was_flushed() {
        let folder = Path::new("/var/tmp").join(format!("flumen-bench-device-{}", std::process::id()));
        // It takes root, and tools that may not be there.
        let Ok(device) = Device::make(&folder, 64 << 20) else { return };
        let mut flushed = File::create(folder.join("flushed")).expect("there is room");
        flushed.write_all(b"kept").expect("there is room");
        flushed.sync_all().expect("nothing failed yet");
        fs::write(folder.join("unflushed"), b"lost").expect("there is room");
        device.cut().expect("the file system stops");
        assert!(flushed.write_all(b"more").and_then(|()| flushed.sync_all()).is_err());
        drop(flushed);
        let device = device.restore().expect("its journal is replayed");
        assert_eq!(fs::read(folder.join("flushed")).expect("it was flushed"), b"kept");
        assert!(!folder.join("unflushed").exists());
        drop(device);
        assert!(!folder.with_extension("image").exists() && !folder.join("flushed").exists());
        fs::remove_dir(folder).expect("it is empty");
    }
}
