//! S9: from the start of the process until every partition has acknowledged a record, after a clean stop and
//! after kill -9, with nothing in the page cache.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::{Class, Stage};
use crate::compare::{Comparison, Sample};
use crate::console::{Progress, note};
use crate::error::BenchError;
use crate::load::{self, settings::LoadSettings};
use crate::measure::process;
use crate::protocol::admin::{Admin, Led};
use crate::protocol::first_acks;

const TOPIC: &str = "start";
const PATIENCE: Duration = Duration::from_secs(180);

/// Targets of their own, in folders of their own.
pub fn until_every_partition_acknowledges(stage: &mut Stage) -> Result<Vec<Comparison>, BenchError> {
    let (partitions, bytes) = if stage.is_quick { (1000, 1 << 30) } else { (1000, 10_u64 << 30) };
    let what = format!(
        "{partitions} partitions with {:.0} GB of idempotent producers; until each has acknowledged again",
        bytes as f64 / 1e9
    );
    let mut case = stage.field.comparison("S9", &what);
    let has_dropped = drop_page_cache();
    if !has_dropped {
        case.notes.push("the page cache could not be dropped: that takes root".to_owned());
    }
    for (nth, spec) in stage.field.settings.targets.clone().iter().enumerate() {
        let folder = stage.field.folder().join(format!("start-{nth}"));
        let cores = stage.field.settings.broker_cores.clone();
        let mut target = spec.start(&cores, &folder)?;
        fill(stage, &target.bootstrap, target.pid, partitions, bytes)?;
        for round in 0..stage.field.settings.rounds.min(3) {
            for is_killed in [false, true] {
                if stage.field.is_interrupted.load(Relaxed) {
                    return Ok(vec![case]);
                }
                if is_killed {
                    target.kill()
                } else {
                    target.stop()
                }
                rustix::fs::sync();
                drop_page_cache();
                let began = Instant::now();
                target = spec.start(&cores, &folder)?;
                let all = await_all(&target.bootstrap, partitions)?;
                let rss = target.pid.and_then(|pid| process::sample(pid).ok());
                let words = if is_killed { "after kill -9" } else { "after a clean stop" };
                let figures = BTreeMap::from([
                    (format!("every partition acknowledges {words}"), (all - began).as_secs_f64() * 1e3),
                    (format!("first answer {words}"), target.first_answer.as_secs_f64() * 1e3),
                    ("resident memory".to_owned(), rss.map_or(0.0, |rss| rss.rss_bytes as f64 / 1e6)),
                ]);
                note(&format!("S9 {}: {figures:?}", target.name));
                let round = 2 * round + usize::from(is_killed);
                case.samples.push(Sample { target: target.name.clone(), round, figures, load: None });
            }
        }
    }
    for words in ["after a clean stop", "after kill -9"] {
        let name = format!("every partition acknowledges {words}");
        case.add_figure(&format!("first answer {words}"), "ms", false);
        case.add_figure(&name, "ms", false);
        let row = case.row(&name, "ms");
        let ours = row.and_then(|row| row.targets.get(&case.targets[0])).map(|spread| spread.median);
        let ratio = row.and_then(|row| row.ratios.values().next()).map(|spread| spread.median);
        case.judge(&format!("{name}, ms: at most 500"), ours, 500.0, false);
        case.judge(&format!("{name}, times faster than the peer: at least 10"), ratio, 10.0, true);
    }
    case.add_figure("resident memory", "MB", false);
    Ok(vec![case])
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
        cores: stage.field.settings.load_cores.clone(),
        label: "fill".to_owned(),
        ..LoadSettings::default()
    };
    let outcome = load::run(&settings, &Progress::new(true), &stage.field.is_interrupted)?;
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
