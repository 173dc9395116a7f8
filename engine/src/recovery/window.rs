//! A file that is read from one place on, a piece at a time.

use std::rc::Rc;

use flumen_ring::AlignedBuffer;

use super::held::HeldLog;
use crate::Offset;
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
    /// What need not be read, of this segment.
    held: Option<(&'a HeldLog, Offset)>,
    /// How much was read through it.
    pub(super) read_bytes: u64,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a Rc<dyn DataFile>, length: u64) -> Self {
        Self {
            file,
            length,
            buffer: AlignedBuffer::zeroed(0),
            start: 0,
            filled: 0,
            held: None,
            read_bytes: 0,
        }
    }

    /// Has `held` looked at before the file, which is that of the segment at `base`.
    pub(super) fn holding(self, held: &'a HeldLog, base: Offset) -> Self {
        Self { held: Some((held, base)), ..self }
    }

    /// `bytes` at `position`, or fewer at the end of the file. Where they are not at hand, at least a `piece` is read.
    pub(super) async fn at(
        &mut self,
        position: u64,
        bytes: usize,
        piece: usize,
    ) -> Result<&[u8], StorageError> {
        let end = (position + bytes as u64).min(self.length);
        if let Some((log, base)) = self.held
            && position < end
            && let Some(found) = log.at(base, position, (end - position) as usize)
        {
            return Ok(found);
        }
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt;

    use super::super::memory_file::MemoryFile;
    use super::*;

    #[test]
    fn what_is_held_is_not_read() {
        let content: Vec<u8> = (0..20_000).map(|at| (at / 7) as u8).collect();
        let held =
            HeldLog::of([(5000, 100), (5100, 7000)].into_iter().map(|(at, length)| {
                (Offset(0), at as u64, Bytes::copy_from_slice(&content[at..at + length]))
            }));
        let memory = Rc::new(MemoryFile::new(content.clone()));
        let file: Rc<dyn DataFile> = memory.clone();
        let mut window = Window::new(&file, 20_000).holding(&held, Offset(0));
        let mut at = |position: usize, bytes: usize, reads: u64| {
            let found = window.at(position as u64, bytes, 1).now_or_never().expect("nothing waits");
            let found = found.expect("read");
            assert_eq!(found, &content[position..(position + bytes).min(content.len())]);
            assert_eq!(memory.reads.get(), reads, "{bytes} at {position}");
        };
        at(5000, 100, 0);
        at(5050, 20, 0);
        at(5100, 7000, 0);
        // Of two parts, and behind them.
        at(5090, 20, 1);
        at(12_100, 50, 2);
        at(19_990, 50, 3);
        let mut other = Window::new(&file, 20_000).holding(&held, Offset(7));
        let found = other.at(5000, 100, 1).now_or_never().expect("nothing waits");
        assert_eq!((found.expect("read").len(), memory.reads.get()), (100, 4));
    }
}
