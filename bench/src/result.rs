//! The result of a load, as it is written and read: one JSON object.
//!
//! Latencies are microseconds, bytes those of record batches, a GB is 10⁹ bytes, a share is of one core.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::hlog;
use crate::load::settings::LoadSettings;
use crate::load::tally::Kind;
use crate::measure::environment::Environment;

/// The name of this format.
pub const FORMAT: &str = "flumen-bench-load-1";

/// A percentile is told if at least so many samples lie beyond it.
const SAMPLES_BEYOND: f64 = 10.0;

/// What came of a load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LoadResult {
    /// [`FORMAT`].
    pub format: String,
    /// The run's name.
    pub label: String,
    /// Which target it was, if the harness started it.
    pub target: String,
    /// When the measured window began, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// Where.
    pub environment: Environment,
    /// What was asked for.
    pub settings: LoadSettings,
    /// How long was counted.
    pub seconds: f64,
    /// Why it ended: `time`, `bytes`, `interrupted`, or an error.
    pub ended: String,
    /// What was produced.
    pub produced: Option<Flow>,
    /// What was consumed.
    pub consumed: Option<Flow>,
    /// In an open loop: the rate.
    pub rate: Option<RateVerdict>,
    /// From the intended send time to the acknowledgement.
    pub ack: Option<LatencySummary>,
    /// From handing the request to the socket to the acknowledgement; in a closed loop that is `ack`.
    pub service: Option<LatencySummary>,
    /// From the intended send time to handing the request to the socket.
    pub send_slip: Option<LatencySummary>,
    /// From the intended send time until a consumer has the record.
    pub end_to_end: Option<LatencySummary>,
    /// Records that were acknowledged in the warm-up and behind the window.
    pub uncounted_records: u64,
    /// Requests that were sent and never answered.
    pub unanswered: u64,
    /// Requests that fell due and were never sent.
    pub unsent: u64,
    /// Batches that were acknowledged and not consumed in time, as far as consumers of this run were to.
    pub undelivered: u64,
    /// What the load itself cost.
    pub client: ClientCost,
    /// What the target cost.
    pub broker: Option<BrokerCost>,
    /// What the target's device did. Others may use it, too.
    pub device: Option<DeviceCost>,
    /// Second by second.
    pub series: Vec<Second>,
    /// What a reader should know before believing the figures.
    pub warnings: Vec<String>,
}

/// Requests in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Requests that were answered (with acks=0: sent).
    pub requests: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of batches in them.
    pub bytes: u64,
    /// Requests a second.
    pub requests_per_second: f64,
    /// Records a second.
    pub records_per_second: f64,
    /// 10⁶ bytes a second.
    pub megabytes_per_second: f64,
}

/// Whether an open loop's rate was held.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateVerdict {
    /// Records a second that were asked for.
    pub asked: f64,
    /// Records a second that were acknowledged.
    pub reached: f64,
    /// At least 98 % of what was asked, and nothing left unsent.
    pub is_held: bool,
}

/// The percentiles of one kind of latency, in microseconds. One without enough samples beyond it is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    pub samples: u64,
    pub min_us: f64,
    pub mean_us: f64,
    pub p50_us: Option<f64>,
    pub p90_us: Option<f64>,
    pub p95_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub p99_9_us: Option<f64>,
    pub p99_99_us: Option<f64>,
    pub max_us: f64,
    /// All of it: HdrHistogram V2, compressed, in base64; nanoseconds.
    pub histogram: String,
}

/// What the load itself cost, and whether it was the limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClientCost {
    /// CPU seconds of the load's threads in the window.
    pub cpu_seconds: f64,
    /// The share of its core that the busiest thread used.
    pub busiest_thread_share: f64,
    /// The share of the time that a thread was ready and had to wait for a core, at worst.
    pub waiting_share: f64,
    /// Whether the load was the limit, or near it.
    pub is_saturated: bool,
}

/// What the target's process cost in the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BrokerCost {
    /// The process.
    pub pid: u32,
    /// CPU seconds, io workers included.
    pub cpu_seconds: f64,
    /// Cores it kept busy.
    pub cores: f64,
    /// CPU seconds for a GB in and out together.
    pub cpu_seconds_per_gb: Option<f64>,
    /// CPU microseconds for a request of either direction.
    pub cpu_us_per_request: Option<f64>,
    /// Resident memory at most.
    pub rss_bytes_max: u64,
    /// Bytes it caused to be read from storage.
    pub read_bytes: u64,
    /// Bytes it caused to be written to storage.
    pub write_bytes: u64,
}

/// What a device did in the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceCost {
    /// Its name.
    pub name: String,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Bytes written for each byte of batches that was produced.
    pub written_per_produced: Option<f64>,
    /// Write requests a second.
    pub writes_per_second: f64,
    /// Flushes a second.
    pub flushes_per_second: f64,
}

/// One second of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// When it ended, in seconds since the window began.
    pub at: f64,
    /// Records a second that were acknowledged.
    pub records_per_second: f64,
    /// 10⁶ bytes a second that were acknowledged.
    pub produced_megabytes_per_second: f64,
    /// 10⁶ bytes a second that were consumed.
    pub consumed_megabytes_per_second: f64,
    /// Acknowledgements in this second.
    pub ack_p50_us: f64,
    /// The same.
    pub ack_p99_us: f64,
    /// The same.
    pub ack_max_us: f64,
    /// Deliveries in this second.
    pub end_to_end_p99_us: f64,
    /// Cores that the target kept busy.
    pub broker_cores: f64,
    /// Its resident memory.
    pub broker_rss_bytes: u64,
    /// The busiest thread of the load.
    pub client_share: f64,
    /// Bytes that the device wrote.
    pub device_written_bytes: u64,
    /// What a write of the device took on average, in milliseconds.
    #[serde(default)]
    pub device_write_ms: f64,
    /// What a flush of the device took on average, in milliseconds.
    #[serde(default)]
    pub device_flush_ms: f64,
}

impl LatencySummary {
    /// Of a histogram in nanoseconds; `None` if it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let at = |percentile| percentile_us(histogram, percentile);
        Some(Self {
            samples: histogram.len(),
            min_us: histogram.min() as f64 / 1e3,
            mean_us: histogram.mean() / 1e3,
            p50_us: at(50.0),
            p90_us: at(90.0),
            p95_us: at(95.0),
            p99_us: at(99.0),
            p99_9_us: at(99.9),
            p99_99_us: at(99.99),
            max_us: histogram.max() as f64 / 1e3,
            histogram: hlog::encode(histogram),
        })
    }

    /// All of it again.
    pub fn histogram(&self) -> Result<Histogram<u64>, BenchError> {
        hlog::decode(&self.histogram)
    }
}

/// A percentile of a histogram in nanoseconds, in microseconds; `None` where fewer than ten samples lie beyond.
pub fn percentile_us(histogram: &Histogram<u64>, percentile: f64) -> Option<f64> {
    let beyond = histogram.len() as f64 * (1.0 - percentile / 100.0);
    // 0.1 % of 10,000 is 10, whatever floating point makes of it.
    (beyond + 1e-6 >= SAMPLES_BEYOND).then(|| histogram.value_at_percentile(percentile) as f64 / 1e3)
}

impl LoadResult {
    /// Latencies by kind.
    pub fn latency(&self, kind: Kind) -> Option<&LatencySummary> {
        match kind {
            Kind::Ack => self.ack.as_ref(),
            Kind::Service => self.service.as_ref(),
            Kind::Slip => self.send_slip.as_ref(),
            Kind::EndToEnd => self.end_to_end.as_ref(),
        }
    }

    /// Whether something went wrong, so that what is there is a part.
    pub fn failure(&self) -> Option<&str> {
        (!matches!(self.ended.as_str(), "time" | "bytes" | "interrupted")).then_some(&self.ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_without_samples_beyond_it_is_left_out() {
        let mut histogram = crate::load::tally::new_histogram();
        for value in 1..=1000_u64 {
            histogram.record(value * 1000).expect("it is in bounds");
        }
        let summary = LatencySummary::of(&histogram).expect("it has samples");
        assert!(summary.p99_us.is_some_and(|value| (989.0..992.0).contains(&value)), "{summary:?}");
        assert_eq!((summary.p99_9_us, summary.p99_99_us), (None, None));
        for _ in 0..9000 {
            histogram.record(5_000).expect("it is in bounds");
        }
        assert!(LatencySummary::of(&histogram).expect("it has samples").p99_9_us.is_some());
        assert!(LatencySummary::of(&crate::load::tally::new_histogram()).is_none());
    }
}
