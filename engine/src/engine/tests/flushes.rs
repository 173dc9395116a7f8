//! Which flushes there are, and who waits for whose.

use std::cell::Cell;

use super::*;

const MANY: i32 = 40;
const ROUNDS: u8 = 25;

#[test]
fn a_commit_waits_for_nobody_elses_flush() {
    const FLUSHES: usize = 40;
    let mut world = World::new(28);
    let disk = world.disk.clone();
    world.live(vec![open(0), open(1)], |engine, runtime| async move {
        let partitions = [0, 1].map(|index| engine.partition(&open(index).id).expect("open"));
        append(&partitions[0], batch(1, 100, 0)).await;
        until(&runtime, || has_first_segment(&disk)).await;
        let file = partitions[0].segment_file(Offset(0)).await.expect("open");
        let flushed = Rc::new(Cell::new(0));
        for _ in 0..FLUSHES {
            let (engine, file, flushed) = (engine.clone(), file.clone(), flushed.clone());
            runtime.spawn(Box::pin(async move {
                engine.inner.core.sync(&file).await.expect("flushed");
                flushed.set(flushed.get() + 1);
            }));
        }
        append(&partitions[1], batch(1, 100, 0)).await;
        assert!(flushed.get() < FLUSHES / 2, "{} were before it", flushed.get());
        until(&runtime, || flushed.get() == FLUSHES).await;
        assert_eq!(flushed.get(), FLUSHES);
    });
}

/// What filling the ring took.
#[derive(Debug)]
struct Filled {
    /// The slowest append.
    slowest: Duration,
    /// Flushes but for those of commit groups.
    flushes_beside: u64,
}

/// Several times what the ring takes, spread over many partitions.
async fn fill_the_ring(engine: &Engine, runtime: &SimRuntime) -> Filled {
    let partitions: Vec<Partition> =
        (0..MANY).map(|index| engine.partition(&open(index).id).expect("open")).collect();
    let before = engine.stats();
    let mut slowest = Duration::ZERO;
    for round in 0..ROUNDS {
        for partition in &partitions {
            let began = runtime.monotonic();
            append(partition, batch(1, 4000, round)).await;
            slowest = slowest.max(runtime.monotonic() - began);
        }
    }
    let after = engine.stats();
    let journaled = after.journal_bytes_written - before.journal_bytes_written;
    assert!(journaled > 4 * config().journal_bytes, "{journaled} bytes");
    let groups = after.commit_groups - before.commit_groups;
    Filled { slowest, flushes_beside: after.flushes - before.flushes - groups }
}

async fn expect_all(engine: &Engine) {
    let expected: Vec<(i64, u8)> = (0..ROUNDS).map(|round| (i64::from(round), round)).collect();
    for index in 0..MANY {
        let partition = engine.partition(&open(index).id).expect("open");
        assert_eq!(read_all(&partition, 0).await, expected, "partition {index}");
    }
}

#[test]
fn many_partitions_are_made_durable_by_one_flush() {
    let mut world = World::new(57);
    world.live((0..MANY).map(open).collect(), |engine, runtime| async move {
        let filled = fill_the_ring(&engine, &runtime).await;
        assert!(filled.flushes_beside < 100, "{filled:?}");
    });
    world.disk.crash();
    world.live((0..MANY).map(open).collect(), |engine, _| async move { expect_all(&engine).await });
}

#[test]
fn others_who_write_to_the_file_system_do_not_keep_the_ring_full() {
    let mut world = World::new(58);
    let disk = world.disk.clone();
    world.live((0..MANY).map(open).collect(), |engine, runtime| async move {
        disk.set_faults(FaultPlan { sync_all_micros: 30_000_000, ..FaultPlan::default() });
        let filled = fill_the_ring(&engine, &runtime).await;
        assert!(filled.slowest < Duration::from_secs(2) && filled.flushes_beside > 100, "{filled:?}");
        disk.set_faults(FaultPlan::default());
        // It is tried again.
        runtime.sleep(Duration::from_secs(70)).await;
        let filled = fill_the_ring(&engine, &runtime).await;
        assert!(filled.flushes_beside < 100, "{filled:?}");
    });
    world.disk.crash();
    world.live((0..MANY).map(open).collect(), |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        assert_eq!(read_all(&partition, 0).await.len(), 2 * usize::from(ROUNDS));
    });
}

/// What a partition has that is published and in no segment, in bytes.
fn unwritten(partition: &Partition) -> u64 {
    partition.inner().log.borrow().dirty_bytes()
}

#[test]
fn a_partition_of_class_m_is_written_beside_a_ring_that_stays_full() {
    let mut world = World::new(59);
    let relaxed = open_with(0, |config| config.flush_messages = i64::MAX);
    world.live(vec![relaxed, open(1)], |engine, runtime| async move {
        let [relaxed, durable] = [0, 1].map(|index| engine.partition(&open(index).id).expect("open"));
        // Nobody makes the ring's oldest entries unneeded.
        let _turn = durable.inner().io.take().await;
        while !engine.inner.core.journal.is_pressed() {
            append(&durable, batch(1, 30_000, 1)).await;
        }
        for _ in 0..10 {
            append(&relaxed, batch(1, 30_000, 2)).await;
        }
        let (began, before) = (runtime.monotonic(), unwritten(&relaxed));
        until(&runtime, || unwritten(&relaxed) < before).await;
        // Before it has been quiet for long.
        let took = runtime.monotonic() - began;
        assert!(took < Duration::from_millis(900), "it took {took:?}");
        assert!(engine.inner.core.journal.is_pressed());
    });
}

#[test]
fn all_that_have_enough_to_write_are_written_at_once_however_many_they_are() {
    const PARTITIONS: i32 = 600;
    let mut world = World::new(60);
    let relaxed = |index| open_with(index, |config| config.flush_messages = i64::MAX);
    let partitions = (0..PARTITIONS).map(relaxed).collect();
    // Nobody waits for memory.
    let roomy = EngineConfig { cache_bytes: 64 << 20, ..config() };
    world.live_with(partitions, roomy, |engine, runtime| async move {
        let partitions: Vec<Partition> =
            (0..PARTITIONS).map(|index| engine.partition(&open(index).id).expect("open")).collect();
        let appends = partitions.iter().map(|partition| append(partition, batch(1, 100, 1)));
        futures_util::future::join_all(appends).await;
        // All have been quiet for a second at the third look.
        let began = runtime.monotonic();
        until(&runtime, || partitions.iter().all(|partition| unwritten(partition) == 0)).await;
        let took = runtime.monotonic() - began;
        assert!(took < Duration::from_millis(1900), "it took {took:?}");
    });
}
