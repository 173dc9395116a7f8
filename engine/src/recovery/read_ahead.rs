//! A file that is read from front to back: the next pieces are on their way while one is looked at.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use flumen_ring::AlignedBuffer;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesOrdered, StreamExt};

use crate::segment::{BLOCK_BYTES, align_down};
use crate::storage::{DataFile, StorageError};

/// A piece has this many bytes.
const PIECE_BYTES: u64 = 2 << 20;
/// So many pieces are on their way at a time, once somebody goes from one to the next.
const AHEAD: usize = 4;

/// Reads a file from front to back. Who goes elsewhere begins anew there, with one piece.
///
/// Invariant: `held` covers the file up to `held_end`, without a gap; `coming` from there up to `next`.
pub(super) struct ReadAhead {
    file: Rc<dyn DataFile>,
    /// What lies behind this is none of the file's.
    length: u64,
    held: VecDeque<Piece>,
    held_end: u64,
    coming: FuturesOrdered<LocalBoxFuture<'static, Result<Piece, StorageError>>>,
    next: u64,
    /// Whether a piece was read since the last jump.
    goes_on: bool,
    /// How much was read.
    pub(super) read_bytes: u64,
}

struct Piece {
    start: u64,
    bytes: Bytes,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// What it has of a range of the file.
    fn part(&self, from: u64, to: u64) -> Bytes {
        let (from, to) = (from.max(self.start), to.min(self.end()));
        if from >= to {
            return Bytes::new();
        }
        self.bytes.slice((from - self.start) as usize..(to - self.start) as usize)
    }
}

impl ReadAhead {
    pub(super) fn new(file: &Rc<dyn DataFile>, length: u64) -> Self {
        Self {
            file: file.clone(),
            length,
            held: VecDeque::new(),
            held_end: 0,
            coming: FuturesOrdered::new(),
            next: 0,
            goes_on: false,
            read_bytes: 0,
        }
    }

    /// `bytes` at `position`, or fewer at the end of the file. Whoever keeps some keeps the piece that they are of.
    pub(super) async fn at(&mut self, position: u64, bytes: usize) -> Result<Bytes, StorageError> {
        while self.held.front().is_some_and(|piece| piece.end() <= position) {
            self.held.pop_front();
        }
        let begin = self.held.front().map_or(self.held_end, |piece| piece.start);
        if position < begin || self.held_end < position {
            self.jump(position);
        }
        let end = position + bytes as u64;
        while self.held_end < end && self.held_end < self.length {
            self.read_on().await?;
        }
        if let Some(first) = self.held.front().filter(|first| end <= first.end()) {
            return Ok(first.part(position, end));
        }
        let mut joined = Vec::with_capacity(bytes);
        for piece in &self.held {
            joined.extend_from_slice(&piece.part(position, end));
        }
        Ok(joined.into())
    }

    fn jump(&mut self, position: u64) {
        self.held.clear();
        self.coming = FuturesOrdered::new();
        self.held_end = align_down(position);
        self.next = self.held_end;
        self.goes_on = false;
    }

    /// Waits for the next piece, and asks for those behind it.
    async fn read_on(&mut self) -> Result<(), StorageError> {
        let ahead = if self.goes_on { AHEAD } else { 1 };
        while self.coming.len() < ahead && self.next < self.length {
            let (file, start, length) = (self.file.clone(), self.next, self.length);
            self.next = (start + PIECE_BYTES).min(length);
            let left = (self.next - start) as usize;
            self.coming.push_back(Box::pin(async move {
                let wanted = left.next_multiple_of(BLOCK_BYTES as usize);
                let (result, buffer) = file.read(AlignedBuffer::large(wanted), start, wanted).await;
                let filled = result?.min(left);
                Ok(Piece { start, bytes: Bytes::from_owner(buffer).slice(..filled) })
            }));
        }
        self.goes_on = true;
        let Some(piece) = self.coming.next().await.transpose()? else {
            self.length = self.held_end;
            return Ok(());
        };
        self.read_bytes += piece.bytes.len() as u64;
        if piece.end() < (piece.start + PIECE_BYTES).min(self.length) {
            // The file is shorter than it was said to be.
            self.length = piece.end();
        }
        self.held_end = piece.end();
        self.held.push_back(piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
