//! Where room is short, or something is in the way for a while: nobody waits for ever.

use std::cell::Cell;

use futures_util::future::{Either, select};

use super::*;
use crate::segment::{Reading, Segment};
use crate::write_behind::{self, Extent};
use flumen_ring::CHUNK_BYTES;

/// What `work` gives, if it completes within `limit` of simulated time.
async fn within<T>(runtime: &Rc<SimRuntime>, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    match select(Box::pin(work), runtime.sleep(limit)).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(_) => None,
    }
}

#[test]
fn a_log_that_was_rolled_and_sealed_while_nobody_looked_is_cut() {
    let mut world = World::new(20);
    world.live(vec![open(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for fill in 0..3 {
            append(&partition, batch(1, 100, fill)).await;
        }
        // As retention rolls; write-behind comes by before anybody else.
        let next = partition.log_end_offset();
        partition.inner().log.borrow_mut().segments.push(Segment::new(next));
        let turn = partition.inner().io.take().await;
        let end = partition.inner().log.borrow().end();
        let written = write_behind::write_out(
            &engine.inner.core,
            &partition,
            Extent::Large { end, large_bytes: 256 << 10 },
            &turn,
        )
        .await;
        written.expect("written");
        drop(turn);
        partition.truncate_to(Offset(2)).await.expect("cut");
        assert_eq!(read_all(&partition, 0).await, [(0, 0), (1, 1)]);
    });
}

#[test]
fn appends_that_waited_for_a_cut_are_let_in_once_there_is_room() {
    let mut world = World::new(21);
    let tight = EngineConfig { dirty_bytes_max: 64 << 10, ..config() };
    world.live_with(vec![open(0), open(1)], tight, |engine, _| async move {
        let cut = engine.partition(&open(0).id).expect("open");
        let other = engine.partition(&open(1).id).expect("open");
        append(&cut, batch(1, 100, 1)).await;
        append(&cut, batch(1, 100, 2)).await;
        let cutting = async { cut.truncate_to(Offset(1)).await.expect("cut") };
        let filling = async {
            // What is dirty of the other one leaves no room, for longer than the cut takes.
            append(&other, batch(1, 50_000, 3)).await;
        };
        let appending = async {
            // The cut has begun: it was polled before.
            assert!(cut.inner().log.borrow().is_frozen);
            append(&cut, batch(1, 30_000, 4)).await
        };
        let ((), (), offset) = futures_util::join!(cutting, filling, appending);
        assert_eq!(offset, 1);
        assert_eq!(read_all(&cut, 0).await, [(0, 1), (1, 4)]);
    });
}

#[test]
fn a_nearly_full_disk_is_filled_to_its_last_blocks() {
    let mut world = World::new(22);
    let disk = world.disk.clone();
    world.live(vec![open(0)], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append(&partition, batch(1, 60_000, 0)).await;
        runtime.sleep(Duration::from_secs(5)).await;
        // Less than the step in which a segment grows.
        leave_room(&disk, 40 << 10);
        for fill in 1..7u8 {
            append(&partition, batch(1, 4000, fill)).await;
            runtime.sleep(Duration::from_secs(5)).await;
        }
        assert_eq!(read_all(&partition, 0).await.len(), 7);
        assert_eq!(engine.stats().dirty_bytes, 0, "everything is in its segment");
    });
}

#[test]
fn retention_frees_a_full_disk() {
    let mut world = World::new(29);
    let disk = world.disk.clone();
    let keeps_little = open_with(0, |config| {
        config.segment_bytes = 64 << 10;
        config.retention_bytes = 100_000;
        config.file_delete_delay_ms = 0;
    });
    world.live(vec![keeps_little], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for fill in 0..10 {
            append(&partition, batch(1, 40_000, fill)).await;
        }
        runtime.sleep(Duration::from_secs(10)).await;
        leave_room(&disk, 16 << 10);
        let limit = Duration::from_secs(10);
        loop {
            let appending = partition.append(batch(1, 40_000, 10), AppendOrigin::Client);
            match within(&runtime, limit, appending).await {
                Some(Err(AppendError::NoSpace)) => break,
                _ => runtime.sleep(Duration::from_secs(5)).await,
            }
        }
        engine.retain().await.expect("looked at");
        runtime.sleep(limit).await;
        assert!(partition.log_start_offset() > Offset(0));
        append(&partition, batch(1, 100, 11)).await;
        disk.set_faults(FaultPlan::default());
    });
}

#[test]
fn an_exact_partition_needs_little_more_than_its_bytes() {
    let mut world = World::new(23);
    let disk = world.disk.clone();
    let exact = OpenPartition { exact: true, ..open(0) };
    world.live(vec![exact], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append(&partition, batch(1, 100, 0)).await;
        leave_room(&disk, 32 << 10);
        for fill in 1..40u8 {
            append(&partition, batch(1, 100, fill)).await;
        }
        assert_eq!(disk.stats().faults, 0, "no room was asked for that is not needed");
    });
}

#[test]
fn a_partition_that_takes_bytes_all_the_time_is_written_in_large_pieces() {
    const PARTITIONS: i32 = 3;
    let mut world = World::new(26);
    let relaxed = |index| open_with(index, |config| config.flush_messages = i64::MAX);
    world.live((0..PARTITIONS).map(relaxed).collect(), |engine, runtime| async move {
        let streams = (0..PARTITIONS).map(|index| {
            let (partition, runtime) = (engine.partition(&open(index).id).expect("open"), runtime.clone());
            async move {
                // About as fast as the disk writes blocks.
                for _ in 0..1000 {
                    append(&partition, batch(1, 5_000, index as u8)).await;
                    runtime.sleep(Duration::from_micros(300)).await;
                }
            }
        });
        futures_util::future::join_all(streams).await;
        let stats = engine.stats();
        let mean = stats.segment_bytes_written / stats.segment_writes;
        assert!(stats.segment_bytes_written > 12_000_000, "{stats:?}");
        assert!(mean > 200_000, "{mean} bytes in each of {} writes", stats.segment_writes);
        // Nobody waits for somebody else's writer.
        assert!(stats.dirty_bytes < (3 * 512) << 10, "{stats:?}");
    });
}

#[test]
fn the_more_partitions_are_written_to_the_less_memory_each_has_at_its_end() {
    const PARTITIONS: i32 = 96;
    let mut world = World::new(33);
    let relaxed = |index| open_with(index, |config| config.flush_messages = i64::MAX);
    let roomy = EngineConfig { cache_bytes: 128 << 20, dirty_bytes_max: 16 << 20, ..config() };
    world.live_with((0..PARTITIONS).map(relaxed).collect(), roomy, |engine, runtime| async move {
        for fill in 0..60u8 {
            for index in 0..PARTITIONS {
                let partition = engine.partition(&open(index).id).expect("open");
                append(&partition, batch(1, 10_000, fill)).await;
            }
            // Each fills 64 KiB within a second, and would earn four times as much.
            runtime.sleep(Duration::from_millis(50)).await;
        }
        let logs = engine.inner.core.partitions.borrow();
        let extents_of = |partition: &Partition| {
            let log = partition.inner().log.borrow();
            log.segments.iter().map(Segment::extents).sum::<usize>()
        };
        let extents: usize = logs.iter().map(extents_of).sum();
        let stats = engine.stats();
        let mean = stats.cache_bytes_used / extents as u64;
        assert!(mean < 70 << 10, "{mean} bytes in each of {extents} extents");
        assert_eq!(stats.appends_delayed, 0, "each is written before all together have too much to write");
    });
}

#[test]
fn what_is_old_goes_before_other_memory_is_used_for_a_whole_chunk() {
    const CHUNKS: usize = 3;
    let mut world = World::new(25);
    // Beyond the chunks there is room for as much of ordinary memory, nearly.
    let roomy = EngineConfig { cache_bytes: (CHUNKS + 1) * CHUNK_BYTES - 1, ..config() };
    world.live_with(vec![open(0)], roomy, |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for fill in 0..14u8 {
            // So much of each is left for the next extent that it is a whole chunk.
            append(&partition, batch(1, 1_000_000, fill)).await;
            // Long enough to be written, and too short to be quiet.
            runtime.sleep(Duration::from_millis(600)).await;
            let used = engine.stats().cache_bytes_used;
            assert!(used <= (CHUNKS * CHUNK_BYTES) as u64, "{used} after {fill}");
        }
        let expected: Vec<(i64, u8)> = (0..14).map(|fill| (i64::from(fill), fill)).collect();
        assert_eq!(read_all(&partition, 0).await, expected);
    });
}

#[test]
fn what_is_old_goes_before_other_memory_is_used_for_small_extents() {
    let mut world = World::new(27);
    // One chunk, of eight extents, and room for as much of ordinary memory, nearly.
    let roomy = EngineConfig { cache_bytes: 2 * CHUNK_BYTES - 1, ..config() };
    world.live_with(vec![open(0)], roomy, |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for fill in 0..20u8 {
            append(&partition, batch(1, 250_000, fill)).await;
            runtime.sleep(Duration::from_millis(600)).await;
            let used = engine.stats().cache_bytes_used;
            assert!(used <= CHUNK_BYTES as u64, "{used} after {fill}");
        }
        assert_eq!(read_all(&partition, 0).await.len(), 20);
    });
}

#[test]
fn small_extents_in_between_do_not_keep_a_whole_chunk_from_the_memory_of_old_ones() {
    const CHUNKS: usize = 4;
    let mut world = World::new(28);
    let roomy = EngineConfig { cache_bytes: (CHUNKS + 1) * CHUNK_BYTES - 1, ..config() };
    world.live_with((0..7).map(open).collect(), roomy, |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for fill in 0..30u8 {
            append(&partition, batch(1, 1_000_000, fill)).await;
            for small in 1..7 {
                let small = engine.partition(&open(small).id).expect("open");
                append(&small, batch(1, 10_000, fill)).await;
            }
            runtime.sleep(Duration::from_millis(600)).await;
            let used = engine.stats().cache_bytes_used;
            assert!(used <= (CHUNKS * CHUNK_BYTES) as u64, "{used} after {fill}");
        }
        assert_eq!(read_all(&partition, 0).await.len(), 30);
    });
}

#[test]
fn extents_that_came_back_are_not_remembered() {
    let mut world = World::new(30);
    world.live(vec![open(0)], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for _ in 0..500 {
            append(&partition, batch(1, 100, 1)).await;
            // Long enough for its memory to be given back.
            runtime.sleep(Duration::from_secs(3)).await;
        }
        let (used, known) = (engine.stats().cache_bytes_used, engine.inner.core.holders_known());
        assert!(known < 100, "{known} entries for {used} bytes");
    });
}

#[test]
fn files_of_segments_that_nobody_reads_are_closed() {
    const OPEN_FILES_MAX: usize = 512;
    let mut world = World::new(31);
    let small = open_with(0, |config| config.segment_bytes = 16 << 10);
    world.live(vec![small], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for _ in 0..800 {
            append(&partition, batch(1, 9_000, 1)).await;
            runtime.sleep(Duration::from_millis(100)).await;
        }
        let log = partition.inner().log.borrow();
        let open_files = log.segments.iter().filter(|segment| segment.file.is_some()).count();
        assert!(open_files <= OPEN_FILES_MAX + 4, "{open_files} of {}", log.segments.len());
    });
}

#[test]
fn a_partition_waits_for_a_file_to_be_closed() {
    let mut world = World::new(32);
    let disk = world.disk.clone();
    world.live(vec![open(0), open(1)], |engine, runtime| async move {
        let [first, second] = [0, 1].map(|index| engine.partition(&open(index).id).expect("open"));
        append(&first, batch(1, 100, 0)).await;
        runtime.sleep(Duration::from_millis(1500)).await;
        // The journal's, and the first one's.
        disk.set_faults(FaultPlan { open_files_max: 2, ..FaultPlan::default() });
        append(&second, batch(1, 100, 1)).await;
        runtime.sleep(Duration::from_millis(1500)).await;
        assert!(disk.stats().faults > 0, "there was to be no file for it");
        assert!(!second.is_offline() && !engine.directory_offline());
        assert_eq!(read_all(&second, 0).await, [(0, 1)], "it is in the journal");
        disk.set_faults(FaultPlan::default());
        runtime.sleep(Duration::from_secs(5)).await;
        append(&second, batch(1, 100, 2)).await;
        runtime.sleep(Duration::from_secs(5)).await;
        assert_eq!(engine.stats().dirty_bytes, 0, "it is written once there is a file");
    });
}

/// The entries in memory of indexes of segments that take no more, and those segments.
fn sealed_entries(partition: &Partition) -> (usize, usize) {
    let log = partition.inner().log.borrow();
    let sealed = || log.segments.iter().filter(|segment| segment.is_sealed);
    let lookups = sealed().filter_map(|segment| segment.lookup.as_ref());
    let entries = lookups.map(|lookup| lookup.indexes.offsets.len() + lookup.indexes.times.len()).sum();
    (entries, sealed().count())
}

/// A batch of 8 KB, which has an entry of its own in both indexes.
fn indexed(number: i64) -> CheckedBatches {
    let mut builder = BatchBuilder::new();
    builder.append(Timestamp(START_MS + number), None, Some(&vec![number as u8; 8000]), &[]);
    builder.build_checked()
}

#[test]
fn indexes_of_segments_that_take_no_more_have_their_bound() {
    const BATCHES: i64 = 2000;
    let mut world = World::new(33);
    let small = || open_with(0, |config| config.segment_bytes = 256 << 10);
    let tight = || EngineConfig { lookup_bytes_max: 4 << 10, ..config() };
    world.live_and_stop_with(vec![small()], tight(), |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for number in 0..BATCHES {
            append(&partition, indexed(number)).await;
        }
        let (entries, segments) = sealed_entries(&partition);
        assert!(segments > 50 && entries < 300, "{entries} entries of {segments} segments");
        runtime.sleep(Duration::from_secs(3600)).await;
        assert_eq!(sealed_entries(&partition).0, 0, "nobody wrote or read for an hour");
        let found = partition.offset_for_timestamp(Timestamp(START_MS + 777), ReadLimit::HighWatermark).await;
        assert_eq!(found.expect("looked up").map(|found| found.offset), Some(Offset(777)));
    });
    world.live_with(vec![small()], tight(), |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for offset in (0..BATCHES).rev() {
            let read = partition.read(Offset(offset), 1, true, ReadLimit::HighWatermark).await.expect("read");
            let bytes = bytes_of(&read);
            let (header, _) = batches(&bytes).next().expect("one").expect("whole");
            assert_eq!(header.base_offset(), Offset(offset));
        }
        let largest = partition.max_timestamp(ReadLimit::HighWatermark).await.expect("looked up");
        assert_eq!(largest.map(|found| found.offset), Some(Offset(BATCHES - 1)));
        let (entries, segments) = sealed_entries(&partition);
        assert!(entries < 300, "{entries} entries of {segments} segments");
    });
}

#[test]
fn what_is_too_much_to_copy_and_too_little_for_bulk_is_committed() {
    let mut world = World::new(34);
    // An eighth of the ring is less.
    let small_ring = EngineConfig { bulk_bytes_min: 512 << 10, ..config() };
    world.live_with(vec![open(0)], small_ring, |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        let began = runtime.monotonic();
        append(&partition, batch(1, 300_000, 1)).await;
        let took = runtime.monotonic() - began;
        assert!(took < Duration::from_secs(1), "it took {took:?}");
    });
}

#[test]
fn others_have_their_turn_while_a_checkpoint_is_put_together() {
    const PARTITIONS: i32 = 1000;
    let mut world = World::new(35);
    let disk = world.disk.clone();
    world.live((0..PARTITIONS).map(open).collect(), |engine, runtime| async move {
        runtime.sleep(Duration::from_secs(10)).await;
        let turns = Rc::new(Cell::new(0));
        let (counted, others) = (turns.clone(), runtime.clone());
        let before = disk.stats().steps;
        runtime.spawn(Box::pin(async move {
            // Until the disk is asked to write it.
            while disk.stats().steps == before {
                counted.set(counted.get() + 1);
                others.yield_now().await;
            }
        }));
        crate::checkpoint::write(&engine.inner.core).await.expect("written");
        assert!(turns.get() >= 5, "{} turns", turns.get());
    });
}

#[test]
fn what_memory_was_too_short_for_is_missed_and_nothing_else() {
    let mut world = World::new(26);
    let roomy = EngineConfig { cache_bytes: 4 * CHUNK_BYTES - 1, ..config() };
    world.live_with(vec![open(0)], roomy, |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for fill in 0..14u8 {
            append(&partition, batch(1, 1_000_000, fill)).await;
            runtime.sleep(Duration::from_millis(600)).await;
        }
        let read_at = async |offset: i64| {
            let before = engine.stats();
            partition.read(Offset(offset), 1 << 20, true, ReadLimit::HighWatermark).await.expect("read");
            let after = engine.stats();
            (
                after.cold_bytes_read > before.cold_bytes_read,
                after.missed_bytes_read > before.missed_bytes_read,
            )
        };
        assert_eq!(read_at(13).await, (false, false), "it is in memory");
        assert_eq!(read_at(0).await, (true, false), "13 MB behind the end, of 8 that there may be");
        assert_eq!(
            read_at(7).await,
            (true, true),
            "6 to 7 MB behind the end, and two of three chunks are whole"
        );
        runtime.sleep(Duration::from_secs(120)).await;
        assert_eq!(read_at(13).await, (true, false), "given back because nobody came");
    });
}

#[test]
fn what_is_let_in_by_memory_that_the_log_itself_gave_back_is_written() {
    let mut world = World::new(24);
    let relaxed = open_with(0, |config| config.flush_messages = 2);
    let tight = EngineConfig { cache_bytes: 64 << 10, ..config() };
    world.live_with(vec![relaxed], tight, |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append(&partition, batch(1, 25_000, 0)).await;
        append(&partition, batch(1, 25_000, 1)).await;
        // Its only extent is all the memory there is, and goes once the log has been quiet for a while.
        append(&partition, batch(1, 25_000, 2)).await;
        runtime.sleep(Duration::from_secs(5)).await;
        assert_eq!(engine.stats().dirty_bytes, 0, "nobody looks after what was let in");
        append(&partition, batch(1, 32_000, 3)).await;
        assert_eq!(read_all(&partition, 0).await, [(0, 0), (1, 1), (2, 2), (3, 3)]);
    });
}

#[test]
fn a_partition_that_cannot_be_written_gives_its_memory_back() {
    let mut world = World::new(28);
    let disk = world.disk.clone();
    // One chunk, carved for whoever comes first.
    let tight = EngineConfig { cache_bytes: CHUNK_BYTES, ..config() };
    world.live_with(vec![open(0), open(1)], tight, |engine, runtime| async move {
        let broken = engine.partition(&open(0).id).expect("open");
        append(&broken, batch(1, 40_000, 0)).await;
        disk.set_faults(FaultPlan { write_per_million: 1_000_000, ..FaultPlan::default() });
        runtime.sleep(Duration::from_secs(2)).await;
        disk.set_faults(FaultPlan::default());
        assert!(broken.is_offline());
        runtime.sleep(Duration::from_secs(1)).await;
        assert_eq!((engine.stats().cache_bytes_used, engine.stats().dirty_bytes), (0, 0));
        append(&engine.partition(&open(1).id).expect("open"), batch(1, 1_000_000, 1)).await;
    });
}

#[test]
fn a_stop_waits_for_segments_that_are_being_removed() {
    let mut world = World::new(60);
    let small = open_with(0, |config| config.segment_bytes = 16 << 10);
    world.live_and_stop(vec![small, open(1)], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append(&partition, batch(1, 10_000, 0)).await;
        append(&partition, batch(1, 10_000, 1)).await;
        runtime.sleep(Duration::from_secs(10)).await;
        append(&partition, batch(1, 100, 2)).await;
        // The newest group has bytes that are in a segment only: a file goes once there is another.
        append(&engine.partition(&open(1).id).expect("open"), batch(1, 90_000, 3)).await;
        let deleting = partition.clone();
        runtime.spawn(Box::pin(async move {
            deleting.delete_records(Offset(1)).await.expect("deleted");
        }));
        // The stop begins while the log is flushed for that.
        while partition.inner().io.try_take().is_some() {
            runtime.sleep(Duration::from_micros(10)).await;
        }
    });
}

#[test]
fn what_waits_for_its_files_when_a_stop_begins_is_still_acknowledged() {
    let mut world = World::new(61);
    let answered = Rc::new(Cell::new(None));
    let noted = answered.clone();
    world.live_and_stop(vec![open(0)], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        let turn = partition.inner().io.take().await;
        // Too much to be copied to the journal.
        let append = partition.append(batch(1, 200_000, 1), AppendOrigin::Client);
        runtime.spawn(Box::pin(async move { noted.set(Some(append.await.is_ok())) }));
        let waiting = runtime.clone();
        runtime.spawn(Box::pin(async move {
            waiting.sleep(Duration::from_millis(50)).await;
            drop(turn);
        }));
        runtime.sleep(Duration::from_millis(10)).await;
    });
    assert_eq!(answered.get(), Some(true), "it is in the log, so its producer is told so");
}

#[test]
fn who_waits_when_a_stop_fails_is_told() {
    let mut world = World::new(62);
    let disk = world.disk.clone();
    world.live(vec![open(0)], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append(&partition, batch(1, 100, 0)).await;
        runtime.sleep(Duration::from_secs(1)).await;
        leave_room(&disk, 0);
        // Too much to be copied to the journal, and its segment has no room.
        let answered = Rc::new(Cell::new(None));
        let noted = answered.clone();
        let append = partition.append(batch(1, 200_000, 1), AppendOrigin::Client);
        runtime.spawn(Box::pin(async move { noted.set(Some(append.await.is_ok())) }));
        runtime.sleep(Duration::from_secs(1)).await;
        assert_eq!(answered.get(), None, "it waits for space");
        assert!(engine.close().await.is_err(), "its bytes have no place");
        runtime.sleep(Duration::from_secs(1)).await;
        assert_eq!(answered.get(), Some(false));
        disk.set_faults(FaultPlan::default());
    });
}

#[test]
fn a_cut_that_a_stop_overtakes_is_told() {
    let mut world = World::new(63);
    world.live(vec![open(0)], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append(&partition, batch(1, 100, 0)).await;
        engine.clone().close().await.expect("closed");
        runtime.sleep(Duration::from_secs(1)).await;
        let end = partition.inner().log.borrow().end();
        let core = &engine.inner.core;
        let told = core.journal.say_cut(core, &partition, end).await;
        assert!(told.is_err(), "no group is written any more");
    });
}

/// Two tasks that append batches of so many bytes to a partition, one after the other, until they are refused or told to
/// stop.
fn keep_appending(
    engine: &Engine,
    runtime: &Rc<SimRuntime>,
    index: i32,
    bytes: usize,
    stop: &Rc<Cell<bool>>,
) {
    for _ in 0..2 {
        let (partition, stop) = (engine.partition(&open(index).id).expect("open"), stop.clone());
        runtime.spawn(Box::pin(async move {
            while !stop.get() && partition.append(batch(1, bytes, 1), AppendOrigin::Client).await.is_ok() {}
        }));
    }
}

#[test]
fn old_segments_go_while_others_write_bulk() {
    let mut world = World::new(900);
    let small = open_with(0, |config| config.segment_bytes = 64 << 10);
    let roomy = EngineConfig { dirty_bytes_max: 6 << 20, cache_bytes: 32 << 20, ..config() };
    world.live_with(vec![small, open(1), open(2), open(3), open(4)], roomy, |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for fill in 0..5 {
            append(&partition, batch(1, 40_000, fill)).await;
        }
        runtime.sleep(Duration::from_secs(5)).await;
        let stop = Rc::new(Cell::new(false));
        for index in 1..5 {
            keep_appending(&engine, &runtime, index, 70_000, &stop);
        }
        // And to the one whose files are held meanwhile.
        keep_appending(&engine, &runtime, 0, 30_000, &stop);
        runtime.sleep(Duration::from_millis(200)).await;
        let before = engine.stats().commit_groups;
        let deleted = within(&runtime, Duration::from_secs(4), partition.delete_records(Offset(3))).await;
        let groups = engine.stats().commit_groups - before;
        assert!(deleted.is_some(), "not done within {groups} groups");
        let before = engine.stats().commit_groups;
        runtime.sleep(Duration::from_secs(1)).await;
        assert!(engine.stats().commit_groups > before + 10, "the commit goes on");
        stop.set(true);
    });
}

#[test]
fn a_partition_goes_while_the_ring_is_full() {
    for others_write in [false, true] {
        let mut world = World::new(910);
        world.live(vec![open(0), open(1)], |engine, runtime| async move {
            let doomed = engine.partition(&open(0).id).expect("open");
            // As a flush of its segment that takes the disk a while.
            let turn = doomed.inner().io.take().await;
            let stop = Rc::new(Cell::new(false));
            keep_appending(&engine, &runtime, 0, 40_000, &stop);
            while !engine.inner.core.journal.is_stuck() {
                runtime.sleep(Duration::from_micros(50)).await;
            }
            let waiting = runtime.clone();
            runtime.spawn(Box::pin(async move {
                waiting.sleep(Duration::from_millis(50)).await;
                drop(turn);
            }));
            if others_write {
                keep_appending(&engine, &runtime, 1, 20_000, &stop);
            }
            let deleted =
                within(&runtime, Duration::from_secs(1), engine.delete_partition(&open(0).id)).await;
            assert!(matches!(deleted, Some(Ok(()))), "others write: {others_write}: {deleted:?}");
            append(&engine.partition(&open(1).id).expect("open"), batch(1, 1000, 1)).await;
            stop.set(true);
        });
    }
}

#[test]
fn a_partition_whose_folder_cannot_be_renamed_takes_the_directory_offline() {
    let mut world = World::new(920);
    let disk = world.disk.clone();
    world.live(vec![open(0), open(1)], |engine, _| async move {
        append(&engine.partition(&open(0).id).expect("open"), batch(1, 10_000, 1)).await;
        disk.set_faults(FaultPlan { name_per_million: 1_000_000, ..FaultPlan::default() });
        assert!(engine.delete_partition(&open(0).id).await.is_err());
        disk.set_faults(FaultPlan::default());
        assert!(engine.directory_offline(), "its entries can never leave the ring");
    });
}

#[test]
fn a_partition_is_deleted_where_there_is_no_room_for_a_name_and_no_file_to_be_opened() {
    let shortages = [
        FaultPlan { names_full: true, ..FaultPlan::default() },
        FaultPlan { open_files_max: 1, ..FaultPlan::default() },
        // Somebody removed its folder.
        FaultPlan::default(),
    ];
    for (case, shortage) in shortages.into_iter().enumerate() {
        let mut world = World::new(925);
        let disk = world.disk.clone();
        world.live(vec![open(0), open(1)], |engine, _| async move {
            append(&engine.partition(&open(0).id).expect("open"), batch(1, 10_000, 1)).await;
            if shortage == FaultPlan::default() {
                disk.unlink(Path::new("events-0"));
            }
            disk.set_faults(shortage);
            engine.delete_partition(&open(0).id).await.expect("deleted");
            disk.set_faults(FaultPlan::default());
            assert!(!engine.directory_offline());
            // Where its folder could not be flushed, the new name is not durable.
            let is_gone = disk.files().iter().all(|(path, ..)| !path.starts_with("events-0"));
            assert_eq!(is_gone, shortage.open_files_max == 0, "case {case}");
            // More than the ring holds: nothing of the deleted one is in its way.
            let other = engine.partition(&open(1).id).expect("open");
            for fill in 0..60 {
                append(&other, batch(1, 40_000, fill)).await;
            }
        });
    }
}

#[test]
fn an_append_that_the_cache_never_has_room_for_is_refused() {
    let mut world = World::new(1002);
    let large = |index| open_with(index, |config| config.max_message_bytes = 64 << 20);
    world.live(vec![large(0), large(1)], |engine, runtime| async move {
        let (partition, other) = (engine.partition(&open(0).id), engine.partition(&open(1).id));
        let (partition, other) = (partition.expect("open"), other.expect("open"));
        append(&other, batch(1, 100, 1)).await;
        for (bytes, is_taken) in [(9 << 20, false), ((4 << 20) + 1, false), ((4 << 20) - 200, true)] {
            let append = partition.append(batch(1, bytes, 1), AppendOrigin::Client);
            let outcome = within(&runtime, Duration::from_secs(60), append).await.expect("answered");
            assert_eq!(outcome.is_ok(), is_taken, "{bytes} bytes: {outcome:?}");
            assert!(is_taken || matches!(outcome, Err(AppendError::TooLarge { length_max, .. }) if length_max == 4 << 20));
            append_within(&runtime, &other).await;
        }
    });
}

async fn append_within(runtime: &Rc<SimRuntime>, partition: &Partition) {
    let append = partition.append(batch(1, 40_000, 1), AppendOrigin::Client);
    within(runtime, Duration::from_secs(10), append).await.expect("answered").expect("appended");
}

#[test]
fn what_was_placed_before_the_disk_was_full_is_acknowledged() {
    let mut world = World::new(930);
    let disk = world.disk.clone();
    world.live(vec![open(0)], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append(&partition, batch(1, 3000, 0)).await;
        leave_room(&disk, 0);
        // Three times what a group may have of one partition, all placed at once.
        let appends: Vec<_> =
            (1..40u8).map(|fill| partition.append(batch(1, 10_000, fill), AppendOrigin::Client)).collect();
        let outcomes =
            within(&runtime, Duration::from_secs(10), futures_util::future::join_all(appends)).await;
        let outcomes = outcomes.expect("answered while the disk is full");
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        let refused = partition.append(batch(1, 10_000, 1), AppendOrigin::Client).await;
        assert_eq!(refused.err(), Some(AppendError::NoSpace));
    });
    world.disk.set_faults(FaultPlan::default());
    world.disk.crash();
    world.live(vec![open(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        assert_eq!(read_all(&partition, 0).await.len(), 40);
    });
}

#[test]
fn readers_leave_the_disk_to_writes_that_are_behind() {
    let mut world = World::new(930);
    let tight = EngineConfig { dirty_bytes_max: 256 << 10, ..config() };
    world.live_with(vec![open(0)], tight, |engine, runtime| async move {
        let core = engine.inner.core.clone();
        let together = || [1, 2].map(|_| core.cold_read(1 << 20).now_or_never());
        assert!(together().iter().all(Option::is_some), "nothing waits to be written");
        let partition = engine.partition(&open(0).id).expect("open");
        let turn = partition.inner().io.take().await;
        append(&partition, batch(1, 100_000, 1)).await;
        assert!(matches!(together(), [Some(_), None]), "one at a time");
        let small = || core.cold_read(64 << 10).now_or_never();
        assert!(matches!([small(), small()], [Some(_), Some(_)]), "or several that are as much together");
        drop(turn);
        // Quiet for so long it is written.
        runtime.sleep(Duration::from_secs(5)).await;
        assert!(together().iter().all(Option::is_some));
    });
}

#[test]
fn what_nobody_reads_along_is_kept_out_of_the_caches() {
    let relaxed = open_with(0, |config| config.flush_messages = i64::MAX);
    World::new(71).live(vec![relaxed, open(1)], |engine, _| async move {
        let [relaxed, durable] = [0, 1].map(|index| engine.partition(&open(index).id).expect("open"));
        let reading = |partition: &Partition| partition.inner().log.borrow().reading();
        append(&durable, batch(1, 3000, 1)).await;
        assert_eq!(reading(&durable), Reading::Soon, "a commit group copies it");

        append(&relaxed, batch(1, 3000, 1)).await;
        assert_eq!(reading(&relaxed), Reading::Late);
        let read = relaxed.read(Offset(0), 1 << 20, true, ReadLimit::HighWatermark).await.expect("read");
        assert_eq!(bytes_of(&read).len(), batch(1, 3000, 1).length());
        assert_eq!(reading(&relaxed), Reading::Soon, "somebody is there");
        for _ in 0..100 {
            append(&relaxed, batch(1, 60_000, 2)).await;
        }
        assert_eq!(reading(&relaxed), Reading::Late, "who is 6 MB behind does not read along");
        let end = relaxed.high_watermark();
        let last = Offset(end.0 - 1);
        let read = relaxed.read(last, 1 << 20, true, ReadLimit::HighWatermark).await.expect("read");
        assert!(bytes_of(&read).ends_with(&batch(1, 60_000, 2).bytes()[61..]));
        assert_eq!(reading(&relaxed), Reading::Soon);
    });
}
