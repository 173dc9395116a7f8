//! Which records made their batch fail, in Kafka's words (KIP-467). A compressed batch is named by its first
//! record: its records are not looked at.

use std::ops::RangeInclusive;

use bytes::Bytes;
use flumen_engine::batch::{self, BatchLimits, Record};
use flumen_wire::produce::RecordError;

/// Errors that the summary shows.
const SHOWN_MAX: usize = 3;

/// The records without a key.
pub fn keyless(records: &Bytes, topic: &str, partition: i32) -> Vec<RecordError> {
    let message =
        format!("Compacted topic cannot accept message without key in topic partition {topic}-{partition}");
    let rejected = indexes(records, |record| record.key.is_none());
    let named = rejected
        .into_iter()
        .map(|(index, _)| RecordError { batch_index: index, message: Some(message.clone()) });
    named.collect()
}

/// The summary of records without a key.
pub fn keyless_summary(errors: &[RecordError]) -> String {
    let shown: Vec<String> = errors
        .iter()
        .take(SHOWN_MAX)
        .map(|error| {
            let message = error.message.as_deref().unwrap_or("null");
            format!("RecordError(batchIndex={}, message='{message}')", error.batch_index)
        })
        .collect();
    format!(
        "One or more records have been rejected due to {} record errors in total, \
         and only showing the first three errors at most: [{}]",
        errors.len(),
        shown.join(", ")
    )
}

/// The records whose time lies outside of what is accepted; `found` is that of one of them.
pub fn out_of_time(records: &Bytes, found: i64, accepted: &RangeInclusive<i64>) -> Vec<RecordError> {
    let mut rejected = indexes(records, |record| !accepted.contains(&record.timestamp.0));
    for (_, timestamp) in &mut rejected {
        timestamp.get_or_insert(found);
    }
    let named = rejected.into_iter().map(|(index, timestamp)| RecordError {
        batch_index: index,
        message: Some(format!(
            "Timestamp {} of message with offset {index} is out of range. \
             The timestamp should be within [{}, {}]",
            timestamp.unwrap_or(found),
            accepted.start(),
            accepted.end()
        )),
    });
    named.collect()
}

/// The records of a batch that says that their times are the broker's: all of them.
pub fn dated_by_client(records: &Bytes) -> Vec<RecordError> {
    let word = |record: &str| {
        format!(
            "Invalid timestamp type in message{record}. \
             Producer should not set timestamp type to LogAppendTime."
        )
    };
    let length = |field: Option<&[u8]>| field.map_or(0, <[u8]>::len);
    let rejected = told(records, |index, record| {
        let record = format!(
            " DefaultRecord(offset={index}, timestamp={}, key={} bytes, value={} bytes)",
            record.timestamp.0,
            length(record.key),
            length(record.value)
        );
        Some(RecordError { batch_index: index, message: Some(word(&record)) })
    });
    match rejected.is_empty() {
        true => vec![RecordError { batch_index: 0, message: Some(word("")) }],
        false => rejected,
    }
}

/// Index and timestamp of each record that is rejected; the first one's index alone if none can be told.
fn indexes(records: &Bytes, is_rejected: impl Fn(&Record) -> bool) -> Vec<(i32, Option<i64>)> {
    let mut rejected =
        told(records, |index, record| is_rejected(record).then_some((index, Some(record.timestamp.0))));
    if rejected.is_empty() {
        rejected.push((0, None));
    }
    rejected
}

/// What there is to tell of the records, each with its index; nothing of those of a compressed batch.
fn told<T>(records: &Bytes, tell: impl Fn(i32, &Record) -> Option<T>) -> Vec<T> {
    let limits = BatchLimits { max_message_bytes: u32::MAX };
    let Ok(checked) = batch::check(records.clone(), &limits) else { return Vec::new() };
    let walked = checked.summaries().iter().filter_map(|summary| checked.records(summary).ok()).flatten();
    (0..).zip(walked.flatten()).filter_map(|(index, record)| tell(index, &record)).collect()
}
