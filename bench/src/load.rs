//! The load: connections on one thread, each with its requests in flight, for a stated time.
//!
//! A closed loop: a connection sends its next request when one of its `depth` is answered. So a broker that
//! stalls is asked less, and the percentiles of a closed loop say nothing about users who do not wait.

mod connection;
mod fetch;
mod produce;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use thiserror::Error;

use crate::process;

/// Latencies are kept to three digits, up to a minute.
const LATENCY_MAX_US: u64 = 60_000_000;

/// How long a broker has to take over a new topic.
const SETTLING_TIME: Duration = Duration::from_secs(10);

/// Why there is no result.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The system refused.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A message could not be coded.
    #[error("a message could not be coded: {0}")]
    Codec(String),
    /// The broker answered with an error, or not at all.
    #[error("{0}")]
    Broker(String),
}

impl BenchError {
    /// The system refused to do `what`.
    pub fn io(what: &'static str, source: io::Error) -> Self {
        Self::Io { what, source }
    }

    /// A message could not be coded.
    pub fn codec(error: impl std::fmt::Display) -> Self {
        Self::Codec(format!("{error:#}"))
    }
}

/// One run.
pub struct Load {
    /// The broker.
    pub address: SocketAddr,
    /// The topic.
    pub topic: String,
    /// How many partitions the topic has.
    pub partitions: i32,
    /// Connections.
    pub connections: usize,
    /// How long nothing is counted.
    pub warmup: Duration,
    /// How long is counted.
    pub duration: Duration,
    /// The broker's process, if it is on this machine.
    pub pid: Option<u32>,
    /// After so many bytes, counted or not, the run is over.
    pub bytes_max: u64,
    /// What the connections do.
    pub work: Work,
}

/// What the connections do.
pub enum Work {
    /// They produce.
    Produce {
        /// Bytes of a record's value.
        record_bytes: usize,
        /// Records in a batch.
        records_per_batch: usize,
        /// Batches in a request, each for another partition.
        batches_per_request: usize,
        /// Requests in flight on each connection.
        depth: usize,
        /// 0, 1 or −1.
        acks: i16,
    },
    /// They fetch.
    Fetch {
        /// The most bytes of one answer.
        max_bytes: i32,
        /// Wait at the end in the place of starting over.
        tail: bool,
    },
}

/// What came of it.
pub struct Outcome {
    /// How long was counted.
    pub elapsed: Duration,
    /// Requests that were answered (with acks=0: sent).
    pub requests: u64,
    /// Bytes of record batches that went through.
    pub bytes: u64,
    /// From sending a request to having its whole answer, in µs.
    pub latency: Histogram<u64>,
    /// CPU seconds of the broker.
    pub broker_cpu_seconds: Option<f64>,
    /// CPU seconds of this process. If it comes near the time that was counted, the load was the limit.
    pub client_cpu_seconds: f64,
}

/// What the connections of one run share.
struct Tally {
    /// Nothing is counted before.
    counts_from: Instant,
    /// Nothing is sent after.
    ends: Instant,
    /// Until then a broker may not know yet that it leads the topic.
    settles_at: Instant,
    requests: Cell<u64>,
    bytes: Cell<u64>,
    /// Bytes since the start, those of the warm-up included.
    bytes_sent: Cell<u64>,
    bytes_max: u64,
    latency: RefCell<Histogram<u64>>,
}

impl Tally {
    fn is_over(&self) -> bool {
        Instant::now() >= self.ends || self.bytes_sent.get() >= self.bytes_max
    }

    /// Whether a topic that was made for the run may still be without a leader.
    fn is_settling(&self) -> bool {
        Instant::now() < self.settles_at
    }

    /// One request, sent then and answered now, that carried `bytes` of batches.
    fn count(&self, sent: Instant, bytes: u64) {
        let now = Instant::now();
        self.bytes_sent.set(self.bytes_sent.get() + bytes);
        if now < self.counts_from || now > self.ends {
            return;
        }
        self.requests.set(self.requests.get() + 1);
        self.bytes.set(self.bytes.get() + bytes);
        let latency_us = (now - sent).as_micros() as u64;
        self.latency.borrow_mut().saturating_record(latency_us.max(1));
    }
}

/// Runs the load to its end.
pub fn run(load: &Load) -> Result<Outcome, BenchError> {
    let started = Instant::now();
    let counts_from = started + load.warmup;
    let latency = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are in order");
    let tally = Rc::new(Tally {
        counts_from,
        ends: counts_from + load.duration,
        settles_at: started + load.warmup.max(SETTLING_TIME),
        requests: Cell::new(0),
        bytes: Cell::new(0),
        bytes_sent: Cell::new(0),
        bytes_max: load.bytes_max,
        latency: RefCell::new(latency),
    });
    let meter = Meter::start(load, counts_from);
    tokio_uring::start(connections(load, &tally))?;
    let elapsed = Instant::now().min(tally.ends).saturating_duration_since(counts_from);
    let (broker_cpu_seconds, client_cpu_seconds) = meter.finish()?;
    let latency = tally.latency.borrow().clone();
    Ok(Outcome {
        elapsed,
        requests: tally.requests.get(),
        bytes: tally.bytes.get(),
        latency,
        broker_cpu_seconds,
        client_cpu_seconds,
    })
}

async fn connections(load: &Load, tally: &Rc<Tally>) -> Result<(), BenchError> {
    let mut tasks = Vec::with_capacity(load.connections);
    for index in 0..load.connections {
        let task = match load.work {
            Work::Produce { .. } => produce::prepare(load, index)?.spawn(load.address, tally.clone()),
            Work::Fetch { .. } => fetch::prepare(load, index).spawn(load.address, tally.clone()),
        };
        tasks.push(task);
    }
    for task in tasks {
        task.await.map_err(|error| BenchError::Broker(format!("a connection died: {error}")))??;
    }
    Ok(())
}

/// Reads CPU times at the two ends of what is counted, on a thread of its own that waits in between.
struct Meter {
    /// Dropped when the load is over: the thread then ends at once.
    running: Sender<()>,
    thread: JoinHandle<Result<(Option<f64>, f64), BenchError>>,
}

impl Meter {
    fn start(load: &Load, counts_from: Instant) -> Self {
        let (pid, ends) = (load.pid, counts_from + load.duration);
        let (running, stopped) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let _ = stopped.recv_timeout(counts_from.saturating_duration_since(Instant::now()));
            let before = cpu_times(pid)?;
            let _ = stopped.recv_timeout(ends.saturating_duration_since(Instant::now()));
            let after = cpu_times(pid)?;
            let broker = after.0.zip(before.0).map(|(after, before)| after - before);
            Ok((broker, after.1 - before.1))
        });
        Self { running, thread }
    }

    fn finish(self) -> Result<(Option<f64>, f64), BenchError> {
        drop(self.running);
        self.thread.join().expect("the meter does not panic")
    }
}

fn cpu_times(pid: Option<u32>) -> Result<(Option<f64>, f64), BenchError> {
    Ok((pid.map(process::cpu_seconds).transpose()?, process::cpu_seconds(std::process::id())?))
}
