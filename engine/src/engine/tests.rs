//! The engine as a whole on the simulated disk: one behaviour a test.

mod ages;
mod contract;
mod crash;
mod flushes;
mod foreign;
mod producers;
mod room;

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use uuid::Uuid;

use super::*;
use crate::batch::{BatchBuilder, CheckedBatches, ProducerStamp, batches, records};
use crate::core::COLD_READ_BYTES_MAX;
use crate::read::{Read, ReadLimit};
use crate::storage::sim::{FaultPlan, Random, SimDirectory, SimDisk, SimRuntime};
use crate::{AppendError, AppendOrigin, ProducerEpoch, ProducerId, ReadError, Timestamp, Watches};

const START_MS: i64 = 1_700_000_000_000;

/// A disk and the lives on it.
struct World {
    random: Random,
    disk: SimDisk,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let disk = SimDisk::new(random.fork());
        Self { random, disk }
    }

    /// One life: recovery, open, `script`; then the engine is dropped as a kill would drop it.
    fn live<T, F: Future<Output = T>>(
        &mut self,
        partitions: Vec<OpenPartition>,
        script: impl FnOnce(Engine, Rc<SimRuntime>) -> F,
    ) -> T {
        self.live_with(partitions, config(), script)
    }

    fn live_with<T, F: Future<Output = T>>(
        &mut self,
        partitions: Vec<OpenPartition>,
        config: EngineConfig,
        script: impl FnOnce(Engine, Rc<SimRuntime>) -> F,
    ) -> T {
        let runtime = SimRuntime::new(self.random.fork(), START_MS);
        let directory: Rc<dyn Directory> = SimDirectory::new(runtime.clone(), self.disk.clone());
        let life = async {
            let recovered = replay(&runtime, &directory).await;
            let engine = Engine::open(runtime.clone(), directory.clone(), config, partitions, recovered)
                .await
                .expect("opened");
            script(engine, runtime.clone()).await
        };
        let result = runtime.run(life).expect("no deadlock");
        runtime.drop_tasks();
        result
    }

    /// A life that ends with a clean stop.
    fn live_and_stop<F: Future<Output = ()>>(
        &mut self,
        partitions: Vec<OpenPartition>,
        script: impl FnOnce(Engine, Rc<SimRuntime>) -> F,
    ) {
        self.live_and_stop_with(partitions, config(), script);
    }

    fn live_and_stop_with<F: Future<Output = ()>>(
        &mut self,
        partitions: Vec<OpenPartition>,
        config: EngineConfig,
        script: impl FnOnce(Engine, Rc<SimRuntime>) -> F,
    ) {
        let runtime = SimRuntime::new(self.random.fork(), START_MS);
        let directory: Rc<dyn Directory> = SimDirectory::new(runtime.clone(), self.disk.clone());
        let life = async {
            let recovered = replay(&runtime, &directory).await;
            let engine = Engine::open(runtime.clone(), directory.clone(), config, partitions, recovered)
                .await
                .expect("opened");
            script(engine.clone(), runtime.clone()).await;
            let closed = engine.close().await.expect("closed");
            recovery::seal(directory.clone(), vec![closed], -1).await.expect("sealed");
        };
        runtime.run(life).expect("no deadlock");
        runtime.drop_tasks();
    }
}

/// Lets the simulated clock go on until something is so; ten minutes of it at most.
async fn until(runtime: &SimRuntime, is_so: impl Fn() -> bool) {
    for _ in 0..600_000 {
        if is_so() {
            return;
        }
        // The step of the clock between two looks.
        runtime.sleep(Duration::from_millis(1)).await;
    }
    panic!("not within ten minutes of the simulated clock");
}

/// Whether the disk has a file of the first segment of partition 0.
fn has_first_segment(disk: &SimDisk) -> bool {
    disk.files().iter().any(|(path, ..)| path.contains("events-0/00000000000000000000.log"))
}

/// The disk has so many more bytes from now on.
fn leave_room(disk: &SimDisk, bytes: u64) {
    let used: u64 = disk.files().iter().map(|(_, length, _)| *length).sum();
    disk.set_faults(FaultPlan { capacity_bytes: used + bytes, ..FaultPlan::default() });
}

/// With memory for a part of what the journal may hold.
async fn replay(runtime: &Rc<SimRuntime>, directory: &Rc<dyn Directory>) -> RecoveredJournal {
    recovery::replay(runtime.clone(), directory.clone(), 512 << 10).await.expect("replayed")
}

fn config() -> EngineConfig {
    EngineConfig {
        cache_bytes: 8 << 20,
        journal_bytes: 1 << 20,
        bulk_bytes_min: 64 << 10,
        dirty_bytes_max: 4 << 20,
        ..EngineConfig::new(CoreId(0), 1)
    }
}

fn open(index: i32) -> OpenPartition {
    OpenPartition {
        id: PartitionId { topic: Uuid::from_u128(0x77), partition: index },
        name: format!("events-{index}"),
        config: LogConfig::default(),
        leader_epoch: LeaderEpoch(3),
        exact: false,
    }
}

fn open_with(index: i32, change: impl FnOnce(&mut LogConfig)) -> OpenPartition {
    let mut open = open(index);
    change(&mut open.config);
    open
}

/// A batch of `count` records whose values are `fill` and `bytes` long.
fn batch(count: usize, bytes: usize, fill: u8) -> CheckedBatches {
    let mut builder = BatchBuilder::new();
    for _ in 0..count {
        builder.append(Timestamp(START_MS), Some(b"key"), Some(&vec![fill; bytes]), &[]);
    }
    builder.build_checked()
}

async fn append(partition: &Partition, batches: CheckedBatches) -> i64 {
    partition.append(batches, AppendOrigin::Client).await.expect("acknowledged").base_offset.0
}

fn bytes_of(read: &Read) -> Vec<u8> {
    read.slices.iter().flat_map(|slice| slice.to_vec()).collect()
}

/// Every record from `from` to the high watermark, as (offset, first byte of its value).
async fn read_all(partition: &Partition, from: i64) -> Vec<(i64, u8)> {
    let mut found = Vec::new();
    let mut at = from;
    while at < partition.high_watermark().0 {
        let read = partition.read(Offset(at), 100_000, true, ReadLimit::HighWatermark).await.expect("read");
        let bytes = bytes_of(&read);
        let before = at;
        for batch in batches(&bytes) {
            let (header, batch) = batch.expect("whole batches");
            header.verify(batch).expect("a right CRC");
            assert_eq!(header.leader_epoch(), LeaderEpoch(3));
            for record in records(batch).expect("not compressed") {
                let record = record.expect("sound");
                if record.offset.0 >= from {
                    found.push((record.offset.0, record.value.map_or(0, |value| value[0])));
                }
            }
            at = header.last_offset().0 + 1;
        }
        assert!(at > before, "a read from {before} gave nothing");
    }
    found
}

#[test]
fn what_was_acknowledged_is_read_back_from_the_cache_and_after_a_power_cut() {
    let mut world = World::new(1);
    world.live(vec![open(0), open(1)], |engine, _| async move {
        let first = engine.partition(&open(0).id).expect("open");
        let second = engine.partition(&open(1).id).expect("open");
        assert_eq!(append(&first, batch(3, 100, 1)).await, 0);
        assert_eq!(append(&first, batch(2, 5000, 2)).await, 3);
        assert_eq!(append(&second, batch(1, 10, 3)).await, 0);
        assert_eq!(first.high_watermark(), Offset(5));
        let expected = vec![(0, 1), (1, 1), (2, 1), (3, 2), (4, 2)];
        assert_eq!(read_all(&first, 0).await, expected);
        assert_eq!(read_all(&first, 1).await, expected[1..]);
    });
    world.disk.crash();
    world.live(vec![open(0), open(1)], |engine, _| async move {
        let first = engine.partition(&open(0).id).expect("open");
        let second = engine.partition(&open(1).id).expect("open");
        assert_eq!(read_all(&first, 0).await, vec![(0, 1), (1, 1), (2, 1), (3, 2), (4, 2)]);
        assert_eq!(read_all(&second, 0).await, vec![(0, 3)]);
        assert_eq!(append(&first, batch(1, 10, 4)).await, 5);
    });
}

#[test]
fn large_appends_go_to_their_segment_and_survive() {
    let mut world = World::new(2);
    world.live(vec![open(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for fill in 0..20 {
            append(&partition, batch(2, 100_000, fill)).await;
        }
        let stats = engine.stats();
        assert!(stats.journal_bytes_written < 200_000, "{stats:?}");
    });
    world.disk.crash();
    world.live(vec![open(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        let expected: Vec<(i64, u8)> = (0..40).map(|offset| (offset, (offset / 2) as u8)).collect();
        assert_eq!(read_all(&partition, 0).await, expected);
    });
}

#[test]
fn the_ring_is_passed_many_times_and_segments_roll() {
    let mut world = World::new(3);
    let small = || open_with(0, |config| config.segment_bytes = 300_000);
    let appended = world.live(vec![small()], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        let mut appended = 0;
        for round in 0..300u32 {
            appended =
                append(&partition, batch(3, 3000 + (round as usize * 37) % 5000, round as u8)).await + 3;
        }
        appended
    });
    assert_eq!(appended, 900);
    world.disk.crash();
    world.live(vec![small()], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        let expected: Vec<(i64, u8)> = (0..900).map(|offset| (offset, (offset / 3) as u8)).collect();
        assert_eq!(read_all(&partition, 0).await, expected);
    });
}

#[test]
fn a_reader_of_a_segment_that_goes_is_told_where_the_log_starts() {
    let mut world = World::new(29);
    let small = open_with(0, |config| {
        config.segment_bytes = 30_000;
        config.file_delete_delay_ms = 0;
    });
    let disk = world.disk.clone();
    world.live(vec![small], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for fill in 0..9 {
            append(&partition, batch(1, 9000, fill)).await;
        }
        until(&runtime, || engine.stats().cache_bytes_used == 0).await;
        let core = &engine.inner.core;
        let held = core.cold_read(COLD_READ_BYTES_MAX).await;
        let removal = async {
            // It has its file by then.
            until(&runtime, || core.is_cold_read_wanted()).await;
            assert_eq!(partition.delete_records(Offset(3)).await.expect("deleted"), Offset(3));
            until(&runtime, || !has_first_segment(&disk)).await;
            drop(held);
        };
        // The last of three batches of its segment: in the half that is cut off.
        let reading = partition.read(Offset(2), 20_000, true, ReadLimit::HighWatermark);
        let (read, ()) = futures_util::join!(reading, removal);
        assert!(matches!(read, Err(ReadError::OutOfRange { .. })), "{read:?}");
    });
}

#[test]
fn an_idle_engine_writes_everything_and_then_rests() {
    let mut world = World::new(4);
    world.live(vec![open(0)], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append(&partition, batch(3, 100, 1)).await;
        // So long may it take, by the simulated clock.
        runtime.sleep(Duration::from_secs(20)).await;
        let stats = engine.stats();
        assert_eq!((stats.dirty_bytes, stats.cache_bytes_used), (0, 0), "{stats:?}");
        let before = (runtime.monotonic(), engine.stats());
        runtime.sleep(Duration::from_secs(100)).await;
        assert_eq!(engine.stats(), before.1);
        assert_eq!(read_all(&partition, 0).await.len(), 3, "from the disk");
        assert_eq!(append(&partition, batch(1, 10, 2)).await, 3);
        assert_eq!(read_all(&partition, 0).await.len(), 4);
    });
}

#[test]
fn a_clean_stop_leaves_kafkas_directory_and_goes_on() {
    let mut world = World::new(5);
    let producer = ProducerStamp { id: ProducerId(9), epoch: ProducerEpoch(0), base_sequence: 0 };
    let stamped = move || {
        let mut builder = BatchBuilder::new().producer(producer);
        builder.append(Timestamp(START_MS), None, Some(b"once"), &[]);
        builder.build_checked()
    };
    world.live_and_stop(vec![open(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append(&partition, batch(3, 2000, 1)).await;
        append(&partition, stamped()).await;
    });
    let files: Vec<String> = world.disk.files().into_iter().map(|(path, ..)| path).collect();
    assert!(files.iter().any(|path| path.ends_with(".kafka_cleanshutdown")), "{files:?}");
    assert!(files.iter().all(|path| !path.contains("flumen")), "{files:?}");
    assert!(files.iter().any(|path| path.ends_with("00000000000000000004.snapshot")), "{files:?}");
    let log = world.disk.contents(Path::new("events-0/00000000000000000000.log")).expect("a segment");
    let total: usize = batches(&log).map(|batch| batch.expect("whole").1.len()).sum();
    assert_eq!(total, log.len(), "cut to its exact length");
    world.live(vec![open(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        assert_eq!(read_all(&partition, 0).await.len(), 4);
        let again =
            partition.append(stamped(), AppendOrigin::Client).await.expect("a duplicate is a success");
        assert_eq!(again.base_offset, Offset(3));
        assert_eq!(append(&partition, batch(1, 10, 2)).await, 4);
    });
}

#[test]
fn a_truncated_log_stays_truncated_after_a_power_cut() {
    for seed in 0..20 {
        let mut world = World::new(100 + seed);
        let small = || open_with(0, |config| config.segment_bytes = 60_000);
        world.live(vec![small()], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            for fill in 0..50 {
                append(&partition, batch(1, 3000, fill)).await;
            }
            partition.truncate_to(Offset(21)).await.expect("cut");
            assert_eq!(partition.log_end_offset(), Offset(21));
            for fill in 100..105 {
                append(&partition, batch(1, 2000, fill)).await;
            }
        });
        world.disk.crash();
        world.live(vec![small()], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            let old = (0..21).map(|offset| (offset, offset as u8));
            let expected: Vec<(i64, u8)> =
                old.chain((0..5).map(|index| (21 + index, 100 + index as u8))).collect();
            assert_eq!(read_all(&partition, 0).await, expected, "seed {seed}");
        });
    }
}

#[test]
fn deleted_records_stay_deleted_and_their_segments_go() {
    let mut world = World::new(6);
    let small = || open_with(0, |config| config.segment_bytes = 20_000);
    world.live(vec![small()], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for fill in 0..50 {
            append(&partition, batch(1, 3000, fill)).await;
        }
        assert_eq!(partition.delete_records(Offset(30)).await.expect("deleted"), Offset(30));
        assert!(matches!(
            partition.read(Offset(29), 100, true, ReadLimit::HighWatermark).await,
            Err(ReadError::OutOfRange { .. })
        ));
        assert_eq!(read_all(&partition, 30).await.len(), 20);
    });
    world.disk.crash();
    world.live(vec![small()], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        assert_eq!(partition.log_start_offset(), Offset(30));
        assert_eq!(read_all(&partition, 30).await.len(), 20);
        runtime.sleep(Duration::from_secs(10)).await;
        engine.retain().await.expect("retained");
        assert!(partition.size_bytes() < 25 * 3200, "{}", partition.size_bytes());
    });
}

#[test]
fn retention_by_size_keeps_what_it_must() {
    let mut world = World::new(7);
    let small = || {
        open_with(0, |config| {
            config.segment_bytes = 20_000;
            config.retention_bytes = 50_000;
        })
    };
    world.live(vec![small()], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for fill in 0..50 {
            append(&partition, batch(1, 3000, fill)).await;
        }
        runtime.sleep(Duration::from_secs(10)).await;
        engine.retain().await.expect("retained");
        let size = partition.size_bytes();
        assert!((50_000..75_000).contains(&size), "{size}");
        let start = partition.log_start_offset().0;
        assert_eq!(read_all(&partition, start).await.len() as i64, 50 - start);
    });
}

#[test]
fn records_are_found_by_time() {
    let mut world = World::new(8);
    world.live(vec![open_with(0, |config| config.segment_bytes = 20_000)], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for index in 0..60 {
            let mut builder = BatchBuilder::new();
            for record in 0..3 {
                let time = Timestamp(START_MS - 1_000_000 + index * 100 + record * 10);
                builder.append(time, None, Some(&[1; 400]), &[]);
            }
            append(&partition, builder.build_checked()).await;
        }
        for round in 0..2 {
            for index in [0, 7, 33, 59] {
                let wanted = Timestamp(START_MS - 1_000_000 + index * 100 + 5);
                let found =
                    partition.offset_for_timestamp(wanted, ReadLimit::HighWatermark).await.expect("read");
                let found = found.expect("there is one");
                assert_eq!(
                    (found.offset.0, found.timestamp.0),
                    (index * 3 + 1, wanted.0 + 5),
                    "round {round}"
                );
            }
            let beyond = Timestamp(START_MS);
            assert_eq!(
                partition.offset_for_timestamp(beyond, ReadLimit::HighWatermark).await.expect("read"),
                None
            );
            let latest = async || {
                let latest = partition.max_timestamp(ReadLimit::HighWatermark).await;
                latest.expect("read").map(|latest| latest.offset)
            };
            assert_eq!(latest().await, Some(Offset(179)));
            runtime.sleep(Duration::from_secs(20)).await;
            if round == 1 {
                partition.delete_records(Offset(180)).await.expect("deleted");
                assert_eq!(latest().await, Some(Offset(179)), "its segment is the active one");
            }
        }
    });
}

#[test]
fn class_m_is_acknowledged_at_once_and_class_d_after_it_is_durable_with_all_before() {
    let mut world = World::new(9);
    let relaxed = || open_with(0, |config| config.flush_messages = i64::MAX);
    world.live(vec![relaxed()], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for fill in 0..10 {
            let flushes = engine.stats().flushes;
            append(&partition, batch(1, 3000, fill)).await;
            assert_eq!(engine.stats().flushes, flushes);
        }
        assert_eq!(partition.high_watermark(), Offset(10));
        engine.set_config(&open(0).id, LogConfig::default());
        append(&partition, batch(1, 3000, 10)).await;
    });
    world.disk.crash();
    world.live(vec![relaxed()], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        let expected: Vec<(i64, u8)> = (0..11).map(|offset| (offset, offset as u8)).collect();
        assert_eq!(read_all(&partition, 0).await, expected);
    });
}

#[test]
fn class_m_goes_on_at_once_in_the_next_segment() {
    let mut world = World::new(11);
    let small = open_with(0, |config| (config.flush_messages, config.segment_bytes) = (i64::MAX, 64 << 10));
    world.live(vec![small], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for fill in 0..30 {
            let appending = partition.append(batch(1, 10_000, fill), AppendOrigin::Client);
            let appended = appending.now_or_never().expect("nobody waits").expect("appended");
            assert_eq!(appended.base_offset, Offset(i64::from(fill)));
        }
        assert!(partition.inner().log.borrow().segments.len() > 3);
        assert_eq!(engine.stats().commit_groups, 0, "the journal has nothing to do with it");
        assert_eq!(partition.high_watermark(), Offset(30));
    });
}

#[test]
fn a_class_that_was_relaxed_amid_appends_is_so_once_those_before_are_durable() {
    let mut world = World::new(12);
    world.live(vec![open(0)], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        let before = engine.stats().commit_groups;
        let strict = [0, 1, 2].map(|fill| partition.append(batch(1, 3000, fill), AppendOrigin::Client));
        let relaxed = LogConfig { flush_messages: i64::MAX, ..LogConfig::default() };
        engine.set_config(&open(0).id, relaxed);
        // Nobody waits for those before, so that there is always something that waits.
        let mut appending = Vec::from(strict);
        for _ in 3..2000 {
            appending.push(partition.append(batch(1, 100, 3), AppendOrigin::Client));
            runtime.sleep(Duration::from_micros(20)).await;
        }
        for appending in appending {
            appending.await.expect("acknowledged");
        }
        assert_eq!(partition.high_watermark(), Offset(2000));
        let groups = engine.stats().commit_groups - before;
        assert!((1..3).contains(&groups), "{groups}: only what was appended in class D is committed");
    });
}

#[test]
fn an_exact_partition_holds_exactly_what_was_acknowledged() {
    let mut world = World::new(10);
    let exact = || OpenPartition { exact: true, ..open(0) };
    let length = |world: &World| {
        world.disk.contents(Path::new("events-0/00000000000000000000.log")).expect("a segment").len() as u64
    };
    let size = world.live(vec![exact()], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for fill in 0..5 {
            append(&partition, batch(1, 100, fill)).await;
        }
        partition.size_bytes()
    });
    assert_eq!(length(&world), size);
    world.disk.crash();
    assert_eq!(length(&world), size);
    world.live(vec![exact()], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        assert_eq!(read_all(&partition, 0).await.len(), 5);
        append(&partition, batch(1, 100, 9)).await;
    });
    assert!(length(&world) > size);
}

#[test]
fn an_exact_partition_is_rolled_and_cut_at_its_beginning() {
    let mut world = World::new(10);
    let exact = || OpenPartition { exact: true, ..open_with(0, |config| config.delete = false) };
    let ends = world.live(vec![exact()], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        partition.roll();
        let mut ends = Vec::new();
        for fill in 0..3 {
            append(&partition, batch(2, 100, fill)).await;
            append(&partition, batch(1, 100, fill)).await;
            partition.roll();
            partition.roll();
            ends.push(partition.log_end_offset());
        }
        assert_eq!(partition.delete_records(ends[1]).await.expect("deleted"), ends[1]);
        append(&partition, batch(1, 100, 7)).await;
        ends
    });
    assert_eq!(ends, [Offset(3), Offset(6), Offset(9)]);
    let there = |world: &World| -> Vec<bool> {
        let path = |base: i64| format!("events-0/{base:020}.log");
        let bases = [0, 3, 6, 9];
        bases.iter().map(|base| world.disk.contents(Path::new(&path(*base))).is_some()).collect()
    };
    assert_eq!(there(&world), [false, false, true, true]);
    world.disk.crash();
    world.live(vec![exact()], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        assert_eq!((partition.log_start_offset(), partition.log_end_offset()), (ends[1], Offset(10)));
        assert_eq!(read_all(&partition, 6).await.len(), 4);
    });
    assert_eq!(there(&world), [false, false, true, true]);
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    let mut world = World::new(11);
    let disk = world.disk.clone();
    let acknowledged = world.live(vec![open(0)], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append(&partition, batch(1, 3000, 0)).await;
        leave_room(&disk, 100_000);
        let mut acknowledged = 1;
        let mut refused = false;
        for fill in 1..200u8 {
            match partition.append(batch(1, 3000, fill), AppendOrigin::Client).await {
                Ok(_) => acknowledged += 1,
                Err(error) => {
                    assert_eq!(error, AppendError::NoSpace);
                    refused = true;
                    break;
                }
            }
            runtime.sleep(Duration::from_millis(100)).await;
        }
        assert!(refused);
        assert_eq!(read_all(&partition, 0).await.len(), acknowledged);
        disk.set_faults(FaultPlan::default());
        runtime.sleep(Duration::from_secs(10)).await;
        append(&partition, batch(1, 3000, 250)).await;
        acknowledged + 1
    });
    world.disk.crash();
    world.live(vec![open(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        assert_eq!(read_all(&partition, 0).await.len(), acknowledged);
    });
}

#[test]
fn appends_wait_when_the_cache_is_full_of_dirty_bytes() {
    let mut world = World::new(12);
    let tight = EngineConfig { cache_bytes: 1 << 20, dirty_bytes_max: 512 << 10, ..config() };
    let partitions: Vec<OpenPartition> =
        (0..8).map(|index| open_with(index, |config| config.flush_messages = i64::MAX)).collect();
    world.live_with(partitions, tight, |engine, _| async move {
        let mut waiting = Vec::new();
        for round in 0..40 {
            for partition in engine.partitions() {
                waiting.push(partition.append(batch(1, 9000, round), AppendOrigin::Client));
            }
        }
        for append in waiting {
            append.await.expect("it waits, it does not fail");
        }
        assert!(engine.stats().appends_delayed > 0);
        assert!(engine.stats().cache_bytes_used <= 1 << 20);
        for partition in engine.partitions() {
            let expected: Vec<(i64, u8)> = (0..40).map(|offset| (offset, offset as u8)).collect();
            assert_eq!(read_all(&partition, 0).await, expected);
        }
    });
}

#[test]
fn a_deleted_partition_fails_its_waiters_and_leaves_nothing() {
    let mut world = World::new(13);
    world.live(vec![open(0), open(1)], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append(&partition, batch(1, 100, 1)).await;
        let mut watches = Watches::default();
        watches.watch(&partition);
        let waits = partition.append(batch(1, 100, 2), AppendOrigin::Client);
        engine.delete_partition(&open(0).id).await.expect("deleted");
        assert_eq!(waits.await, Err(AppendError::Deleted));
        watches.news().await;
        assert_eq!(watches.take_news(), [open(0).id]);
        assert!(engine.partition(&open(0).id).is_none());
        runtime.sleep(Duration::from_secs(100)).await;
        engine
            .create_partition(OpenPartition { leader_epoch: LeaderEpoch(3), ..open(0) })
            .await
            .expect("anew");
        let again = engine.partition(&open(0).id).expect("created");
        assert_eq!(append(&again, batch(1, 100, 3)).await, 0);
    });
    world.disk.crash();
    world.live(vec![open(0), open(1)], |engine, _| async move {
        let again = engine.partition(&open(0).id).expect("open");
        assert_eq!(read_all(&again, 0).await, vec![(0, 3)]);
    });
}

#[test]
fn a_watch_tells_once_that_the_high_watermark_rose_and_not_what_is_forgotten() {
    let mut world = World::new(14);
    world.live(vec![open(0), open(1), open(2)], |engine, runtime| async move {
        let partitions: Vec<Partition> =
            (0..3).map(|index| engine.partition(&open(index).id).expect("open")).collect();
        let mut watches = Watches::default();
        for partition in &partitions {
            watches.watch(partition);
        }
        watches.forget(&open(1).id);
        let appender = partitions.clone();
        runtime.spawn(Box::pin(async move {
            for partition in &appender[..2] {
                append(partition, batch(1, 100, 1)).await;
            }
        }));
        watches.news().await;
        assert_eq!(partitions[0].high_watermark(), Offset(1));
        // It is told once, however often there was news, and no longer watched; the others stay.
        append(&partitions[0], batch(1, 100, 2)).await;
        assert_eq!((watches.take_news(), watches.len()), (vec![open(0).id], 1));
        append(&partitions[0], batch(1, 100, 3)).await;
        append(&partitions[1], batch(1, 100, 3)).await;
        assert_eq!(watches.take_news(), []);
        // Other news than records, on what has been watched all the time.
        partitions[2].set_leader_epoch(LeaderEpoch(9));
        watches.news().await;
        assert_eq!((watches.take_news(), watches.is_empty()), (vec![open(2).id], true));
        partitions[2].set_leader_epoch(LeaderEpoch(8));
        watches.watch(&partitions[2]);
        partitions[2].set_leader_epoch(LeaderEpoch(9));
        assert_eq!(watches.take_news(), []);
    });
}

#[test]
fn who_no_longer_watches_is_forgotten_and_nobody_else() {
    let mut world = World::new(15);
    world.live(vec![open(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        let mut readers: Vec<Watches> = (0..5).map(|_| Watches::default()).collect();
        for reader in &mut readers {
            reader.watch(&partition);
        }
        drop(readers.remove(1));
        readers[2].forget(&open(0).id);
        assert_eq!(partition.inner().watchers.len(), 3);
        append(&partition, batch(1, 100, 1)).await;
        let told: Vec<usize> = readers.iter_mut().map(|reader| reader.take_news().len()).collect();
        assert_eq!((told, partition.inner().watchers.len()), (vec![1, 1, 0, 1], 0));
    });
}
