//! What is asked of some batches beyond the checks of every batch: keys in every record, also of compressed batches,
//! and a codec of the topic's own; and that the largest timestamp is right wherever a batch is opened.
//!
//! Not on a core's thread: opening a batch may take milliseconds. One batch is open at a time per core, of at
//! most [`OPENED_BYTES_MAX`] bytes; of an opened one that is refused only the errors stay.

use bytes::Bytes;
use flumen_engine::batch::{self, BatchLimits, CheckedBatches};
use flumen_wire::produce::{ProducePartitionResponse, RecordError};
use kafka_protocol::error::ResponseError;

use super::{errors, failure, rejected};
use crate::compression::{self, OPENED_BYTES_MAX, OpenError};
use crate::metadata::topic_config::Treatment;

/// Why a batch is not appended.
#[derive(Debug)]
pub struct Refused {
    error: ResponseError,
    message: Option<String>,
    records: Vec<RecordError>,
}

impl Refused {
    /// A refusal without further words.
    pub fn plain(error: ResponseError) -> Self {
        Self { error, message: None, records: Vec::new() }
    }

    /// As the partition's answer; Kafka's has the log's start.
    pub fn word(self, index: i32, log_start_offset: i64) -> ProducePartitionResponse {
        let mut answer = failure(index, self.error, self.message);
        answer.record_errors = self.records;
        answer.log_start_offset = log_start_offset;
        answer
    }
}

/// The batch as its topic wants it. `batches` is one checked batch of a client.
pub fn treat(
    batches: CheckedBatches,
    treatment: &Treatment,
    topic: &str,
    index: i32,
) -> Result<CheckedBatches, Refused> {
    let limits = BatchLimits { max_message_bytes: u32::MAX };
    let summary = batches.summaries()[0];
    let opened = compression::open(&batches.bytes()[summary.range()]).map_err(|error| match error {
        OpenError::TooLarge => {
            let message =
                format!("The batch holds more than {OPENED_BYTES_MAX} bytes when it is decompressed.");
            Refused { message: Some(message), ..Refused::plain(ResponseError::MessageTooLarge) }
        }
        OpenError::Cut => Refused::plain(ResponseError::InvalidRecord),
        // As Kafka, whose codecs' exceptions nobody catches.
        OpenError::Batch(_) | OpenError::Codec(_) => Refused::plain(ResponseError::UnknownServerError),
    })?;
    let opened = Bytes::from(opened);
    let walked =
        batch::check(opened.clone(), &limits).map_err(|error| Refused::plain(errors::of_batch(&error)))?;
    let [found] = walked.summaries() else { return Err(Refused::plain(ResponseError::InvalidRecord)) };
    if treatment.needs_keys && found.has_keyless == Some(true) {
        let records = rejected::keyless(&opened, topic, index);
        let message = Some(rejected::keyless_summary(&records));
        return Err(Refused { error: ResponseError::InvalidRecord, message, records });
    }
    let Some(compression) = treatment.compression.filter(|to| to.codec != summary.codec) else {
        return Ok(batches.with_opened(found));
    };
    let closed = compression::close(&opened, &compression, found.max_timestamp)
        .and_then(|closed| batch::check(Bytes::from(closed), &limits));
    closed.map_err(|error| Refused::plain(errors::of_batch(&error)))
}

#[cfg(test)]
mod tests {
    use flumen_engine::batch::{BatchBuilder, Codec, HEADER_BYTES, Placement};
    use flumen_engine::{LeaderEpoch, Offset, Timestamp};

    use super::*;
    use crate::compression::Compression;

    const KEYS: Treatment =
        Treatment { needs_keys: true, compression: None, is_stamped: false, message_bytes_max: 1 << 20 };

    fn to(codec: Codec) -> Compression {
        Compression { codec, gzip_level: 6 }
    }

    fn plain(keys: &[Option<&[u8]>]) -> Bytes {
        let mut builder = BatchBuilder::new();
        for (index, key) in keys.iter().enumerate() {
            builder.append(Timestamp(1_000 + index as i64), *key, Some(&[7; 500]), &[]);
        }
        builder.build()
    }

    fn checked(bytes: impl Into<Bytes>) -> CheckedBatches {
        batch::check(bytes.into(), &BatchLimits { max_message_bytes: u32::MAX }).expect("a sound batch")
    }

    fn compressed(plain: &[u8], codec: Codec) -> CheckedBatches {
        checked(compression::close(plain, &to(codec), Timestamp(1_000)).expect("compressed"))
    }

    #[test]
    fn records_without_keys_are_found_in_compressed_batches() {
        let without = plain(&[Some(b"k"), None, None]);
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let refused = treat(compressed(&without, codec), &KEYS, "t", 3).expect_err("keyless");
            let answer = refused.word(3, 17);
            assert_eq!(
                (answer.error_code, answer.log_start_offset),
                (ResponseError::InvalidRecord.code(), 17)
            );
            let indexes: Vec<i32> = answer.record_errors.iter().map(|error| error.batch_index).collect();
            assert_eq!(indexes, [1, 2]);
            let sound = compressed(&plain(&[Some(b"k"), Some(b"l")]), codec);
            let bytes = sound.bytes().clone();
            let kept = treat(sound, &KEYS, "t", 3).expect("it has keys");
            assert_eq!(kept.bytes(), &bytes, "kept as it came");
        }
    }

    #[test]
    fn batches_are_stored_under_the_codec_of_their_topic() {
        let records = plain(&[Some(b"k"), None]);
        for from in [Codec::None, Codec::Gzip, Codec::Lz4] {
            for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
                let treatment = Treatment { needs_keys: false, compression: Some(to(codec)), ..KEYS };
                let stored = treat(compressed(&records, from), &treatment, "t", 0).expect("stored");
                assert_eq!((stored.summaries()[0].codec, stored.summaries()[0].records), (codec, 2));
                let opened = compression::open(stored.bytes()).expect("opened");
                assert_eq!(opened[HEADER_BYTES..], records[HEADER_BYTES..]);
            }
        }
    }

    #[test]
    fn the_largest_timestamp_is_what_the_records_say() {
        const PLAIN: Treatment = Treatment { needs_keys: false, ..KEYS };
        let records = plain(&[Some(b"k"), None, None]);
        let first = Timestamp(1_000);
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            for (said, is_noticed) in [(-1, true), (0, true), (999, true), (1_000, false), (2_000, false)] {
                let closed = compression::close(&records, &to(codec), Timestamp(said)).expect("compressed");
                let sent = checked(closed);
                let summary = sent.summaries()[0];
                assert_eq!(PLAIN.concerns(&summary), is_noticed, "{said}");
                assert!(!Treatment { is_stamped: true, ..PLAIN }.concerns(&summary));
                let stored = treat(sent, &PLAIN, "t", 0).expect("stored");
                let summary = stored.summaries()[0];
                assert_eq!((summary.min_timestamp, summary.max_timestamp), (first, Timestamp(1_002)));
                let placement = Placement {
                    base_offset: Offset(70),
                    leader_epoch: LeaderEpoch(3),
                    log_append_time: None,
                };
                let placed =
                    [&stored.placed_header(&summary, &placement)[..], stored.body(&summary)].concat();
                let header = batch::BatchHeader::parse(&placed).expect("a header");
                assert_eq!(header.max_timestamp(), Timestamp(1_002));
                header.verify(&placed).expect("the checksum fits");
            }
        }
    }

    #[test]
    fn what_cannot_be_opened_or_walked_is_refused_as_kafka_does() {
        let code = |bytes: Vec<u8>| {
            let refused = treat(checked(bytes), &KEYS, "t", 0).expect_err("refused");
            refused.word(0, 0).error_code
        };
        let mut garbage = plain(&[Some(b"k")])[..HEADER_BYTES].to_vec();
        garbage.extend_from_slice(b"this is not compressed at all");
        batch::seal(&mut garbage, Codec::Gzip, None).expect("a header");
        assert_eq!(code(garbage), ResponseError::UnknownServerError.code());
        let mut short = plain(&[Some(b"k")]).to_vec();
        short.truncate(short.len() - 3);
        batch::seal(&mut short, Codec::None, None).expect("a header");
        let short = compression::close(&short, &to(Codec::Gzip), Timestamp(0)).expect("compressed");
        assert_eq!(code(short), ResponseError::InvalidRecord.code());
    }

    #[test]
    fn a_bomb_costs_no_more_than_its_bound() {
        let header = plain(&[Some(b"k")])[..HEADER_BYTES].to_vec();
        let mut bomb = header.clone();
        bomb.resize(OPENED_BYTES_MAX + (1 << 20), 0);
        batch::seal(&mut bomb, Codec::None, None).expect("a header");
        let bomb = compression::close(&bomb, &to(Codec::Gzip), Timestamp(0)).expect("compressed");
        assert!(bomb.len() < 1 << 20, "it is one: {} bytes", bomb.len());
        let refused = treat(checked(bomb), &KEYS, "t", 0).expect_err("refused");
        assert_eq!(refused.word(0, 0).error_code, ResponseError::MessageTooLarge.code());
    }
}
