use proptest::prelude::*;

use super::*;

fn extent(cache: &mut Cache, bytes_wanted: usize) -> Option<Region> {
    let ready = cache.extent(bytes_wanted);
    ready.or_else(|| cache.heap_extent(bytes_wanted))
}

fn cache(chunks: usize) -> Cache {
    Cache::new(ChunkPool::heap(chunks), chunks * CHUNK_BYTES)
}

#[test]
fn a_retired_extent_counts_until_its_reader_is_gone() {
    let mut cache = Cache::new(ChunkPool::heap(0), 32 << 10);
    let mut first = extent(&mut cache, 1).expect("room");
    let _second = extent(&mut cache, 16 << 10).expect("room");
    assert!(extent(&mut cache, 1).is_none());
    let slice = first.append(b"read me");
    cache.release(first);
    assert!(extent(&mut cache, 1).is_none(), "a reader holds it");
    drop(slice);
    assert!(extent(&mut cache, 1).is_some());
    assert_eq!(cache.bytes_used(), cache.bytes_max());
}

#[test]
fn ordinary_memory_is_had_when_it_is_asked_for() {
    // There is room for three chunks, and one of them is ready.
    let mut cache = Cache::new(ChunkPool::heap(1), 3 * CHUNK_BYTES);
    let whole = cache.extent(CHUNK_BYTES).expect("ready");
    assert!(cache.extent(CHUNK_BYTES).is_none());
    assert_eq!(cache.heap_extent(CHUNK_BYTES).expect("room").capacity(), HEAP_EXTENT_BYTES_MAX);
    assert!(cache.release(whole));
    assert_eq!(cache.extent(CHUNK_BYTES).expect("given back").capacity(), CHUNK_BYTES);
}

#[test]
fn each_class_gets_what_it_asks_for() {
    let mut cache = cache(4);
    for (wanted, bytes) in [(1, 16 << 10), (16 << 10, 16 << 10), (16_385, 64 << 10), (200_000, 256 << 10)] {
        assert_eq!(extent(&mut cache, wanted).expect("room").capacity(), bytes);
    }
    assert_eq!(extent(&mut cache, 1 << 20).expect("room").capacity(), CHUNK_BYTES);
}

#[test]
fn a_small_extent_is_used_again_in_place_once_nobody_reads_it() {
    let mut cache = cache(1);
    let mut extents: Vec<_> = (0..8).map(|_| extent(&mut cache, 256 << 10).expect("room")).collect();
    assert!(extent(&mut cache, 16 << 10).is_none(), "one chunk, all of it out");
    let mut first = extents.swap_remove(0);
    let slice = first.append(b"read me");
    let address = slice.as_ptr();
    cache.release(first);
    assert!(extent(&mut cache, 256 << 10).is_none());
    drop(slice);
    let again = extent(&mut cache, 256 << 10).expect("free again");
    assert!(again.is_empty());
    assert_eq!(again.slice(0..0).as_ptr(), address);
}

#[test]
fn a_chunk_that_is_free_again_serves_another_class() {
    let mut cache = cache(1);
    let extents: Vec<_> = (0..128).map(|_| extent(&mut cache, 16 << 10).expect("room")).collect();
    assert!(extent(&mut cache, CHUNK_BYTES).is_none());
    for extent in extents {
        cache.release(extent);
    }
    assert_eq!(cache.bytes_used(), 0);
    let mut whole = extent(&mut cache, CHUNK_BYTES).expect("room");
    let slice = whole.append(b"x");
    cache.release(whole);
    assert!(extent(&mut cache, 16 << 10).is_none(), "a reader holds the chunk");
    drop(slice);
    assert_eq!(extent(&mut cache, 16 << 10).expect("room").capacity(), 16 << 10);
}

#[test]
fn a_smaller_extent_is_better_than_none() {
    let mut cache = cache(1);
    let _small = extent(&mut cache, 16 << 10).expect("room");
    assert!(extent(&mut cache, CHUNK_BYTES).is_none());
    assert_eq!(cache.smaller_extent(CHUNK_BYTES).expect("the rest of the chunk").capacity(), 16 << 10);
}

#[derive(Debug, Clone)]
enum Step {
    Take(usize),
    Read(usize),
    Release(usize),
    Forget(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..=CHUNK_BYTES).prop_map(Step::Take),
        3 => (1..=(64_usize << 10)).prop_map(Step::Take),
        2 => (0..64_usize).prop_map(Step::Read),
        3 => (0..64_usize).prop_map(Step::Release),
        2 => (0..64_usize).prop_map(Step::Forget),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is taken, read, given back and forgotten: the bound holds, no reader's bytes change, and in the
    /// end everything is free again.
    #[test]
    fn the_bound_holds_and_readers_keep_their_bytes(steps in steps()) {
        let mut cache = Cache::new(ChunkPool::heap(3), 3 * CHUNK_BYTES + (100 << 10));
        let mut out: Vec<Region> = Vec::new();
        let mut read = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Take(bytes) => {
                    if let Some(mut region) = extent(&mut cache, bytes) {
                        prop_assert!(region.is_empty());
                        region.append(&[number as u8; 100]);
                        out.push(region);
                    }
                }
                Step::Read(index) if !out.is_empty() => {
                    let slice = out[index % out.len()].slice(0..100);
                    read.push((slice[0], slice));
                }
                Step::Release(index) if !out.is_empty() => {
                    let region = out.swap_remove(index % out.len());
                    cache.release(region);
                }
                Step::Forget(index) if !read.is_empty() => drop(read.swap_remove(index % read.len())),
                _ => {}
            }
            prop_assert!(cache.bytes_used() <= cache.bytes_max());
            prop_assert!(read.iter().all(|(byte, slice)| slice.iter().all(|other| other == byte)));
        }
        drop(read);
        for region in out {
            cache.release(region);
        }
        // Each try looks after some of what was retired.
        let mut again = Vec::new();
        for _ in 0..1000 {
            again.extend(extent(&mut cache, 16 << 10));
        }
        let bytes: usize = again.iter().map(Region::capacity).sum();
        prop_assert!(bytes >= 3 * CHUNK_BYTES, "{bytes} of {}", cache.bytes_max());
    }
}
