//! Record batches, version 2: the only record format that is written here.
//!
//! Pure functions over bytes, on whatever core holds them; no I/O, nothing survives a crash. A batch is
//! *checked* once, on the core of the connection that brought it ([`check`]), and from then on its
//! [`BatchSummary`] is trusted. Its records are stored as they came: placing a batch in a log rewrites at most
//! its 61-byte header ([`CheckedBatches::placed_header`]).
//!
//! ```text
//!  0        8      12      16    17   21         23               27
//!  baseOffset length  epoch  magic crc  attributes lastOffsetDelta  baseTimestamp …
//!                                       └── the CRC-32C covers the rest, from here
//!  27             35            43         51            53           57     61
//!  baseTimestamp  maxTimestamp  producerId producerEpoch baseSequence count  records …
//! ```
//!
//! All integers are big-endian. The CRC covers neither base offset nor leader epoch, so that a broker may
//! assign both without reading the records. Source: Kafka's `DefaultRecordBatch` (KIP-98).
//!
//! Bytes are never asserted: whatever a peer or a disk holds leads to a typed [`BatchError`], not to a panic.

mod build;
mod check;
mod error;
mod header;
mod records;
mod varint;

pub use build::{BatchBuilder, ControlRecord, Voter};
pub(crate) use check::check_one_verbatim;
pub use check::{
    BatchLimits, BatchSummary, CheckedBatches, Codec, Placement, ProducerStamp, TimestampType, check,
    check_verbatim,
};
pub use error::{BatchError, BatchErrorKind};
pub use header::{BATCH_BYTES_MIN, BatchHeader, HEADER_BYTES, LOG_OVERHEAD_BYTES, batches, seal};
pub use records::{ControlType, Header, Headers, Record, RecordIter, records};

#[cfg(test)]
mod tests;
