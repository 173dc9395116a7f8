use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;

fn wait_for(pool: &mut ChunkPool, condition: impl Fn(&ChunkStats) -> bool) -> ChunkStats {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let stats = pool.stats();
        let sum = stats.ready + stats.raw + stats.in_use + stats.retired + stats.ghosts;
        assert_eq!(sum, stats.total, "{stats:?}");
        if condition(&stats) {
            return stats;
        }
        assert!(std::time::Instant::now() < deadline, "{stats:?}");
        std::thread::yield_now();
    }
}

impl ChunkPool {
    /// A pool of a memfd, of which as many chunks are ready as there may be ahead of their use.
    pub(crate) fn prepared(count: usize) -> Self {
        let mut pool = Self::memfd(count, &ChunkHelpers::prompt().0).expect("a pool");
        let deadline = Instant::now() + Duration::from_secs(10);
        while pool.stats().ready < count.min(READY_AHEAD) {
            assert!(Instant::now() < deadline, "{:?}", pool.stats());
            pool.prepare_ahead(0);
            std::thread::yield_now();
        }
        pool
    }
}

#[test]
fn chunks_go_out_and_come_back() {
    for mut pool in [ChunkPool::heap(3), ChunkPool::prepared(3)] {
        wait_for(&mut pool, |stats| stats.ready == 3);
        let chunks: Vec<_> = (0..3).map(|_| pool.take().expect("ready")).collect();
        assert!(pool.take().is_none());
        assert_eq!(pool.stats().in_use, 3);
        drop(chunks);
        wait_for(&mut pool, |stats| stats.ready == 3);
        // The last slice, on another thread, keeps a chunk out.
        let mut region = pool.take().expect("ready").into_region();
        assert_eq!(region.capacity(), CHUNK_BYTES);
        let slice = region.append(b"kept");
        drop(region);
        assert_eq!(pool.stats().in_use, 1);
        std::thread::spawn(move || assert_eq!(&*slice, b"kept")).join().expect("no panic");
        wait_for(&mut pool, |stats| stats.ready == 3);
    }
}

#[test]
fn extents_share_a_chunk_and_are_used_again_in_place() {
    for mut pool in [ChunkPool::heap(1), ChunkPool::prepared(1)] {
        let mut extents = pool.take().expect("ready").into_extents(64 << 10);
        assert_eq!(extents.len(), 32);
        for (number, extent) in extents.iter_mut().enumerate() {
            extent.append_with(64 << 10, |bytes| bytes.fill(number as u8));
        }
        for (number, extent) in extents.iter_mut().enumerate() {
            let slice = extent.slice(0..64 << 10);
            assert!(slice.iter().all(|byte| *byte == number as u8));
            assert!(slice.file_range().is_none(), "small extents are copied");
            assert!(slice.as_ptr().addr().is_multiple_of(BUFFER_ALIGNMENT));
            assert!(!extent.try_clear());
            drop(slice);
            assert!(extent.try_clear());
        }
        extents.truncate(1);
        assert_eq!(pool.stats().in_use, 1);
        drop(extents);
        wait_for(&mut pool, |stats| stats.ready == 1);
    }
}

#[test]
fn a_sent_chunk_is_punched_and_stays_a_ghost_while_it_is_pinned() {
    let mut pool = ChunkPool::prepared(8);
    if !pool.stats().huge {
        return;
    }
    let mut region = pool.take().expect("ready").into_region();
    let slice = region.append_with(CHUNK_BYTES, |bytes| bytes.fill(0xee));
    let (_, at) = slice.file_range().expect("huge pages are sent by file");
    assert!(at.is_multiple_of(CHUNK_BYTES as u64));
    let part = slice.slice(4096..8192);
    assert_eq!(part.file_range().expect("as well").1, at + 4096);
    let pin = slice.chunk().expect("a chunk").pin();
    assert!(!pin.is_ghost());
    drop((region, slice, part));
    wait_for(&mut pool, |stats| stats.retired == 1 && stats.in_use == 0 && stats.raw == 0);
    assert!(!pin.is_ghost(), "nobody needs its memory");
    let taken = pool.take().expect("ready");
    wait_for(&mut pool, |stats| stats.ghosts == 1 && stats.retired == 0);
    assert!(pin.is_ghost());
    drop((pin, taken));
    wait_for(&mut pool, |stats| stats.ghosts == 0 && stats.ready + stats.raw == 8);
}

#[test]
fn a_sent_chunk_gets_other_memory_before_it_is_taken_again() {
    let mut pool = ChunkPool::prepared(1);
    if !pool.stats().huge {
        return;
    }
    for _ in 0..3 {
        wait_for(&mut pool, |stats| stats.ready == 1);
        let mut region = pool.take().expect("ready").into_region();
        let slice = region.append_with(4096, |bytes| bytes.fill(0xee));
        drop(slice.chunk().expect("a chunk").pin());
        drop((region, slice));
        wait_for(&mut pool, |stats| stats.retired == 1);
        assert!(pool.take().is_none());
        wait_for(&mut pool, |stats| stats.ready == 1 && stats.ghosts == 0);
        let mut region = pool.take().expect("ready").into_region();
        region
            .append_with(4096, |bytes| assert!(bytes.iter().all(|byte| *byte == 0), "what was sent is gone"));
    }
}

#[test]
fn what_nobody_pins_is_exchanged_first() {
    let mut pool = ChunkPool::prepared(3);
    if !pool.stats().huge {
        return;
    }
    wait_for(&mut pool, |stats| stats.ready == 3);
    let regions: Vec<_> = (0..3).map(|_| pool.take().expect("ready").into_region()).collect();
    let mut pins: Vec<_> = Vec::new();
    for mut region in regions {
        pins.push(region.append(b"x").chunk().expect("a chunk").pin());
    }
    drop(pins.pop());
    wait_for(&mut pool, |stats| stats.retired == 3);
    assert!(pool.take().is_none());
    // All three are asked for: two become ghosts, and the one that nobody pins is ready.
    wait_for(&mut pool, |stats| stats.ready == 1 && stats.ghosts == 2);
    drop(pins);
    wait_for(&mut pool, |stats| stats.ghosts == 0);
}

#[test]
fn nothing_is_sent_by_file_while_a_quarter_is_ghosts() {
    let mut pool = ChunkPool::prepared(8);
    if !pool.stats().huge {
        return;
    }
    let mut pins = Vec::new();
    for _ in 0..3 {
        wait_for(&mut pool, |stats| stats.ready > 0);
        let mut region = pool.take().expect("ready").into_region();
        pins.push(region.append(b"x").chunk().expect("a chunk").pin());
    }
    wait_for(&mut pool, |stats| stats.ghosts == 2 && stats.retired == 1 && stats.ready > 0);
    let taken = pool.take().expect("ready");
    wait_for(&mut pool, |stats| stats.ghosts == 3 && stats.ready > 0);
    drop(taken);
    let mut region = pool.take().expect("ready").into_region();
    let slice = region.append(b"y");
    assert!(slice.file_range().is_none());
    drop(pins);
    wait_for(&mut pool, |stats| stats.ghosts == 0);
    assert!(slice.file_range().is_some());
}

#[test]
fn no_more_than_a_quarter_is_pinned() {
    let mut pool = ChunkPool::prepared(8);
    if !pool.stats().huge {
        return;
    }
    let mut regions = Vec::new();
    let mut pins = Vec::new();
    for _ in 0..4 {
        wait_for(&mut pool, |stats| stats.ready > 0);
        let mut region = pool.take().expect("ready").into_region();
        let slice = region.append(b"x");
        if slice.file_range().is_some() {
            pins.push(slice.chunk().expect("a chunk").pin());
        }
        regions.push((region, slice));
    }
    assert_eq!(pins.len(), 2, "two of eight");
    // One that is pinned anyway may be sent to others as well; a copy of the pin changes nothing.
    assert!(regions[0].1.file_range().is_some());
    let again = regions[0].1.chunk().expect("a chunk").pin();
    pins.remove(0);
    assert!(regions[2].1.file_range().is_none());
    drop(again);
    assert!(regions[2].1.file_range().is_some());
}

/// A pool whose idle helper does nothing before it is let.
fn never_idle(count: usize) -> (ChunkPool, mpsc::Sender<()>) {
    let (helpers, idle) = ChunkHelpers::prompt();
    let (gate, opened) = mpsc::channel();
    idle.run_detached(move || opened.recv().expect("the gate is opened"));
    let mut pool = ChunkPool::memfd(count, &helpers).expect("a pool");
    assert_eq!((pool.stats().ready, pool.growing, pool.preparing), (1, 0, 0), "a start has the processor");
    pool.prepare_early();
    wait_for(&mut pool, |stats| stats.ready == HURRIED_AHEAD);
    (pool, gate)
}

#[test]
fn the_first_chunks_get_memory_before_anybody_needs_them_when_a_processor_is_idle() {
    let (mut pool, gate) = never_idle(EARLY_CHUNKS + 4);
    for _ in 0..3 {
        pool.prepare_ahead(0);
        let early = EARLY_CHUNKS - HURRIED_AHEAD;
        assert_eq!((pool.stats().ready, pool.growing, pool.preparing), (HURRIED_AHEAD, early, 0));
    }
    gate.send(()).expect("the helper waits");
    wait_for(&mut pool, |stats| stats.ready == EARLY_CHUNKS && stats.raw == 4);
}

#[test]
fn beyond_them_the_pool_grows_by_what_is_missed() {
    let mut pool = ChunkPool::prepared(EARLY_CHUNKS + READY_AHEAD);
    wait_for(&mut pool, |stats| stats.ready == EARLY_CHUNKS);
    let _taken: Vec<_> = (0..EARLY_CHUNKS).map(|_| pool.take().expect("ready")).collect();
    assert!(pool.take().is_none());
    assert_eq!((pool.raw.len(), pool.growing), (READY_AHEAD, 0), "nobody misses anything");
    pool.miss(1);
    pool.prepare_ahead(0);
    wait_for(&mut pool, |stats| stats.ready == 1);
    pool.prepare_ahead(0);
    assert_eq!((pool.raw.len(), pool.growing), (READY_AHEAD - 1, 0), "that was it");
    let _last = pool.take().expect("ready");
    pool.hurry();
    assert_eq!(pool.raw.len(), READY_AHEAD - 1 - HURRIED_AHEAD);
    pool.hurry();
    assert_eq!(pool.raw.len(), READY_AHEAD - 1 - HURRIED_AHEAD, "as many are coming");
    pool.miss(1 << 20);
    assert_eq!(pool.missed, pool.raw.len(), "there are no more");
}

#[test]
fn who_hurries_waits_for_an_idle_processor_first() {
    let (mut pool, gate) = never_idle(EARLY_CHUNKS + 16);
    let _taken: Vec<_> = (0..HURRIED_AHEAD).map(|_| pool.take().expect("ready")).collect();
    assert!(pool.take().is_none());
    let growing = pool.growing;
    let raw = pool.raw.len();
    pool.hurry();
    assert_eq!((pool.preparing, pool.raw.len() + pool.growing), (0, raw + growing), "it may be idle soon");
    assert!(pool.growing >= HURRIED_AHEAD);
    pool.growing_since -= IDLE_PATIENCE;
    pool.hurry();
    assert_eq!(pool.preparing, HURRIED_AHEAD, "it is not, and each takes time of the core");
    wait_for(&mut pool, |stats| stats.ready == HURRIED_AHEAD);
    gate.send(()).expect("the helper waits");
    wait_for(&mut pool, |stats| stats.ready > HURRIED_AHEAD);
}
