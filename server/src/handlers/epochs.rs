//! The leader epoch that a client knows, against the one there is (KIP-320).

use flumen_engine::Partition;
use kafka_protocol::error::ResponseError;

/// Refuses a client that knows an older or a newer leader. −1 knows none.
pub fn check_leader_epoch(partition: &Partition, known: i32) -> Result<(), ResponseError> {
    let current = partition.leader_epoch().0;
    if known < 0 || known == current {
        return Ok(());
    }
    Err(match known < current {
        true => ResponseError::FencedLeaderEpoch,
        false => ResponseError::UnknownLeaderEpoch,
    })
}
