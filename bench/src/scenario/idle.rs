//! S10: what a broker costs that nobody asks for anything.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::time::Duration;

use super::{Class, Stage, note_figures};
use crate::compare::rounds::RoundSettings;
use crate::compare::target::RunningTarget;
use crate::compare::verdict::Wanted::AtMost;
use crate::compare::{Comparison, Sample};
use crate::error::BenchError;
use crate::load::settings::LoadSettings;
use crate::measure::process;
use crate::protocol::admin::{Admin, WantedTopic};

const TOPIC: &str = "idle";

/// Each target with partitions and connections that do nothing. Targets of their own, which have done nothing
/// before: one that gives back no memory would take new partitions into what it holds from earlier loads.
pub fn cost_of_nothing(stage: &mut Stage) -> Result<Vec<Comparison>, BenchError> {
    let (partitions, connections, seconds) =
        if stage.is_quick { (1000, 1000, 5) } else { (4000, 10_000, 60) };
    let what = format!("{partitions} partitions and {connections} connections, {seconds} s of nothing");
    process::allow_descriptors(connections + 64)?;
    let rounds = RoundSettings { jvm_warmup: Some(0.0), ..stage.rounds.clone() };
    let field = stage.own_field(&rounds)?;
    let mut case = field.comparison("S10", &what);
    for target in &field.targets {
        if field.is_interrupted.load(Relaxed) {
            break;
        }
        let topic = LoadSettings { topic: TOPIC.to_owned(), partitions, ..stage.base(Class::M) };
        let figures = measure(target, &topic.wanted_topic()?, connections, seconds)?;
        note_figures("S10", &target.name, &figures);
        let target = target.name.clone();
        case.samples.push(Sample { target, round: 0, figures, load: None });
    }
    for (name, unit) in [
        ("idle CPU time", "CPU-ms/s"),
        ("wake-ups", "1/s"),
        ("resident memory", "MB"),
        ("memory for a partition", "KiB"),
        ("memory for a connection", "KiB"),
    ] {
        case.add_figure(name, unit, false);
    }
    for (name, unit, wanted) in [
        ("wake-ups", "1/s", 1.0),
        ("memory for a partition", "KiB", 32.0),
        ("memory for a connection", "KiB", 8.0),
    ] {
        case.judge((name, unit), AtMost(wanted));
    }
    Ok(vec![case])
}

fn measure(
    target: &RunningTarget,
    topic: &WantedTopic,
    connections: u64,
    seconds: u64,
) -> Result<BTreeMap<String, f64>, BenchError> {
    let pid =
        target.pid.ok_or_else(|| BenchError::Refused(format!("{} is not on this machine", target.name)))?;
    let rss = || process::sample(pid).map(|sample| sample.rss_bytes as f64);
    let mut admin = Admin::connect(&target.bootstrap)?;
    let before = rss()?;
    admin.prepare_topic(topic)?;
    let with_partitions = rss()?;
    let connect = |_| TcpStream::connect(admin.address());
    let open = (0..connections).map(connect).collect::<std::io::Result<Vec<_>>>();
    let open = open.map_err(|source| BenchError::io("open idle connections", source))?;
    // What it does about them should be over before it is called idle: Flumen flushes what was quiet for three
    // seconds, and then says so in a checkpoint.
    pause(Duration::from_secs(5));
    let with_connections = rss()?;
    let (cpu, wakes) = (process::sample(pid)?.cpu_seconds, process::wake_ups(pid));
    pause(Duration::from_secs(seconds));
    let cpu = process::sample(pid)?.cpu_seconds - cpu;
    let wakes = process::wake_ups(pid).saturating_sub(wakes);
    drop(open);
    let kibibytes = |bytes: f64, count: f64| (bytes / 1024.0 / count).max(0.0);
    Ok(BTreeMap::from([
        ("idle CPU time".to_owned(), cpu * 1e3 / seconds as f64),
        ("wake-ups".to_owned(), wakes as f64 / seconds as f64),
        ("resident memory".to_owned(), with_connections / 1e6),
        (
            "memory for a partition".to_owned(),
            kibibytes(with_partitions - before, f64::from(topic.partitions)),
        ),
        (
            "memory for a connection".to_owned(),
            kibibytes(with_connections - with_partitions, connections as f64),
        ),
    ]))
}

/// Waits for nothing but time.
fn pause(time: Duration) {
    let (_never, timer) = mpsc::channel::<()>();
    let _ = timer.recv_timeout(time);
}
