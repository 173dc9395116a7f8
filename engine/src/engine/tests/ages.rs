//! Records without timestamps: what contains only those ages by the clock of the broker that wrote it.

use super::*;

const HOUR_MS: i64 = 3_600_000;

fn aging() -> OpenPartition {
    open_with(0, |config| {
        config.segment_bytes = 20_000;
        config.segment_ms = 2 * HOUR_MS;
        config.retention_ms = HOUR_MS;
    })
}

fn timeless() -> CheckedBatches {
    let mut builder = BatchBuilder::new();
    builder.append(Timestamp(-1), Some(b"key"), Some(&[7; 5000]), &[]);
    builder.build_checked()
}

async fn start_after_a_look(engine: &Engine, partition: &Partition) -> i64 {
    engine.retain().await.expect("retained");
    partition.log_start_offset().0
}

#[test]
fn they_go_when_they_were_written_long_ago() {
    let mut world = World::new(50);
    world.live(vec![aging()], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        for _ in 0..5 {
            append(&partition, timeless()).await;
        }
        runtime.step_wall_clock(HOUR_MS * 9 / 10);
        append(&partition, timeless()).await;
        runtime.sleep(Duration::from_secs(10)).await;
        assert_eq!(start_after_a_look(&engine, &partition).await, 0);
        runtime.step_wall_clock(HOUR_MS * 2 / 10);
        assert_eq!(
            start_after_a_look(&engine, &partition).await,
            3,
            "the second segment was written to later"
        );
        runtime.step_wall_clock(HOUR_MS);
        assert_eq!(start_after_a_look(&engine, &partition).await, 6);
    });
}

#[test]
fn a_restart_does_not_make_them_young() {
    for is_clean in [true, false] {
        let mut world = World::new(51);
        let fill = |engine: Engine, runtime: Rc<SimRuntime>| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            for _ in 0..7 {
                append(&partition, timeless()).await;
            }
            runtime.sleep(Duration::from_secs(10)).await;
        };
        match is_clean {
            true => world.live_and_stop(vec![aging()], fill),
            false => {
                world.live(vec![aging()], fill);
                world.disk.kill();
            }
        }
        // The clock of this life begins where that of the first one did.
        world.live(vec![aging()], |engine, runtime| async move {
            let partition = engine.partition(&open(0).id).expect("open");
            assert_eq!(start_after_a_look(&engine, &partition).await, 0);
            runtime.step_wall_clock(HOUR_MS + 60_000);
            assert_eq!(start_after_a_look(&engine, &partition).await, 7, "clean: {is_clean}");
        });
    }
}

#[test]
fn a_segment_of_them_is_rolled_when_its_time_is_over() {
    let mut world = World::new(52);
    world.live(vec![aging()], |engine, runtime| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        append(&partition, timeless()).await;
        runtime.step_wall_clock(2 * HOUR_MS - 30_000);
        append(&partition, timeless()).await;
        let segments = || partition.inner().log.borrow().segments.len();
        assert_eq!(segments(), 1);
        runtime.step_wall_clock(60_000);
        append(&partition, timeless()).await;
        assert_eq!(segments(), 2);
    });
}

#[test]
fn the_first_of_them_has_the_largest_timestamp() {
    let mut world = World::new(53);
    world.live(vec![aging()], |engine, _| async move {
        let partition = engine.partition(&open(0).id).expect("open");
        let largest = async || {
            let found = partition.max_timestamp(ReadLimit::HighWatermark).await.expect("read");
            found.map(|found| (found.offset.0, found.timestamp.0))
        };
        assert_eq!(largest().await, None);
        for _ in 0..7 {
            append(&partition, timeless()).await;
        }
        assert_eq!(largest().await, Some((0, -1)));
        append(&partition, batch(1, 10, 0)).await;
        assert_eq!(largest().await, Some((7, START_MS)));
    });
}
