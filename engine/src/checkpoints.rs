//! Kafka's small text files: offset checkpoints, leader epochs, `partition.metadata`, `.kafka_cleanshutdown`.
//!
//! Pure: text to values and back. They are written whole and put in place by a rename, so that a crash leaves
//! the old one or the new one. Sources: Kafka's `CheckpointFile`, `OffsetCheckpointFile`,
//! `LeaderEpochCheckpointFile`, `PartitionMetadataFile`, `CleanShutdownFileHandler`.

use uuid::Uuid;

use crate::epochs::{EpochStart, LeaderEpochs};
use crate::layout::{decode_uuid, encode_uuid};
use crate::types::{LeaderEpoch, Offset};

/// What is wrong with a text file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not UTF-8.
    #[error("it is not UTF-8 text")]
    NotText,
    /// A version that is not known.
    #[error("version {found:?} is not 0")]
    Version {
        /// The first line.
        found: String,
    },
    /// A line that is not what it should be.
    #[error("malformed line {number}: {line:?}")]
    Line {
        /// Its number, from 1.
        number: usize,
        /// Its text.
        line: String,
    },
    /// More or fewer lines than announced.
    #[error("{found} entries where {expected} were announced")]
    Count {
        /// The second line.
        expected: usize,
        /// The lines behind it.
        found: usize,
    },
}

/// The offset of one partition in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionOffset {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: Offset,
}

/// The text of an offset checkpoint.
pub fn encode_offsets(offsets: &[PartitionOffset]) -> String {
    let line = |entry: &PartitionOffset| format!("{} {} {}", entry.topic, entry.partition, entry.offset);
    encode(offsets.iter().map(line))
}

/// The offsets in a checkpoint; an empty file holds none.
pub fn decode_offsets(contents: &[u8]) -> Result<Vec<PartitionOffset>, CheckpointError> {
    decode(contents, |line| {
        let mut words = line.split_whitespace();
        let topic = words.next()?.to_owned();
        let partition = words.next()?.parse().ok()?;
        let offset = Offset(words.next()?.parse().ok()?);
        words.next().is_none().then_some(PartitionOffset { topic, partition, offset })
    })
}

/// The text of a `leader-epoch-checkpoint`.
pub fn encode_epochs(epochs: &LeaderEpochs) -> String {
    encode(epochs.starts().iter().map(|entry| format!("{} {}", entry.epoch, entry.start)))
}

/// The epochs in a `leader-epoch-checkpoint`; an empty file holds none.
pub fn decode_epochs(contents: &[u8]) -> Result<LeaderEpochs, CheckpointError> {
    let starts = decode(contents, |line| {
        let (epoch, start) = line.split_once(char::is_whitespace)?;
        let epoch = LeaderEpoch(epoch.parse().ok()?);
        Some(EpochStart { epoch, start: Offset(start.trim().parse().ok()?) })
    })?;
    Ok(LeaderEpochs::from_starts(starts))
}

/// The text of a `partition.metadata`.
pub fn encode_partition_metadata(topic: Uuid) -> String {
    format!("version: 0\ntopic_id: {}", encode_uuid(topic))
}

/// The topic id in a `partition.metadata`.
pub fn decode_partition_metadata(contents: &[u8]) -> Result<Uuid, CheckpointError> {
    let text = std::str::from_utf8(contents).map_err(|_| CheckpointError::NotText)?;
    let mut lines = text.lines();
    let version = lines.next().unwrap_or_default();
    if version.strip_prefix("version:").map(str::trim) != Some("0") {
        return Err(CheckpointError::Version { found: shorten(version) });
    }
    let line = lines.next().unwrap_or_default();
    line.strip_prefix("topic_id:")
        .and_then(|id| decode_uuid(id.trim()))
        .filter(|id| !id.is_nil())
        .ok_or_else(|| CheckpointError::Line { number: 2, line: shorten(line) })
}

/// The text of a `.kafka_cleanshutdown`: the broker epoch of the life that ended (KIP-966).
pub fn encode_clean_shutdown(broker_epoch: i64) -> String {
    format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}")
}

/// The broker epoch in a `.kafka_cleanshutdown`; `None` if it says none. The file's presence alone says that the
/// stop was clean, as before Kafka 3.8, which left it empty.
pub fn decode_clean_shutdown(contents: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(contents).ok()?;
    let (_, behind) = text.split_once("\"brokerEpoch\"")?;
    let number = behind.trim_start().strip_prefix(':')?.trim_start();
    let end = number.find(|character: char| !character.is_ascii_digit() && character != '-');
    number[..end.unwrap_or(number.len())].parse().ok()
}

/// Version, count, and a line for each entry.
fn encode(lines: impl ExactSizeIterator<Item = String>) -> String {
    let mut text = format!("0\n{}\n", lines.len());
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn decode<T>(contents: &[u8], parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, CheckpointError> {
    let text = std::str::from_utf8(contents).map_err(|_| CheckpointError::NotText)?;
    let mut lines = text.lines();
    let Some(version) = lines.next() else { return Ok(Vec::new()) };
    if version != "0" {
        return Err(CheckpointError::Version { found: shorten(version) });
    }
    let Some(count) = lines.next() else { return Ok(Vec::new()) };
    let expected = count.parse().map_err(|_| CheckpointError::Line { number: 2, line: shorten(count) })?;
    let mut entries = Vec::new();
    for (index, line) in lines.enumerate() {
        let entry =
            parse(line).ok_or_else(|| CheckpointError::Line { number: index + 3, line: shorten(line) })?;
        entries.push(entry);
    }
    match entries.len() {
        found if found == expected => Ok(entries),
        found => Err(CheckpointError::Count { expected, found }),
    }
}

/// Enough of a line to recognise it.
fn shorten(line: &str) -> String {
    line.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn faults_are_told_apart() {
        assert_eq!(decode_offsets(b""), Ok(vec![]));
        assert_eq!(decode_offsets(b"0\n0\n"), Ok(vec![]));
        assert!(matches!(decode_offsets(b"1\n0\n"), Err(CheckpointError::Version { .. })));
        assert!(matches!(decode_offsets(b"0\nx\n"), Err(CheckpointError::Line { number: 2, .. })));
        assert!(matches!(decode_offsets(b"0\n1\na 0\n"), Err(CheckpointError::Line { number: 3, .. })));
        assert_eq!(decode_offsets(b"0\n2\na 0 1\n"), Err(CheckpointError::Count { expected: 2, found: 1 }));
        assert_eq!(decode_offsets(&[0xff]), Err(CheckpointError::NotText));
        assert!(decode_partition_metadata(b"version: 1\ntopic_id: KrvZ3fToSvKwhFfosnp0AQ").is_err());
        assert!(decode_partition_metadata(b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA").is_err());
        assert_eq!(decode_clean_shutdown(b""), None);
        assert_eq!(decode_clean_shutdown(b"{\"version\": 0, \"brokerEpoch\": 7}"), Some(7));
    }

    proptest! {
        #[test]
        fn offsets_go_there_and_back(
            given in proptest::collection::vec(("[a-zA-Z0-9._-]{1,20}", 0i32.., 0i64..), 0..20)
        ) {
            let offset = |(topic, partition, offset)| PartitionOffset { topic, partition, offset: Offset(offset) };
            let given: Vec<_> = given.into_iter().map(offset).collect();
            prop_assert_eq!(decode_offsets(encode_offsets(&given).as_bytes()), Ok(given));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode_offsets(&bytes);
            let _ = decode_epochs(&bytes);
            let _ = decode_partition_metadata(&bytes);
            let _ = decode_clean_shutdown(&bytes);
        }
    }
}
