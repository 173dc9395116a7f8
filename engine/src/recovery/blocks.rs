//! Any range of a file that is read and written in whole blocks.

use std::ops::Range;

use flumen_ring::AlignedBuffer;
use futures_util::future::try_join_all;

use crate::journal::format::BLOCK_BYTES;
use crate::segment::align_down;
use crate::storage::{DataFile, StorageError, WriteSource};

/// Files are read in pieces of this many bytes.
const READ_BYTES: usize = 1 << 20;

/// Writes bytes at any position of a file of `file_length` bytes that is written in whole blocks; says how long it is
/// then. The padding does not lengthen it: a segment that was cut to its exact size stays so.
pub(super) async fn write_run(
    file: &dyn DataFile,
    file_length: u64,
    position: u64,
    run: &[&[u8]],
) -> Result<u64, StorageError> {
    let block = BLOCK_BYTES as u64;
    let length: usize = run.iter().map(|bytes| bytes.len()).sum();
    let from = align_down(position);
    let end = position + length as u64;
    let to = end.next_multiple_of(block);
    let mut buffer = AlignedBuffer::recycled((to - from) as usize);
    // The first and the last block may hold other bytes too, or zeros where the file ends.
    let mut edges = Vec::with_capacity(2);
    if from < position {
        edges.push(from);
    }
    if end < to && edges.last() != Some(&(to - block)) {
        edges.push(to - block);
    }
    let read = try_join_all(edges.iter().map(|at| read_range(file, *at, BLOCK_BYTES))).await?;
    let file_length = file_length.max(end);
    for (at, found) in edges.into_iter().zip(read) {
        let start = (at - from) as usize;
        buffer[start..start + BLOCK_BYTES].fill(0);
        buffer[start..start + found.len()].copy_from_slice(&found);
    }
    let mut at = (position - from) as usize;
    for bytes in run {
        buffer[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    }
    file.write(WriteSource::Buffer(buffer), from).await.0?;
    if file_length < to {
        file.truncate(file_length).await?;
    }
    Ok(file_length)
}

/// Writes what a file that ends at `to` holds from `from` on once more, but for what is `vouched` for, in order; says
/// whether there was any. The flush of what it was first written by may have failed: then it can be read, but is lost
/// with the power, whatever a later flush says.
pub(super) async fn write_again(
    file: &dyn DataFile,
    from: u64,
    to: u64,
    vouched: impl Iterator<Item = Range<u64>>,
) -> Result<bool, StorageError> {
    let mut at = from;
    let mut is_written = false;
    for sound in vouched.chain(std::iter::once(to..to)) {
        while at < sound.start.min(to) {
            let upto = sound.start.min(to).min(at + READ_BYTES as u64);
            let bytes = read_range(file, at, (upto - at) as usize).await?;
            write_run(file, to, at, &[&bytes]).await?;
            is_written = true;
            at = upto;
        }
        at = at.max(sound.end);
    }
    Ok(is_written)
}

/// Up to `length` bytes at any position; fewer at the end of the file.
pub(super) async fn read_range(
    file: &dyn DataFile,
    position: u64,
    length: usize,
) -> Result<Vec<u8>, StorageError> {
    let block = BLOCK_BYTES as u64;
    let end = position + length as u64;
    let mut out = Vec::with_capacity(length);
    let mut at = position / block * block;
    while at < end {
        let wanted = ((end - at) as usize).next_multiple_of(BLOCK_BYTES).min(READ_BYTES);
        let (result, buffer) = file.read(AlignedBuffer::recycled(wanted), at, wanted).await;
        let read = result?;
        let skip = position.saturating_sub(at) as usize;
        let upto = read.min((end - at) as usize);
        if skip < upto {
            out.extend_from_slice(&buffer[skip..upto]);
        }
        if read < wanted {
            break;
        }
        at += wanted as u64;
    }
    Ok(out)
}
