//! Producers that fell silent are forgotten: looked at every
//! [`crate::EngineConfig::producer_expiration_check_interval`], in turns.

use std::rc::Rc;

use crate::Timestamp;
use crate::core::Core;
use crate::partition::Partition;
use crate::turns::Turns;

/// So many producers are looked at before others have their turn.
const TURN_PRODUCERS: usize = 2048;

/// Looks until the engine closes.
pub(crate) async fn run(core: Rc<Core>) {
    while core.rest(core.config.producer_expiration_check_interval).await {
        check(&core).await;
    }
}

/// One look at every partition.
pub(crate) async fn check(core: &Core) {
    let partitions: Vec<Partition> = core.partitions.borrow().values().cloned().collect();
    let now = Timestamp(core.runtime.wall_ms());
    let mut turns = Turns::default();
    for partition in partitions {
        let mut last = None;
        loop {
            last = {
                let log = &mut *partition.inner().log.borrow_mut();
                let expiration_ms = log.config.producer_expiration_ms;
                log.producers.remove_expired(last, TURN_PRODUCERS, now, expiration_ms)
            };
            if last.is_none() {
                break;
            }
            core.runtime.yield_now().await;
        }
        turns.took(core, 0).await;
    }
}
