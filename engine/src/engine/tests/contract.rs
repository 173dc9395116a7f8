//! The contract with Kafka's directory: what lies in a partition's folder, and what a crash of Kafka leaves there.

use std::cell::Cell;

use super::*;
use crate::batch::{BatchLimits, check_verbatim};
use crate::checkpoint;
use crate::epochs::EpochStart;
use crate::index::OFFSET_ENTRY_BYTES;
use crate::layout::{SegmentFile, SegmentFileKind, SegmentFileState};

/// A partition whose segments hold a few records each.
fn short(index: i32) -> OpenPartition {
    open_with(index, |config| config.segment_bytes = 20_000)
}

/// The files of a partition's folder that belong to segments.
fn segment_files(disk: &SimDisk, folder: &str) -> Vec<SegmentFile> {
    let in_folder = |path: &str| SegmentFile::parse(path.strip_prefix(folder)?.strip_prefix('/')?);
    disk.files().iter().filter_map(|(path, ..)| in_folder(path)).collect()
}

fn offsets_of(files: &[SegmentFile], kind: SegmentFileKind, state: SegmentFileState) -> Vec<i64> {
    let of_kind = files.iter().filter(|file| file.kind == kind && file.state == state);
    of_kind.map(|file| file.offset.0).collect()
}

async fn append_many(partition: &Partition, count: u8) {
    for fill in 0..count {
        append(partition, batch(1, 5000, fill)).await;
    }
}

fn filled(count: u8) -> Vec<(i64, u8)> {
    (0..count).map(|fill| (i64::from(fill), fill)).collect()
}

#[test]
fn a_rolled_segment_has_the_producers_as_of_the_next_one() {
    let mut world = World::new(40);
    let disk = world.disk.clone();
    world.live_and_stop(vec![short(0)], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for sequence in 0..12 {
            let producer =
                ProducerStamp { id: ProducerId(9), epoch: ProducerEpoch(0), base_sequence: sequence };
            let mut builder = BatchBuilder::new().producer(producer);
            builder.append(Timestamp(START_MS), None, Some(&[7; 5000]), &[]);
            append(&partition, builder.build_checked()).await;
        }
        runtime.sleep(Duration::from_secs(5)).await;
        let files = segment_files(&disk, "events-0");
        let bases = offsets_of(&files, SegmentFileKind::Log, SegmentFileState::Live);
        let snapshots = offsets_of(&files, SegmentFileKind::ProducerSnapshot, SegmentFileState::Live);
        assert_eq!(bases, [0, 3, 6, 9]);
        assert_eq!(snapshots, bases[1..]);
        for base in snapshots {
            let name = SegmentFile::live(Offset(base), SegmentFileKind::ProducerSnapshot).name();
            let bytes = disk.contents(&Path::new("events-0").join(name)).expect("there");
            let producers = Producers::from_snapshot(&bytes).expect("sound");
            assert_eq!(producers.to_snapshot(), bytes);
            // Of the one producer, behind version, CRC, count, id and epoch.
            let last_sequence = i32::from_be_bytes(bytes[20..24].try_into().expect("four bytes"));
            assert_eq!(i64::from(last_sequence), base - 1);
        }
    });
    let files = segment_files(&world.disk, "events-0");
    let snapshots = offsets_of(&files, SegmentFileKind::ProducerSnapshot, SegmentFileState::Live);
    assert_eq!(snapshots, [3, 6, 9, 12]);
}

#[test]
fn a_start_after_a_clean_stop_opens_a_log_once_and_reads_its_end_once() {
    const RECORDS: u8 = 6;
    // The last batch of the first ones lies in one block, behind others; one of the last ones is more than is read at once.
    for (record_bytes, last_bytes, reads) in [(6000, 500, 1), (3000, 3000, 1), (400_000, 400_000, 2)] {
        let mut world = World::new(47);
        world.live_and_stop(vec![open(0)], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            for fill in 0..RECORDS {
                let bytes = if fill == RECORDS - 1 { last_bytes } else { record_bytes };
                append(&partition, batch(1, bytes, fill)).await;
            }
        });
        let disk = world.disk.clone();
        let stopped = disk.stats();
        world.live_and_stop(vec![open(0)], |engine, _| async move {
            let started = disk.stats();
            // One of the opened files is the journal.
            assert_eq!((started.opens - stopped.opens, started.reads - stopped.reads), (2, reads));
            let partition = engine.partition(&open(0).id).expect("open");
            assert_eq!(read_all(&partition, 0).await, filled(RECORDS));
            let epoch = partition.inner().log.borrow().epochs.starts()[0];
            assert_eq!(epoch, EpochStart { epoch: open(0).leader_epoch, start: Offset(0) }, "where it began");
        });
    }
}

#[test]
fn an_index_that_leads_to_no_batch_keeps_no_log_from_opening() {
    let (log, index) =
        (Path::new("events-0/00000000000000000000.log"), Path::new("events-0/00000000000000000000.index"));
    let mut world = World::new(48);
    world.live_and_stop(vec![open(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for fill in 0..9 {
            append(&partition, batch(1, 3000, fill)).await;
        }
    });
    let (sound, written) = (world.disk.contents(index).expect("there"), world.disk.contents(log));
    let last = sound.len() - size_of::<u32>();
    let position = u32::from_be_bytes(sound[last..].try_into().expect("four bytes"));
    // A byte before it, what stands there reads as an offset, too.
    for wrong in [position - 1, position - 8, position + 1, position + 600] {
        world.disk.place(index, &[&sound[..last], &wrong.to_be_bytes()].concat());
        world.live_and_stop(vec![open(0)], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            assert_eq!(read_all(&partition, 0).await, filled(9), "an index that says {wrong} for {position}");
        });
        assert_eq!(world.disk.contents(log), written);
    }
}

#[test]
fn a_segment_that_goes_is_renamed_first_and_unlinked_later() {
    let mut world = World::new(41);
    let disk = world.disk.clone();
    world.live(vec![short(0)], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append_many(&partition, 12).await;
        runtime.sleep(Duration::from_secs(5)).await;
        partition.delete_records(Offset(7)).await.expect("deleted");
        let files = segment_files(&disk, "events-0");
        let live = offsets_of(&files, SegmentFileKind::Log, SegmentFileState::Live);
        let deleted = offsets_of(&files, SegmentFileKind::Log, SegmentFileState::Deleted);
        assert_eq!((live, deleted), (vec![6, 9], vec![0, 3]));
        let indexes = offsets_of(&files, SegmentFileKind::OffsetIndex, SegmentFileState::Deleted);
        assert_eq!(indexes, [0, 3]);
        runtime.sleep(Duration::from_secs(61)).await;
        let files = segment_files(&disk, "events-0");
        assert!(files.iter().all(|file| file.state == SegmentFileState::Live), "{files:?}");
        partition.delete_records(Offset(9)).await.expect("deleted");
    });
    // Killed before its time: the next start unlinks it.
    let left = segment_files(&world.disk, "events-0");
    assert_eq!(offsets_of(&left, SegmentFileKind::Log, SegmentFileState::Deleted), [6]);
    world.live(vec![short(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        assert_eq!(read_all(&partition, 9).await, filled(12)[9..]);
    });
    let files = segment_files(&world.disk, "events-0");
    assert!(files.iter().all(|file| file.state == SegmentFileState::Live), "{files:?}");
}

/// A log of twelve records in four segments, as Kafka leaves it; the power goes before the clean stop is over.
fn crashed_kafka(seed: u64) -> World {
    let mut world = World::new(seed);
    world.live_and_stop(vec![short(0)], |engine, _| async move {
        append_many(&engine.partition(&open(0).id).expect("open"), 12).await;
    });
    let path = Path::new(".kafka_cleanshutdown");
    assert!(world.disk.contents(path).is_some());
    world.disk.unlink(path);
    world
}

fn log_of(world: &World, base: i64) -> Vec<u8> {
    let name = SegmentFile::live(Offset(base), SegmentFileKind::Log).name();
    world.disk.contents(&Path::new("events-0").join(name)).expect("a segment")
}

fn place(world: &World, base: i64, kind: SegmentFileKind, state: SegmentFileState, bytes: &[u8]) {
    let name = SegmentFile { offset: Offset(base), kind, state }.name();
    world.disk.place(&Path::new("events-0").join(name), bytes);
}

fn live_logs(world: &World) -> Vec<i64> {
    let files = segment_files(&world.disk, "events-0");
    assert!(files.iter().all(|file| file.state == SegmentFileState::Live), "{files:?}");
    offsets_of(&files, SegmentFileKind::Log, SegmentFileState::Live)
}

#[test]
fn a_compaction_that_was_swapping_is_brought_to_its_end() {
    let mut world = crashed_kafka(42);
    // The first two segments became one; the second one's original is still there.
    let merged = [log_of(&world, 0), log_of(&world, 3)].concat();
    place(&world, 0, SegmentFileKind::Log, SegmentFileState::Swap, &merged);
    place(&world, 0, SegmentFileKind::OffsetIndex, SegmentFileState::Swap, &[]);
    place(&world, 0, SegmentFileKind::Log, SegmentFileState::Deleted, &log_of(&world, 0));
    place(&world, 9, SegmentFileKind::Log, SegmentFileState::Cleaned, &log_of(&world, 9));
    world.live(vec![short(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        assert_eq!(read_all(&partition, 0).await, filled(12));
        append(&partition, batch(1, 10, 12)).await;
    });
    assert_eq!(live_logs(&world), [0, 6, 9]);
}

#[test]
fn a_split_that_was_not_finished_is_undone() {
    let mut world = crashed_kafka(43);
    // Two segments were to take the place of the one at 3: one was renamed, the other not yet.
    place(&world, 3, SegmentFileKind::Log, SegmentFileState::Cleaned, &log_of(&world, 3));
    place(&world, 4, SegmentFileKind::Log, SegmentFileState::Swap, &log_of(&world, 3)[5000..]);
    world.live(vec![short(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        assert_eq!(read_all(&partition, 0).await, filled(12));
    });
    assert_eq!(live_logs(&world), [0, 3, 6, 9]);
}

#[test]
fn a_damaged_partition_does_not_keep_the_others_from_a_clean_stop() {
    // In the last segment, and in one that a clean start has no reason to read.
    for (seed, damaged) in [(44, 9), (45, 3)] {
        let mut world = World::new(seed);
        world.live_and_stop(vec![short(0), short(1)], |engine, _| async move {
            append_many(&engine.partition(&open(0).id).expect("open"), 12).await;
            append_many(&engine.partition(&open(1).id).expect("open"), 5).await;
        });
        let name = SegmentFile::live(Offset(damaged), SegmentFileKind::Log).name();
        assert!(world.disk.flip_bit(&Path::new("events-0").join(name), 11_000..12_000));
        if damaged == 3 {
            // As a stop after a crash leaves it, which has found the damage.
            let said = world.disk.contents(Path::new("recovery-point-offset-checkpoint")).expect("there");
            let said = String::from_utf8(said).expect("text").replace("events 0 12", "events 0 3");
            world.disk.place(Path::new("recovery-point-offset-checkpoint"), said.as_bytes());
        }
        let expected = 5;
        for appended in 0..3 {
            world.live_and_stop(vec![short(0), short(1)], |engine, _| async move {
                let lost = engine.partition(&open(0).id).expect("there");
                let refused = lost.read(Offset(0), 100, true, ReadLimit::HighWatermark).await;
                assert!(matches!(refused, Err(ReadError::Offline)), "segment {damaged}, stop {appended}");
                let sound = engine.partition(&open(1).id).expect("open");
                assert_eq!(sound.log_end_offset(), Offset(expected + appended));
                append(&sound, batch(1, 10, 9)).await;
            });
            assert!(world.disk.contents(Path::new(".kafka_cleanshutdown")).is_some());
        }
    }
}

#[test]
fn a_flush_that_fails_behind_everybodys_back_is_noticed() {
    let mut world = World::new(46);
    let disk = world.disk.clone();
    let relaxed = open_with(0, |config| config.flush_messages = i64::MAX);
    world.live(vec![relaxed], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append(&partition, batch(1, 100, 1)).await;
        disk.set_faults(FaultPlan { flush_per_million: 1_000_000, ..FaultPlan::default() });
        // Nobody asks for anything more.
        engine.offline().await;
        assert!(engine.directory_offline());
    });
}

#[test]
fn an_epoch_in_which_nothing_was_written_ends_where_the_next_begins() {
    let mut world = World::new(53);
    let epochs = Path::new("events-0").join("leader-epoch-checkpoint");
    let later = |epoch| OpenPartition { leader_epoch: LeaderEpoch(epoch), ..open(0) };
    world.live_and_stop(vec![open(0), open(1)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append(&partition, batch(5, 100, 1)).await;
        partition.set_leader_epoch(LeaderEpoch(4));
        partition.set_leader_epoch(LeaderEpoch(5));
        for epoch in [3, 4] {
            let end = partition.end_offset_for_epoch(LeaderEpoch(epoch));
            assert_eq!(end, Some((LeaderEpoch(3), Offset(5))), "a consumer that was told {epoch}");
        }
    });
    assert_eq!(world.disk.contents(&epochs).as_deref(), Some(&b"0\n2\n3 0\n5 5\n"[..]));
    assert!(
        world.disk.files().iter().all(|(path, ..)| !path.starts_with("events-1/0")),
        "it was never written to"
    );
    for epoch in 6..9 {
        world.live_and_stop(vec![later(epoch)], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            let end = partition.end_offset_for_epoch(LeaderEpoch(epoch - 1));
            assert_eq!(end, Some((LeaderEpoch(3), Offset(5))));
        });
    }
    assert_eq!(
        world.disk.contents(&epochs).as_deref(),
        Some(&b"0\n2\n3 0\n8 5\n"[..]),
        "one for all of them"
    );
}

#[test]
fn a_follower_keeps_its_leaders_epochs_whatever_began_here() {
    let mut world = World::new(54);
    let placed = |offset: i64, epoch: i32| {
        let mut builder = BatchBuilder::new().base_offset(Offset(offset)).leader_epoch(LeaderEpoch(epoch));
        builder.append(Timestamp(START_MS), None, Some(b"value"), &[]);
        let limits = BatchLimits { max_message_bytes: u32::MAX };
        check_verbatim(builder.build(), &limits).expect("sound")
    };
    let later = OpenPartition { leader_epoch: LeaderEpoch(7), ..open(0) };
    world.live(vec![later], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for (offset, epoch) in [(0, 3), (1, 3), (2, 5)] {
            let append = partition.append(placed(offset, epoch), AppendOrigin::Replica);
            append.await.expect("it follows");
        }
        // Behind a gap, too.
        partition.set_leader_epoch(LeaderEpoch(8));
        partition.append(placed(5, 5), AppendOrigin::Replica).await.expect("it follows");
        let back = partition.append(placed(6, 4), AppendOrigin::Replica).await;
        assert!(matches!(back, Err(AppendError::Misplaced { .. })), "{back:?}");
        let epochs: Vec<_> =
            [0, 1, 2, 5].into_iter().filter_map(|offset| partition.epoch_of(Offset(offset))).collect();
        assert_eq!(epochs, [3, 3, 5, 5].map(LeaderEpoch));
    });
}

#[test]
fn a_segment_ages_by_its_first_batch_in_a_later_life_too() {
    let at = |ms: i64| {
        let mut builder = BatchBuilder::new();
        builder.append(Timestamp(START_MS + ms), None, Some(&[1; 100]), &[]);
        builder.build_checked()
    };
    let aging = || open_with(0, |config| config.segment_ms = 1000);
    for (clean, batches) in [(true, 1), (false, 1), (true, 200), (false, 200)] {
        let mut world = World::new(55);
        let script = |engine: Engine, runtime: Rc<SimRuntime>| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            for number in 0..batches {
                append(&partition, at(number * 4)).await;
            }
            // Until a start has nothing to read of it.
            runtime.sleep(Duration::from_secs(10)).await;
        };
        if clean {
            world.live_and_stop(vec![aging()], script);
        } else {
            world.live(vec![aging()], script);
            world.disk.crash();
        }
        world.live(vec![aging()], |engine, runtime| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            let segments = || partition.inner().log.borrow().segments.len();
            append(&partition, at(900)).await;
            assert_eq!(segments(), 1, "{batches}, clean: {clean}");
            // Nobody waits for the look at the first batch.
            runtime.sleep(Duration::from_secs(2)).await;
            append(&partition, at(1500)).await;
            assert_eq!(segments(), 2, "{batches}, clean: {clean}");
            assert_eq!(read_all(&partition, 0).await.len() as i64, batches + 2);
        });
    }
}

#[test]
fn a_stop_soon_after_a_crash_does_not_read_the_whole_log_for_an_index() {
    let mut world = World::new(47);
    world.live(vec![open(0)], |engine, runtime| async move {
        append_many(&engine.partition(&open(0).id).expect("open"), 40).await;
        runtime.sleep(Duration::from_secs(20)).await;
    });
    let hasty = EngineConfig { close_walk_bytes_max: 100_000, ..config() };
    let index = "events-0/00000000000000000000.index";
    for expected in [40, 41] {
        world.live_and_stop_with(vec![open(0)], hasty.clone(), move |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            assert_eq!(partition.log_end_offset(), Offset(expected));
            append(&partition, batch(1, 5000, expected as u8)).await;
        });
        assert!(world.disk.contents(Path::new(index)).is_none());
    }
    world.live_and_stop(vec![open(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        assert_eq!(read_all(&partition, 0).await, filled(42));
    });
    assert!(world.disk.contents(Path::new(index)).is_some(), "there is time for it now");
}

#[test]
fn no_checkpoint_outlives_a_clean_stop() {
    for seed in 0..20 {
        let mut world = World::new(500 + seed);
        world.live_and_stop(vec![open(0)], |engine, runtime| async move {
            append(&engine.partition(&open(0).id).expect("open"), batch(1, 100, 1)).await;
            // Write-behind is at it, and others wait, when the stop begins.
            let core = engine.inner.core.clone();
            runtime.spawn(Box::pin(async move {
                for _ in 0..1000 {
                    if checkpoint::write(&core).await.is_err() {
                        return;
                    }
                }
            }));
        });
        world.disk.kill();
        let files = world.disk.files();
        let private: Vec<_> = files.iter().filter(|(path, ..)| path.starts_with(".flumen-")).collect();
        assert!(private.is_empty(), "seed {seed}: {private:?}");
    }
}

/// Whoever stopped it cleanly, perhaps Kafka itself, changed what an older checkpoint speaks of.
#[test]
fn a_checkpoint_beside_a_clean_stop_is_never_believed() {
    let mut world = World::new(47);
    let disk = world.disk.clone();
    world.live_and_stop(vec![short(0)], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append_many(&partition, 7).await;
        runtime.sleep(Duration::from_secs(10)).await;
        let left = disk.contents(Path::new(".flumen-checkpoint-0")).expect("written");
        partition.truncate_to(Offset(2)).await.expect("cut");
        append_many(&partition, 2).await;
        disk.place(Path::new(".flumen-left"), &left);
    });
    let left = world.disk.contents(Path::new(".flumen-left")).expect("placed");
    world.disk.place(Path::new(".flumen-checkpoint-7"), &left);
    let runtime = SimRuntime::new(world.random.fork(), START_MS);
    let directory: Rc<dyn Directory> = SimDirectory::new(runtime.clone(), world.disk.clone());
    // The start comes no further than this.
    let replayed = runtime.run(recovery::replay(runtime.clone(), directory, 512 << 10)).expect("no deadlock");
    assert!(replayed.expect("replayed").stopped_cleanly());
    world.disk.crash();
    world.live(vec![short(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        assert!(!partition.is_offline(), "it is sound");
        assert_eq!(read_all(&partition, 0).await, [(0, 0), (1, 1), (2, 0), (3, 1)]);
    });
}

#[test]
fn what_is_deleted_while_a_stop_is_under_way_stays_deleted() {
    for moment in 0..100 {
        let mut world = World::new(600);
        let acknowledged = Rc::new(Cell::new(Offset(0)));
        let noted = acknowledged.clone();
        world.live_and_stop(vec![short(0), open(1)], |engine, runtime| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            append_many(&partition, 2).await;
            append(&engine.partition(&open(1).id).expect("open"), batch(1, 1_000_000, 1)).await;
            let waiting = runtime.clone();
            runtime.spawn(Box::pin(async move {
                waiting.sleep(Duration::from_micros(moment * 100)).await;
                if let Ok(start) = partition.delete_records(Offset(1)).await {
                    noted.set(start);
                }
            }));
        });
        world.disk.kill();
        world.live(vec![short(0)], |engine, _| async move {
            let start = engine.partition(&open(0).id).expect("open").log_start_offset();
            assert!(start >= acknowledged.get(), "{start}, {acknowledged:?} was acknowledged ({moment})");
        });
    }
}

#[test]
fn an_index_that_is_wrong_hides_no_record() {
    const RECORDS: u8 = 40;
    let dense =
        || vec![open_with(0, |config| (config.segment_bytes, config.index_interval_bytes) = (5_000, 0))];
    let mut world = World::new(56);
    world.live_and_stop(dense(), |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for fill in 0..RECORDS {
            append(&partition, batch(1, 600, fill)).await;
        }
    });
    let name = SegmentFile::live(Offset(0), SegmentFileKind::OffsetIndex).name();
    let path = Path::new("events-0").join(name);
    let sound = world.disk.contents(&path).expect("a sealed segment's index");
    assert!(sound.len() >= 5 * OFFSET_ENTRY_BYTES, "{} bytes", sound.len());
    for bit in 0..sound.len() * 8 {
        let mut wrong = sound.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        world.disk.place(&path, &wrong);
        world.live_and_stop(dense(), |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            for from in 0..i64::from(RECORDS) {
                let read = partition.read(Offset(from), 2_000, true, ReadLimit::HighWatermark).await;
                let bytes =
                    bytes_of(&read.unwrap_or_else(|error| panic!("bit {bit}, offset {from}: {error}")));
                let offsets: Vec<i64> =
                    batches(&bytes).map(|batch| batch.expect("whole batches").0.base_offset().0).collect();
                let expected: Vec<i64> = (from..).take(offsets.len()).collect();
                assert!(!offsets.is_empty() && offsets == expected, "bit {bit}, offset {from}: {offsets:?}");
            }
        });
    }
}

#[test]
fn a_batch_larger_than_a_segment_has_no_place() {
    let mut world = World::new(49);
    world.live(vec![short(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        let large = batch(1, 20_000, 7);
        let length = large.length();
        let refused = partition.append(large, AppendOrigin::Client).await;
        assert_eq!(refused, Err(AppendError::LargerThanSegment { length, length_max: 20_000 }));
        let larger = partition.append(batch(1, 2 << 20, 7), AppendOrigin::Client).await;
        assert!(matches!(larger, Err(AppendError::TooLarge { .. })), "what a batch may have comes first");
        append_many(&partition, 1).await;
    });
}

#[test]
fn every_time_but_none_is_held_against_the_limits() {
    let mut world = World::new(48);
    let limited = open_with(0, |config| config.timestamp_before_max_ms = 3_600_000);
    let stamping = open_with(1, |config| config.log_append_time = true);
    world.live(vec![limited, stamping], |engine, _| async move {
        let [limited, stamping] = [0, 1].map(|index| engine.partition(&open(index).id).expect("open"));
        let at = |time: i64| {
            let mut builder = BatchBuilder::new();
            builder.append(Timestamp(time), None, None, &[]);
            builder.build()
        };
        let sent = |bytes: bytes::Bytes| {
            crate::batch::check(bytes, &crate::batch::BatchLimits { max_message_bytes: u32::MAX })
                .expect("sound")
        };
        for (time, is_accepted) in [(-1, true), (START_MS, true), (-2, false), (i64::MIN, false), (0, false)]
        {
            let outcome = limited.append(sent(at(time)), AppendOrigin::Client).await;
            assert_eq!(outcome.is_ok(), is_accepted, "{time}: {outcome:?}");
            assert!(stamping.append(sent(at(time)), AppendOrigin::Client).await.is_ok());
        }
        // The broker's own time, said by a client.
        let mut claimed = at(START_MS).to_vec();
        claimed[22] |= 8;
        crate::batch::seal(&mut claimed, crate::batch::Codec::None, None).expect("a header");
        assert!(limited.append(sent(claimed.clone().into()), AppendOrigin::Client).await.is_ok());
        let refused = stamping.append(sent(claimed.clone().into()), AppendOrigin::Client).await;
        assert_eq!(refused, Err(AppendError::AppendTimeOfClient));
        crate::batch::seal(&mut claimed, crate::batch::Codec::None, Some(Timestamp(-1))).expect("a header");
        let refused = limited.append(sent(claimed.into()), AppendOrigin::Client).await;
        assert_eq!(refused, Err(AppendError::AppendTimeOfClient));
    });
}
