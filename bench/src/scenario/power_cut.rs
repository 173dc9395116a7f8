//! S9 after a power cut: the start on what a device holds whose power went under a durable load.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::start::{PATIENCE, TOPIC, judge, left_out, start};
use super::{Class, Stage, note_figures};
use crate::compare::device::Device;
use crate::compare::rounds::Field;
use crate::compare::target::{RunningTarget, TargetSpec};
use crate::compare::{Comparison, Sample};
use crate::console::{Progress, note};
use crate::error::BenchError;
use crate::load::{self, settings::LoadSettings};
use crate::measure::device::expect_room;
use crate::protocol::admin::{Admin, by_leader};

const CASE: &str = "S9-power-cut";
const WORDS: &str = "after a power cut";
const PARTITIONS: i32 = 1000;
const RECORD_BYTES: u64 = 1024;
/// What is written before each further cut.
const MORE_BYTES: u64 = 64 << 20;
/// A file system has that much room beside the records, for what targets reserve. Its image has it only if it is
/// written to.
const SPARE_BYTES: u64 = 64 << 30;
/// How often is looked how much has been written.
const GLANCE: Duration = Duration::from_millis(20);

/// Targets of their own, each on a file system of its own. Where that may not be had, the case says so.
pub fn until_every_partition_acknowledges(stage: &Stage) -> Result<Comparison, BenchError> {
    let bytes: u64 = if stage.is_quick { 256 << 20 } else { 10 << 30 };
    let rounds = stage.rounds.rounds().min(3);
    let what = format!(
        "the power goes while idempotent producers write to {PARTITIONS} partitions, D, and {:.1} GB are there; from \
         the start on what the device holds until each has acknowledged again",
        bytes as f64 / 1e9
    );
    let field = Field::new(&stage.rounds, &stage.is_interrupted)?;
    let mut case = field.comparison(CASE, &what);
    case.notes.push(
        "at the cut the file system stops, at one moment; what the device has got by then stays, as if it had no \
         volatile cache of its own"
            .to_owned(),
    );
    for (nth, spec) in stage.rounds.targets.iter().enumerate() {
        if !spec.is_started_here() {
            case.notes.push(left_out(spec));
            continue;
        }
        let mut measured = Vec::new();
        if let Err(error) = cut_and_start(stage, spec, &field.folder_of(nth), bytes, rounds, &mut measured) {
            let told = format!("{}: left out: {error}", spec.name);
            note(&format!("{CASE} {told}"));
            case.notes.push(told);
        }
        case.samples.extend(measured);
        if stage.is_interrupted.load(Relaxed) {
            case.notes.push("interrupted: not all rounds were run".to_owned());
            break;
        }
    }
    judge(&mut case, WORDS);
    case.add_figure("resident memory", "MB", false);
    Ok(case)
}

/// Each round starts on what the last one left.
fn cut_and_start(
    stage: &Stage,
    spec: &TargetSpec,
    folder: &Path,
    bytes: u64,
    rounds: usize,
    measured: &mut Vec<Sample>,
) -> Result<(), BenchError> {
    let written = bytes + rounds as u64 * MORE_BYTES;
    expect_room(folder, 2 * written)?;
    let mut device = Device::make(folder, 2 * written + SPARE_BYTES)?;
    let cores = &stage.rounds.broker_cores;
    let mut target = spec.start(cores, folder, None)?;
    // Records that were acknowledged.
    let mut promised = 0;
    for round in 0..rounds {
        let records = (bytes + round as u64 * MORE_BYTES) / RECORD_BYTES;
        promised += cut_under_load(stage, &mut target, &device, records)?;
        device = device.restore()?;
        let figures;
        (target, figures) = start(spec, cores, folder, PARTITIONS, WORDS)?;
        // Every partition has acknowledged one more by now.
        promised += PARTITIONS as u64;
        let kept = records_of(&target.bootstrap)?;
        if kept < promised {
            return Err(BenchError::Broker(format!(
                "{kept} records are there, and {promised} were acknowledged: what is acknowledged is not durable"
            )));
        }
        note_figures(CASE, &target.name, &figures);
        measured.push(Sample { target: target.name.clone(), round, figures, load: None });
    }
    Ok(())
}

/// Cuts the power under the load when so many records are there, and kills the target. Gives how many the load has
/// had acknowledged.
fn cut_under_load(
    stage: &Stage,
    target: &mut RunningTarget,
    device: &Device,
    records: u64,
) -> Result<u64, BenchError> {
    let settings = LoadSettings {
        bootstrap: target.bootstrap.clone(),
        pid: target.pid,
        topic: TOPIC.to_owned(),
        partitions: PARTITIONS,
        connections: 8,
        depth: Some(2),
        record_bytes: RECORD_BYTES as usize,
        // Fewer flushes than records, as a peer may need one for each batch.
        batch_records: 64,
        idempotent: true,
        warmup: 0.0,
        duration: 900.0,
        configs: Class::D.config(),
        cores: stage.rounds.load_cores.clone(),
        label: "until-the-power-goes".to_owned(),
        ..LoadSettings::default()
    };
    Admin::connect(&target.bootstrap)?.prepare_topic(&settings.wanted_topic()?)?;
    // A broker has been there for longer than this one: what its formatting and start have written is on the disk.
    rustix::fs::sync();
    let (outcome, written, cut) = std::thread::scope(|scope| {
        let load = scope.spawn(|| load::run(&settings, &Progress::new(true), &stage.is_interrupted));
        let began = Instant::now();
        let written = loop {
            match records_of(&target.bootstrap) {
                Ok(there) if there >= records => break Ok(()),
                Err(error) => break Err(error),
                _ if load.is_finished() || stage.is_interrupted.load(Relaxed) => {
                    break Err(BenchError::Refused("the load ended before the power went".to_owned()));
                }
                _ if began.elapsed() > 5 * PATIENCE => {
                    break Err(BenchError::Silent(format!("{records} records were never written")));
                }
                _ => std::thread::park_timeout(GLANCE),
            }
        };
        // Whatever came of it, the load has to end. After the cut no flush is answered, and nothing acknowledged.
        let cut = device.cut();
        target.kill();
        (load.join().expect("a load does not panic"), written, cut)
    });
    written.and(cut)?;
    let result = outcome?.result;
    Ok(result.produced.map_or(0, |flow| flow.records) + result.uncounted_records)
}

/// How many the topic holds.
fn records_of(bootstrap: &str) -> Result<u64, BenchError> {
    let led = Admin::connect(bootstrap)?.leaders(TOPIC)?;
    let mut records = 0;
    for (leader, partitions) in by_leader(&led) {
        records += Admin::offsets(leader, TOPIC, &partitions, false)?.iter().sum::<i64>();
    }
    Ok(records.unsigned_abs())
}
