//! Names in a log directory: opened through the ring, everything else on the directory's helper threads.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use flumen_ring::{ChunkPool, File, Helper, OpenOptions, Ring};

use super::file::RingFile;
use super::{LogDirectory, error_kind};
use crate::storage::{DataFile, Directory, DirectoryEntry, OpenMode, Pending, StorageError, Visited};

/// What a replacement is written to before it takes its name; Kafka's own checkpoints do the same.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// A log directory on one core's ring.
#[derive(Debug, Clone)]
pub struct RingDirectory {
    directory: LogDirectory,
    ring: Ring,
    /// The folder itself, once its file system was flushed: open from then on, to hear of every error since.
    folder: Arc<OnceLock<fs::File>>,
}

impl RingDirectory {
    pub(super) fn new(directory: LogDirectory, ring: Ring) -> Self {
        Self { directory, ring, folder: Arc::default() }
    }

    fn full_path(&self, path: &Path) -> PathBuf {
        self.directory.root.path.join(path)
    }

    /// The helper thread of a path: the same for all in one folder of the log directory, so that what is
    /// asked of one partition happens in order.
    fn helper(&self, path: &Path) -> &Helper {
        let mut hasher = DefaultHasher::new();
        path.components().next().hash(&mut hasher);
        let helpers = &self.directory.root.file_helpers;
        &helpers[(hasher.finish() % helpers.len() as u64) as usize]
    }

    /// Runs a blocking call on a helper thread.
    fn on_helper<T: Send + 'static>(
        &self,
        operation: &'static str,
        path: &Path,
        call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Pending<Result<T, StorageError>> {
        let full = self.full_path(path);
        Self::answered(self.helper(path).run(move || call(&full)), operation, path)
    }

    /// What a thread answers, with an error that says of what.
    fn answered<T: 'static>(
        running: impl Future<Output = io::Result<T>> + 'static,
        operation: &'static str,
        path: &Path,
    ) -> Pending<Result<T, StorageError>> {
        let path = path.to_path_buf();
        Box::pin(async move {
            running.await.map_err(|error| StorageError {
                operation,
                path,
                position: 0,
                length: 0,
                kind: error_kind(&error),
            })
        })
    }
}

impl Directory for RingDirectory {
    fn alignment(&self) -> usize {
        self.directory.root.alignment
    }

    /// A memfd on huge pages, from which fetches are sent without a copy.
    fn chunk_pool(&self, chunks: usize) -> ChunkPool {
        match ChunkPool::memfd(chunks, &self.directory.root.chunk_helpers) {
            Ok(mut pool) => {
                if !pool.stats().huge {
                    tracing::warn!("the kernel grants no huge pages for the cache: fetches are sent by copy");
                }
                pool
            }
            Err(error) => {
                tracing::warn!(%error, "the cache is of ordinary memory: fetches are sent by copy");
                ChunkPool::heap(chunks)
            }
        }
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Pending<Result<Rc<dyn DataFile>, StorageError>> {
        let (this, path) = (self.clone(), path.to_path_buf());
        Box::pin(async move {
            let root = &this.directory.root;
            let options = OpenOptions {
                create: mode == OpenMode::CreateOrOpen,
                create_new: mode == OpenMode::CreateNew,
                direct: root.direct,
            };
            let opened = File::open(&this.ring, this.helper(&path), &this.full_path(&path), options).await;
            match opened {
                Ok(file) => Ok(Rc::new(RingFile::new(file, &path, root.alignment)) as Rc<dyn DataFile>),
                Err(error) => Err(StorageError {
                    operation: "open",
                    path,
                    position: 0,
                    length: 0,
                    kind: error_kind(&error),
                }),
            }
        })
    }

    fn read(&self, path: &Path, length_max: usize) -> Pending<Result<Vec<u8>, StorageError>> {
        self.on_helper("read", path, move |full| read_whole(full, length_max))
    }

    fn replace(&self, path: &Path, contents: Vec<u8>) -> Pending<Result<(), StorageError>> {
        self.on_helper("replace", path, move |full| {
            let mut temporary = full.as_os_str().to_owned();
            temporary.push(TEMPORARY_SUFFIX);
            let mut file = fs::File::create(&temporary)?;
            file.write_all(&contents)?;
            file.sync_all()?;
            drop(file);
            fs::rename(&temporary, full)?;
            match full.parent() {
                Some(parent) => sync_folder(parent),
                None => Ok(()),
            }
        })
    }

    fn replace_later(&self, path: &Path, contents: Vec<u8>) -> Pending<Result<(), StorageError>> {
        self.on_helper("replace", path, move |full| {
            let mut temporary = full.as_os_str().to_owned();
            temporary.push(TEMPORARY_SUFFIX);
            fs::write(&temporary, &contents)?;
            fs::rename(&temporary, full)
        })
    }

    fn list(&self, path: &Path) -> Pending<Result<Vec<DirectoryEntry>, StorageError>> {
        self.on_helper("list", path, |full| list_folder(full, |_| true))
    }

    /// In one job.
    fn visit(
        &self,
        path: &Path,
        name: &str,
        length_max: usize,
        measured: fn(&str) -> bool,
    ) -> Pending<Result<Visited, StorageError>> {
        let name = name.to_owned();
        self.on_helper("list", path, move |full| {
            let entries = list_folder(full, measured)?;
            Ok((entries, read_if_there(&full.join(name), length_max)?))
        })
    }

    /// In one job.
    fn read_each(
        &self,
        folder: &Path,
        names: Vec<String>,
        length_max: usize,
    ) -> Pending<Result<Vec<Option<Vec<u8>>>, StorageError>> {
        let (folder, full) = (folder.to_path_buf(), self.full_path(folder));
        let running = self.helper(&folder).run(move || {
            let read = |name: String| match read_if_there(&full.join(&name), length_max) {
                Ok(contents) => Ok(contents),
                Err(error) => Err((name, error_kind(&error))),
            };
            names.into_iter().map(read).collect::<Result<_, _>>()
        });
        Box::pin(async move {
            running.await.map_err(|(name, kind)| StorageError {
                operation: "read",
                path: folder.join(name),
                position: 0,
                length: 0,
                kind,
            })
        })
    }

    fn create_directory(&self, path: &Path) -> Pending<Result<(), StorageError>> {
        self.on_helper("mkdir", path, |full| match fs::create_dir(full) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && full.is_dir() => Ok(()),
            result => result,
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Pending<Result<(), StorageError>> {
        let to = self.full_path(to);
        self.on_helper("rename", from, move |full| fs::rename(full, to))
    }

    fn remove_file(&self, path: &Path) -> Pending<Result<(), StorageError>> {
        self.on_helper("unlink", path, |full| missing_is_fine(fs::remove_file(full)))
    }

    fn remove_directory(&self, path: &Path) -> Pending<Result<(), StorageError>> {
        self.on_helper("rmdir", path, |full| missing_is_fine(fs::remove_dir_all(full)))
    }

    fn reclaim_file(&self, path: &Path) -> Pending<Result<(), StorageError>> {
        let running = self.directory.root.reclaimer.file(self.full_path(path));
        Self::answered(running, "unlink", path)
    }

    fn reclaim_directory(&self, path: &Path) -> Pending<Result<(), StorageError>> {
        let running = self.directory.root.reclaimer.directory(self.full_path(path));
        Self::answered(running, "rmdir", path)
    }

    fn sync_all(&self) -> Pending<Result<(), StorageError>> {
        let (path, folder) = (self.directory.root.path.clone(), self.folder.clone());
        let running = self.directory.root.sync_helper.run(move || {
            if folder.get().is_none() {
                // One job at a time: nobody else sets it.
                let _ = folder.set(fs::File::open(path)?);
            }
            flumen_ring::process::sync_file_system(folder.get().expect("it was opened"))
        });
        Self::answered(running, "syncfs", Path::new(""))
    }

    fn sync_directory(&self, path: &Path) -> Pending<Result<(), StorageError>> {
        self.on_helper("fsync", path, sync_folder)
    }
}

/// Most small files have no more, in bytes, and are read by two system calls.
const SMALL_BYTES: usize = 1024;

/// A file is larger than its reader allows.
const EFBIG: i32 = 27;

fn read_whole(path: &Path, length_max: usize) -> io::Result<Vec<u8>> {
    let file = fs::File::open(path)?;
    let mut contents = Vec::with_capacity(SMALL_BYTES.min(length_max));
    file.take(length_max as u64 + 1).read_to_end(&mut contents)?;
    if contents.len() > length_max {
        return Err(io::Error::from_raw_os_error(EFBIG));
    }
    Ok(contents)
}

fn read_if_there(path: &Path, length_max: usize) -> io::Result<Option<Vec<u8>>> {
    match read_whole(path, length_max) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Each entry that is asked how long it is costs a system call.
fn list_folder(path: &Path, measured: fn(&str) -> bool) -> io::Result<Vec<DirectoryEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // A name that is not UTF-8 is none of ours or Kafka's; one that vanished meanwhile is gone.
        let (Ok(name), Ok(kind)) = (entry.file_name().into_string(), entry.file_type()) else { continue };
        let is_directory = kind.is_dir();
        let (mut length, mut modified_ms) = (0, None);
        if !is_directory && measured(&name) {
            let Ok(metadata) = entry.metadata() else { continue };
            length = metadata.len();
            modified_ms = Some(metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000);
        }
        entries.push(DirectoryEntry { name, is_directory, length, modified_ms });
    }
    entries.sort();
    Ok(entries)
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

pub(super) fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
