//! What a topic's configuration means to its partitions' logs: resolved, validated values.

/// Settings of one partition's log, from the topic's and the broker's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `flush.messages`: 1 is class D (acknowledged once durable); `i64::MAX` is class M (acknowledged in
    /// memory); in between: acknowledged at once, flushed every so many records.
    pub flush_messages: i64,
    /// `flush.ms`: milliseconds after which an unflushed record is flushed; `i64::MAX` for never.
    pub flush_ms: i64,
    /// `segment.bytes`: a segment is rolled before it would pass this.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment is rolled when its first record is older than this.
    pub segment_ms: i64,
    /// `index.interval.bytes`: an offset index entry at most every so many bytes of log.
    pub index_interval_bytes: u32,
    /// `segment.index.bytes`: a segment is rolled when an index would pass this.
    pub segment_index_bytes: u32,
    /// `max.message.bytes`: the largest batch, with its header, that is accepted.
    pub max_message_bytes: u32,
    /// `retention.ms`; −1 for no limit.
    pub retention_ms: i64,
    /// `retention.bytes`; −1 for no limit.
    pub retention_bytes: i64,
    /// `file.delete.delay.ms`: a removed segment's file goes after this.
    pub file_delete_delay_ms: i64,
    /// `cleanup.policy` contains `delete`.
    pub delete: bool,
    /// `cleanup.policy` contains `compact`: keyless records are refused.
    pub compact: bool,
    /// `message.timestamp.type=LogAppendTime`.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `producer.id.expiration.ms`, the broker's: a producer that wrote nothing for so long is forgotten.
    pub producer_expiration_ms: i64,
}

impl Default for LogConfig {
    /// Kafka 4.3's defaults, but durable: `flush.messages` is 1.
    fn default() -> Self {
        Self {
            flush_messages: 1,
            flush_ms: i64::MAX,
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            index_interval_bytes: 4096,
            segment_index_bytes: 10 << 20,
            max_message_bytes: 1_048_588,
            retention_ms: 7 * 24 * 3_600_000,
            retention_bytes: -1,
            file_delete_delay_ms: 60_000,
            delete: true,
            compact: false,
            log_append_time: false,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            producer_expiration_ms: 86_400_000,
        }
    }
}
