//! For tests: a file in memory that can be read only, and counts what is read of it.

use std::borrow::Cow;
use std::cell::Cell;

use flumen_ring::AlignedBuffer;

use crate::segment::BLOCK_BYTES;
use crate::storage::{DataFile, Pending, StorageError, WriteSource};

pub(super) struct MemoryFile {
    pub(super) bytes: Cow<'static, [u8]>,
    pub(super) reads: Cell<u64>,
    pub(super) read_bytes: Cell<u64>,
}

impl MemoryFile {
    pub(super) fn new(bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        Self { bytes: bytes.into(), reads: Cell::new(0), read_bytes: Cell::new(0) }
    }
}

impl DataFile for MemoryFile {
    fn read(
        &self,
        mut buffer: AlignedBuffer,
        position: u64,
        length: usize,
    ) -> Pending<(Result<usize, StorageError>, AlignedBuffer)> {
        assert!(position.is_multiple_of(BLOCK_BYTES) && (length as u64).is_multiple_of(BLOCK_BYTES));
        let from = (position as usize).min(self.bytes.len());
        let read = length.min(self.bytes.len() - from);
        buffer[..read].copy_from_slice(&self.bytes[from..from + read]);
        self.reads.set(self.reads.get() + 1);
        self.read_bytes.set(self.read_bytes.get() + read as u64);
        Box::pin(async move { (Ok(read), buffer) })
    }

    fn write(&self, _: WriteSource, _: u64) -> Pending<(Result<(), StorageError>, WriteSource)> {
        panic!("it can be read only")
    }

    fn length(&self) -> Pending<Result<u64, StorageError>> {
        let length = self.bytes.len() as u64;
        Box::pin(async move { Ok(length) })
    }

    fn holds_data_from(&self, position: u64) -> Pending<Result<bool, StorageError>> {
        let holds = self.bytes.iter().skip(position as usize).any(|byte| *byte != 0);
        Box::pin(async move { Ok(holds) })
    }

    fn allocate(&self, _: u64, _: u64) -> Pending<Result<(), StorageError>> {
        panic!("it can be read only")
    }

    fn truncate(&self, _: u64) -> Pending<Result<(), StorageError>> {
        panic!("it can be read only")
    }

    fn sync_data(&self) -> Pending<Result<(), StorageError>> {
        panic!("it can be read only")
    }
}
