//! The leader epoch that a client knows, against the one there is (KIP-320).

use std::cmp::Ordering;

use flumen_engine::Partition;
use kafka_protocol::error::ResponseError;

/// What a client says that knows none. Kafka: `RecordBatch.NO_PARTITION_LEADER_EPOCH`.
pub const NO_LEADER_EPOCH: i32 = -1;

/// Refuses a client that knows an older or a newer leader.
pub fn check_leader_epoch(partition: &Partition, known: i32) -> Result<(), ResponseError> {
    compare(known, partition.leader_epoch().0)
}

fn compare(known: i32, current: i32) -> Result<(), ResponseError> {
    match known.cmp(&current) {
        _ if known == NO_LEADER_EPOCH => Ok(()),
        Ordering::Equal => Ok(()),
        Ordering::Less => Err(ResponseError::FencedLeaderEpoch),
        Ordering::Greater => Err(ResponseError::UnknownLeaderEpoch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_minus_one_knows_no_leader() {
        let code = |known| compare(known, 3).err();
        assert_eq!((code(-1), code(3)), (None, None));
        for known in [i32::MIN, -2, 0, 2] {
            assert_eq!(code(known), Some(ResponseError::FencedLeaderEpoch));
        }
        assert_eq!(code(4), Some(ResponseError::UnknownLeaderEpoch));
    }
}
