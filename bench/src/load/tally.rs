//! What the tasks of one thread count, second by second, and what the threads of a run share.
//!
//! A latency counts if its request fell due in the measured window; a request counts for the rate in the second
//! in which it was answered.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::clock::Moment;
use crate::error::BenchError;
use crate::measure::process::ThreadTimes;

/// How long a broker has to lead a topic that it has said it leads.
const SETTLING_TIME: Duration = Duration::from_secs(10);

/// Latencies are kept in nanoseconds, to three digits, from a microsecond to ten minutes.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 600_000_000_000, 3).expect("the bounds are in order")
}

/// The kinds of latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From the intended send time to the acknowledgement. In a closed loop the intended time is the actual one.
    Ack,
    /// From handing the request to the socket to the acknowledgement.
    Service,
    /// From the intended send time to handing the request to the socket.
    Slip,
    /// From the intended send time until a consumer has the record.
    EndToEnd,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ack, Self::Service, Self::Slip, Self::EndToEnd];

    /// Its name in results and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Service => "service",
            Self::Slip => "send-slip",
            Self::EndToEnd => "end-to-end",
        }
    }
}

/// Latencies by kind; nothing where nothing was recorded.
#[derive(Clone, Default)]
pub struct Latencies([Option<Box<Histogram<u64>>>; 4]);

impl Latencies {
    /// Records one.
    pub fn record(&mut self, kind: Kind, nanos: u64) {
        let histogram = self.0[kind as usize].get_or_insert_with(|| Box::new(new_histogram()));
        histogram.saturating_record(nanos.max(1_000));
    }

    /// Those of one kind.
    pub fn of(&self, kind: Kind) -> Option<&Histogram<u64>> {
        self.0[kind as usize].as_deref()
    }

    /// Adds others.
    pub fn add(&mut self, others: &Self) {
        for (ours, theirs) in self.0.iter_mut().zip(&others.0) {
            if let Some(theirs) = theirs {
                let ours = ours.get_or_insert_with(|| Box::new(new_histogram()));
                ours.add(theirs.as_ref()).expect("all have the same bounds");
            }
        }
    }
}

/// Requests, and what they carried.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Count {
    /// Requests that were answered (with acks=0: sent).
    pub requests: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of record batches in them.
    pub bytes: u64,
}

impl Count {
    /// One more request.
    pub fn add(&mut self, records: u64, bytes: u64) {
        self.requests += 1;
        self.records += records;
        self.bytes += bytes;
    }

    /// Adds others.
    pub fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

/// What one thread counted in about a second.
#[derive(Clone)]
pub struct Interval {
    /// Its beginning and its end.
    pub from: Moment,
    /// Its end.
    pub until: Moment,
    /// What was produced.
    pub produced: Count,
    /// What was consumed.
    pub consumed: Count,
    /// Latencies of requests that fell due in the measured window.
    pub latencies: Latencies,
    /// What the thread had of its core.
    pub times: ThreadTimes,
}

impl Interval {
    /// An empty one that begins now.
    pub fn begin(from: Moment) -> Self {
        Self {
            from,
            until: from,
            produced: Count::default(),
            consumed: Count::default(),
            latencies: Latencies::default(),
            times: ThreadTimes::default(),
        }
    }
}

/// What all threads of a run share.
#[derive(Default)]
pub struct Shared {
    /// The run is to end now.
    pub is_stopped: AtomicBool,
    /// Bytes of batches that were sent.
    pub bytes_sent: AtomicU64,
    /// When those were all that the run may send, in nanoseconds; 0 until then.
    pub spent_at: AtomicU64,
    /// Requests that are not answered, and producers that have not sent all that fell due.
    pub open: AtomicI64,
    /// Stamped batches of the window that were acknowledged.
    pub stamped_acked: AtomicU64,
    /// Stamped batches of the window that consumers have.
    pub stamped_received: AtomicU64,
}

/// What the tasks of one thread count.
pub struct Tally {
    /// Nothing is counted before.
    pub counts_from: Moment,
    ends: Cell<Moment>,
    /// What has not been sent by now will not be.
    is_abandoned: Cell<bool>,
    settles_at: Moment,
    last_answer: Cell<Moment>,
    current: RefCell<Interval>,
    thread_times: Cell<ThreadTimes>,
    failure: RefCell<Option<BenchError>>,
    bytes_max: u64,
    is_in_background: bool,
    /// What it shares with the other threads.
    pub shared: Arc<Shared>,
}

impl Tally {
    /// Begins to count at `start`, with the warm-up.
    pub fn new(
        start: Moment,
        counts_from: Moment,
        ends: Moment,
        bytes_max: u64,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            counts_from,
            ends: Cell::new(ends),
            is_abandoned: Cell::new(false),
            settles_at: start.after(SETTLING_TIME).max(counts_from),
            last_answer: Cell::new(start),
            current: RefCell::new(Interval::begin(start)),
            thread_times: Cell::new(ThreadTimes::now()),
            failure: RefCell::new(None),
            bytes_max,
            is_in_background: false,
            shared,
        }
    }

    /// Of a thread that gives way to others: that it waits for its core tells nothing of the machine.
    pub fn in_background(self) -> Self {
        Self { is_in_background: true, ..self }
    }

    /// When the measured window ends.
    pub fn ends(&self) -> Moment {
        self.ends.get()
    }

    /// Whether all bytes are sent that the run may send.
    pub fn is_spent(&self) -> bool {
        self.shared.bytes_sent.load(Relaxed) >= self.bytes_max
    }

    /// The window ends now, if it has not yet.
    pub fn end_now(&self) {
        self.ends.set(self.ends.get().min(Moment::now()));
    }

    /// What has fallen due and was not sent will not be sent.
    pub fn abandon(&self) {
        self.is_abandoned.set(true);
    }

    /// Whether [`Tally::abandon`] was called.
    pub fn is_abandoned(&self) -> bool {
        self.is_abandoned.get()
    }

    /// Whether a topic that was made for the run may still be without a leader.
    pub fn is_settling(&self) -> bool {
        Moment::now() < self.settles_at
    }

    /// Whether a latency that began then counts.
    pub fn is_measured(&self, began: Moment) -> bool {
        began >= self.counts_from && began < self.ends.get()
    }

    /// When all was sent that the run may send, if it was.
    pub fn spent_at(&self) -> Option<Moment> {
        Some(self.shared.spent_at.load(Relaxed)).filter(|nanos| *nanos > 0).map(Moment::from_nanos)
    }

    /// So many bytes of batches are on their way.
    pub fn sent(&self, bytes: u64) {
        let before = self.shared.bytes_sent.fetch_add(bytes, Relaxed);
        if (before..before + bytes).contains(&self.bytes_max.saturating_sub(1)) {
            self.shared.spent_at.store(Moment::now().nanos(), Relaxed);
        }
    }

    /// A Produce request was answered, or sent if there is no answer to come.
    pub fn produced(&self, records: u64, bytes: u64) {
        self.last_answer.set(Moment::now());
        self.current.borrow_mut().produced.add(records, bytes);
    }

    /// A Fetch request was answered.
    pub fn consumed(&self, records: u64, bytes: u64) {
        self.last_answer.set(Moment::now());
        self.current.borrow_mut().consumed.add(records, bytes);
    }

    /// A latency, of something that fell due at `began`; it counts if that was in the window.
    pub fn latency(&self, kind: Kind, began: Moment, nanos: u64) {
        if self.is_measured(began) {
            self.current.borrow_mut().latencies.record(kind, nanos);
        }
    }

    /// How long no answer has come.
    pub fn silence(&self) -> Duration {
        Moment::now().since(self.last_answer.get())
    }

    /// Ends the interval and begins another.
    pub fn take_interval(&self) -> Interval {
        let now = Moment::now();
        let mut interval = self.current.replace(Interval::begin(now));
        interval.until = now;
        let times = ThreadTimes::now();
        interval.times = times.since(self.thread_times.replace(times));
        if self.is_in_background {
            interval.times.waited = Duration::ZERO;
        }
        interval
    }

    /// The run cannot go on.
    pub fn fail(&self, error: BenchError) {
        self.failure.borrow_mut().get_or_insert(error);
        self.shared.is_stopped.store(true, Relaxed);
        self.end_now();
    }

    /// Why the run could not go on.
    pub fn take_failure(&self) -> Option<BenchError> {
        self.failure.borrow_mut().take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_window_counts_for_latencies() {
        let start = Moment::now();
        let counts_from = start.after(Duration::from_secs(1));
        let ends = counts_from.after(Duration::from_secs(1));
        let tally = Tally::new(start, counts_from, ends, u64::MAX, Arc::default());
        tally.latency(Kind::Ack, start, 5_000);
        tally.latency(Kind::Ack, counts_from, 6_000);
        tally.latency(Kind::Ack, ends, 7_000);
        let interval = tally.take_interval();
        let acks = interval.latencies.of(Kind::Ack).expect("one was recorded");
        assert_eq!((acks.len(), acks.max() / 1000), (1, 6));
        assert!(interval.latencies.of(Kind::Slip).is_none());
        assert!(tally.take_interval().latencies.of(Kind::Ack).is_none());
    }

    #[test]
    fn the_moment_is_noted_at_which_all_was_sent() {
        let start = Moment::now();
        let tally = Tally::new(start, start, start.after(Duration::from_secs(100)), 10, Arc::default());
        tally.sent(4);
        assert!(tally.spent_at().is_none() && !tally.is_spent());
        tally.sent(6);
        let spent_at = tally.spent_at().expect("ten were sent");
        assert!(tally.is_spent() && start <= spent_at);
        tally.sent(4);
        assert_eq!(tally.spent_at(), Some(spent_at));
    }

    #[test]
    fn the_first_failure_ends_the_window() {
        let start = Moment::now();
        let ends = start.after(Duration::from_secs(100));
        let tally = Tally::new(start, start, ends, u64::MAX, Arc::default());
        assert_eq!(tally.ends(), ends);
        tally.fail(BenchError::Broker("one".to_owned()));
        tally.fail(BenchError::Broker("two".to_owned()));
        assert!(tally.ends() <= Moment::now());
        assert_eq!(tally.take_failure().expect("it failed").to_string(), "one");
    }
}
