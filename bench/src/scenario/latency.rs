//! Scenarios of how long it takes: S4 and S11.

use super::{Class, Stage};
use crate::compare::Comparison;
use crate::compare::measure::Measure;
use crate::compare::rounds::Variant;
use crate::error::BenchError;
use crate::load::settings::{LoadSettings, Rate};

/// S4: end-to-end latency at rates that all targets hold, ours durable against the peer in memory. The rates
/// are shares of what the slowest reaches in a closed loop of the same requests.
pub fn curve(stage: &mut Stage) -> Result<Vec<Comparison>, BenchError> {
    let single = |stage: &Stage, class| LoadSettings {
        connections: 16,
        consumers: 1,
        depth: Some(5),
        ..stage.base(class)
    };
    let mut slowest = f64::INFINITY;
    for nth in 0..stage.field.targets.len() {
        let class = if nth == 0 { Class::D } else { Class::M };
        let closed =
            LoadSettings { depth: Some(1), duration: stage.seconds.min(5.0), ..single(stage, class) };
        let reached = stage.field.load(nth, &closed)?.produced.map_or(0.0, |flow| flow.records_per_second);
        slowest = slowest.min(reached);
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
    ];
    let shares: &[u32] = if stage.is_quick { &[10, 50] } else { &[10, 25, 50, 75, 90] };
    let mut cases = Vec::new();
    for share in shares {
        let rate = (slowest * f64::from(*share) / 100.0).max(1.0).round();
        let at =
            |class| LoadSettings { rate: Some(Rate::Records(rate)), overload: true, ..single(stage, class) };
        let names: Vec<_> = stage.field.targets.iter().map(|target| target.name.clone()).collect();
        let mut variants =
            vec![Variant { label: format!("{} D", names[0]), target: 0, settings: at(Class::D) }];
        for (nth, name) in names.iter().enumerate().skip(1) {
            variants.push(Variant { label: format!("{name} M"), target: nth, settings: at(Class::M) });
        }
        variants.push(Variant { label: format!("{} M", names[0]), target: 0, settings: at(Class::M) });
        let what = format!(
            "open loop at {rate:.0} records/s of 1 KiB, one a request ({share} % of what the slowest reaches)"
        );
        let mut case = stage.field.compare_variants(&format!("S4-{share}"), &what, &variants, &measures)?;
        if let Some(commit) =
            stage.limits.best("L4", "4 KiB").and_then(|limit| limit.latency.as_ref()?.p50_us)
        {
            case.notes.push(format!("one commit of 4 KiB takes this disk {:.2} ms (p50, L4)", commit / 1e3));
        }
        if stage.has_peer() {
            for measure in [Measure::EndToEndP50, Measure::EndToEndP99, Measure::EndToEndP999] {
                let ratio = case.ratio(measure);
                let goal =
                    format!("{}: ours durable, the peer in memory, times faster: at least 1", measure.name());
                case.judge(&goal, ratio, 1.0, true);
            }
            let tails = case.row(Measure::EndToEndP999.name(), "ms").map(|row| &row.targets);
            let of = |label: &str| Some(tails?.get(label)?.median);
            let ratio = of(&format!("{} M", names[1])).zip(of(&format!("{} M", names[0])));
            let ratio = ratio.map(|(theirs, ours)| theirs / ours);
            case.judge("end to end p99.9, both in memory, times faster: at least 10", ratio, 10.0, true);
        }
        cases.push(case);
    }
    Ok(cases)
}

/// S11: connections that ask for much and never read, beside producers that want their answers.
pub fn slow_consumers(stage: &mut Stage) -> Result<Vec<Comparison>, BenchError> {
    const TOPIC: &str = "slow";
    let stalled = if stage.is_quick { 200 } else { 1000 };
    let measures = [Measure::AckP50, Measure::AckP99, Measure::AckP999, Measure::RssMegabytes];
    let mut variants = Vec::new();
    for nth in 0..stage.field.targets.len() {
        stage.field.fill(nth, TOPIC, 8, 256 << 20)?;
        for (words, stalled) in [("quiet", 0), ("beside them", stalled)] {
            let settings = LoadSettings {
                topic: TOPIC.to_owned(),
                connections: 8,
                rate: Some(Rate::Records(2000.0)),
                overload: true,
                fetch_bytes: 4 << 20,
                stalled,
                ..stage.base(Class::M)
            };
            let label = format!("{} {words}", stage.field.targets[nth].name);
            variants.push(Variant { label, target: nth, settings });
        }
    }
    let what =
        format!("2,000 records/s of 1 KiB, M, beside {stalled} connections that never read their answers");
    let mut case = stage.field.compare_variants("S11", &what, &variants, &measures)?;
    for nth in 0..stage.field.targets.len() {
        stage.field.delete(nth, TOPIC)?;
    }
    let tails = case.row(Measure::AckP999.name(), "ms").map(|row| &row.targets);
    let of = |label: &str| Some(tails?.get(label)?.median);
    let times = of(&variants[1].label).zip(of(&variants[0].label)).map(|(beside, quiet)| beside / quiet);
    case.judge("ack p99.9, times that without them: at most 1.5", times, 1.5, false);
    Ok(vec![case])
}
