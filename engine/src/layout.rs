//! Names in a log directory: folders of partitions, files of segments. Pure; Kafka's, byte for byte.
//!
//! ```text
//! log.dirs/
//!   topic-0/                                       partition 0 of the topic
//!     00000000000000000000.log                     records from offset 0
//!     00000000000000000000.index  .timeindex       look-up by offset and time
//!     00000000000000000000.txnindex                aborted transactions, if any
//!     00000000000000000092.snapshot                producers as of offset 92
//!     leader-epoch-checkpoint  partition.metadata
//!   topic-0.1f6…-delete/                           deleted, not yet unlinked
//! ```

use uuid::Uuid;

use crate::types::Offset;

/// A partition's epochs. Kafka: `LeaderEpochCheckpointFile`.
pub const LEADER_EPOCH_CHECKPOINT: &str = "leader-epoch-checkpoint";
/// A partition's topic id. Kafka: `PartitionMetadataFile`.
pub const PARTITION_METADATA: &str = "partition.metadata";
/// Up to where each partition was flushed.
pub const RECOVERY_POINT_CHECKPOINT: &str = "recovery-point-offset-checkpoint";
/// The high watermark of each partition.
pub const REPLICATION_CHECKPOINT: &str = "replication-offset-checkpoint";
/// Where each partition's log starts, if not at its first segment.
pub const LOG_START_CHECKPOINT: &str = "log-start-offset-checkpoint";
/// Up to where each partition was compacted.
pub const CLEANER_CHECKPOINT: &str = "cleaner-offset-checkpoint";
/// Present after a clean stop only.
pub const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
/// Locked for as long as a process uses the log directory.
pub const LOCK: &str = ".lock";

/// The longest name of a folder or file, in bytes (Linux: NAME_MAX).
const NAME_BYTES_MAX: usize = 255;
/// Digits of an offset in a file's name.
const OFFSET_DIGITS: usize = 20;

/// What a file of a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentFileKind {
    /// Record batches.
    Log,
    /// Offset → position.
    OffsetIndex,
    /// Timestamp → offset.
    TimeIndex,
    /// Aborted transactions.
    TransactionIndex,
    /// Producers as of its offset.
    ProducerSnapshot,
}

impl SegmentFileKind {
    const ALL: [Self; 5] =
        [Self::Log, Self::OffsetIndex, Self::TimeIndex, Self::TransactionIndex, Self::ProducerSnapshot];

    /// The suffix, with its dot.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Log => ".log",
            Self::OffsetIndex => ".index",
            Self::TimeIndex => ".timeindex",
            Self::TransactionIndex => ".txnindex",
            Self::ProducerSnapshot => ".snapshot",
        }
    }
}

/// Where a file of a segment is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentFileState {
    /// In use.
    Live,
    /// `.deleted`: to be unlinked.
    Deleted,
    /// `.cleaned`: a compaction was writing it; to be unlinked.
    Cleaned,
    /// `.swap`: a compaction wrote it whole and was putting it in place.
    Swap,
}

impl SegmentFileState {
    const ALL: [Self; 4] = [Self::Live, Self::Deleted, Self::Cleaned, Self::Swap];

    /// The second suffix, with its dot; empty for a live file.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Live => "",
            Self::Deleted => ".deleted",
            Self::Cleaned => ".cleaned",
            Self::Swap => ".swap",
        }
    }
}

/// A file of a segment, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentFile {
    /// The segment's base offset; for a snapshot, the offset that it is as of.
    pub offset: Offset,
    /// What it holds.
    pub kind: SegmentFileKind,
    /// Where it is in its life.
    pub state: SegmentFileState,
}

impl SegmentFile {
    /// A live file.
    pub fn live(offset: Offset, kind: SegmentFileKind) -> Self {
        Self { offset, kind, state: SegmentFileState::Live }
    }

    /// Its name: 20 digits and the suffixes.
    ///
    /// # Panics
    /// If the offset is negative.
    pub fn name(&self) -> String {
        assert!(self.offset.0 >= 0, "a segment starts at offset {}", self.offset);
        format!("{:0OFFSET_DIGITS$}{}{}", self.offset.0, self.kind.suffix(), self.state.suffix())
    }

    /// The file that a name means; `None` for a name of something else.
    pub fn parse(name: &str) -> Option<Self> {
        let (digits, suffixes) = name.split_at_checked(OFFSET_DIGITS)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let offset = Offset(digits.parse().ok()?);
        for state in SegmentFileState::ALL {
            for kind in SegmentFileKind::ALL {
                if suffixes.strip_prefix(kind.suffix()) == Some(state.suffix()) {
                    return Some(Self { offset, kind, state });
                }
            }
        }
        None
    }
}

/// Why a partition's folder is not in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FolderState {
    /// In use.
    Live,
    /// `-delete`: its topic was deleted; to be unlinked.
    Delete,
    /// `-future`: a copy that is moved here from another log directory. Never removed.
    Future,
    /// `-stray`: nobody knew its topic. Never removed.
    Stray,
}

impl FolderState {
    fn suffix(self) -> &'static str {
        match self {
            Self::Live => "",
            Self::Delete => "-delete",
            Self::Future => "-future",
            Self::Stray => "-stray",
        }
    }
}

/// A partition's folder, by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionFolder {
    /// The topic; its end may be missing where the folder is not in use.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Whether it is in use.
    pub state: FolderState,
}

impl PartitionFolder {
    /// The folder that a name means; `None` for a name of something else.
    pub fn parse(name: &str) -> Option<Self> {
        for state in [FolderState::Delete, FolderState::Future, FolderState::Stray] {
            if let Some(rest) = name.strip_suffix(state.suffix()) {
                // `topic-0.<32 hexadecimal digits>`
                let (rest, unique) = rest.rsplit_once('.')?;
                let (topic, partition) = split_partition(rest)?;
                let is_unique = unique.len() == 32 && unique.bytes().all(|byte| byte.is_ascii_hexdigit());
                return is_unique.then(|| Self { topic: topic.to_owned(), partition, state });
            }
        }
        let (topic, partition) = split_partition(name)?;
        Some(Self { topic: topic.to_owned(), partition, state: FolderState::Live })
    }
}

fn split_partition(name: &str) -> Option<(&str, i32)> {
    let (topic, partition) = name.rsplit_once('-')?;
    let is_number = !partition.is_empty() && partition.bytes().all(|byte| byte.is_ascii_digit());
    if topic.is_empty() || !is_number {
        return None;
    }
    Some((topic, partition.parse().ok()?))
}

/// The name of a partition's folder in use.
pub fn partition_folder(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// The name that a partition's folder takes when it goes out of use; `unique` keeps it from colliding with an
/// earlier one. A long topic is cut, as Kafka does.
pub fn retired_folder(topic: &str, partition: i32, unique: Uuid, state: FolderState) -> String {
    let end = format!("-{partition}.{}{}", unique.simple(), state.suffix());
    let topic_bytes = topic.len().min(NAME_BYTES_MAX - end.len());
    format!("{}{end}", &topic[..topic_bytes])
}

/// Kafka's text form of an id: 16 bytes in URL-safe Base64 without padding, 22 characters.
pub fn encode_uuid(id: Uuid) -> String {
    let mut text = String::with_capacity(22);
    for group in id.as_bytes().chunks(3) {
        let mut bits = 0u32;
        for index in 0..3 {
            bits = bits << 8 | u32::from(group.get(index).copied().unwrap_or(0));
        }
        for index in 0..=group.len() {
            let digit = bits >> (18 - 6 * index) & 0x3f;
            text.push(char::from(BASE64_URL[digit as usize]));
        }
    }
    text
}

/// The id that a text of Kafka's form means; `None` if it is not 16 bytes.
pub fn decode_uuid(text: &str) -> Option<Uuid> {
    let mut bytes = Vec::with_capacity(18);
    let text = text.trim_end_matches('=');
    for group in text.as_bytes().chunks(4) {
        let mut bits = 0u32;
        for index in 0..4 {
            let digit = match group.get(index) {
                Some(character) => BASE64_URL.iter().position(|digit| digit == character)? as u32,
                None => 0,
            };
            bits = bits << 6 | digit;
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len().max(1)]);
    }
    Some(Uuid::from_bytes(bytes.try_into().ok()?))
}

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for state in SegmentFileState::ALL {
            for kind in SegmentFileKind::ALL {
                let file = SegmentFile { offset: Offset(92), kind, state };
                assert_eq!(SegmentFile::parse(&file.name()), Some(file));
            }
        }
        let newest = SegmentFile::live(Offset(i64::MAX), SegmentFileKind::Log);
        assert_eq!(newest.name(), "09223372036854775807.log");
        for name in
            ["", "1.log", "0000000000000000000x.log", "00000000000000000000.logs", "99999999999999999999.log"]
        {
            assert_eq!(SegmentFile::parse(name), None, "{name}");
        }
    }

    #[test]
    fn folders_are_told_apart() {
        let live = PartitionFolder::parse("my-topic.v1-12").unwrap();
        assert_eq!((live.topic.as_str(), live.partition, live.state), ("my-topic.v1", 12, FolderState::Live));
        let name = retired_folder("my-topic", 3, Uuid::from_u128(7), FolderState::Delete);
        assert_eq!(name, "my-topic-3.00000000000000000000000000000007-delete");
        let retired = PartitionFolder::parse(&name).unwrap();
        assert_eq!(
            (retired.topic.as_str(), retired.partition, retired.state),
            ("my-topic", 3, FolderState::Delete)
        );
        let longest = retired_folder(&"t".repeat(249), 0, Uuid::nil(), FolderState::Stray);
        assert_eq!(longest.len(), 255);
        assert!(PartitionFolder::parse(&longest).is_some());
        for name in ["topic", "-0", "topic-", "topic-x", "topic-0.zz-delete", "topic--1x", "flumen-journal"] {
            assert_eq!(PartitionFolder::parse(name), None, "{name}");
        }
    }

    #[test]
    fn ids_have_the_text_of_kafka() {
        // From a partition.metadata that Kafka 4.3.1 wrote.
        let id = decode_uuid("KrvZ3fToSvKwhFfosnp0AQ").unwrap();
        assert_eq!(encode_uuid(id), "KrvZ3fToSvKwhFfosnp0AQ");
        assert_eq!(encode_uuid(Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(decode_uuid("too short"), None);
        assert_eq!(decode_uuid("AAAAAAAAAAAAAAAAAAAAA!"), None);
    }
}
