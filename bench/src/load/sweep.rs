//! Several rates, one after the other: a given list, or a search for the highest that is held.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::settings::{LoadSettings, Rate};
use super::{Outcome, run};
use crate::console::{Progress, note};
use crate::error::BenchError;
use crate::result::LoadResult;

/// The search ends when the highest rate that held and the lowest that did not are so near.
const NEAR: f64 = 1.06;
/// And after so many runs at the latest.
const RUNS_MAX: usize = 24;
/// The first rate, if none is given.
const FIRST_RECORDS_PER_SECOND: f64 = 1000.0;

/// Whether a run held its rate: it was reached, and the acknowledgements stayed below the limit.
pub fn is_held(result: &LoadResult, p99_max_us: f64) -> bool {
    let p99 = result.ack.as_ref().and_then(|ack| ack.p99_us.or(Some(ack.max_us)));
    result.failure().is_none()
        && result.rate.is_some_and(|rate| rate.is_held)
        && p99.is_none_or(|p99| p99 <= p99_max_us)
}

/// Runs at each rate in turn; ends early when interrupted.
pub fn ladder(
    settings: &LoadSettings,
    rates: &[Rate],
    progress: &Progress,
    is_interrupted: &Arc<AtomicBool>,
) -> Result<Vec<Outcome>, BenchError> {
    let mut outcomes = Vec::with_capacity(rates.len());
    for rate in rates {
        if is_interrupted.load(Relaxed) {
            break;
        }
        outcomes.push(run_at(
            settings,
            rate.records_per_second(settings.record_bytes),
            progress,
            is_interrupted,
        )?);
    }
    Ok(outcomes)
}

/// Doubles the rate until it is not held, then halves the distance. Gives all runs, in their order.
pub fn search(
    settings: &LoadSettings,
    p99_max_us: f64,
    progress: &Progress,
    is_interrupted: &Arc<AtomicBool>,
) -> Result<Vec<Outcome>, BenchError> {
    let mut outcomes = Vec::new();
    let mut bounds = Bounds::default();
    let first = settings.rate.map(|rate| rate.records_per_second(settings.record_bytes));
    let mut next = first.unwrap_or(FIRST_RECORDS_PER_SECOND * settings.request_records() as f64);
    while outcomes.len() < RUNS_MAX && !is_interrupted.load(Relaxed) {
        let outcome = match run_at(settings, next, progress, is_interrupted) {
            Err(BenchError::Refused(why)) if why.starts_with("an impossible rate") => {
                note(&format!("{next:>12.0} records/s  {why}"));
                bounds.take(next, false);
                None
            }
            other => Some(other?),
        };
        if let Some(outcome) = outcome {
            let is_held = is_held(&outcome.result, p99_max_us);
            note(&format!("{next:>12.0} records/s  {}", if is_held { "held" } else { "not held" }));
            bounds.take(next, is_held);
            let has_failed = outcome.result.failure().is_some();
            outcomes.push(outcome);
            if has_failed {
                break;
            }
        }
        match bounds.next() {
            Some(rate) => next = rate,
            None => break,
        }
    }
    Ok(outcomes)
}

/// The run of a search that held the highest rate.
pub fn best(outcomes: &[Outcome], p99_max_us: f64) -> Option<&LoadResult> {
    let held = outcomes.iter().map(|outcome| &outcome.result).filter(|result| is_held(result, p99_max_us));
    let asked = |result: &&LoadResult| result.rate.map_or(0.0, |rate| rate.asked);
    held.max_by(|one, other| asked(one).total_cmp(&asked(other)))
}

fn run_at(
    settings: &LoadSettings,
    records_per_second: f64,
    progress: &Progress,
    is_interrupted: &Arc<AtomicBool>,
) -> Result<Outcome, BenchError> {
    let label = format!("{}-{:.0}", settings.label, records_per_second);
    let rate = Some(Rate::Records(records_per_second));
    run(&LoadSettings { rate, label, ..settings.clone() }, progress, is_interrupted)
}

/// What a search knows.
#[derive(Default)]
struct Bounds {
    held: Option<f64>,
    missed: Option<f64>,
}

impl Bounds {
    fn take(&mut self, rate: f64, is_held: bool) {
        if is_held {
            self.held = Some(self.held.map_or(rate, |held| held.max(rate)));
        } else {
            self.missed = Some(self.missed.map_or(rate, |missed| missed.min(rate)));
        }
    }

    /// The next rate; `None` if it is known well enough.
    fn next(&self) -> Option<f64> {
        match (self.held, self.missed) {
            (Some(held), None) => Some(held * 2.0),
            (None, Some(missed)) => (missed > 1.0).then_some(missed / 4.0),
            // The distance is halved on a scale of ratios.
            (Some(held), Some(missed)) => (missed / held > NEAR).then(|| (held * missed).sqrt()),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_comes_near_to_what_holds() {
        for highest in [7.0, 1000.0, 123_456.0] {
            let mut bounds = Bounds::default();
            let mut next = 1000.0;
            let mut runs = 0;
            loop {
                bounds.take(next, next <= highest);
                runs += 1;
                match bounds.next() {
                    Some(rate) => next = rate,
                    None => break,
                }
            }
            let held = bounds.held.expect("something holds");
            assert!(held <= highest && held * NEAR >= highest, "{held} for {highest}");
            assert!(runs <= RUNS_MAX, "{runs} runs for {highest}");
        }
    }
}
