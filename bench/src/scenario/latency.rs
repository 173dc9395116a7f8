//! S4: how long it takes, at ever higher rates.

use super::{Class, Stage};
use crate::compare::Comparison;
use crate::compare::measure::Measure;
use crate::compare::rounds::Variant;
use crate::compare::verdict::Wanted::AtLeast;
use crate::error::BenchError;
use crate::load::settings::{LoadSettings, Rate};

/// In an open loop of so many requests p99.9 can be told; but no run takes longer than that for it.
const SAMPLES_WANTED: f64 = 12_000.0;
const LONGEST_SECONDS: f64 = 20.0;
const LONGEST_QUICK_SECONDS: f64 = 6.0;

/// End-to-end latency at rates that all targets hold, ours durable against the peer in memory. The rates
/// are shares of what the slowest reaches in a closed loop of the same requests.
pub fn curve(stage: &mut Stage) -> Result<Vec<Comparison>, BenchError> {
    let single = |stage: &Stage, class| LoadSettings {
        connections: 16,
        consumers: 1,
        depth: Some(5),
        ..stage.base(class)
    };
    let names: Vec<_> = stage.rounds.targets.iter().map(|target| target.name.clone()).collect();
    let mut slowest = f64::INFINITY;
    for nth in 0..names.len() {
        let class = if nth == 0 { Class::D } else { Class::M };
        let closed = LoadSettings { depth: Some(1), ..single(stage, class) };
        let seconds = stage.seconds.min(5.0);
        slowest = slowest.min(stage.field()?.highest_rate(nth, &closed, seconds)?);
    }
    let measures = [
        Measure::EndToEndP50,
        Measure::EndToEndP99,
        Measure::EndToEndP999,
        Measure::EndToEndP9999,
        Measure::AckP50,
        Measure::AckP99,
        Measure::AckP999,
        Measure::SlipP99,
        Measure::CpuPerRequest,
        Measure::FlushWorst,
        Measure::WriteWorst,
    ];
    let longest = if stage.is_quick { LONGEST_QUICK_SECONDS } else { LONGEST_SECONDS }.max(stage.seconds);
    let shares: &[u32] = if stage.is_quick { &[25, 75] } else { &[10, 25, 50, 75, 90] };
    let mut cases = Vec::new();
    for share in shares {
        let rate = (slowest * f64::from(*share) / 100.0).max(1.0).round();
        let at = |class| LoadSettings {
            rate: Some(Rate::Records(rate)),
            overload: true,
            // Long enough for p99.9.
            duration: (SAMPLES_WANTED / rate).clamp(stage.seconds, longest),
            ..single(stage, class)
        };
        let mut variants =
            vec![Variant { label: format!("{} D", names[0]), target: 0, settings: at(Class::D) }];
        for (nth, name) in names.iter().enumerate().skip(1) {
            variants.push(Variant { label: format!("{name} M"), target: nth, settings: at(Class::M) });
        }
        variants.push(Variant { label: format!("{} M", names[0]), target: 0, settings: at(Class::M) });
        let what = format!(
            "open loop at {rate:.0} records/s of 1 KiB, one a request ({share} % of what the slowest reaches)"
        );
        let name = format!("S4-{share}");
        let mut case = stage.field()?.compare_variants(&name, &what, &variants, &measures)?;
        if let Some(commit) =
            stage.limits.best("L4", "4 KiB").and_then(|limit| limit.latency.as_ref()?.p50_us)
        {
            case.notes.push(format!("one commit of 4 KiB takes this disk {:.2} ms (p50, L4)", commit / 1e3));
        }
        if names.len() > 1 {
            let (durable, in_memory) = (format!("{} D", names[0]), format!("{} M", names[0]));
            let peer = format!("{} M", names[1]);
            for measure in [Measure::EndToEndP50, Measure::EndToEndP99, Measure::EndToEndP999] {
                case.judge_pair(measure.figure(), &durable, &peer, AtLeast(1.0));
            }
            case.judge_pair(Measure::EndToEndP999.figure(), &in_memory, &peer, AtLeast(10.0));
        }
        cases.push(case);
    }
    Ok(cases)
}
