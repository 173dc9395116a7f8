//! S9: from the start of the process until every partition has acknowledged a record, after a clean stop, after
//! kill -9 and after a power cut, with nothing in the page cache.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::{Class, Stage, note_figures, power_cut};
use crate::compare::rounds::Field;
use crate::compare::target::{RunningTarget, TargetSpec};
use crate::compare::verdict::Wanted::AtMost;
use crate::compare::{Comparison, Sample};
use crate::console::{Progress, note};
use crate::error::BenchError;
use crate::load::{self, settings::LoadSettings};
use crate::measure::process;
use crate::protocol::admin::{Admin, Led};
use crate::protocol::first_acks;

pub const TOPIC: &str = "start";
/// How a target ended before it was started again.
const KILLED: &str = "after kill -9";
const WAYS: [&str; 2] = ["after a clean stop", KILLED];
/// Until the last partition acknowledges.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Targets of their own, in folders of their own. What was measured stays when one of them fails.
pub fn until_every_partition_acknowledges(stage: &mut Stage) -> Result<Vec<Comparison>, BenchError> {
    let (partitions, bytes) = if stage.is_quick { (1000, 512 << 20) } else { (1000, 10_u64 << 30) };
    let rounds = stage.rounds.rounds().min(3);
    let what = format!(
        "{partitions} partitions with {:.1} GB of idempotent producers; until each has acknowledged again",
        bytes as f64 / 1e9
    );
    let field = Field::new(&stage.rounds, &stage.is_interrupted)?;
    let mut case = field.comparison("S9", &what);
    if !drop_page_cache() {
        case.notes.push("the page cache could not be dropped: that takes root".to_owned());
    }
    for (nth, spec) in stage.rounds.targets.iter().enumerate() {
        if !spec.is_started_here() {
            case.notes.push(left_out(spec));
            continue;
        }
        let mut measured = Vec::new();
        if let Err(error) =
            restart(stage, spec, &field.folder_of(nth), (partitions, bytes), rounds, &mut measured)
        {
            note(&format!("S9 {}: {error}", spec.name));
            case.notes.push(format!("{}: {error}", spec.name));
        }
        case.samples.extend(measured);
    }
    for words in WAYS {
        judge(&mut case, words);
    }
    case.add_figure("resident memory", "MB", false);
    drop(field);
    Ok(vec![case, power_cut::until_every_partition_acknowledges(stage)?])
}

/// Why a target has no figures.
pub fn left_out(spec: &TargetSpec) -> String {
    format!("{}: left out, as it runs already and is not started here", spec.name)
}

/// The figures of starts after targets ended in such a way, and their goals.
pub fn judge(case: &mut Comparison, words: &str) {
    let name = format!("every partition acknowledges {words}");
    case.add_figure(&format!("first answer {words}"), "ms", false);
    case.add_figure(&name, "ms", false);
    case.judge((&name, "ms"), AtMost(500.0));
    case.judge_against_peer((&name, "ms"), 10.0);
}

/// Fills a target, then stops and kills it in turn, and measures each start.
fn restart(
    stage: &Stage,
    spec: &TargetSpec,
    folder: &Path,
    (partitions, bytes): (i32, u64),
    rounds: usize,
    measured: &mut Vec<Sample>,
) -> Result<(), BenchError> {
    let cores = &stage.rounds.broker_cores;
    let mut target = spec.start(cores, folder, None)?;
    fill(stage, &target.bootstrap, target.pid, partitions, bytes)?;
    for round in 0..2 * rounds {
        if stage.is_interrupted.load(Relaxed) {
            break;
        }
        let words = WAYS[round % 2];
        if words == KILLED {
            target.kill()
        } else {
            target.stop()
        }
        let figures;
        (target, figures) = start(spec, cores, folder, partitions, words)?;
        note_figures("S9", &target.name, &figures);
        measured.push(Sample { target: target.name.clone(), round, figures, load: None });
    }
    Ok(())
}

/// Starts a target on what it has left, and measures until every partition has acknowledged.
pub fn start(
    spec: &TargetSpec,
    cores: &[usize],
    folder: &Path,
    partitions: i32,
    words: &str,
) -> Result<(RunningTarget, BTreeMap<String, f64>), BenchError> {
    drop_page_cache();
    let began = Instant::now();
    let target = spec.start(cores, folder, None)?;
    let all = await_all(&target.bootstrap, partitions)?;
    let rss = target.pid.and_then(|pid| process::sample(pid).ok());
    let figures = BTreeMap::from([
        (format!("every partition acknowledges {words}"), (all - began).as_secs_f64() * 1e3),
        (format!("first answer {words}"), target.first_answer.as_secs_f64() * 1e3),
        ("resident memory".to_owned(), rss.map_or(0.0, |rss| rss.rss_bytes as f64 / 1e6)),
    ]);
    Ok((target, figures))
}

fn fill(
    stage: &Stage,
    bootstrap: &str,
    pid: Option<u32>,
    partitions: i32,
    bytes: u64,
) -> Result<(), BenchError> {
    let settings = LoadSettings {
        bootstrap: bootstrap.to_owned(),
        pid,
        topic: TOPIC.to_owned(),
        partitions,
        connections: 8,
        depth: Some(2),
        batch_records: 16,
        request_batches: 8,
        idempotent: true,
        warmup: 0.0,
        duration: 900.0,
        bytes_max: Some(bytes),
        configs: Class::M.config(),
        cores: stage.rounds.load_cores.clone(),
        label: "fill".to_owned(),
        ..LoadSettings::default()
    };
    let outcome = load::run(&settings, &Progress::new(true), &stage.is_interrupted)?;
    match outcome.result.failure() {
        Some(failure) => Err(BenchError::Broker(failure.to_owned())),
        None => Ok(()),
    }
}

/// Produces one record to every partition, and again where one is not ready, until all have acknowledged.
fn await_all(bootstrap: &str, partitions: i32) -> Result<Instant, BenchError> {
    let began = Instant::now();
    let mut waiting: Vec<i32> = (0..partitions).collect();
    loop {
        let tried = Admin::connect(bootstrap).and_then(|mut admin| {
            let leaders: Vec<Led> = admin.leaders(TOPIC)?;
            let wanted: Vec<_> = leaders.into_iter().filter(|led| waiting.contains(&led.partition)).collect();
            first_acks::produce_one(&admin, TOPIC, &wanted)
        });
        if let Ok(acknowledged) = tried {
            waiting.retain(|partition| !acknowledged.contains(partition));
            if waiting.is_empty() {
                return Ok(Instant::now());
            }
        }
        if began.elapsed() > PATIENCE {
            return Err(BenchError::Silent(format!("{} partitions never acknowledged", waiting.len())));
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Whether that was allowed.
fn drop_page_cache() -> bool {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}
