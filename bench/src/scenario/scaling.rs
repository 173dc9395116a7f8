//! S8: what a second core costs, and requests that arrive on the wrong one.
//!
//! With a third core for the load it is as much as the target takes. Without, the load shares the target's two, and is a
//! fixed one for each of them that leaves room for both.

use super::throughput::{bulk, tiny};
use super::{Class, Stage};
use crate::compare::Comparison;
use crate::compare::measure::Measure;
use crate::compare::rounds::{Field, RoundSettings};
use crate::compare::verdict::Against;
use crate::compare::verdict::Wanted::AtMost;
use crate::error::BenchError;
use crate::load::settings::{LoadSettings, Rate};
use crate::measure::environment::Environment;

/// Percent of the requests that arrive on another core than their partition's.
const WRONG: [u32; 3] = [0, 50, 100];
const WRONG_QUICK: [u32; 2] = [0, 100];

/// One of the loads.
struct Workload {
    /// The scenario that it is of.
    name: &'static str,
    what: &'static str,
    load: LoadSettings,
    /// Records a second for each of the target's cores, where the load shares them.
    paced: f64,
    measures: Vec<Measure>,
    /// What a request costs. Where all requests have one size, that may be told by the byte.
    cost: Measure,
}

/// S1 and S2 in memory, on one core and on two, for the first target alone.
pub fn core_scaling(stage: &mut Stage) -> Result<Vec<Comparison>, BenchError> {
    let settings = &stage.rounds;
    // This process may have been pinned to one of them.
    if Environment::observe(None).cores < 2 {
        return Err(BenchError::Refused("left out: the target needs two cores".to_owned()));
    }
    let own_cores: Vec<_> = settings.load_cores.iter().copied().filter(|core| *core >= 2).collect();
    let is_shared = own_cores.is_empty();
    let start = |broker_cores: &[usize]| {
        let load_cores = match is_shared {
            // Of two the target has one.
            true if broker_cores.len() == 1 => vec![1],
            true => broker_cores.to_vec(),
            false => own_cores.clone(),
        };
        stage.own_field(&RoundSettings {
            targets: settings.targets[..1].to_vec(),
            broker_cores: broker_cores.to_vec(),
            load_cores,
            ..settings.clone()
        })
    };
    let workloads = workloads(stage);
    let mut cases = Vec::new();
    let mut field = start(&[0])?;
    for workload in &workloads {
        cases.push(play(&mut field, workload, is_shared, None)?);
    }
    drop(field);
    let mut field = start(&[0, 1])?;
    let shares = if stage.is_quick { &WRONG_QUICK[..] } else { &WRONG };
    for (nth, workload) in workloads.iter().enumerate() {
        let placed = shares.iter().map(|wrong| play(&mut field, workload, is_shared, Some(*wrong)));
        let placed = placed.collect::<Result<Vec<_>, _>>()?;
        let on_one = cases[nth].ours(workload.cost.figure());
        cases.extend(judged(placed, on_one, workload.cost));
    }
    Ok(cases)
}

fn workloads(stage: &Stage) -> [Workload; 2] {
    [
        Workload {
            name: "S1",
            what: "64 connections, one record of 100 B a request, M",
            load: tiny(stage, Class::M),
            paced: 20_000.0,
            measures: vec![Measure::RequestsPerSecond, Measure::CpuPerRequest, Measure::AckP99],
            cost: Measure::CpuPerRequest,
        },
        Workload {
            name: "S2",
            what: "8 connections, 2 requests in flight, batches of 250 records of 1 KiB, M",
            load: bulk(stage, Class::M, 250),
            paced: 250_000.0,
            measures: vec![Measure::ProducedMegabytes, Measure::CpuPerGb],
            cost: Measure::CpuPerGb,
        },
    ]
}

/// On one core, or on two with so many percent of the requests on the wrong one.
fn play(
    field: &mut Field,
    Workload { name, what, load, paced, measures, .. }: &Workload,
    is_shared: bool,
    wrong: Option<u32>,
) -> Result<Comparison, BenchError> {
    let target_cores = if wrong.is_some() { 2.0 } else { 1.0 };
    let rate = is_shared.then_some(Rate::Records(paced * target_cores));
    let what = match is_shared {
        true => format!("{what}, {paced} records/s for each core, beside the load"),
        false => (*what).to_owned(),
    };
    let load = LoadSettings { rate: rate.or(load.rate), ..load.clone() };
    let Some(wrong) = wrong else {
        return field.compare(&format!("S8-{name}-1"), &format!("{what}, one core"), &load, measures);
    };
    let load = LoadSettings { wrong_core: Some(f64::from(wrong) / 100.0), ..load };
    let what = format!("{what}, two cores, {wrong} % of the requests arrive on the wrong one");
    field.compare(&format!("S8-{name}-2-{wrong}"), &what, &load, measures)
}

/// Two cores with every request on its own against one core, and those with every request on the wrong one against
/// them. `placed` are in the order of [`WRONG`].
fn judged(mut placed: Vec<Comparison>, on_one: Option<f64>, cost: Measure) -> Vec<Comparison> {
    let figure = cost.figure();
    placed[0].judge_against(figure, Against::new("one core", on_one), AtMost(1.1));
    let right = Against::new("right core", placed[0].ours(figure));
    if let Some(all_wrong) = placed.last_mut() {
        all_wrong.judge_against(figure, right, AtMost(1.25));
    }
    placed
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::compare::Sample;

    #[test]
    fn the_right_core_is_held_against_one_core_and_the_wrong_one_against_the_right_one() {
        let cost = Measure::CpuPerRequest;
        let placed = WRONG.map(|wrong| {
            let mut case = Comparison::new("S8", "", Environment::default(), vec!["Flumen".to_owned()]);
            let figures = BTreeMap::from([(cost.name().to_owned(), 10.5 + f64::from(wrong) * 0.042)]);
            case.samples.push(Sample { target: "Flumen".to_owned(), round: 0, figures, load: None });
            case.add_figure(cost.name(), cost.unit(), false);
            case
        });
        let judged = judged(placed.into(), Some(10.0), cost);
        let verdicts = judged.iter().flat_map(|case| &case.verdicts);
        let told: Vec<_> = verdicts.map(|one| (one.goal.as_str(), one.reached, one.is_met)).collect();
        assert_eq!(told, [("≤ 1.1 × one core", 1.05, true), ("≤ 1.25 × right core", 1.4, false)]);
    }
}
