//! The operations on the simulated disk: each takes its time, may fail, and may never come back.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use flumen_ring::AlignedBuffer;

use super::disk::{Disk, EIO, EMFILE, File, Folder, Inode, InodeId, SimDisk};
use super::runtime::{SimRuntime, one_shot};
use crate::storage::{
    DataFile, Directory, DirectoryEntry, OpenMode, Pending, Runtime, StorageError, StorageErrorKind,
    WriteSource,
};

/// What direct I/O asks for here.
const ALIGNMENT: usize = 512;
/// Errnos of Linux, by which the engine knows them.
const EEXIST: i32 = 17;
const ENOTDIR: i32 = 20;
const EISDIR: i32 = 21;
const EFBIG: i32 = 27;

/// A log directory on a [`SimDisk`], in one life of the process. Cloning it clones the handle.
#[derive(Clone)]
pub struct SimDirectory {
    runtime: Rc<SimRuntime>,
    disk: SimDisk,
}

impl SimDirectory {
    /// The root of `disk`, for the life `runtime`.
    pub fn new(runtime: Rc<SimRuntime>, disk: SimDisk) -> Rc<Self> {
        Rc::new(Self { runtime, disk })
    }

    /// An operation that takes effect between now and its completion, unless the power is cut first.
    fn operation<T: 'static>(
        &self,
        effect: impl FnOnce(&mut Disk) -> T + 'static,
    ) -> impl Future<Output = T> + 'static {
        let (runtime, disk) = (self.runtime.clone(), self.disk.clone());
        async move {
            if disk.inner.borrow_mut().step() {
                runtime.crash();
            }
            let (sender, receiver) = one_shot();
            let delay = disk.inner.borrow_mut().delay();
            let events = runtime.clone();
            runtime.schedule(delay, move || {
                let mut inner = disk.inner.borrow_mut();
                inner.wall_ms = events.wall_ms();
                let cut_before = inner.random.chance(1, 2);
                let cut = inner.step();
                if cut {
                    events.crash();
                }
                if !(cut && cut_before) {
                    let value = effect(&mut inner);
                    drop(inner);
                    sender.send(value);
                }
            });
            receiver.await
        }
    }

    fn on_names<T: 'static>(
        &self,
        operation: &'static str,
        path: &Path,
        effect: impl FnOnce(&mut Disk, &Path) -> Result<T, StorageErrorKind> + 'static,
    ) -> Pending<Result<T, StorageError>> {
        let path = path.to_owned();
        let ended = self.operation(move |disk| {
            let per_million = disk.faults.name_per_million;
            let result =
                if disk.fails(per_million) { Err(StorageErrorKind::Errno(EIO)) } else { effect(disk, &path) };
            result.map_err(|kind| StorageError { operation, path, position: 0, length: 0, kind })
        });
        Box::pin(ended)
    }

    /// Writes a whole small file, without a flush.
    fn write_small(&self, path: &Path, contents: Vec<u8>) -> Pending<Result<(), StorageError>> {
        let length = contents.len() as u64;
        self.on_names("write", path, move |disk, path| {
            let (parent, name) = disk.parent_or_missing(path)?;
            let inode = match disk.folder(parent).view.get(name).copied() {
                Some(inode) => {
                    disk.resize(inode, 0);
                    inode
                }
                None => {
                    let inode = disk.create(Inode::File(File::default()));
                    disk.folder_mut(parent).link(name, inode);
                    inode
                }
            };
            disk.grow(inode, length)?;
            let write = disk.begin_write(inode, 0, &contents);
            disk.end_write(write, false)
        })
    }
}

/// Where a small file is written before it takes its name.
fn temporary_of(path: &Path) -> PathBuf {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    PathBuf::from(temporary)
}

impl Disk {
    /// Mostly tens of microseconds, at times milliseconds.
    fn delay(&mut self) -> Duration {
        let micros = match self.random.index(16) {
            0 => self.random.range(1000..20_000),
            1..=3 => self.random.range(200..2000),
            _ => self.random.range(1..200),
        };
        Duration::from_micros(micros)
    }

    fn parent_or_missing<'p>(&self, path: &'p Path) -> Result<(InodeId, &'p str), StorageErrorKind> {
        self.parent(path).ok_or(StorageErrorKind::NotFound)
    }

    /// Unlinks everything below a folder.
    fn empty_tree(&mut self, inode: InodeId) {
        let Some(Inode::Folder(folder)) = self.inodes.get(&inode) else { return };
        let held: Vec<(String, InodeId)> =
            folder.view.iter().map(|(name, inode)| (name.clone(), *inode)).collect();
        for (name, held) in held {
            self.folder_mut(inode).unlink(&name);
            self.empty_tree(held);
        }
    }
}

impl Directory for SimDirectory {
    fn alignment(&self) -> usize {
        ALIGNMENT
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Pending<Result<Rc<dyn DataFile>, StorageError>> {
        let directory = self.clone();
        let opened = self.on_names("open", path, move |disk, path| {
            let (parent, name) = disk.parent_or_missing(path)?;
            if !disk.may_open() {
                return Err(StorageErrorKind::Errno(EMFILE));
            }
            let inode = match (disk.folder(parent).view.get(name).copied(), mode) {
                (Some(_), OpenMode::CreateNew) => return Err(StorageErrorKind::Errno(EEXIST)),
                (Some(inode), _) => inode,
                (None, OpenMode::Existing) => return Err(StorageErrorKind::NotFound),
                (None, _) => {
                    let inode = disk.create(Inode::File(File::default()));
                    disk.folder_mut(parent).link(name, inode);
                    inode
                }
            };
            if !matches!(disk.inodes[&inode], Inode::File(_)) {
                return Err(StorageErrorKind::Errno(EISDIR));
            }
            disk.file_mut(inode).open += 1;
            disk.stats.opens += 1;
            Ok((inode, path.to_owned()))
        });
        Box::pin(async move {
            let (inode, path) = opened.await?;
            Ok(Rc::new(SimFile { directory, inode, path }) as Rc<dyn DataFile>)
        })
    }

    fn read(&self, path: &Path, length_max: usize) -> Pending<Result<Vec<u8>, StorageError>> {
        self.on_names("read", path, move |disk, path| {
            let inode = disk.lookup(path).ok_or(StorageErrorKind::NotFound)?;
            match &disk.inodes[&inode] {
                Inode::Folder(_) => Err(StorageErrorKind::Errno(EISDIR)),
                Inode::File(file) if file.view.len() > length_max => Err(StorageErrorKind::Errno(EFBIG)),
                Inode::File(file) => Ok(file.view.clone()),
            }
        })
    }

    fn replace(&self, path: &Path, contents: Vec<u8>) -> Pending<Result<(), StorageError>> {
        let temporary = temporary_of(path);
        let written = self.write_small(&temporary, contents);
        let flushed = self.on_names("fsync", &temporary, |disk, path| {
            let inode = disk.lookup(path).ok_or(StorageErrorKind::NotFound)?;
            let barrier = disk.barrier();
            disk.end_flush(inode, barrier);
            Ok(())
        });
        let renamed = self.rename(&temporary, path);
        let synced = self.sync_directory(path.parent().unwrap_or(Path::new("")));
        Box::pin(async move {
            written.await?;
            flushed.await?;
            renamed.await?;
            synced.await
        })
    }

    fn replace_later(&self, path: &Path, contents: Vec<u8>) -> Pending<Result<(), StorageError>> {
        let temporary = temporary_of(path);
        let written = self.write_small(&temporary, contents);
        let renamed = self.rename(&temporary, path);
        Box::pin(async move {
            written.await?;
            renamed.await
        })
    }

    fn list(&self, path: &Path) -> Pending<Result<Vec<DirectoryEntry>, StorageError>> {
        self.on_names("list", path, |disk, path| {
            let inode = disk.lookup(path).ok_or(StorageErrorKind::NotFound)?;
            let Inode::Folder(folder) = &disk.inodes[&inode] else {
                return Err(StorageErrorKind::Errno(ENOTDIR));
            };
            let entry = |(name, inode): (&String, &InodeId)| match &disk.inodes[inode] {
                Inode::File(file) => DirectoryEntry {
                    name: name.clone(),
                    is_directory: false,
                    length: file.view.len() as u64,
                    modified_ms: Some(file.modified_ms),
                },
                Inode::Folder(_) => {
                    DirectoryEntry { name: name.clone(), is_directory: true, length: 0, modified_ms: None }
                }
            };
            Ok(folder.view.iter().map(entry).collect())
        })
    }

    fn create_directory(&self, path: &Path) -> Pending<Result<(), StorageError>> {
        self.on_names("mkdir", path, |disk, path| {
            let (parent, name) = disk.parent_or_missing(path)?;
            match disk.folder(parent).view.get(name).map(|inode| &disk.inodes[inode]) {
                Some(Inode::Folder(_)) => Ok(()),
                Some(Inode::File(_)) => Err(StorageErrorKind::Errno(EEXIST)),
                None => {
                    let inode = disk.create(Inode::Folder(Folder::default()));
                    disk.folder_mut(parent).link(name, inode);
                    Ok(())
                }
            }
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Pending<Result<(), StorageError>> {
        let to = to.to_owned();
        self.on_names("rename", from, move |disk, from| {
            let (from_parent, from_name) = disk.parent_or_missing(from)?;
            let (to_parent, to_name) = disk.parent_or_missing(&to)?;
            let inode = *disk.folder(from_parent).view.get(from_name).ok_or(StorageErrorKind::NotFound)?;
            if disk.faults.names_full {
                return Err(StorageErrorKind::NoSpace);
            }
            if from_parent == to_parent {
                disk.folder_mut(from_parent).rename_within(from_name, to_name, inode);
            } else {
                disk.folder_mut(to_parent).link(to_name, inode);
                disk.folder_mut(from_parent).unlink(from_name);
            }
            disk.sweep();
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> Pending<Result<(), StorageError>> {
        self.on_names("unlink", path, |disk, path| {
            let Some((parent, name)) = disk.parent(path) else { return Ok(()) };
            let Some(inode) = disk.folder(parent).view.get(name).copied() else { return Ok(()) };
            if matches!(disk.inodes[&inode], Inode::Folder(_)) {
                return Err(StorageErrorKind::Errno(EISDIR));
            }
            disk.folder_mut(parent).unlink(name);
            disk.sweep();
            Ok(())
        })
    }

    /// Readers and crashes come between the steps.
    fn reclaim_file(&self, path: &Path) -> Pending<Result<(), StorageError>> {
        let (directory, path) = (self.clone(), path.to_owned());
        Box::pin(async move {
            directory.sync_directory(path.parent().unwrap_or(Path::new(""))).await?;
            let halve = |disk: &mut Disk, path: &Path| {
                let Some((parent, name)) = disk.parent(path) else { return Ok(()) };
                let inode = disk.folder(parent).view.get(name).copied();
                if let Some(inode) = inode.filter(|inode| matches!(disk.inodes[inode], Inode::File(_))) {
                    disk.resize(inode, disk.file(inode).view.len() as u64 / 2);
                }
                Ok(())
            };
            directory.on_names("ftruncate", &path, halve).await?;
            directory.remove_file(&path).await
        })
    }

    fn remove_directory(&self, path: &Path) -> Pending<Result<(), StorageError>> {
        self.on_names("rmdir", path, |disk, path| {
            let Some((parent, name)) = disk.parent(path) else { return Ok(()) };
            let Some(inode) = disk.folder(parent).view.get(name).copied() else { return Ok(()) };
            disk.empty_tree(inode);
            disk.folder_mut(parent).unlink(name);
            disk.sweep();
            Ok(())
        })
    }

    fn sync_all(&self) -> Pending<Result<(), StorageError>> {
        let directory = self.clone();
        Box::pin(async move {
            let (barrier, others_micros) = {
                let disk = directory.disk.inner.borrow();
                (disk.barrier(), disk.faults.sync_all_micros)
            };
            if others_micros > 0 {
                directory.runtime.sleep(Duration::from_micros(others_micros)).await;
            }
            let flushed = directory.operation(move |disk| {
                let per_million = disk.faults.flush_per_million;
                let failed = disk.fails(per_million);
                let skipped = disk.files_not_flushed();
                let inodes: Vec<InodeId> = disk.inodes.keys().copied().collect();
                for inode in inodes {
                    match (&disk.inodes[&inode], failed) {
                        (Inode::File(_), true) => disk.fail_flush(inode, barrier),
                        (Inode::File(_), false) if skipped.contains(&inode) => {}
                        (Inode::File(_), false) => disk.end_flush(inode, barrier),
                        (Inode::Folder(_), false)
                            if disk.mutation != super::Mutation::DirectorySyncDoesNothing =>
                        {
                            disk.folder_mut(inode).sync();
                        }
                        (Inode::Folder(_), _) => {}
                    }
                }
                disk.sweep();
                if failed { Err(StorageErrorKind::Errno(EIO)) } else { Ok(()) }
            });
            flushed.await.map_err(|kind| StorageError {
                operation: "syncfs",
                path: PathBuf::new(),
                position: 0,
                length: 0,
                kind,
            })
        })
    }

    fn sync_directory(&self, path: &Path) -> Pending<Result<(), StorageError>> {
        self.on_names("fsync", path, |disk, path| {
            let inode = disk.lookup(path).ok_or(StorageErrorKind::NotFound)?;
            if !matches!(disk.inodes[&inode], Inode::Folder(_)) {
                return Err(StorageErrorKind::Errno(ENOTDIR));
            }
            if !disk.may_open() {
                return Err(StorageErrorKind::Errno(EMFILE));
            }
            if disk.mutation != super::Mutation::DirectorySyncDoesNothing {
                disk.folder_mut(inode).sync();
                disk.sweep();
            }
            Ok(())
        })
    }
}

/// An open file.
struct SimFile {
    directory: SimDirectory,
    inode: InodeId,
    path: PathBuf,
}

impl SimFile {
    fn error(
        &self,
        operation: &'static str,
        position: u64,
        length: u64,
    ) -> impl FnOnce(StorageErrorKind) -> StorageError + 'static {
        let path = self.path.clone();
        move |kind| StorageError { operation, path, position, length, kind }
    }

    fn check_aligned(&self, what: &str, position: u64, length: usize, address: *const u8) {
        let aligned = position.is_multiple_of(ALIGNMENT as u64)
            && length.is_multiple_of(ALIGNMENT)
            && (address as usize).is_multiple_of(ALIGNMENT);
        assert!(
            aligned,
            "unaligned {what} of {length} bytes at {position} of {}, from {address:?}",
            self.path.display()
        );
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        // A handle of an earlier life finds its file gone, or reset by the crash.
        if self.directory.runtime.is_crashed() {
            return;
        }
        let Ok(mut disk) = self.directory.disk.inner.try_borrow_mut() else { return };
        if let Some(Inode::File(file)) = disk.inodes.get_mut(&self.inode) {
            file.open = file.open.saturating_sub(1);
            disk.sweep();
        }
    }
}

impl DataFile for SimFile {
    fn read(
        &self,
        mut buffer: AlignedBuffer,
        position: u64,
        length: usize,
    ) -> Pending<(Result<usize, StorageError>, AlignedBuffer)> {
        self.check_aligned("read", position, length, buffer.as_ptr());
        assert!(length <= buffer.len(), "a read of {length} bytes into {}", buffer.len());
        let error = self.error("read", position, length as u64);
        let inode = self.inode;
        Box::pin(self.directory.operation(move |disk| {
            let per_million = disk.faults.read_per_million;
            if disk.fails(per_million) {
                let kinds = [StorageErrorKind::Errno(EIO), StorageErrorKind::Short];
                return (Err(error(*disk.random.pick(&kinds))), buffer);
            }
            let view = &disk.file(inode).view;
            let start = view.len().min(position as usize);
            let end = view.len().min(position as usize + length);
            buffer[..end - start].copy_from_slice(&view[start..end]);
            disk.stats.reads += 1;
            (Ok(end - start), buffer)
        }))
    }

    fn write(&self, source: WriteSource, position: u64) -> Pending<(Result<(), StorageError>, WriteSource)> {
        let bytes: &[u8] = match &source {
            WriteSource::Slice(slice) => slice,
            WriteSource::Buffer(buffer) => buffer,
        };
        self.check_aligned("write", position, bytes.len(), bytes.as_ptr());
        let error = self.error("write", position, bytes.len() as u64);
        let (directory, inode) = (self.directory.clone(), self.inode);
        Box::pin(async move {
            let bytes: &[u8] = match &source {
                WriteSource::Slice(slice) => slice,
                WriteSource::Buffer(buffer) => buffer,
            };
            let write = directory.disk.inner.borrow_mut().begin_write(inode, position, bytes);
            let ended = directory.operation(move |disk| {
                let per_million = disk.faults.write_per_million;
                let failed = disk.fails(per_million);
                (disk.end_write(write, failed).map_err(error), source)
            });
            ended.await
        })
    }

    fn length(&self) -> Pending<Result<u64, StorageError>> {
        let inode = self.inode;
        Box::pin(self.directory.operation(move |disk| Ok(disk.file(inode).view.len() as u64)))
    }

    fn holds_data_from(&self, position: u64) -> Pending<Result<bool, StorageError>> {
        let inode = self.inode;
        Box::pin(self.directory.operation(move |disk| {
            let behind = disk.file(inode).view.iter().skip(position as usize);
            Ok(behind.copied().any(|byte| byte != 0))
        }))
    }

    fn allocate(&self, position: u64, length: u64) -> Pending<Result<(), StorageError>> {
        let error = self.error("fallocate", position, length);
        let inode = self.inode;
        let allocated = self.directory.operation(move |disk| disk.grow(inode, position + length));
        Box::pin(async move { allocated.await.map_err(error) })
    }

    fn truncate(&self, length: u64) -> Pending<Result<(), StorageError>> {
        let error = self.error("ftruncate", length, 0);
        let inode = self.inode;
        let skips = self.directory.disk.inner.borrow().mutation.skips_cut_of(&self.path);
        let truncated = self.directory.operation(move |disk| {
            if skips {
                return Ok(());
            }
            if length < disk.file(inode).view.len() as u64 {
                disk.resize(inode, length);
                return Ok(());
            }
            disk.grow(inode, length)
        });
        Box::pin(async move { truncated.await.map_err(error) })
    }

    fn sync_data(&self) -> Pending<Result<(), StorageError>> {
        let error = self.error("fdatasync", 0, 0);
        let (directory, inode) = (self.directory.clone(), self.inode);
        let skips = directory.disk.inner.borrow().mutation.skips_flush_of(&self.path);
        Box::pin(async move {
            let barrier = directory.disk.inner.borrow().barrier();
            let flushed = directory.operation(move |disk| {
                let per_million = disk.faults.flush_per_million;
                if disk.fails(per_million) {
                    disk.fail_flush(inode, barrier);
                    return Err(error(StorageErrorKind::Errno(EIO)));
                }
                if !skips {
                    disk.end_flush(inode, barrier);
                }
                Ok(())
            });
            flushed.await
        })
    }
}
