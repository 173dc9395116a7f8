//! The scenarios S1 to S11: workloads that brokers meet, each with a goal.
//!
//! A scenario is made of comparisons, one for each case. Goals are ratios: to the peer in the same class of
//! durability, or to the limit that `limits` measured on the same machine in the same run. **M** is acknowledged
//! in memory, **D** after the device's flush.

mod catchup;
mod idle;
mod latency;
mod power_cut;
mod scaling;
mod stalled;
mod start;
mod throughput;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use clap::Args;

use crate::compare::Comparison;
use crate::compare::rounds::{Field, JVM_WARMUP, RoundSettings};
use crate::compare::target::TargetSpec;
use crate::console::{Progress, note};
use crate::error::BenchError;
use crate::limits::{self, LimitSettings, LimitsResult};
use crate::load::settings::{DURABLE, IN_MEMORY, LoadSettings};
use crate::report::text::number;

/// Which scenarios, and how thoroughly.
#[derive(Args, Clone, Debug)]
pub struct ScenarioSettings {
    /// S1 to S11, or all.
    #[arg(default_value = "all")]
    pub names: Vec<String>,
    #[command(flatten)]
    pub rounds: RoundSettings,
    /// Minutes in the place of hours: one round unless --rounds says more, short runs, fewer steps.
    #[arg(long)]
    pub quick: bool,
    /// Seconds that are counted of each run [default: 10, or 3 with --quick].
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Limits that were measured before: a limits.json.
    #[arg(long)]
    pub limits: Option<PathBuf>,
}

impl ScenarioSettings {
    /// How targets take turns, where nothing else is said.
    fn rounds(&self) -> RoundSettings {
        let mut rounds = self.rounds.clone();
        if rounds.targets.is_empty() {
            rounds.targets = default_targets();
        }
        if self.quick {
            rounds.rounds.get_or_insert(1);
        }
        rounds
    }
}

/// What the scenarios share.
pub struct Stage {
    /// How targets take turns.
    pub rounds: RoundSettings,
    /// Whether Ctrl-C was pressed.
    pub is_interrupted: Arc<AtomicBool>,
    /// The targets that scenarios share, once one of them has needed them.
    field: Option<Field>,
    /// The machine's limits.
    pub limits: LimitsResult,
    /// Whether all is to be done in minutes.
    pub is_quick: bool,
    /// Seconds that are counted of each run.
    pub seconds: f64,
}

/// How durable an acknowledgement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// In memory.
    M,
    /// After the device's flush.
    D,
}

impl Class {
    /// The topic's setting.
    pub fn config(self) -> Vec<String> {
        vec![if self == Self::M { IN_MEMORY } else { DURABLE }.to_owned()]
    }

    /// Its letter.
    pub fn letter(self) -> &'static str {
        if self == Self::M { "M" } else { "D" }
    }
}

impl Stage {
    /// A load of this class with the stage's durations.
    pub fn base(&self, class: Class) -> LoadSettings {
        LoadSettings {
            configs: class.config(),
            warmup: if self.is_quick { 1.0 } else { 3.0 },
            duration: self.seconds,
            // A disk of modest size is to hold what a run writes.
            bytes_max: Some(if self.is_quick { 3 << 30 } else { 12 << 30 }),
            ..LoadSettings::default()
        }
    }

    /// The targets that scenarios share; the first that asks starts them.
    pub fn field(&mut self) -> Result<&mut Field, BenchError> {
        if self.field.is_none() {
            self.field = Some(Field::start(&self.rounds, &self.is_interrupted)?);
        }
        Ok(self.field.as_mut().expect("it was started"))
    }

    /// Targets for one scenario alone.
    pub fn own_field(&self, rounds: &RoundSettings) -> Result<Field, BenchError> {
        // Their goals are against the target itself in peace, so the peer need not be at its best; unless it was said how
        // long it is warmed.
        let share = if self.is_quick { 0.5 } else { 1.0 };
        let jvm_warmup = Some(rounds.jvm_warmup.unwrap_or(JVM_WARMUP * share));
        Field::start(&RoundSettings { jvm_warmup, ..rounds.clone() }, &self.is_interrupted)
    }
}

type Play = fn(&mut Stage) -> Result<Vec<Comparison>, BenchError>;

/// One of the scenarios.
#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    what: &'static str,
    play: Play,
    /// It starts targets for itself, and wants no others beside them.
    has_own_targets: bool,
}

const fn shared(name: &'static str, what: &'static str, play: Play) -> Scenario {
    Scenario { name, what, play, has_own_targets: false }
}

const fn alone(name: &'static str, what: &'static str, play: Play) -> Scenario {
    Scenario { name, what, play, has_own_targets: true }
}

/// In the order in which they are played: those that share targets, then those that have their own.
const ALL: [Scenario; 11] = [
    shared("S1", "tiny requests", throughput::tiny_requests),
    shared("S2", "bulk ingest", throughput::bulk_ingest),
    shared("S3", "durable ingest", throughput::durable_ingest),
    shared("S4", "latency curve", latency::curve),
    shared("S5", "tail fan-out", throughput::tail_fanout),
    shared("S7", "many partitions", throughput::many_partitions),
    alone("S6", "catch-up beside producers", catchup::isolation),
    alone("S8", "two cores", scaling::core_scaling),
    alone("S9", "start", start::until_every_partition_acknowledges),
    alone("S10", "idle", idle::cost_of_nothing),
    alone("S11", "consumers that do not read", stalled::slow_consumers),
];

/// Runs them and gives all comparisons. One that fails is told, and the others go on.
pub fn run(
    settings: &ScenarioSettings,
    is_interrupted: &Arc<AtomicBool>,
) -> Result<(LimitsResult, Vec<Comparison>), BenchError> {
    let began = Instant::now();
    let chosen = chosen(&settings.names)?;
    let rounds = settings.rounds();
    let mut stage = Stage {
        limits: limits_of(settings, &rounds)?,
        rounds,
        is_interrupted: is_interrupted.clone(),
        field: None,
        is_quick: settings.quick,
        seconds: settings.seconds.unwrap_or(if settings.quick { 3.0 } else { 10.0 }),
    };
    let mut comparisons = Vec::new();
    for (nth, scenario) in chosen.iter().enumerate() {
        if is_interrupted.load(Relaxed) {
            break;
        }
        let Scenario { name, what, play, has_own_targets } = scenario;
        let (turn, minutes) = (nth + 1, began.elapsed().as_secs_f64() / 60.0);
        note(&format!("── {name} {what}: {turn} of {}, {minutes:.1} minutes after the start", chosen.len()));
        if *has_own_targets {
            stage.field = None;
        }
        match play(&mut stage) {
            Ok(cases) => {
                for case in cases {
                    case.write(&stage.rounds.results)?;
                    comparisons.push(case);
                }
            }
            Err(error) => note(&format!("{name}: {error}")),
        }
    }
    Ok((stage.limits, comparisons))
}

/// Says figures that are not of a load.
fn note_figures(case: &str, target: &str, figures: &BTreeMap<String, f64>) {
    let figures: Vec<_> = figures.iter().map(|(name, value)| format!("{name} {}", number(*value))).collect();
    note(&format!("{case} {target}: {}", figures.join(", ")));
}

fn chosen(names: &[String]) -> Result<Vec<Scenario>, BenchError> {
    let is_known = |name: &String| ALL.iter().any(|known| known.name.eq_ignore_ascii_case(name));
    if let Some(unknown) = names.iter().find(|name| *name != "all" && !is_known(name)) {
        return Err(BenchError::Refused(format!("{unknown}: the scenarios are S1 to S11")));
    }
    let is_chosen = |scenario: &&Scenario| {
        names.iter().any(|name| name == "all" || name.eq_ignore_ascii_case(scenario.name))
    };
    Ok(ALL.iter().filter(is_chosen).copied().collect())
}

/// Flumen, and Apache Kafka where there is a JDK for it.
fn default_targets() -> Vec<TargetSpec> {
    let target = |text: &str| text.parse::<TargetSpec>().expect("a known target");
    let kafka = target("apache-kafka");
    let java = Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let has_java = java.is_ok_and(|status| status.success());
    if has_java && kafka.check().is_ok() {
        return vec![target("flumen"), kafka];
    }
    note("no Java here: Flumen is measured against the limits alone");
    vec![target("flumen")]
}

fn limits_of(settings: &ScenarioSettings, rounds: &RoundSettings) -> Result<LimitsResult, BenchError> {
    if let Some(path) = &settings.limits {
        let wrong = |source| BenchError::io(format!("read {}", path.display()), source);
        let text = std::fs::read_to_string(path).map_err(wrong)?;
        return serde_json::from_str(&text).map_err(BenchError::codec);
    }
    note("── limits of this machine");
    let core = |cores: &[usize], other| cores.first().copied().unwrap_or(other);
    let limits = limits::run(
        &LimitSettings {
            data: rounds.work.clone().unwrap_or_else(|| PathBuf::from("/var/tmp")),
            broker_core: core(&rounds.broker_cores, 0),
            load_core: core(&rounds.load_cores, 1),
            seconds: if settings.quick { 1.0 } else { 3.0 },
            only: Vec::new(),
            out: Some(rounds.results.clone()),
        },
        &Progress::new(true),
    )?;
    note(limits.text().trim_end());
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: ScenarioSettings,
    }

    #[test]
    fn quick_means_one_round_unless_more_are_asked_for() {
        for (arguments, wanted) in
            [(&[][..], 5), (&["--rounds", "2"], 2), (&["--quick"], 1), (&["--quick", "--rounds", "2"], 2)]
        {
            let line = Line::parse_from(["scenario", "--target", "flumen"].iter().chain(arguments));
            assert_eq!(line.settings.rounds().rounds(), wanted, "{arguments:?}");
        }
    }

    #[test]
    fn scenarios_are_known_by_their_names() {
        let names = |names: &[&str]| chosen(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&["all"]).expect("all are known").len(), 11);
        let two = names(&["s6", "S7"]).expect("both are known");
        // Those that share targets come before those that have their own.
        assert_eq!(two.iter().map(|scenario| scenario.name).collect::<Vec<_>>(), ["S7", "S6"]);
        assert!(names(&["S12"]).is_err());
    }
}
