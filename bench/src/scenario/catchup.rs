//! S6: a backlog that does not fit into memory is read from its beginning while others produce.

use super::{Class, Stage};
use crate::compare::Comparison;
use crate::compare::measure::Measure;
use crate::compare::memory::MemoryBound;
use crate::compare::rounds::{Field, RoundSettings, Variant};
use crate::compare::target::TargetSpec;
use crate::compare::verdict::Against;
use crate::compare::verdict::Wanted::{AtLeast, AtMost};
use crate::console::note;
use crate::error::BenchError;
use crate::load::settings::{LoadSettings, Rate, StartAt};
use crate::report::text::number;

const TOPIC: &str = "backlog";

/// Targets of their own, each with a bound on its memory.
pub fn isolation(stage: &mut Stage) -> Result<Vec<Comparison>, BenchError> {
    // Half of it is a JVM's heap.
    let memory_bytes = 2 << 30;
    let backlog_bytes = if stage.is_quick { 3 << 30 } else { 6_u64 << 30 };
    let mut rounds = RoundSettings {
        rounds: Some(stage.rounds.rounds().min(3)),
        memory_bytes: Some(memory_bytes),
        ..stage.rounds.clone()
    };
    if let Err(error) = MemoryBound::make(memory_bytes) {
        note(&error.to_string());
        rounds.memory_bytes = None;
    }
    let mut field = stage.own_field(&rounds)?;
    let measures = [
        Measure::AckP50,
        Measure::AckP99,
        Measure::AckP999,
        Measure::ConsumedMegabytes,
        Measure::DeviceReadMegabytes,
        Measure::RssMegabytes,
        Measure::FlushWorst,
        Measure::WriteWorst,
    ];
    let load = LoadSettings {
        topic: TOPIC.to_owned(),
        partitions: 4,
        connections: 4,
        depth: Some(5),
        // Enough requests for p99.9 in a few seconds, and not so many that the load is the limit.
        batch_records: 64,
        // Who reads a backlog reads as fast as it can; the producers are the ones whose time is taken.
        consumer_threads: 1,
        from: StartAt::Earliest,
        again: true,
        fetch_bytes: 4 << 20,
        overload: true,
        ..stage.base(Class::M)
    };
    field.fill(&load, backlog_bytes)?;
    let producing = half_of_highest(&mut field, &load, stage.seconds.min(5.0))?;
    let rates: Vec<_> = producing.iter().map(|(name, rate)| format!("{name} {}", number(*rate))).collect();
    let mut cases = Vec::new();
    for (name, consumers) in [("S6-quiet", 0), ("S6-beside", 2)] {
        let variant = |(target, (label, rate)): (usize, &(String, f64))| Variant {
            label: label.clone(),
            target,
            settings: LoadSettings { consumers, rate: Some(Rate::Records(*rate)), ..load.clone() },
        };
        let variants: Vec<_> = producing.iter().enumerate().map(variant).collect();
        let what = format!(
            "{} records/s in, half of what each target takes, M, while {consumers} consumers read a backlog of \
             {:.0} GB from its beginning",
            rates.join(", "),
            backlog_bytes as f64 / 1e9
        );
        let mut case = field.compare_variants(name, &what, &variants, &measures)?;
        case.notes.extend(notes_of_bound(&rounds.targets, rounds.memory_bytes));
        cases.push(case);
    }
    let tail = Measure::AckP999.figure();
    let quiet = Against::new("quiet", cases[0].ours(tail));
    cases[1].judge_against(tail, quiet, AtMost(1.5));
    let limit = |id| stage.limits.best(id, "").map(|limit| (limit.value, id));
    let slower = limit("L5").zip(limit("L6")).map(|(disk, net)| if disk.0 < net.0 { disk } else { net });
    let slower = slower.and_then(|(value, id)| Against::new(id, Some(value)));
    cases[1].judge_against(Measure::ConsumedMegabytes.figure(), slower, AtLeast(0.85));
    Ok(cases)
}

/// Whose memory was bound, and whose was not. Only what is started here can be put into a cgroup.
fn notes_of_bound(targets: &[TargetSpec], memory_bytes: Option<u64>) -> Vec<String> {
    let note = |target: &TargetSpec| match memory_bytes {
        Some(bytes) if target.is_started_here() => {
            format!("{}: memory bound to {:.1} GB by a cgroup", target.name, bytes as f64 / 1e9)
        }
        _ => {
            let why = if target.is_started_here() { "no cgroup may be made here" } else { "it ran already" };
            format!(
                "{}: memory was not bound, as {why}, so the backlog may be in the page cache",
                target.name
            )
        }
    };
    targets.iter().map(note).collect()
}

/// The name of each target, and half of the records a second that it takes when nobody reads.
fn half_of_highest(
    field: &mut Field,
    load: &LoadSettings,
    seconds: f64,
) -> Result<Vec<(String, f64)>, BenchError> {
    let count = field.targets.len();
    let half = |nth: usize| {
        let rate = (field.highest_rate(nth, load, seconds)? / 2.0).round().max(1.0);
        Ok((field.targets[nth].name.clone(), rate))
    };
    (0..count).map(half).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_started_here_is_said_to_be_bound() {
        let targets: Vec<TargetSpec> =
            ["flumen", "there:running=host:9092"].map(|text| text.parse().expect("a target")).into();
        let told = |memory_bytes| notes_of_bound(&targets, memory_bytes);
        let bound = told(Some(2_000_000_000));
        assert_eq!(bound[0], "Flumen: memory bound to 2.0 GB by a cgroup");
        assert!(bound[1].starts_with("there: memory was not bound, as it ran already"), "{bound:?}");
        assert!(told(None).iter().all(|note| note.contains("not bound")));
    }
}
