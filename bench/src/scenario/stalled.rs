//! S11: connections that ask for much and never read, beside producers that want their answers.

use super::{Class, Stage};
use crate::compare::Comparison;
use crate::compare::measure::Measure;
use crate::compare::rounds::RoundSettings;
use crate::compare::verdict::Against;
use crate::compare::verdict::Wanted::AtMost;
use crate::error::BenchError;
use crate::load::settings::{LoadSettings, Rate};

/// Memory that Flumen may have for answers, and for requests.
const ANSWER_BYTES: u64 = 128 << 20;
const REQUEST_BYTES: u64 = 64 << 20;
/// What an answer may have when all of that is held.
const ANSWER_BYTES_MIN: u64 = 64 << 10;
/// The process itself, its other connections, and what its allocator keeps.
const PROCESS_BYTES: u64 = 150 << 20;

/// Targets of their own, as Flumen is told how much memory it may have.
pub fn slow_consumers(stage: &mut Stage) -> Result<Vec<Comparison>, BenchError> {
    // Room for all that is written, but little more: what answers hold beyond their share has no place there.
    let (many, cache_bytes) = if stage.is_quick { (200, 512 << 20) } else { (1000, 1 << 30) };
    let settings = [
        ("flumen.cache.bytes", cache_bytes),
        ("flumen.fetch.memory.bytes", ANSWER_BYTES),
        ("queued.max.request.bytes", REQUEST_BYTES),
        ("socket.request.max.bytes", REQUEST_BYTES),
    ];
    let targets = stage.rounds.targets.iter().map(|target| target.clone().with_settings(&settings));
    let rounds = RoundSettings { targets: targets.collect(), ..stage.rounds.clone() };
    let mut field = stage.own_field(&rounds)?;
    let load = LoadSettings {
        topic: "slow".to_owned(),
        connections: 8,
        rate: Some(Rate::Records(5000.0)),
        overload: true,
        fetch_bytes: 4 << 20,
        ..stage.base(Class::M)
    };
    field.fill(&load, 256 << 20)?;
    let measures = [Measure::AckP50, Measure::AckP99, Measure::AckP999, Measure::RssMegabytes];
    let mut cases = Vec::new();
    for (name, stalled) in [("S11-quiet", 0), ("S11-beside", many)] {
        let load = LoadSettings { stalled, ..load.clone() };
        let what = format!(
            "5,000 records/s of 1 KiB, M, beside {stalled} connections that never read their answers"
        );
        cases.push(field.compare(name, &what, &load, &measures)?);
    }
    let tail = Measure::AckP999.figure();
    let quiet = Against::new("quiet", cases[0].ours(tail));
    cases[1].judge_against(tail, quiet, AtMost(1.5));
    if rounds.targets[0].is_flumen() {
        judge_memory(&mut cases[1], cache_bytes, many);
    }
    Ok(cases)
}

/// What Flumen was told it may have, and what `stalled` answers may have beyond that.
fn judge_memory(case: &mut Comparison, cache_bytes: u64, stalled: usize) {
    let told = cache_bytes + ANSWER_BYTES + REQUEST_BYTES;
    let bound = told + stalled as u64 * ANSWER_BYTES_MIN + PROCESS_BYTES;
    case.judge(Measure::RssMegabytes.figure(), AtMost(bound as f64 / 1e6));
    case.notes.push(format!(
        "the bound of {}: {:.0} MB for its cache, for answers and for requests, {:.0} KiB for each connection \
         that never reads, and {:.0} MB for the process itself",
        case.targets[0],
        told as f64 / 1e6,
        ANSWER_BYTES_MIN as f64 / 1024.0,
        PROCESS_BYTES as f64 / 1e6
    ));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::compare::Sample;
    use crate::measure::environment::Environment;

    #[test]
    fn answers_that_keep_all_they_have_break_the_bound() {
        // A cache that is full, and 4 MiB for each connection.
        let (cache_bytes, stalled) = (512 << 20, 200);
        for (beyond_cache, is_met) in [(300 << 20, true), (200 * (4 << 20), false)] {
            let mut case =
                Comparison::new("S11-beside", "", Environment::default(), vec!["Flumen".to_owned()]);
            let (name, unit) = Measure::RssMegabytes.figure();
            let figures = BTreeMap::from([(name.to_owned(), (cache_bytes + beyond_cache) as f64 / 1e6)]);
            let target = "Flumen".to_owned();
            case.samples.push(Sample { target, round: 0, figures, load: None });
            case.add_figure(name, unit, false);
            judge_memory(&mut case, cache_bytes, stalled);
            let verdict = &case.verdicts[0];
            assert_eq!((verdict.goal.as_str(), verdict.is_met), ("≤ 909", is_met));
        }
    }
}
