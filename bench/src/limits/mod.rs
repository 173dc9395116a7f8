//! What the machine can do, without a broker: the limits that a broker's figures are read against.
//!
//! None of it is the broker's code: sockets by tokio-uring, the disk by glommio's `DmaFile`, checksums by crc32c,
//! cores by `affinity`. The side that stands for the broker is pinned to the server's core, the other to the
//! load's, and only the first one's CPU time is told.

mod disk;
mod network;
mod pipeline;
mod work;

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::console::{Progress, note};
use crate::error::BenchError;
use crate::measure::device;
use crate::measure::environment::Environment;
use crate::report::text::number;
use crate::result::LatencySummary;

/// The name of the result's format.
pub const FORMAT: &str = "flumen-bench-limits-1";
/// Room for the files that are written and read.
const FILE_BYTES: u64 = 512 << 20;

/// What is measured, where, and for how long.
#[derive(Args, Clone, Debug)]
pub struct LimitSettings {
    /// A folder on the disk that is measured. What is written there is removed.
    #[arg(long, default_value = ".")]
    pub data: PathBuf,
    /// The core of the side that stands for the broker.
    #[arg(long, default_value_t = 0)]
    pub broker_core: usize,
    /// The core of the other side.
    #[arg(long, default_value_t = 1)]
    pub load_core: usize,
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Only these, such as L1,L4.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// A folder for limits.json.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// All limits of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LimitsResult {
    /// [`FORMAT`].
    pub format: String,
    /// Where.
    pub environment: Environment,
    /// What was measured.
    pub limits: Vec<Limit>,
}

/// One limit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Limit {
    /// L1 to L8.
    pub id: String,
    /// What exactly.
    pub what: String,
    /// How much of it in a second.
    pub value: f64,
    /// Of what: `MB/s` or `requests/s`.
    pub unit: String,
    /// CPU seconds of the broker's side for 10⁹ bytes.
    pub cpu_seconds_per_gb: Option<f64>,
    /// CPU microseconds of the broker's side for one request.
    pub cpu_us_per_request: Option<f64>,
    /// How long each took.
    pub latency: Option<LatencySummary>,
}

impl LimitsResult {
    /// The greatest value among those of an id whose description contains `what`.
    pub fn best(&self, id: &str, what: &str) -> Option<&Limit> {
        let candidates = self.limits.iter().filter(|limit| limit.id == id && limit.what.contains(what));
        candidates.max_by(|one, other| one.value.total_cmp(&other.value))
    }

    /// As lines of text.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", self.environment.summary());
        for limit in &self.limits {
            let cost = limit.cpu_seconds_per_gb.map(|cost| format!("{} CPU-s/GB", number(cost)));
            let cost =
                cost.or(limit.cpu_us_per_request.map(|cost| format!("{} CPU-µs/request", number(cost))));
            let latency = limit.latency.as_ref().map_or(String::new(), |latency| {
                let at = |us: Option<f64>| us.map_or("–".to_owned(), number);
                format!(
                    "   p50 {} p99 {} p99.9 {} max {} µs",
                    at(latency.p50_us),
                    at(latency.p99_us),
                    at(latency.p99_9_us),
                    number(latency.max_us)
                )
            });
            out += &format!(
                "{:<4}{:<58}{:>12} {:<10} {:>20}{latency}\n",
                limit.id,
                limit.what,
                number(limit.value),
                limit.unit,
                cost.unwrap_or_default()
            );
        }
        out
    }
}

/// Measures them, one after the other.
pub fn run(settings: &LimitSettings, progress: &Progress) -> Result<LimitsResult, BenchError> {
    if !(settings.seconds.is_finite() && settings.seconds > 0.0) {
        return Err(BenchError::Refused(format!("--seconds {}: want more than no time", settings.seconds)));
    }
    for core in [settings.broker_core, settings.load_core] {
        work::on_core(core, || ())?;
    }
    device::expect_room(&settings.data, 2 * FILE_BYTES)?;
    let mut result = LimitsResult {
        format: FORMAT.to_owned(),
        environment: Environment::observe(Some(&settings.data)),
        limits: Vec::new(),
    };
    type Measure = fn(&LimitSettings) -> Result<Vec<Limit>, BenchError>;
    let all: [(&str, Measure); 8] = [
        ("L1", network::receive),
        ("L2", work::checksum),
        ("L3", disk::write),
        ("L4", disk::commit),
        ("L5", disk::read),
        ("L6", network::sendfile),
        ("L7", network::echo),
        ("L8", pipeline::receive_and_write),
    ];
    if let Some(unknown) = settings.only.iter().find(|only| all.iter().all(|(id, _)| id != only)) {
        return Err(BenchError::Refused(format!("--only {unknown}: there are L1 to L8")));
    }
    for (id, measure) in all {
        if settings.only.is_empty() || settings.only.iter().any(|only| only == id) {
            progress.show(&format!("{id} …"));
            match measure(settings) {
                Ok(limits) => result.limits.extend(limits),
                // A file system without O_DIRECT, say: the others can still be measured.
                Err(error) => note(&format!("{id}: {error}")),
            }
        }
    }
    progress.finish();
    if let Some(folder) = &settings.out {
        let wrong = |source| BenchError::io(format!("write into {}", folder.display()), source);
        std::fs::create_dir_all(folder).map_err(wrong)?;
        let json = serde_json::to_string_pretty(&result).map_err(BenchError::codec)?;
        std::fs::write(folder.join("limits.json"), json).map_err(wrong)?;
    }
    Ok(result)
}
