//! Against a file in memory.

use std::sync::LazyLock;

use futures_util::FutureExt;
use proptest::prelude::*;

use super::super::memory_file::MemoryFile;
use super::*;

/// A file of up to twenty MiB.
fn memory(length: usize) -> Rc<MemoryFile> {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        (0..20 << 18).flat_map(|at: u32| at.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect()
    });
    Rc::new(MemoryFile::new(&BYTES[..length]))
}

fn read(ahead: &mut ReadAhead, position: u64, bytes: usize) -> Vec<u8> {
    ahead.at(position, bytes).now_or_never().expect("nothing here waits").expect("nothing fails").to_vec()
}

#[test]
fn from_front_to_back_each_byte_is_read_once() {
    let memory = memory(9 * PIECE_BYTES as usize + 4096);
    let file: Rc<dyn DataFile> = memory.clone();
    let mut ahead = ReadAhead::new(&file, memory.bytes.len() as u64);
    for at in (0..memory.bytes.len()).step_by(600_000) {
        let end = (at + 600_000).min(memory.bytes.len());
        assert!(read(&mut ahead, at as u64, 600_000) == memory.bytes[at..end], "at {at}");
        assert!(ahead.held.len() <= 2, "{} pieces are held", ahead.held.len());
    }
    assert_eq!(ahead.read_bytes, memory.bytes.len() as u64);
    assert_eq!(memory.reads.get(), 10);
}

#[test]
fn who_only_looks_reads_one_piece() {
    let memory = memory(9 * PIECE_BYTES as usize);
    let file: Rc<dyn DataFile> = memory.clone();
    let mut ahead = ReadAhead::new(&file, memory.bytes.len() as u64);
    for position in [5 * PIECE_BYTES + 4096, 4096] {
        let before = memory.reads.get();
        assert_eq!(read(&mut ahead, position, 64), memory.bytes[position as usize..][..64]);
        assert_eq!(memory.reads.get(), before + 1);
    }
}

proptest! {
    /// Wherever one goes, and whatever the file was said to hold: the bytes are the file's.
    #[test]
    fn the_bytes_are_the_files(
        blocks in 0usize..1500,
        said_blocks in 0usize..1500,
        steps in prop::collection::vec((prop::bool::ANY, 0u64..6_000_000, 0usize..3_000_000), 1..12),
    ) {
        let memory = memory(blocks * 4096);
        let file: Rc<dyn DataFile> = memory.clone();
        let length = said_blocks.max(blocks / 2) * 4096;
        let mut ahead = ReadAhead::new(&file, length as u64);
        let mut position = 0;
        for (jumps, to, bytes) in steps {
            if jumps {
                position = to;
            }
            let known = &memory.bytes[..length.min(memory.bytes.len())];
            let from = (position as usize).min(known.len());
            let expected = &known[from..(from + bytes).min(known.len())];
            prop_assert!(read(&mut ahead, position, bytes) == expected, "{bytes} at {position}");
            position += bytes as u64;
        }
    }
}
