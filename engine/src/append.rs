//! The handle of an append: how it ends, and when.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::producers::ProducerError;
use crate::{Offset, Timestamp};

/// Who appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOrigin {
    /// A client's Produce request.
    Client,
    /// A coordinator or the controller of this broker: internal topics, control batches.
    Coordinator,
    /// A follower, from its leader: offsets and epochs are kept as they came.
    Replica,
}

/// Where batches were placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The offset of the last record.
    pub last_offset: Offset,
    /// The timestamp given to every record, or −1 where the producer's own were kept.
    pub log_append_time: Timestamp,
    /// The log's start when they were placed.
    pub log_start_offset: Offset,
}

/// Why batches were not appended, or not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The disk is full. Nothing was placed; it may be tried again later.
    #[error("no space left on the device")]
    NoSpace,
    /// The partition's log failed, or the log directory. What was placed may or may not be there.
    #[error("the partition's log is offline")]
    Offline,
    /// The partition was deleted, or the engine closed.
    #[error("the partition was deleted or is closing")]
    Deleted,
    /// The batch does not follow what its producer wrote before.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// A timestamp outside of what the topic accepts.
    #[error("timestamp {timestamp} is outside of what the topic accepts: {earliest} to {latest}")]
    InvalidTimestamp {
        /// What came.
        timestamp: Timestamp,
        /// The earliest one accepted now.
        earliest: Timestamp,
        /// The latest one accepted now.
        latest: Timestamp,
    },
    /// A client says that the timestamps are the broker's.
    #[error("a client's batch says LogAppendTime")]
    AppendTimeOfClient,
    /// A record without a key, for a compacted topic.
    #[error("a record without a key, for a compacted topic")]
    KeylessOnCompacted,
    /// A batch larger than `max.message.bytes`.
    #[error("a batch of {length} bytes; at most {length_max} are accepted")]
    TooLarge {
        /// Its length.
        length: usize,
        /// `max.message.bytes`.
        length_max: usize,
    },
    /// More than a segment can hold.
    #[error("{length} bytes; a segment holds at most {length_max}")]
    LargerThanSegment {
        /// The length of all batches.
        length: usize,
        /// `segment.bytes`.
        length_max: usize,
    },
    /// Verbatim batches whose offsets or epochs do not follow the log's end.
    #[error("the batches cannot be placed: {reason}")]
    Misplaced {
        /// Why.
        reason: &'static str,
    },
}

/// Completes when the batches are acknowledged: durable (class D) or placed (class M).
///
/// Dropping it changes nothing about the append.
pub struct Append {
    slot: Rc<AppendSlot>,
}

/// Where the outcome of one append is left for whoever asked.
#[derive(Default)]
pub(crate) struct AppendSlot {
    result: Cell<Option<Result<Appended, AppendError>>>,
    waker: Cell<Option<Waker>>,
}

impl AppendSlot {
    /// Leaves the outcome, once.
    pub(crate) fn complete(&self, result: Result<Appended, AppendError>) {
        self.result.set(Some(result));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Append {
    /// The handle of an append whose outcome will be left in `slot`.
    pub(crate) fn waiting(slot: Rc<AppendSlot>) -> Self {
        Self { slot }
    }
}

impl Future for Append {
    type Output = Result<Appended, AppendError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(result) = self.slot.result.take() {
            return Poll::Ready(result);
        }
        self.slot.waker.set(Some(context.waker().clone()));
        Poll::Pending
    }
}
