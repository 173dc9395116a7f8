//! The space of what was deleted, given back to the file system bit by bit.
//!
//! To unlink a segment of 1 GiB takes a file system 200 ms, and longer where it tells the device of every freed block
//! (mount option `discard`): all that time the writes and flushes that producers wait for stand behind it. So a large
//! file is cut shorter step by step, on a thread of its own, which leaves the disk to others for most of the time.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use flumen_ring::Helper;
use flumen_ring::process::free_share;

/// How much of a file is given back in one go: one or two milliseconds, also where the device is told.
const STEP_BYTES: u64 = 8 << 20;

/// After each step the disk is left to others for so many times as long as the step took.
const RESTS: u32 = 3;

/// With less than this share of the file system left, space is needed more than quiet.
const SHORT_OF_SPACE: f64 = 0.05;

/// Unlinks files that nobody waits for, one after the other.
#[derive(Debug)]
pub(super) struct Reclaimer {
    helper: Helper,
    pace: Arc<Pace>,
}

impl Reclaimer {
    /// Starts its thread.
    pub(super) fn start() -> io::Result<Self> {
        Ok(Self { helper: Helper::start_patient("flumen-reclaim")?, pace: Arc::default() })
    }

    /// Unlinks a file; a missing one is no error.
    pub(super) fn file(&self, path: PathBuf) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let pace = self.pace.clone();
        self.helper.run(move || reclaim_file(&path, &pace))
    }

    /// Unlinks a folder and everything in it; a missing one is no error.
    pub(super) fn directory(&self, path: PathBuf) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let pace = self.pace.clone();
        self.helper.run(move || reclaim_directory(&path, &pace))
    }
}

impl Drop for Reclaimer {
    fn drop(&mut self) {
        self.pace.end();
    }
}

/// What decides how fast it goes.
#[derive(Debug, Default)]
struct Pace {
    /// The directory is closed: what is left stays for its next start.
    is_ended: Mutex<bool>,
    ended: Condvar,
}

impl Pace {
    fn end(&self) {
        *self.is_ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ended.notify_all();
    }

    fn is_ended(&self) -> bool {
        *self.is_ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does one step, and leaves the disk to others.
    fn step(&self, path: &Path, step: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let began = Instant::now();
        step()?;
        let rest = began.elapsed() * RESTS;
        let is_short = free_share(path.parent().unwrap_or(path)).is_ok_and(|free| free < SHORT_OF_SPACE);
        if !is_short {
            let is_ended = self.is_ended.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.ended.wait_timeout_while(is_ended, rest, |is_ended| !*is_ended));
        }
        Ok(())
    }
}

fn reclaim_file(path: &Path, pace: &Pace) -> io::Result<()> {
    if pace.is_ended() {
        return Ok(());
    }
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    // What has another name, or is one, is somebody else's, too: of that only the name goes.
    if found.is_file() && found.nlink() == 1 && found.len() > STEP_BYTES {
        // A crash must not bring back what it was called before, when it was whole.
        path.parent().map_or(Ok(()), super::directory::sync_folder)?;
        let file = File::options().write(true).open(path)?;
        let mut length = found.len();
        while length > STEP_BYTES {
            length = shorter(length);
            pace.step(path, || file.set_len(length))?;
            if pace.is_ended() {
                return Ok(());
            }
        }
    }
    pace.step(path, || super::directory::missing_is_fine(fs::remove_file(path)))
}

/// The length after one step: a multiple of it.
fn shorter(length: u64) -> u64 {
    (length - 1) / STEP_BYTES * STEP_BYTES
}

fn reclaim_directory(path: &Path, pace: &Pace) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            reclaim_directory(&entry.path(), pace)?;
        } else {
            reclaim_file(&entry.path(), pace)?;
        }
    }
    if pace.is_ended() {
        return Ok(());
    }
    super::directory::missing_is_fine(fs::remove_dir(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::mpsc;

    use super::*;

    const LARGE: u64 = 3 * STEP_BYTES + 5;

    fn large_file(path: &Path) -> File {
        let file = File::create_new(path).expect("a file");
        file.set_len(LARGE).expect("a large one");
        file
    }

    #[test]
    fn a_file_gets_shorter_by_a_step_at_most() {
        let mut lengths = vec![LARGE];
        while let Some(length) = lengths.last().copied().filter(|length| *length > STEP_BYTES) {
            lengths.push(shorter(length));
        }
        assert_eq!(lengths, [LARGE, 3 * STEP_BYTES, 2 * STEP_BYTES, STEP_BYTES]);
    }

    #[test]
    fn a_large_file_is_cut_before_it_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("00000000000000000000.log.deleted");
        let open = large_file(&path);
        reclaim_file(&path, &Pace::default()).expect("unlinked");
        assert!(!path.exists());
        assert_eq!(
            open.metadata().expect("it is open").len(),
            STEP_BYTES,
            "its last step went with the name"
        );
        reclaim_file(&path, &Pace::default()).expect("a missing one is fine");
    }

    #[test]
    fn what_has_another_name_keeps_its_contents() {
        let folder = tempfile::tempdir().expect("a folder");
        let (kept, gone) = (folder.path().join("snapshot"), folder.path().join("log.deleted"));
        drop(large_file(&kept));
        fs::hard_link(&kept, &gone).expect("a second name");
        reclaim_file(&gone, &Pace::default()).expect("unlinked");
        symlink(&kept, &gone).expect("a link");
        reclaim_file(&gone, &Pace::default()).expect("unlinked");
        assert!(!gone.is_symlink());
        assert_eq!(fs::metadata(&kept).expect("there").len(), LARGE);
    }

    #[test]
    fn a_folder_goes_with_everything_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let retired = folder.path().join("topic-0.0123-delete");
        fs::create_dir_all(retired.join("unknown")).expect("folders");
        drop(large_file(&retired.join("00000000000000000000.log")));
        drop(large_file(&retired.join("unknown/file")));
        fs::write(retired.join("partition.metadata"), "version: 0").expect("written");
        reclaim_directory(&retired, &Pace::default()).expect("removed");
        assert!(!retired.exists());
        reclaim_directory(&retired, &Pace::default()).expect("a missing one is fine");
    }

    #[test]
    fn a_close_leaves_the_rest_for_the_next_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        drop(large_file(&first));
        drop(large_file(&second));
        let reclaimer = Reclaimer::start().expect("a thread");
        let (gate, opened) = mpsc::channel::<()>();
        let busy = reclaimer.helper.run(move || opened.recv().expect("the gate opens"));
        let (one, other) = (reclaimer.file(first.clone()), reclaimer.file(second.clone()));
        let helper = reclaimer.helper.clone();
        drop(reclaimer);
        gate.send(()).expect("the thread waits");
        let (done, all_done) = mpsc::channel::<()>();
        let last = helper.run(move || done.send(()).expect("somebody waits"));
        all_done.recv().expect("the queue ended");
        drop((busy, one, other, last));
        assert_eq!(fs::metadata(&first).expect("it stays").len(), LARGE);
        assert!(second.exists());
    }

    #[test]
    fn the_disk_is_left_to_others_after_a_step() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let began = Instant::now();
        let busy_for_a_while = || {
            while began.elapsed().as_millis() < 20 {}
            Ok(())
        };
        Pace::default().step(&path, busy_for_a_while).expect("done");
        let free = free_share(folder.path()).expect("a share");
        assert!((0.0..=1.0).contains(&free), "{free}");
        assert!(free < SHORT_OF_SPACE || began.elapsed().as_millis() >= 80, "it rested");
    }

    #[test]
    fn an_end_is_not_rested_for() {
        let pace = Pace::default();
        pace.end();
        let began = Instant::now();
        let busy_for_a_while = || {
            while began.elapsed().as_millis() < 100 {}
            Ok(())
        };
        pace.step(Path::new("/file"), busy_for_a_while).expect("done");
        assert!(began.elapsed().as_millis() < 300, "it did not rest");
    }
}
