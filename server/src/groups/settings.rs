//! What the broker's configuration means to groups: resolved values.

use std::time::Duration;

use crate::config::GroupConfig;

/// Kafka's `group.*` and `offset*` keys, as far as classic groups need them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// `group.min.session.timeout.ms`.
    pub session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_ms_max: i32,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: i64,
    /// How long a JoinGroup of a member that never completed one may stay parked; five minutes in Kafka.
    pub new_member_join_timeout_ms: i64,
    /// `group.max.size`.
    pub size_max: usize,
    /// `offset.metadata.max.bytes`; Kafka counts UTF-16 units.
    pub offset_metadata_max: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: i64,
    /// The largest batch that is written at once; no larger than `max.message.bytes` of the topic.
    pub batch_bytes_max: usize,
}

impl Default for GroupSettings {
    /// Kafka 4.3's defaults.
    fn default() -> Self {
        Self {
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            new_member_join_timeout_ms: 300_000,
            size_max: i32::MAX as usize,
            offset_metadata_max: 4_096,
            offsets_retention_ms: 7 * 24 * 3_600_000,
            offsets_retention_check_interval_ms: 600_000,
            batch_bytes_max: 1_048_588,
        }
    }
}

impl From<&GroupConfig> for GroupSettings {
    fn from(config: &GroupConfig) -> Self {
        let milliseconds = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self {
            session_timeout_ms_min: config.session_timeout_min_ms,
            session_timeout_ms_max: config.session_timeout_max_ms,
            initial_rebalance_delay_ms: milliseconds(config.initial_rebalance_delay),
            size_max: config.members_max,
            offset_metadata_max: config.offset_metadata_bytes_max,
            offsets_retention_ms: milliseconds(config.offsets_retention),
            offsets_retention_check_interval_ms: milliseconds(config.offsets_retention_check_interval),
            ..Self::default()
        }
    }
}
