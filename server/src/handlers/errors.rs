//! The one table from the engine's errors to Kafka's codes.

use flumen_engine::batch::{BatchError, BatchErrorKind};
use flumen_engine::producers::ProducerError;
use flumen_engine::{AppendError, ReadError};
use kafka_protocol::error::ResponseError;

/// The code of an error; 0 for none.
pub fn code(error: Option<ResponseError>) -> i16 {
    error.map_or(0, |error| error.code())
}

/// Kafka's answer to a batch that is not sound.
pub fn of_batch(error: &BatchError) -> ResponseError {
    match error.kind() {
        BatchErrorKind::Corrupt => ResponseError::CorruptMessage,
        BatchErrorKind::Invalid => ResponseError::InvalidRecord,
        BatchErrorKind::TooLarge => ResponseError::MessageTooLarge,
        BatchErrorKind::Unknown => ResponseError::UnknownServerError,
    }
}

/// Kafka's answer to an append that failed.
pub fn of_append(error: &AppendError) -> ResponseError {
    match error {
        // Kafka takes the directory offline when the disk is full. Here the write did not happen, and both
        // answers make the producer try again.
        AppendError::NoSpace | AppendError::Offline => ResponseError::KafkaStorageError,
        AppendError::Deleted => ResponseError::UnknownTopicOrPartition,
        AppendError::Producer(error) => match error {
            ProducerError::OutOfOrderSequence { .. } => ResponseError::OutOfOrderSequenceNumber,
            ProducerError::InvalidEpoch { .. } => ResponseError::InvalidProducerEpoch,
            ProducerError::InvalidTransactionState { .. } => ResponseError::InvalidTxnState,
            ProducerError::CoordinatorFenced { .. } => ResponseError::TransactionCoordinatorFenced,
        },
        AppendError::InvalidTimestamp { .. } | AppendError::AppendTimeOfClient => {
            ResponseError::InvalidTimestamp
        }
        AppendError::KeylessOnCompacted => ResponseError::InvalidRecord,
        AppendError::TooLarge { .. } => ResponseError::MessageTooLarge,
        AppendError::LargerThanSegment { .. } | AppendError::Misplaced { .. } => {
            ResponseError::RecordListTooLarge
        }
    }
}

/// Kafka's answer to a read that failed.
pub fn of_read(error: &ReadError) -> ResponseError {
    match error {
        ReadError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
        ReadError::Offline | ReadError::Corrupt { .. } | ReadError::Storage(_) => {
            ResponseError::KafkaStorageError
        }
        ReadError::Deleted => ResponseError::UnknownTopicOrPartition,
    }
}
