//! Producers that fell silent are forgotten: looked at every
//! [`crate::EngineConfig::producer_expiration_check_interval`], in turns.

use std::rc::Rc;

use crate::core::Core;
use crate::partition::Partition;
use crate::turns::Turns;
use crate::{ProducerId, Timestamp};

/// So many producers are looked at before others have their turn.
pub(crate) const TURN_PRODUCERS: usize = 2048;

/// Looks until the engine closes.
pub(crate) async fn run(core: Rc<Core>) {
    while core.rest(core.config.producer_expiration_check_interval).await {
        check(&core).await;
    }
}

/// One look at every partition.
async fn check(core: &Core) {
    let partitions = core.partitions.borrow().to_vec();
    let now = Timestamp(core.runtime.wall_ms());
    let mut turns = Turns::default();
    for partition in partitions {
        let mut last = remove_some(&partition, None, now);
        while last.is_some() {
            core.runtime.yield_now().await;
            last = remove_some(&partition, last, now);
        }
        turns.took(core, 0).await;
    }
}

/// Looks at as many producers behind `last` as one turn has, and says where to go on.
fn remove_some(partition: &Partition, last: Option<ProducerId>, now: Timestamp) -> Option<ProducerId> {
    let log = &mut *partition.inner().log.borrow_mut();
    let next = log.producers.remove_expired(last, TURN_PRODUCERS, now, log.config.producer_expiration_ms);
    partition.inner().producers_kept.set(log.producers.len());
    next
}
