//! How long a partition remembers its producers, and how many.

use super::*;
use crate::expiry;

/// One record of a producer, its `nth`.
fn produced(id: i64, nth: i32) -> CheckedBatches {
    let producer = ProducerStamp { id: ProducerId(id), epoch: ProducerEpoch(0), base_sequence: nth };
    let mut builder = BatchBuilder::new().producer(producer);
    builder.append(Timestamp(START_MS), None, Some(b"once"), &[]);
    builder.build_checked()
}

#[test]
fn producers_that_are_silent_for_long_are_forgotten_in_turns() {
    let mut world = World::new(41);
    let forgetful = open_with(0, |config| config.producer_expiration_ms = 3_600_000);
    world.live(vec![forgetful], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        let many = 2 * expiry::TURN_PRODUCERS + 1;
        for id in 0..many as i64 {
            append(&partition, produced(id, 0)).await;
        }
        let known = || partition.with_producers(|producers| producers.len());
        assert_eq!(known(), many);
        runtime.sleep(Duration::from_secs(3000)).await;
        assert_eq!(known(), many);
        runtime.sleep(Duration::from_secs(1200)).await;
        assert_eq!(known(), 0);
    });
}

#[test]
fn without_the_newest_snapshot_the_one_before_it_counts() {
    let mut world = World::new(42);
    let short = || vec![open_with(0, |config| config.segment_bytes = 2000)];
    let snapshots = |world: &World| -> Vec<String> {
        let files = world.disk.files().into_iter().map(|(name, ..)| name);
        files.filter(|name| name.starts_with("events-0/") && name.ends_with(".snapshot")).collect()
    };
    world.live_and_stop(short(), |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append(&partition, produced(1, 0)).await;
        for nth in 0..50 {
            append(&partition, produced(2, nth)).await;
        }
    });
    let newest = snapshots(&world).pop().expect("there");
    assert!(newest.ends_with("51.snapshot"), "{newest} is not of the log's end");
    assert!(snapshots(&world).len() > 1);
    world.disk.place(Path::new(&newest), b"no snapshot");
    world.live(short(), |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        assert_eq!(partition.with_producers(|producers| producers.len()), 2);
        // Both are remembered as far as they had come.
        let end = partition.log_end_offset();
        append(&partition, produced(1, 0)).await;
        append(&partition, produced(2, 49)).await;
        assert_eq!(partition.log_end_offset(), end, "they are there already");
    });
}

#[test]
fn producers_of_all_partitions_together_have_their_bound() {
    const ROOM: usize = 64;
    const PARTITIONS: usize = 4;
    let kept = |engine: &Engine| -> Vec<usize> {
        engine.partitions().iter().map(|partition| partition.with_producers(|kept| kept.len())).collect()
    };
    let opened = (0..PARTITIONS as i32).map(open).collect();
    let tight = EngineConfig { producers_max: ROOM, ..config() };
    let mut world = World::new(34);
    world.live_with(opened, tight, |engine, _| async move {
        let partitions = engine.partitions();
        // One has more than its share before the room is full, and keeps the room.
        for id in 0..40 {
            append(&partitions[0], produced(id, 0)).await;
        }
        assert_eq!(kept(&engine), [40, 0, 0, 0]);
        for id in 1000..2000 {
            for partition in &partitions[1..] {
                append(partition, produced(id, 0)).await;
                assert!(kept(&engine).iter().sum::<usize>() <= 2 * ROOM, "{:?}", kept(&engine));
            }
        }
        // Who is known does not make others go, and what it sends again is known.
        let before = kept(&engine);
        assert_eq!((before[0], before[1..].iter().max()), (40, Some(&(ROOM / PARTITIONS))));
        for partition in &partitions[1..] {
            let end = partition.log_end_offset();
            append(partition, produced(1999, 0)).await;
            assert_eq!(partition.log_end_offset(), end, "it is there already");
            append(partition, produced(1999, 1)).await;
        }
        assert_eq!(kept(&engine), before);
        // With more room than an even share, it has to give some back for the next one.
        append(&partitions[0], produced(3000, 0)).await;
        assert_eq!(kept(&engine)[0], 36);
        // Where the others are gone, there is room.
        for partition in &partitions[1..] {
            engine.delete_partition(&partition.id()).await.expect("deleted");
        }
        drop(partitions);
        let last = engine.partition(&open(0).id).expect("open");
        for id in 4000..4050 {
            append(&last, produced(id, 0)).await;
        }
        assert!((57..=ROOM).contains(&kept(&engine)[0]), "{:?}", kept(&engine));
    });
}

#[test]
fn producers_that_go_make_room() {
    let mut world = World::new(35);
    let forgetful = open_with(0, |config| config.producer_expiration_ms = 1000);
    let tight = EngineConfig { producers_max: 10, ..config() };
    world.live_with(vec![forgetful], tight, |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        let room = partition.core().producer_room.clone();
        for id in 0..9 {
            append(&partition, produced(id, 0)).await;
        }
        let end = partition.log_end_offset();
        append(&partition, produced(9, 0)).await;
        assert!(room.is_full());
        partition.truncate_to(end).await.expect("cut");
        assert!(!room.is_full(), "the one that was cut off");
        append(&partition, produced(9, 0)).await;
        assert!(room.is_full());
        runtime.sleep(config().producer_expiration_check_interval * 2).await;
        assert!(!room.is_full(), "they were silent");
    });
}

#[test]
fn producers_count_again_after_a_start() {
    let tight = || EngineConfig { producers_max: 10, ..config() };
    let mut world = World::new(36);
    world.live_with(vec![open(0)], tight(), |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for id in 0..10 {
            append(&partition, produced(id, 0)).await;
        }
    });
    world.live_with(vec![open(0)], tight(), |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        assert!(partition.core().producer_room.is_full());
    });
}
