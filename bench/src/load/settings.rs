//! What a load is asked to be: the options, and the check that they make sense.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::protocol::admin::WantedTopic;
use crate::protocol::batches::{BatchShape, Codec, STAMP_BYTES};
use crate::protocol::requests::FetchShape;

/// No thread of this program sends more requests than that.
const REQUESTS_PER_SECOND_MAX: f64 = 5e6;
/// No machine's loopback carries more.
const BYTES_PER_SECOND_MAX: f64 = 50e9;

/// The topic's setting for acknowledgements in memory: Kafka's default.
pub const IN_MEMORY: &str = "flush.messages=9223372036854775807";
/// For those after the device's flush: Flumen's default.
pub const DURABLE: &str = "flush.messages=1";

/// The options of a load.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadSettings {
    /// Addresses of the target; the first that answers is asked for the others.
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub bootstrap: String,
    /// The topic; it is created where it does not exist.
    #[arg(long, default_value = "flumen-bench")]
    pub topic: String,
    /// Partitions of the topic, if it is created.
    #[arg(long, default_value_t = 8)]
    pub partitions: i32,
    /// Replicas of the topic, if it is created; -1 leaves it to the target.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    pub replication: i16,
    /// Settings of the topic, if it is created: key=value.
    #[arg(long = "config", value_name = "KEY=VALUE")]
    pub configs: Vec<String>,
    /// Delete the topic when the run is over.
    #[arg(long)]
    pub delete_topic: bool,

    /// Connections that produce.
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Open loop: so many records a second (50000), or bytes (100MB), whether answers come or not. Without it
    /// a closed loop: each connection sends when an answer has come.
    #[arg(long)]
    pub rate: Option<Rate>,
    /// Requests in flight on each connection [default: 1 in a closed loop, 5 in an open one].
    #[arg(long)]
    pub depth: Option<usize>,
    /// Bytes of a record's value; random, so that nothing compresses.
    #[arg(long, default_value_t = 1024)]
    pub record_bytes: usize,
    /// Records in a batch. All of a batch are due at the same time.
    #[arg(long, default_value_t = 1)]
    pub batch_records: usize,
    /// Batches in a request, each for another partition.
    #[arg(long, default_value_t = 1)]
    pub request_batches: usize,
    /// Different keys; without it records have none.
    #[arg(long)]
    pub keys: Option<u64>,
    /// The share of each value that is zeros.
    #[arg(long, default_value_t = 0.0)]
    pub compressible: f64,
    /// How batches are compressed. They are compressed once, not for every sending.
    #[arg(long, value_enum, default_value_t = Codec::None)]
    pub codec: Codec,
    /// The share of the producing connections, 0 to 1, whose one partition lives on another core of the target than
    /// they do; the others' live on theirs. For targets with a thread for each core, which nobody else uses now.
    #[arg(long)]
    pub wrong_core: Option<f64>,
    /// 0, 1, or -1 (all).
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    pub acks: i16,
    /// Producers are idempotent: they have an id, and number their batches.
    #[arg(long)]
    pub idempotent: bool,

    /// Connections that fetch, in each group; the partitions are shared out among them.
    #[arg(long, default_value_t = 0)]
    pub consumers: usize,
    /// Groups of consumers; each group reads everything.
    #[arg(long, default_value_t = 1)]
    pub groups: usize,
    /// Where consumers begin.
    #[arg(long, value_enum, default_value_t = StartAt::Latest)]
    pub from: StartAt,
    /// Consumers start over at the end, in the place of waiting for more.
    #[arg(long)]
    pub again: bool,
    /// The most bytes of one answer to a consumer.
    #[arg(long, default_value_t = 1 << 20)]
    pub fetch_bytes: i32,
    /// How long the target may wait for a consumer's first byte, in milliseconds.
    #[arg(long, default_value_t = 500)]
    pub fetch_wait_ms: i32,
    /// Connections that ask for much and never read it.
    #[arg(long, default_value_t = 0)]
    pub stalled: usize,
    /// Threads of their own for consumers, of the lowest priority: reading much does not make producers late, on the
    /// same core either. With 0 they share those of the producers.
    #[arg(long, default_value_t = 0)]
    pub consumer_threads: usize,

    /// Seconds before anything is counted.
    #[arg(long, default_value_t = 3.0)]
    pub warmup: f64,
    /// Seconds that are counted.
    #[arg(long, default_value_t = 10.0)]
    pub duration: f64,
    /// The run ends earlier when so many bytes of batches are sent, counted or not.
    #[arg(long)]
    pub bytes_max: Option<u64>,
    /// Seconds without any answer after which the run is over.
    #[arg(long, default_value_t = 30.0)]
    pub patience: f64,
    /// Measure also at a rate that the warm-up did not reach.
    #[arg(long)]
    pub overload: bool,

    /// Threads of the load.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Cores for the load's threads, in turn: 1 or 1,2,3.
    #[arg(long, value_delimiter = ',')]
    pub cores: Vec<usize>,
    /// The target's process, whose cost is then reported; found by its port if it is on this machine.
    #[arg(long)]
    pub pid: Option<u32>,
    /// Where the target's data is, if on this machine: for its device's writes, and the room there is.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// A name for the run.
    #[arg(long, default_value = "load")]
    pub label: String,
    /// A folder for LABEL.json and LABEL.hlog.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Other random records.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Default for LoadSettings {
    fn default() -> Self {
        use clap::FromArgMatches;
        let command = LoadSettings::augment_args(clap::Command::new("load"));
        let matches = command.get_matches_from(["load"]);
        LoadSettings::from_arg_matches(&matches).expect("every option has a default")
    }
}

/// Where consumers begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartAt {
    /// At the first record that is there.
    Earliest,
    /// Behind the last record that is there.
    Latest,
}

/// How much an open loop sends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rate {
    /// Records a second.
    Records(f64),
    /// Bytes of values a second.
    Bytes(f64),
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| {
            let value: f64 = digits.replace('_', "").parse().map_err(|_| format!("{text} is no rate"))?;
            if value.is_finite() && value > 0.0 {
                Ok(value)
            } else {
                Err(format!("{text}: a rate is above zero"))
            }
        };
        match text.strip_suffix("MB") {
            Some(digits) => Ok(Self::Bytes(number(digits)? * 1e6)),
            None => Ok(Self::Records(number(text)?)),
        }
    }
}

impl Rate {
    /// In records of this size.
    pub fn records_per_second(self, record_bytes: usize) -> f64 {
        match self {
            Self::Records(records) => records,
            Self::Bytes(bytes) => bytes / record_bytes.max(1) as f64,
        }
    }
}

impl LoadSettings {
    /// Refuses what makes no sense or cannot be.
    pub fn check(&self) -> Result<(), BenchError> {
        let refuse = |why: String| Err(BenchError::Refused(why));
        if self.connections == 0 && self.consumers == 0 {
            return refuse("no connections and no consumers: there is nothing to do".to_owned());
        }
        for (name, value) in [("--warmup", self.warmup), ("--patience", self.patience)] {
            if !value.is_finite() || value < 0.0 {
                return refuse(format!("{name} {value}: want seconds"));
            }
        }
        if !(self.duration.is_finite() && self.duration > 0.0) {
            return refuse(format!("--duration {}: want more than no time", self.duration));
        }
        if self.partitions < 1 || self.threads == 0 || self.batch_records == 0 || self.request_batches == 0 {
            return refuse("partitions, threads, records and batches are at least 1".to_owned());
        }
        if !matches!(self.acks, -1..=1) {
            return refuse(format!("--acks {}: want 0, 1 or -1", self.acks));
        }
        if self.idempotent && self.acks != -1 {
            return refuse("--idempotent wants --acks -1".to_owned());
        }
        if self.is_stamped() && self.record_bytes < STAMP_BYTES {
            return refuse(format!("end-to-end latency wants records of at least {STAMP_BYTES} bytes"));
        }
        for (name, share) in
            [("--compressible", self.compressible), ("--wrong-core", self.wrong_core.unwrap_or(0.0))]
        {
            if !(0.0..=1.0).contains(&share) {
                return refuse(format!("{name} {share}: want 0 to 1"));
            }
        }
        if self.wrong_core.is_some() && self.request_batches > 1 {
            return refuse("--wrong-core wants one partition a request".to_owned());
        }
        self.check_rate()
    }

    fn check_rate(&self) -> Result<(), BenchError> {
        let Some(requests) = self.requests_per_second() else { return Ok(()) };
        let refuse = |why: String| Err(BenchError::Refused(format!("an impossible rate: {why}")));
        if self.connections == 0 {
            return refuse("there are no connections that produce".to_owned());
        }
        if requests > REQUESTS_PER_SECOND_MAX * self.threads as f64 {
            return refuse(format!(
                "{requests:.0} requests a second; {} threads send at most {:.0}. Put more records into a batch",
                self.threads,
                REQUESTS_PER_SECOND_MAX * self.threads as f64
            ));
        }
        let bytes = requests * self.request_records() as f64 * self.record_bytes as f64;
        if bytes > BYTES_PER_SECOND_MAX {
            return refuse(format!("{:.1} GB a second", bytes / 1e9));
        }
        if requests * self.duration < 1.0 {
            return refuse(format!("not one request of {} records falls due", self.request_records()));
        }
        Ok(())
    }

    /// Requests a second of an open loop.
    pub fn requests_per_second(&self) -> Option<f64> {
        let records = self.rate?.records_per_second(self.record_bytes);
        Some(records / self.request_records() as f64)
    }

    /// Whether what is acknowledged is on the device, as far as the topic's settings say.
    pub fn is_durable(&self) -> bool {
        let flush = self.configs.iter().rev().find(|config| config.starts_with("flush.messages="));
        flush.is_some_and(|config| config == DURABLE)
    }

    /// Records in one request.
    pub fn request_records(&self) -> usize {
        self.batch_records * self.request_batches
    }

    /// Requests in flight on a connection.
    pub fn depth(&self) -> usize {
        self.depth.unwrap_or(if self.rate.is_some() { 5 } else { 1 }).max(1)
    }

    /// Whether batches carry their intended send time, for consumers of this or another process. A compressed
    /// batch cannot be patched.
    pub fn is_stamped(&self) -> bool {
        self.codec == Codec::None
            && (self.consumers > 0 || self.record_bytes >= STAMP_BYTES && self.rate.is_some())
    }

    /// The batches that producers send.
    pub fn batch_shape(&self) -> BatchShape {
        BatchShape {
            records: self.batch_records,
            record_bytes: self.record_bytes,
            keys: self.keys,
            codec: self.codec,
            compressible: self.compressible,
            is_stamped: self.is_stamped(),
        }
    }

    /// The requests that consumers send.
    pub fn fetch_shape(&self) -> FetchShape {
        let wait_ms = if self.again { 0 } else { self.fetch_wait_ms };
        FetchShape { max_bytes: self.fetch_bytes, wait_ms, min_bytes: 1 }
    }

    /// The topic.
    pub fn wanted_topic(&self) -> Result<WantedTopic, BenchError> {
        let pair = |config: &String| {
            let (key, value) = config
                .split_once('=')
                .ok_or_else(|| BenchError::Refused(format!("--config {config}: want key=value")))?;
            Ok((key.to_owned(), value.to_owned()))
        };
        Ok(WantedTopic {
            name: self.topic.clone(),
            partitions: self.partitions,
            replication: self.replication,
            configs: self.configs.iter().map(pair).collect::<Result<_, BenchError>>()?,
        })
    }

    /// How long nothing is counted.
    pub fn warmup_time(&self) -> Duration {
        Duration::from_secs_f64(self.warmup)
    }

    /// How long is counted.
    pub fn measured_time(&self) -> Duration {
        Duration::from_secs_f64(self.duration)
    }

    /// The most bytes of batches that the run may send, as far as that is known before.
    pub fn bytes_expected(&self) -> Option<u64> {
        let by_rate = self.rate.map(|rate| {
            let bytes = rate.records_per_second(self.record_bytes) * (self.record_bytes + 80) as f64;
            (bytes * (self.warmup + self.duration)) as u64
        });
        match (by_rate, self.bytes_max) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut LoadSettings)) -> String {
        let mut settings = LoadSettings::default();
        change(&mut settings);
        settings.check().expect_err("it is refused").to_string()
    }

    #[test]
    fn rates_are_records_or_bytes() {
        assert_eq!("50_000".parse(), Ok(Rate::Records(50_000.0)));
        assert_eq!("1.5MB".parse(), Ok(Rate::Bytes(1.5e6)));
        for wrong in ["0", "-1", "inf", "many", "MB"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(LoadSettings::default().check().is_ok());
        assert!(refusal(|load| load.rate = Some(Rate::Records(1e9))).contains("an impossible rate"));
        assert!(refusal(|load| load.rate = Some(Rate::Records(0.01))).contains("not one request"));
        let bulk = |load: &mut LoadSettings| {
            (load.rate, load.batch_records) = (Some(Rate::Bytes(1e12)), 1000);
        };
        assert!(refusal(bulk).contains("GB a second"));
        assert!(refusal(|load| load.connections = 0).contains("nothing to do"));
        assert!(refusal(|load| load.duration = 0.0).contains("--duration"));
        assert!(refusal(|load| load.acks = 2).contains("--acks"));
        assert!(refusal(|load| load.wrong_core = Some(50.0)).contains("--wrong-core"));
        assert!(
            refusal(|load| (load.wrong_core, load.request_batches) = (Some(0.5), 2))
                .contains("one partition")
        );
        assert!(refusal(|load| (load.consumers, load.record_bytes) = (1, 8)).contains("16 bytes"));
    }

    #[test]
    fn what_will_be_written_is_known_of_an_open_loop() {
        let mut settings = LoadSettings::default();
        assert_eq!(settings.bytes_expected(), None);
        settings.bytes_max = Some(1000);
        assert_eq!(settings.bytes_expected(), Some(1000));
        settings.bytes_max = None;
        settings.rate = Some(Rate::Records(1000.0));
        assert!(settings.bytes_expected().is_some_and(|bytes| bytes > 13 * 1000 * 1024));
    }
}
