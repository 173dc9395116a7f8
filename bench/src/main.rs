//! The binary `flumen-bench`: load for brokers that speak Kafka's protocol, and what it costs them.
//!
//! It measures any broker from the outside, Apache Kafka as well as Flumen, and imports nothing of either.
//! Follow one run: `load` prepares the topic and the requests (`protocol`), its threads send and count, the
//! collector puts the seconds together and samples the target beside them (`measure`), and what comes out
//! (`result`) is shown by `report`.

#![forbid(unsafe_code)]

mod clock;
mod compare;
mod console;
mod error;
mod hlog;
mod limits;
mod load;
mod measure;
mod protocol;
mod report;
mod result;
mod runtime;
mod scenario;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, Parser, Subcommand};

use crate::compare::measure::Measure;
use crate::compare::rounds::{Field, RoundSettings};
use crate::console::Progress;
use crate::error::BenchError;
use crate::limits::LimitSettings;
use crate::load::settings::{LoadSettings, Rate};
use crate::load::{Outcome, sweep};
use crate::protocol::admin::{Admin, WantedTopic};
use crate::report::{ReportSettings, text};
use crate::scenario::ScenarioSettings;

/// Load for brokers that speak Kafka's protocol, and what it costs them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Produces and consumes: at a rate, as fast as answers come, or at many rates.
    Load(Box<Load>),
    /// The same load on two or more targets in turn, A B A B, each started and stopped by this program.
    Compare(Box<Compare>),
    /// The scenarios S1 to S11, each with its goal.
    Scenario(Box<ScenarioSettings>),
    /// What the machine can do without a broker: network, checksums, disk (L1 to L8).
    Limits(Limits),
    /// Shows results: as text, and as a page of HTML.
    Report(ReportSettings),
    /// Creates a topic and waits for its leaders, or deletes one.
    Topic(Topic),
}

#[derive(Args)]
struct Load {
    #[command(flatten)]
    settings: LoadSettings,
    /// Search the highest rate that is held; --rate is where the search begins.
    #[arg(long, conflicts_with = "rates")]
    sweep: bool,
    /// In a search a rate is held only if 99 % of the acknowledgements come within so many milliseconds.
    #[arg(long, default_value_t = 1000.0)]
    sweep_p99_ms: f64,
    /// One run at each of these rates.
    #[arg(long, value_delimiter = ',')]
    rates: Vec<Rate>,
    /// Print the result as JSON, in the place of text.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Args)]
struct Compare {
    #[command(flatten)]
    rounds: RoundSettings,
    #[command(flatten)]
    load: LoadSettings,
}

#[derive(Args)]
struct Limits {
    #[command(flatten)]
    settings: LimitSettings,
    /// Print the result as JSON, in the place of text.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Topic {
    /// The target's address.
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    /// The topic.
    #[arg(long)]
    topic: String,
    /// How many partitions it gets.
    #[arg(long, default_value_t = 1)]
    partitions: i32,
    /// Its settings: key=value.
    #[arg(long = "config", value_name = "KEY=VALUE")]
    configs: Vec<String>,
    /// Delete it.
    #[arg(long)]
    delete: bool,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Load(load) => run_load(&load),
        Command::Compare(compare) => run_compare(&compare),
        Command::Scenario(settings) => run_scenarios(&settings),
        Command::Limits(limits) => run_limits(&limits),
        Command::Report(settings) => run_report(&settings),
        Command::Topic(topic) => prepare_topic(&topic),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            console::complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Set by the first Ctrl-C: what was measured is kept. The second ends the program.
fn interruption() -> Result<Arc<AtomicBool>, BenchError> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let flag = Arc::new(AtomicBool::new(false));
    let wrong = |source| BenchError::io("wait for signals", source);
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, flag.clone()).map_err(wrong)?;
        signal_hook::flag::register(signal, flag.clone()).map_err(wrong)?;
    }
    Ok(flag)
}

fn run_load(load: &Load) -> Result<ExitCode, BenchError> {
    let is_interrupted = interruption()?;
    let progress = Progress::new(load.quiet);
    let settings = &load.settings;
    let p99_max_us = load.sweep_p99_ms * 1e3;
    let outcomes = if load.sweep {
        sweep::search(settings, p99_max_us, &progress, &is_interrupted)?
    } else if load.rates.is_empty() {
        vec![load::run(settings, &progress, &is_interrupted)?]
    } else {
        sweep::ladder(settings, &load.rates, &progress, &is_interrupted)?
    };
    for outcome in &outcomes {
        show(outcome, load)?;
    }
    if load.sweep {
        let best = sweep::best(&outcomes, p99_max_us).and_then(|result| result.rate);
        let best = best.map_or("no rate was held".to_owned(), |rate| {
            format!("the highest rate that was held: {} records/s", text::number(rate.asked))
        });
        console::note(&best);
    }
    let has_failed = outcomes.iter().any(|outcome| outcome.result.failure().is_some());
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(outcome: &Outcome, load: &Load) -> Result<(), BenchError> {
    if load.json {
        console::result(&serde_json::to_string(&outcome.result).map_err(BenchError::codec)?);
    } else {
        console::result(text::load(&outcome.result).trim_end());
    }
    if let Some(folder) = &load.settings.out {
        outcome.write(folder, &outcome.result.label)?;
    }
    match outcome.result.failure() {
        Some(failure) => {
            console::note(&format!("flumen-bench: the run did not come to its end: {failure}"));
            Ok(())
        }
        None => Ok(()),
    }
}

fn run_compare(compare: &Compare) -> Result<ExitCode, BenchError> {
    let is_interrupted = interruption()?;
    let running = compare.rounds.targets.iter().find(|target| !target.is_started_here());
    if let Some(running) = running.filter(|_| compare.rounds.memory_bytes.is_some()) {
        let why = "it runs already, so its memory cannot be bound";
        return Err(BenchError::Refused(format!("--memory-bytes for {}: {why}", running.name)));
    }
    let mut field = Field::start(&compare.rounds, &is_interrupted)?;
    let what = "the load of the command line";
    let mut comparison = field.compare(&compare.load.label, what, &compare.load, &Measure::ALL)?;
    comparison.notes.insert(0, std::env::args().collect::<Vec<_>>().join(" "));
    comparison.write(&compare.rounds.results)?;
    console::result(&text::comparison(&comparison, None));
    Ok(ExitCode::SUCCESS)
}

fn run_scenarios(settings: &ScenarioSettings) -> Result<ExitCode, BenchError> {
    let is_interrupted = interruption()?;
    let (limits, comparisons) = scenario::run(settings, &is_interrupted)?;
    let is_empty = comparisons.is_empty();
    console::result(report::scenarios(limits, comparisons).trim_end());
    Ok(if is_empty { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn run_report(settings: &ReportSettings) -> Result<ExitCode, BenchError> {
    console::result(report::run(settings)?.trim_end());
    Ok(ExitCode::SUCCESS)
}

fn run_limits(limits: &Limits) -> Result<ExitCode, BenchError> {
    let result = limits::run(&limits.settings, &Progress::new(limits.json))?;
    if limits.json {
        console::result(&serde_json::to_string(&result).map_err(BenchError::codec)?);
    } else {
        console::result(result.text().trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

fn prepare_topic(topic: &Topic) -> Result<ExitCode, BenchError> {
    let mut admin = Admin::connect(&topic.bootstrap)?;
    if topic.delete {
        admin.delete_topic(&topic.topic)?;
        return Ok(ExitCode::SUCCESS);
    }
    let settings = LoadSettings {
        topic: topic.topic.clone(),
        partitions: topic.partitions,
        configs: topic.configs.clone(),
        ..LoadSettings::default()
    };
    let wanted: WantedTopic = settings.wanted_topic()?;
    admin.prepare_topic(&wanted)?;
    Ok(ExitCode::SUCCESS)
}
