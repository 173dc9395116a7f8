//! Targets that take turns under a load: started, pinned, warmed, measured, stopped and cleaned.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::Args;

use super::measure::Measure;
use super::target::{RunningTarget, TargetSpec};
use super::{Comparison, Sample};
use crate::console::{Progress, note};
use crate::error::BenchError;
use crate::load;
use crate::load::settings::{IN_MEMORY, LoadSettings};
use crate::measure::environment::Environment;
use crate::measure::process;
use crate::protocol::admin::Admin;
use crate::report::text::number;
use crate::result::LoadResult;

/// Targets have so long to come to rest between two runs, and to unlink what one has left.
const SETTLING_TIME_MAX: Duration = Duration::from_secs(30);
/// They rest if they use no more than this share of a core for so long; a JVM is never quite still.
const QUIET_TIME: Duration = Duration::from_millis(200);
const QUIET_SHARE: f64 = 0.15;

/// How long a JVM is warmed unless somebody says otherwise, in seconds.
pub const JVM_WARMUP: f64 = 20.0;

/// How many rounds there are unless somebody says otherwise.
const ROUNDS: usize = 5;

/// How targets take turns.
#[derive(Args, Clone, Debug)]
pub struct RoundSettings {
    /// The targets, in turn; the first is the one that is judged: `[NAME:]flumen[=BINARY]`, `apache-kafka[=FOLDER]`,
    /// command=COMMAND (with {port} and {data}), running=HOST:PORT.
    #[arg(long = "target")]
    pub targets: Vec<TargetSpec>,
    /// Rounds; in each of them every target is measured once [default: 5; scenarios with --quick: 1].
    #[arg(long)]
    pub rounds: Option<usize>,
    /// Cores of the targets.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    pub broker_cores: Vec<usize>,
    /// Cores of the load.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub load_cores: Vec<usize>,
    /// Seconds of load before a target that runs on a JVM is measured, 20 if nothing is said; others get a tenth.
    #[arg(long)]
    pub jvm_warmup: Option<f64>,
    /// Bytes of memory that each target may have, its page cache included: a cgroup for each, which takes root.
    #[arg(long)]
    pub memory_bytes: Option<u64>,
    /// Where the targets' data is to be. It is removed.
    #[arg(long)]
    pub work: Option<PathBuf>,
    /// A folder for the results.
    #[arg(long, default_value = "target/bench")]
    pub results: PathBuf,
}

impl RoundSettings {
    /// How many rounds there are.
    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(ROUNDS)
    }
}

/// A load on one of the targets, under a name of its own.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Its name.
    pub label: String,
    /// Which target.
    pub target: usize,
    /// The load.
    pub settings: LoadSettings,
}

/// Running targets.
pub struct Field {
    /// In their order.
    pub targets: Vec<RunningTarget>,
    /// How they take turns.
    pub settings: RoundSettings,
    /// Whether Ctrl-C was pressed.
    pub is_interrupted: Arc<AtomicBool>,
    folder: PathBuf,
    serial: usize,
}

impl Field {
    /// Starts and warms all of them.
    pub fn start(settings: &RoundSettings, is_interrupted: &Arc<AtomicBool>) -> Result<Self, BenchError> {
        let mut field = Self::new(settings, is_interrupted)?;
        for (nth, spec) in settings.targets.iter().enumerate() {
            let folder = field.folder_of(nth);
            let target = spec.start(&settings.broker_cores, &folder, settings.memory_bytes)?;
            note(&format!(
                "{} answers at {} after {:.1} s",
                target.name,
                target.bootstrap,
                target.first_answer.as_secs_f64()
            ));
            field.targets.push(target);
            let share = if spec.is_jvm() { 1.0 } else { 0.1 };
            field.warm(nth, settings.jvm_warmup.unwrap_or(JVM_WARMUP) * share)?;
        }
        Ok(field)
    }

    /// A folder, and no target yet.
    pub fn new(settings: &RoundSettings, is_interrupted: &Arc<AtomicBool>) -> Result<Self, BenchError> {
        if settings.targets.is_empty() {
            return Err(BenchError::Refused("no --target to measure".to_owned()));
        }
        if settings.rounds == Some(0) {
            return Err(BenchError::Refused("--rounds 0: nothing would be measured".to_owned()));
        }
        for target in &settings.targets {
            target.check()?;
        }
        let base = settings.work.clone().unwrap_or_else(|| PathBuf::from("/var/tmp"));
        Ok(Self {
            targets: Vec::new(),
            settings: settings.clone(),
            is_interrupted: is_interrupted.clone(),
            folder: own_folder(&base)?,
            serial: 0,
        })
    }

    /// Where a target's data and logs are.
    pub fn folder_of(&self, nth: usize) -> PathBuf {
        self.folder.join(nth.to_string())
    }

    /// A JVM compiles what is used often; nothing is measured before it has.
    fn warm(&mut self, nth: usize, seconds: f64) -> Result<(), BenchError> {
        if seconds <= 0.0 {
            return Ok(());
        }
        let warm = LoadSettings {
            connections: 8,
            depth: Some(2),
            record_bytes: 256,
            batch_records: 4,
            consumers: 2,
            warmup: 0.0,
            duration: seconds,
            bytes_max: Some(2 << 30),
            configs: vec![IN_MEMORY.to_owned()],
            label: "warm".to_owned(),
            ..LoadSettings::default()
        };
        self.load(nth, &warm).map(drop)
    }

    /// One load on one target, on a topic of its own.
    pub fn load(&mut self, nth: usize, settings: &LoadSettings) -> Result<LoadResult, BenchError> {
        let settings = self.on_target(nth, settings);
        let outcome = load::run(&settings, &Progress::new(true), &self.is_interrupted)?;
        self.settle();
        if let Some(failure) = outcome.result.failure() {
            return Err(BenchError::Broker(format!("{}: {failure}", self.targets[nth].name)));
        }
        let mut result = outcome.result;
        result.target = self.targets[nth].name.clone();
        Ok(result)
    }

    /// Records a second that a target takes in a closed loop of a load's requests, on another topic than theirs.
    pub fn highest_rate(&mut self, nth: usize, load: &LoadSettings, seconds: f64) -> Result<f64, BenchError> {
        let topic = LoadSettings::default().topic;
        let closed = LoadSettings { topic, rate: None, duration: seconds, ..load.clone() };
        let produced = self.load(nth, &closed)?.produced;
        Ok(produced.map_or(0.0, |flow| flow.records_per_second))
    }

    /// The settings with this target's address, a new topic unless it has one, and the load's cores.
    pub fn on_target(&mut self, nth: usize, settings: &LoadSettings) -> LoadSettings {
        self.serial += 1;
        let target = &self.targets[nth];
        let mut settings = LoadSettings {
            bootstrap: target.bootstrap.clone(),
            pid: target.pid,
            data: target.data.clone(),
            cores: self.settings.load_cores.clone(),
            threads: settings.threads.max(1),
            out: None,
            ..settings.clone()
        };
        if settings.topic == LoadSettings::default().topic {
            settings.topic = format!("bench-{}", self.serial);
            settings.delete_topic = true;
        }
        settings
    }

    /// What one run has left to be written or cleaned up must not fall into the next.
    fn settle(&self) {
        rustix::fs::sync();
        let began = Instant::now();
        while began.elapsed() < SETTLING_TIME_MAX && (!self.is_quiet() || self.is_deleting()) {}
    }

    fn is_deleting(&self) -> bool {
        self.targets.iter().any(RunningTarget::is_deleting)
    }

    /// Looks for a moment whether no target of this machine does anything.
    fn is_quiet(&self) -> bool {
        let cpu_seconds = || -> f64 {
            let pids = self.targets.iter().filter_map(|target| target.pid);
            pids.filter_map(|pid| Some(process::sample(pid).ok()?.cpu_seconds)).sum()
        };
        let before = cpu_seconds();
        std::thread::park_timeout(QUIET_TIME);
        cpu_seconds() - before <= QUIET_TIME.as_secs_f64() * QUIET_SHARE
    }

    /// The same load on each target in turn, for all rounds.
    pub fn compare(
        &mut self,
        name: &str,
        what: &str,
        settings: &LoadSettings,
        measures: &[Measure],
    ) -> Result<Comparison, BenchError> {
        let variant = |(nth, target): (usize, &RunningTarget)| Variant {
            label: target.name.clone(),
            target: nth,
            settings: settings.clone(),
        };
        let variants: Vec<_> = self.targets.iter().enumerate().map(variant).collect();
        self.compare_variants(name, what, &variants, measures)
    }

    /// These variants in turn, for all rounds. One that fails is noted, and leaves a gap.
    pub fn compare_variants(
        &mut self,
        name: &str,
        what: &str,
        variants: &[Variant],
        measures: &[Measure],
    ) -> Result<Comparison, BenchError> {
        let labels = variants.iter().map(|variant| variant.label.clone()).collect();
        let mut comparison = Comparison::new(name, what, Environment::observe(Some(&self.folder)), labels);
        let rounds = self.settings.rounds();
        for round in 0..rounds {
            for variant in variants {
                if self.is_interrupted.load(Relaxed) {
                    comparison.notes.push("interrupted: not all rounds were run".to_owned());
                    break;
                }
                match self.load(variant.target, &variant.settings) {
                    Ok(load) => {
                        let heading = format!("{name} {}/{rounds} {}", round + 1, variant.label);
                        note(&line(&heading, &load, measures));
                        let (target, figures) = (variant.label.clone(), BTreeMap::new());
                        comparison.samples.push(Sample { target, round, figures, load: Some(load) });
                    }
                    Err(error) => {
                        let told = format!("{} in round {}: {error}", variant.label, round + 1);
                        note(&format!("{name}: {told}"));
                        comparison.notes.push(told);
                    }
                }
            }
        }
        for measure in measures {
            comparison.add_measure(*measure);
        }
        comparison.take_warnings();
        Ok(comparison)
    }

    /// An empty comparison of these targets.
    pub fn comparison(&self, name: &str, what: &str) -> Comparison {
        let targets = self.settings.targets.iter().map(|target| target.name.clone()).collect();
        Comparison::new(name, what, Environment::observe(Some(&self.folder)), targets)
    }

    /// Fills the topic of a load on each target, by a closed loop in batches of 64 KiB.
    pub fn fill(&mut self, load: &LoadSettings, bytes: u64) -> Result<(), BenchError> {
        let fill = LoadSettings {
            topic: load.topic.clone(),
            partitions: load.partitions,
            configs: load.configs.clone(),
            connections: 4,
            depth: Some(2),
            batch_records: 64,
            warmup: 0.0,
            duration: 600.0,
            bytes_max: Some(bytes),
            label: "fill".to_owned(),
            ..LoadSettings::default()
        };
        (0..self.targets.len()).try_for_each(|nth| self.load(nth, &fill).map(drop))
    }

    /// Deletes a topic of each target.
    pub fn delete(&self, topic: &str) -> Result<(), BenchError> {
        self.targets.iter().try_for_each(|target| Admin::connect(&target.bootstrap)?.delete_topic(topic))
    }
}

fn line(heading: &str, load: &LoadResult, measures: &[Measure]) -> String {
    let figures = measures.iter().filter_map(|measure| {
        Some(format!("{} {} {}", measure.name(), number(measure.of(load)?), measure.unit()))
    });
    let figures: Vec<_> = figures.collect();
    format!("{heading}: {}", figures.join(", "))
}

/// A folder that nobody else has, not even another field of this process.
fn own_folder(base: &Path) -> Result<PathBuf, BenchError> {
    let wrong = |source| BenchError::io(format!("make a folder in {}", base.display()), source);
    std::fs::create_dir_all(base).map_err(wrong)?;
    let names = (0_u32..).map(|nth| base.join(format!("flumen-bench-{}-{nth}", std::process::id())));
    for folder in names {
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(wrong(error)),
        }
    }
    unreachable!("there are always more names")
}

impl Drop for Field {
    fn drop(&mut self) {
        // Killed, as their data goes with them: a clean stop with thousands of partitions takes its time.
        self.targets.clear();
        // What cannot be removed is in a folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_fields_share_a_folder() {
        let base = std::env::temp_dir().join(format!("flumen-bench-fields-{}", std::process::id()));
        let (one, other) = (own_folder(&base).expect("a folder"), own_folder(&base).expect("another"));
        assert!(one.exists() && other.exists() && one != other);
        std::fs::remove_dir_all(base).expect("it was made");
    }
}
