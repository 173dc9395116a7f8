//! What a crash at a bad moment, or a write that failed, leaves to the next start.

use super::*;
use crate::checkpoint;

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
