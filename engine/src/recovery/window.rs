//! A file that is read from one place on, a piece at a time.

use std::rc::Rc;

use flumen_ring::AlignedBuffer;

use crate::segment::{BLOCK_BYTES, align_down};
use crate::storage::{DataFile, StorageError};

/// The piece of a file that was read last.
pub(super) struct Window<'a> {
    file: &'a Rc<dyn DataFile>,
    /// What lies behind this is none of the file's.
    length: u64,
    buffer: AlignedBuffer,
    start: u64,
    filled: usize,
    /// How much was read through it.
    pub(super) read_bytes: u64,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a Rc<dyn DataFile>, length: u64) -> Self {
        Self { file, length, buffer: AlignedBuffer::zeroed(0), start: 0, filled: 0, read_bytes: 0 }
    }

    /// `bytes` at `position`, or fewer at the end of the file. Where they are not at hand, at least a `piece` is read.
    pub(super) async fn at(
        &mut self,
        position: u64,
        bytes: usize,
        piece: usize,
    ) -> Result<&[u8], StorageError> {
        let end = (position + bytes as u64).min(self.length);
        let held = self.start <= position && end <= self.start + self.filled as u64;
        if !held && position < self.length {
            let start = align_down(position);
            let left = self.length - start;
            let wanted = ((position - start) as usize + bytes).max(piece).min(left as usize);
            let length = wanted.next_multiple_of(BLOCK_BYTES as usize);
            let mut buffer = std::mem::replace(&mut self.buffer, AlignedBuffer::zeroed(0));
            if buffer.len() < length {
                buffer = AlignedBuffer::recycled(length);
            }
            let (result, buffer) = self.file.read(buffer, start, length).await;
            self.filled = result?.min(left as usize);
            self.read_bytes += self.filled as u64;
            self.buffer = buffer;
            self.start = start;
        }
        let from = position.saturating_sub(self.start).min(self.filled as u64) as usize;
        let to = (from + bytes).min(self.filled);
        Ok(&self.buffer[from..to])
    }
}
