//! A data file on the ring.

use std::io;
use std::path::{Path, PathBuf};

use flumen_ring::{AlignedBuffer, File};

use super::error_kind;
use crate::storage::{DataFile, Pending, StorageError, WriteSource};

/// One open file, and what its errors say.
#[derive(Clone)]
pub(super) struct RingFile {
    file: File,
    /// Relative to the log directory.
    path: PathBuf,
    alignment: usize,
}

impl RingFile {
    pub(super) fn new(file: File, path: &Path, alignment: usize) -> Self {
        Self { file, path: path.to_path_buf(), alignment }
    }

    fn error(&self, operation: &'static str, position: u64, length: u64, error: &io::Error) -> StorageError {
        StorageError { operation, path: self.path.clone(), position, length, kind: error_kind(error) }
    }

    fn check_alignment(&self, pointer: *const u8, length: usize, position: u64) {
        let aligned = pointer.addr().is_multiple_of(self.alignment)
            && length.is_multiple_of(self.alignment)
            && position.is_multiple_of(self.alignment as u64);
        assert!(
            aligned,
            "{}: {length} bytes at {position} from {pointer:p} are not aligned to {}",
            self.path.display(),
            self.alignment
        );
    }
}

impl DataFile for RingFile {
    fn read(
        &self,
        buffer: AlignedBuffer,
        position: u64,
        length: usize,
    ) -> Pending<(Result<usize, StorageError>, AlignedBuffer)> {
        self.check_alignment(buffer.as_ptr(), length, position);
        let this = self.clone();
        Box::pin(async move {
            let (result, buffer) = this.file.read_at(buffer, 0..length, position).await;
            (result.map_err(|error| this.error("read", position, length as u64, &error)), buffer)
        })
    }

    fn write(&self, source: WriteSource, position: u64) -> Pending<(Result<(), StorageError>, WriteSource)> {
        let this = self.clone();
        Box::pin(async move {
            let (result, length, source) = match source {
                WriteSource::Slice(slice) => {
                    let length = slice.len();
                    this.check_alignment(slice.as_ptr(), length, position);
                    let (result, slice) = this.file.write_at(slice, 0..length, position).await;
                    (result, length, WriteSource::Slice(slice))
                }
                WriteSource::Buffer(buffer) => {
                    let length = buffer.len();
                    this.check_alignment(buffer.as_ptr(), length, position);
                    let (result, buffer) = this.file.write_at(buffer, 0..length, position).await;
                    (result, length, WriteSource::Buffer(buffer))
                }
            };
            (result.map_err(|error| this.error("write", position, length as u64, &error)), source)
        })
    }

    fn length(&self) -> Pending<Result<u64, StorageError>> {
        let this = self.clone();
        Box::pin(async move { this.file.length().await.map_err(|error| this.error("fstat", 0, 0, &error)) })
    }

    fn holds_data_from(&self, position: u64) -> Pending<Result<bool, StorageError>> {
        let this = self.clone();
        Box::pin(async move {
            let result = this.file.holds_data_from(position).await;
            result.map_err(|error| this.error("lseek", position, 0, &error))
        })
    }

    fn allocate(&self, position: u64, length: u64) -> Pending<Result<(), StorageError>> {
        let this = self.clone();
        Box::pin(async move {
            let result = this.file.allocate(position, length).await;
            result.map_err(|error| this.error("fallocate", position, length, &error))
        })
    }

    fn truncate(&self, length: u64) -> Pending<Result<(), StorageError>> {
        let this = self.clone();
        Box::pin(async move {
            let result = this.file.truncate(length).await;
            result.map_err(|error| this.error("ftruncate", length, 0, &error))
        })
    }

    fn sync_data(&self) -> Pending<Result<(), StorageError>> {
        let this = self.clone();
        Box::pin(
            async move { this.file.sync_data().await.map_err(|error| this.error("fdatasync", 0, 0, &error)) },
        )
    }
}
