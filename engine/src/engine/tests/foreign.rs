//! Logs that Apache Kafka wrote: gaps that compaction left, old formats, and what its recovery point vouches for.

use super::*;
use crate::batch::{BatchLimits, check_verbatim};
use crate::layout::{SegmentFile, SegmentFileKind};

fn log_path(base: i64) -> std::path::PathBuf {
    Path::new("events-0").join(SegmentFile::live(Offset(base), SegmentFileKind::Log).name())
}

/// A batch of one record as it lies in a log.
fn placed(offset: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new().base_offset(Offset(offset)).leader_epoch(LeaderEpoch(3));
    builder.append(Timestamp(START_MS), Some(b"key"), Some(&[offset as u8; 100]), &[]);
    builder.build().to_vec()
}

fn placed_all(offsets: impl IntoIterator<Item = i64>) -> Vec<u8> {
    offsets.into_iter().flat_map(placed).collect()
}

/// A message of a format before magic 2.
fn old_message(offset: i64, magic: u8) -> Vec<u8> {
    let mut body = vec![magic, 0];
    if magic == 1 {
        body.extend(START_MS.to_be_bytes());
    }
    body.extend((-1i32).to_be_bytes());
    body.extend(5i32.to_be_bytes());
    body.extend(b"value");
    let mut message = offset.to_be_bytes().to_vec();
    message.extend((body.len() as i32 + 4).to_be_bytes());
    message.extend(crc_fast::crc32_iso_hdlc(&body).to_be_bytes());
    message.extend(body);
    message
}

/// Where Kafka stopped, cleanly or not, with these segments and its recovery point at this offset.
fn kafka_left(seed: u64, clean: bool, recovery_point: i64, segments: &[(i64, Vec<u8>)]) -> World {
    let world = World::new(seed);
    for (base, log) in segments {
        world.disk.place(&log_path(*base), log);
    }
    let point = format!("0\n1\nevents 0 {recovery_point}\n");
    world.disk.place(Path::new("recovery-point-offset-checkpoint"), point.as_bytes());
    if clean {
        world.disk.place(Path::new(".kafka_cleanshutdown"), b"");
    }
    world
}

/// Whether the partition is offline, also after a kill, and after a clean stop, and the files stay as they are.
fn stays_offline(mut world: World, segments: &[(i64, Vec<u8>)], what: &str) {
    for life in 0..3 {
        let script = |engine: Engine, runtime: Rc<SimRuntime>| async move {
            // Long enough for a checkpoint of its own.
            runtime.sleep(Duration::from_secs(30)).await;
            let partition = engine.partition(&open(0).id).expect("open");
            assert!(partition.is_offline(), "{what}: online in life {life}");
        };
        if life == 1 {
            world.live_and_stop(vec![open(0)], script);
        } else {
            world.live(vec![open(0)], script);
            world.disk.crash();
        }
        for (base, log) in segments {
            let left = world.disk.contents(&log_path(*base));
            assert_eq!(left.as_ref(), Some(log), "{what}: the segment at {base} after life {life}");
        }
    }
}

#[test]
fn a_log_of_an_old_format_is_refused_and_stays_as_it_is() {
    let old = |magic| (0..3).flat_map(|offset| old_message(offset, magic)).collect::<Vec<u8>>();
    for (magic, clean, recovery_point) in [(0, false, 3), (1, false, 3), (1, false, 0), (1, true, 3)] {
        let segments = [(0, old(magic))];
        let world = kafka_left(1001, clean, recovery_point, &segments);
        for kind in [SegmentFileKind::OffsetIndex, SegmentFileKind::TimeIndex] {
            world.disk.place(&Path::new("events-0").join(SegmentFile::live(Offset(0), kind).name()), b"");
        }
        stays_offline(world, &segments, &format!("magic {magic}, clean: {clean}, {recovery_point}"));
    }
    let segments = [(0, [old(1), placed(3)].concat()), (4, placed(4))];
    stays_offline(kafka_left(1002, false, 0, &segments), &segments, "before others");
}

#[test]
fn what_kafkas_recovery_point_vouches_for_is_not_cut() {
    let mut log = placed_all(0..3);
    let middle = log.len() / 2;
    log[middle] ^= 1;
    let segments = [(0, log), (3, placed_all(3..5))];
    for recovery_point in [2, 3, 5, 100] {
        let world = kafka_left(1003, false, recovery_point, &segments);
        // From a segment behind the damage on, nobody looks at it.
        if recovery_point < 3 {
            stays_offline(world, &segments, &format!("recovery point {recovery_point}"));
        }
    }
    let last = [segments[0].clone()];
    for recovery_point in [2, 3, 100] {
        let world = kafka_left(1004, false, recovery_point, &last);
        stays_offline(world, &last, &format!("recovery point {recovery_point}"));
    }
    // Above it the end is torn, and whatever follows is not the log's.
    let mut world = kafka_left(1005, false, 1, &segments);
    world.live(vec![open(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        assert_eq!(read_all(&partition, 0).await, [(0, 0)]);
    });
    assert_eq!(world.disk.contents(&log_path(3)), None);
}

#[test]
fn a_recovery_point_behind_the_end_of_a_log_that_was_cut_is_no_damage() {
    let mut world = kafka_left(1006, false, 100, &[(0, placed_all(0..3))]);
    world.live(vec![open(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        assert_eq!(read_all(&partition, 0).await, [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(append(&partition, batch(1, 10, 9)).await, 3);
    });
}

/// Compacted once: 3 to 9 and 12 to 19 are gone between segments, 22 to 25 within one; one segment is empty.
fn compacted() -> Vec<(i64, Vec<u8>)> {
    vec![(0, placed_all(0..3)), (10, placed_all(10..12)), (14, Vec::new()), (20, placed_all([20, 21, 26]))]
}

const COMPACTED_OFFSETS: [i64; 8] = [0, 1, 2, 10, 11, 20, 21, 26];

async fn check_gaps(partition: &Partition) {
    assert_eq!(partition.log_end_offset(), Offset(27));
    for from in 0..27 {
        let left = COMPACTED_OFFSETS.into_iter().filter(|offset| *offset >= from);
        let expected: Vec<_> = left.map(|offset| (offset, offset as u8)).collect();
        assert_eq!(read_all(partition, from).await, expected, "from {from}");
    }
}

#[test]
fn gaps_of_a_compacted_log_are_read_over() {
    for (clean, compact) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut world = kafka_left(940, clean, if clean { 27 } else { 0 }, &compacted());
        let opened = || open_with(0, |config| config.compact = compact);
        world.live(vec![opened()], |engine, _| async move {
            check_gaps(&engine.partition(&open(0).id).expect("open")).await;
        });
        world.live_and_stop(vec![opened()], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            check_gaps(&partition).await;
            let found = partition.offset_for_timestamp(Timestamp(START_MS), ReadLimit::HighWatermark).await;
            assert_eq!(found.expect("found").map(|found| found.offset), Some(Offset(0)));
        });
    }
}

#[test]
fn a_gap_at_the_logs_end_is_waited_at() {
    let mut segments = compacted();
    segments[3] = (20, Vec::new());
    let mut world = kafka_left(942, true, 20, &segments);
    world.live(vec![open(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for from in [12, 15, 19] {
            let read =
                partition.read(Offset(from), 1000, true, ReadLimit::HighWatermark).await.expect("read");
            assert!(read.slices.is_empty(), "from {from}");
        }
        assert_eq!(append(&partition, batch(1, 10, 7)).await, 20);
        assert_eq!(read_all(&partition, 12).await, [(20, 7)]);
    });
}

#[test]
fn a_log_that_is_cut_in_a_gap_ends_before_it() {
    for (cut, end, left) in
        [(5, 3, 3), (10, 10, 3), (11, 11, 4), (13, 12, 5), (17, 14, 5), (24, 22, 7), (26, 22, 7)]
    {
        let mut world = kafka_left(943, true, 27, &compacted());
        world.live(vec![open(0)], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            partition.truncate_to(Offset(cut)).await.expect("cut");
            assert_eq!(partition.log_end_offset(), Offset(end), "cut at {cut}");
        });
        world.disk.crash();
        world.live_and_stop(vec![open(0)], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            assert_eq!(partition.log_end_offset(), Offset(end), "cut at {cut}");
        });
        world.live(vec![open(0)], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            assert_eq!(append(&partition, batch(1, 10, 99)).await, end);
        });
        world.disk.crash();
        let expected: Vec<_> =
            COMPACTED_OFFSETS[..left].iter().map(|offset| (*offset, *offset as u8)).collect();
        world.live(vec![open(0)], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            assert_eq!(read_all(&partition, 0).await, [expected, vec![(end, 99)]].concat(), "cut at {cut}");
        });
    }
}

#[test]
fn a_follower_has_after_a_power_cut_what_it_accepted() {
    for settings in [(true, true), (false, false), (true, false)] {
        let opened = |compact| open_with(0, |config| config.compact = compact);
        let mut world = World::new(970);
        world.live(vec![opened(settings.0)], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            let limits = BatchLimits { max_message_bytes: u32::MAX };
            for offset in [0, 5, 6, 9] {
                let fetched = check_verbatim(placed(offset).into(), &limits).expect("sound");
                partition.append(fetched, AppendOrigin::Replica).await.expect("accepted");
            }
        });
        world.disk.crash();
        world.live(vec![opened(settings.1)], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            let expected: Vec<_> = [0, 5, 6, 9].map(|offset| (offset, offset as u8)).to_vec();
            assert_eq!(read_all(&partition, 0).await, expected, "compacted before and after: {settings:?}");
        });
    }
}

#[test]
fn a_read_of_a_damaged_segment_ends() {
    let sound = placed_all(0..3);
    let long = || {
        let mut builder = BatchBuilder::new().base_offset(Offset(2)).leader_epoch(LeaderEpoch(3));
        builder.append(Timestamp(START_MS), None, Some(&[7; 50_000]), &[]);
        builder.build().to_vec()
    };
    let cases = [
        ("a piece of a header", [&sound[..], &[0; 30]].concat(), 3),
        ("zeros", [&sound[..], &[0; 300]].concat(), 3),
        ("a batch that passes the end", [&sound[..], &placed(3)[..100]].concat(), 3),
    ];
    for (what, log, from) in cases {
        let mut world = kafka_left(941, true, 12, &[(0, log), (10, placed_all(10..12))]);
        world.live(vec![open(0)], |engine, _| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            let read = partition.read(Offset(from), 100_000, true, ReadLimit::HighWatermark).await;
            assert!(matches!(read, Err(ReadError::Corrupt { .. })), "{what}: {read:?}");
        });
    }
    // The file loses its end while it is open.
    let mut world =
        kafka_left(944, true, 12, &[(0, [placed_all(0..2), long()].concat()), (10, placed_all(10..12))]);
    let disk = world.disk.clone();
    world.live(vec![open(0)], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        disk.place(&log_path(0), &[placed_all(0..2), long()[..30_000].to_vec()].concat());
        let read = partition.read(Offset(2), 100, true, ReadLimit::HighWatermark).await;
        assert!(matches!(read, Err(ReadError::Corrupt { .. })), "{read:?}");
    });
}
