//! What a crash at a bad moment, or a write that failed, leaves to the next start.

use std::cell::RefCell;

use futures_util::future::select;

use super::*;
use crate::checkpoint;
use crate::layout::CLEAN_SHUTDOWN;

#[test]
fn a_rolled_segment_that_was_not_cut_yet_is_cut_by_recovery() {
    let mut world = World::new(30);
    let small = || open_with(0, |config| config.segment_bytes = 16 << 10);
    world.live(vec![small()], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append(&partition, batch(1, 10_000, 1)).await;
        // Flushed, with room to grow.
        runtime.sleep(Duration::from_secs(5)).await;
        // Write-behind does not come by.
        let _turn = partition.inner().io.take().await;
        append(&partition, batch(1, 10_000, 2)).await;
        assert_eq!(partition.inner().log.borrow().segments.len(), 2);
        assert!(!partition.inner().log.borrow().segments[0].is_sealed);
        checkpoint::write(&engine.inner.core).await.expect("written");
    });
    world.disk.crash();
    world.live(vec![small()], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        assert_eq!(read_all(&partition, 0).await, [(0, 1), (1, 2)]);
    });
}

#[test]
fn only_space_that_was_reserved_and_never_written_to_stays_behind_the_end() {
    let log = Path::new("events-0/00000000000000000000.log");
    let mut world = World::new(29);
    world.live(vec![open(0)], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append(&partition, batch(1, 10_000, 1)).await;
        runtime.sleep(Duration::from_secs(30)).await;
    });
    world.disk.kill();
    let left = world.disk.contents(log).expect("there");
    // A record ends with how many headers it has: none.
    let end = left.iter().rposition(|byte| *byte != 0).expect("a record") + 2;
    assert!(end.next_multiple_of(4096) + 4096 < left.len(), "{end} of {} bytes", left.len());
    // In the end's block, behind it, and at the end of the file.
    for stale in [None, Some(end), Some(end.next_multiple_of(4096) + 7), Some(left.len() - 1)] {
        let mut found = left.clone();
        if let Some(at) = stale {
            found[at] = 1;
        }
        world.disk.place(log, &found);
        world.live(vec![open(0)], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            assert_eq!(read_all(&partition, 0).await, [(0, 1)]);
        });
        let length = if stale.is_none() { left.len() } else { end };
        assert!(world.disk.contents(log) == Some(left[..length].to_vec()), "with {stale:?} of {end}");
        world.disk.kill();
    }
    world.disk.place(log, &left);
    world.live(vec![OpenPartition { exact: true, ..open(0) }], |_, _| async {});
    assert_eq!(world.disk.contents(log).expect("there").len(), end, "nothing is reserved in an exact one");
    world.disk.kill();
    world.disk.place(log, &left);
    world.live_and_stop(vec![open(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append(&partition, batch(1, 10_000, 2)).await;
    });
    assert_eq!(world.disk.contents(log).expect("there").len(), 2 * end, "a stop leaves what Kafka expects");
}

/// Moves the log's start while the directory cannot rename anything; the checkpoint says it before.
async fn delete_without_removing(
    partition: &Partition,
    before: i64,
    runtime: &SimRuntime,
    disk: &SimDisk,
) -> Result<Offset, ReadError> {
    let turn = partition.inner().io.take().await;
    let removal = async {
        runtime.sleep(Duration::from_secs(1)).await;
        disk.set_faults(FaultPlan { name_per_million: 1_000_000, ..FaultPlan::default() });
        drop(turn);
    };
    let (deleted, ()) = futures_util::join!(partition.delete_records(Offset(before)), removal);
    disk.set_faults(FaultPlan::default());
    deleted
}

#[test]
fn a_segment_that_could_not_be_removed_stays_below_the_logs_start_and_goes_first() {
    let mut world = World::new(31);
    let small = || open_with(0, |config| config.segment_bytes = 16 << 10);
    let disk = world.disk.clone();
    world.live_and_stop(vec![small()], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for fill in 0..5 {
            append(&partition, batch(1, 10_000, fill)).await;
        }
        runtime.sleep(Duration::from_secs(5)).await;
        let deleted = delete_without_removing(&partition, 2, &runtime, &disk).await;
        assert!(matches!(deleted, Err(ReadError::Storage(_))), "{deleted:?}");
        assert_eq!(partition.log_start_offset(), Offset(2));
    });
    let disk = world.disk.clone();
    world.live(vec![small()], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        assert_eq!(partition.log_start_offset(), Offset(2), "a clean stop says so");
        let deleted = delete_without_removing(&partition, 3, &runtime, &disk).await;
        assert!(matches!(deleted, Err(ReadError::Storage(_))), "{deleted:?}");
        partition.delete_records(Offset(4)).await.expect("deleted");
        let files = disk.files();
        let logs: Vec<&str> =
            files.iter().map(|(path, ..)| path.as_str()).filter(|path| path.ends_with(".log")).collect();
        assert_eq!(logs, ["events-0/00000000000000000004.log"], "no hole is left in the log");
        assert_eq!(read_all(&partition, 4).await, [(4, 4)]);
    });
}

/// A write that fails takes its partition offline for this life; what was acknowledged is there in the next one.
#[test]
fn a_partition_whose_bulk_write_failed_is_sound_after_a_restart() {
    let mut failed_alone = 0;
    for seed in 0..40 {
        let mut world = World::new(1000 + seed);
        let disk = world.disk.clone();
        let failed = world.live(vec![open(0), open(1)], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            append(&partition, batch(1, 100, 1)).await;
            disk.set_faults(FaultPlan { write_per_million: 400_000, ..FaultPlan::default() });
            let bulk = partition.append(batch(1, 200_000, 2), AppendOrigin::Client).await;
            disk.set_faults(FaultPlan::default());
            let failed = bulk == Err(AppendError::Offline) && !engine.directory_offline();
            if failed {
                // The others go on.
                append(&engine.partition(&open(1).id).expect("open"), batch(1, 100, 3)).await;
            }
            failed
        });
        if !failed {
            continue;
        }
        failed_alone += 1;
        world.disk.kill();
        world.live(vec![open(0), open(1)], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            assert!(!partition.is_offline(), "seed {seed}: nothing that was acknowledged is missing");
            assert_eq!(read_all(&partition, 0).await[0], (0, 1));
            append(&partition, batch(1, 100, 4)).await;
            assert_eq!(read_all(&engine.partition(&open(1).id).expect("open"), 0).await, [(0, 3)]);
        });
    }
    assert!(failed_alone > 2, "{failed_alone} of the histories had what is tested here");
}

/// What the relaxed class has in its segment only, and what a flush that failed has left there to be read, is written
/// anew before it is served: else it would be missing below what is acknowledged behind it.
#[test]
fn what_a_failed_flush_left_of_a_relaxed_log_is_durable_once_it_is_served() {
    let mut left = 0;
    for seed in 0..20 {
        let mut world = World::new(1200 + seed);
        let disk = world.disk.clone();
        let relaxed = || open_with(0, |config| config.flush_messages = i64::MAX);
        world.live(vec![relaxed()], |engine, runtime| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            for fill in 0..10 {
                append(&partition, batch(1, 3000, fill)).await;
            }
            disk.set_faults(FaultPlan { flush_per_million: 1_000_000, ..FaultPlan::default() });
            runtime.sleep(Duration::from_secs(5)).await;
            assert!(engine.directory_offline());
            disk.set_faults(FaultPlan::default());
        });
        world.disk.kill();
        let served = world.live(vec![open(0)], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            append(&partition, batch(1, 3000, 99)).await;
            read_all(&partition, 0).await
        });
        left += served.len() - 1;
        world.disk.crash();
        world.live(vec![open(0)], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            assert!(!partition.is_offline(), "seed {seed}");
            assert_eq!(read_all(&partition, 0).await, served, "seed {seed}");
        });
    }
    assert!(left > 20, "{left} records were left to be read");
}

/// The start of a log is durable, and what it was moved behind is not: class M. The start that removes what is left is
/// cut off after any number of steps.
#[test]
fn nothing_is_left_below_the_start_of_a_log_that_ended_before_it() {
    let relaxed = || open_with(0, |config| config.flush_messages = i64::MAX);
    for steps in 0..120 {
        let mut world = World::new(38 + steps);
        world.live(vec![relaxed()], |engine, runtime| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            for sealed in 0..2 {
                append(&partition, batch(1, 1000, 1)).await;
                partition.inner().log.borrow_mut().roll();
                until(&runtime, || partition.inner().log.borrow().segments[sealed].is_sealed).await;
            }
            // Its beginning is.
            append(&partition, batch(1, 1000, 1)).await;
            until(&runtime, || partition.inner().log.borrow().flushed().offset == Offset(3)).await;
            checkpoint::write(&engine.inner.core).await.expect("written");
            // Neither write-behind comes by, nor does the removal of the segments.
            let _turn = partition.inner().io.take().await;
            append(&partition, batch(2, 1000, 2)).await;
            let _removal =
                select(Box::pin(partition.delete_records(Offset(5))), runtime.sleep(Duration::from_secs(1)))
                    .await;
            assert_eq!(partition.inner().log.borrow().said_start, Offset(5));
        });
        world.disk.crash();
        if steps > 0 {
            world.start_cut_off(steps, vec![relaxed()]);
            world.disk.crash();
        }
        world.live(vec![relaxed()], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            assert_eq!((partition.log_start_offset(), partition.log_end_offset()), (Offset(5), Offset(5)));
            assert_eq!(partition.inner().log.borrow().segments.len(), 1);
            assert_eq!(append(&partition, batch(1, 1000, 3)).await, 5);
            assert_eq!(read_all(&partition, 5).await, [(5, 3)]);
        });
        assert!(!has_first_segment(&world.disk), "{steps}: {:?}", world.disk.files());
    }
}

/// Somebody who asks again for what could not be made durable is told so only once it is.
#[test]
fn records_are_deleted_durably_also_where_that_failed_before() {
    let mut world = World::new(34);
    let disk = world.disk.clone();
    world.live(vec![open(0)], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for fill in 0..5 {
            append(&partition, batch(1, 1000, fill)).await;
        }
        runtime.sleep(Duration::from_secs(5)).await;
        let used: u64 = disk.files().iter().map(|(_, length, _)| *length).sum();
        disk.set_faults(FaultPlan { capacity_bytes: used, ..FaultPlan::default() });
        for _ in 0..2 {
            let deleted = partition.delete_records(Offset(3)).await;
            assert!(matches!(deleted, Err(ReadError::Storage(_))), "{deleted:?}");
        }
        disk.set_faults(FaultPlan::default());
        assert_eq!(partition.delete_records(Offset(3)).await.expect("deleted"), Offset(3));
    });
    world.disk.crash();
    world.live(vec![open(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        assert_eq!(partition.log_start_offset(), Offset(3));
    });
}

impl World {
    /// A start that ends after so many steps of the disk; at the latest with the journals folded, or these opened.
    fn start_cut_off(&mut self, steps: u64, partitions: Vec<OpenPartition>) {
        let runtime = SimRuntime::new(self.random.fork(), START_MS);
        let directory: Rc<dyn Directory> = SimDirectory::new(runtime.clone(), self.disk.clone());
        self.disk.crash_after(Some(steps));
        let _ = runtime.run(async {
            let recovered = recovery::replay(runtime.clone(), directory.clone(), 512 << 10).await;
            if let Ok(recovered) = recovered
                && !partitions.is_empty()
            {
                let _ = Engine::open(runtime.clone(), directory, config(), partitions, recovered).await;
            }
        });
        runtime.crash();
        runtime.drop_tasks();
        self.disk.crash_after(None);
    }
}

/// A stop that came as far as Kafka's recovery points, of a partition that no private checkpoint knows yet; then a
/// start that is cut off after any number of steps. Copied batches would be folded, and a newest group that went
/// straight to its segment be written again.
fn a_start_leaves_alone_what_a_stop_has_sealed(segment_bytes: u32, batches: u8, batch_bytes: usize) {
    let small = || open_with(0, |config| config.segment_bytes = segment_bytes);
    for steps in 1..60 {
        let mut world = World::new(1200 + steps);
        let (disk, kept) = (world.disk.clone(), Rc::new(RefCell::new(Vec::new())));
        let private = kept.clone();
        world.live_and_stop(vec![], |engine, _| async move {
            let partition = engine.create_partition(small()).await.expect("created");
            // In one group, however many segments it takes.
            let appends = (0..batches).map(|fill| append(&partition, batch(1, batch_bytes, fill)));
            futures_util::future::join_all(appends).await;
            for path in ["flumen-journal/core-0", ".flumen-checkpoint-0"] {
                private.borrow_mut().push((path, disk.contents(Path::new(path)).expect("there")));
            }
        });
        world.disk.unlink(Path::new(CLEAN_SHUTDOWN));
        for (path, contents) in kept.take() {
            world.disk.place(Path::new(path), &contents);
        }
        world.start_cut_off(steps, vec![]);
        world.disk.crash();
        let read = world.live(vec![small()], |engine, _| async move {
            read_all(&engine.partition(&open(0).id).expect("open"), 0).await
        });
        let written: Vec<_> = (0..batches).map(|fill| (i64::from(fill), fill)).collect();
        assert_eq!(read, written, "cut off after {steps} steps");
    }
}

#[test]
fn folding_leaves_alone_what_a_stop_has_sealed() {
    a_start_leaves_alone_what_a_stop_has_sealed(16 << 10, 4, 10_000);
}

#[test]
fn bulk_is_not_written_again_where_a_stop_has_sealed_it() {
    a_start_leaves_alone_what_a_stop_has_sealed(100_000, 3, 70_001);
}

#[test]
fn a_cut_log_stays_cut_when_the_checkpoint_is_damaged() {
    for (seed, cut) in (0..20).zip([0, 7, 21].into_iter().cycle()) {
        let mut world = World::new(130 + seed);
        let small = || open_with(0, |config| config.segment_bytes = 20_000);
        world.live(vec![small(), open(1)], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            // Several in a group: the cut may lie within an entry.
            let appends = (0..30).map(|fill| append(&partition, batch(1, 1000, fill)));
            futures_util::future::join_all(appends).await;
            partition.truncate_to(Offset(cut)).await.expect("cut");
            for fill in 100..105 {
                append(&partition, batch(1, 500, fill)).await;
            }
            append(&engine.partition(&open(1).id).expect("open"), batch(1, 100, 1)).await;
        });
        world.disk.crash();
        assert!(world.disk.flip_bit(Path::new(".flumen-checkpoint-0"), 60..61));
        world.live(vec![small(), open(1)], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            let expected: Vec<(i64, u8)> = (0..).zip((0..cut as u8).chain(100..105)).collect();
            assert_eq!(read_all(&partition, 0).await, expected, "seed {seed}, cut at {cut}");
        });
    }
}

#[test]
fn a_start_that_is_killed_leaves_segments_as_long_as_they_are() {
    let (batches, batch_bytes) = (12, 9_001);
    let mut seeds = 1600..;
    for steps in (0..90).cycle().take(360) {
        let mut world = World::new(seeds.next().expect("there are more"));
        let both = || vec![open_with(0, |config| config.segment_bytes = 20_000), open(1)];
        world.live(both(), |engine, runtime| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            let other = engine.partition(&open(1).id).expect("open");
            // The next checkpoint is due as soon as there is something to say.
            runtime.sleep(Duration::from_secs(5)).await;
            // One group: bytes that are in several segments, and some that are not flushed for a while.
            let appends = (0..batches).map(|fill| append(&partition, batch(1, batch_bytes, fill)));
            let small = append(&other, batch(1, 100, 77));
            futures_util::future::join(futures_util::future::join_all(appends), small).await;
            runtime.sleep(Duration::from_secs(1)).await;
        });
        world.disk.kill();
        world.start_cut_off(steps, vec![]);
        world.disk.kill();
        let read = world.live(both(), |engine, _| async move {
            let other = engine.partition(&open(1).id).expect("open");
            assert_eq!(read_all(&other, 0).await, [(0, 77)]);
            read_all(&engine.partition(&open(0).id).expect("open"), 0).await
        });
        let written: Vec<_> = (0..batches).map(|fill| (i64::from(fill), fill)).collect();
        assert_eq!(read, written, "killed after {steps} steps");
    }
}

#[test]
fn a_checkpoint_that_was_being_replaced_says_nothing() {
    for (name, is_one) in [
        (".flumen-checkpoint-0", true),
        (".flumen-checkpoint-kept", true),
        (".flumen-checkpoint-0.tmp", false),
        ("recovery-point-offset-checkpoint", false),
    ] {
        assert_eq!(checkpoint::is_checkpoint(name), is_one, "{name}");
    }
}
