//! Two or more targets under the same load, in turn, A B A B: medians, their spread, and the ratio pair by pair.
//!
//! Absolute figures are those of one machine on one day. A pair of runs that follow each other shares the
//! machine's mood, so the ratio of a pair says more than the ratio of two medians.

pub mod device;
pub mod measure;
pub mod memory;
pub mod rounds;
pub mod target;
pub mod verdict;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use self::measure::Measure;
use self::verdict::{Figure, Verdict};
use crate::error::BenchError;
use crate::measure::environment::Environment;
use crate::report::text::number;
use crate::result::LoadResult;

/// The name of the result's format.
pub const FORMAT: &str = "flumen-bench-comparison-1";

/// The same load on several targets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// [`FORMAT`].
    pub format: String,
    /// Its name, such as S1-M.
    pub name: String,
    /// What was done, in words.
    pub what: String,
    /// Where.
    pub environment: Environment,
    /// The targets, in the order in which they took turns. The first is the one that is judged.
    pub targets: Vec<String>,
    /// What was measured of whom in which round.
    pub samples: Vec<Sample>,
    /// The figures put together.
    pub rows: Vec<Row>,
    /// Goals, and whether they are met.
    pub verdicts: Vec<Verdict>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// One run of one target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Which target.
    pub target: String,
    /// Which round, from 0.
    pub round: usize,
    /// Figures by name that are not of a load.
    pub figures: BTreeMap<String, f64>,
    /// The load, if there was one.
    pub load: Option<LoadResult>,
}

/// One figure of all targets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What it is.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// Whether more of it is better.
    pub is_more_better: bool,
    /// By target; without those of which it was not measured.
    pub targets: BTreeMap<String, Spread>,
    /// How many times better the first target is than each other one, pair by pair.
    pub ratios: BTreeMap<String, Spread>,
}

/// The median of some values, with the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted: Vec<_> = values.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() {
            0 => return None,
            odd if odd % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };
        Some(Self { median, min: sorted[0], max: sorted[sorted.len() - 1] })
    }

    /// As text: the median, and the ends in brackets.
    pub fn text(&self) -> String {
        if self.min == self.max {
            return number(self.median);
        }
        format!("{} ({}–{})", number(self.median), number(self.min), number(self.max))
    }
}

impl Row {
    /// A target's median, if it was measured.
    pub fn median(&self, target: &str) -> Option<f64> {
        Some(self.targets.get(target)?.median)
    }

    /// How many times as good as the other one such figure is.
    pub fn times_as_good(&self, one: f64, other: f64) -> f64 {
        if self.is_more_better { one / other } else { other / one }
    }
}

impl Comparison {
    /// Nothing has been measured.
    pub fn new(name: &str, what: &str, environment: Environment, targets: Vec<String>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            name: name.to_owned(),
            what: what.to_owned(),
            environment,
            targets,
            samples: Vec::new(),
            rows: Vec::new(),
            verdicts: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Puts a figure of the loads together.
    pub fn add_measure(&mut self, measure: Measure) {
        let value = |sample: &Sample| sample.load.as_ref().and_then(|load| measure.of(load));
        self.add(measure.name(), measure.unit(), measure.is_more_better(), value);
    }

    /// Puts a figure together that is not of a load.
    pub fn add_figure(&mut self, name: &str, unit: &str, is_more_better: bool) {
        self.add(name, unit, is_more_better, |sample| sample.figures.get(name).copied());
    }

    fn add(&mut self, name: &str, unit: &str, is_more_better: bool, value: impl Fn(&Sample) -> Option<f64>) {
        let of = |target: &String| -> BTreeMap<usize, f64> {
            let samples = self.samples.iter().filter(|sample| &sample.target == target);
            samples.filter_map(|sample| Some((sample.round, value(sample)?))).collect()
        };
        let by_target: BTreeMap<_, _> = self.targets.iter().map(|target| (target, of(target))).collect();
        let spread =
            |values: &BTreeMap<usize, f64>| Spread::of(&values.values().copied().collect::<Vec<_>>());
        let targets =
            by_target.iter().filter_map(|(target, values)| Some(((*target).clone(), spread(values)?)));
        let targets: BTreeMap<_, _> = targets.collect();
        if targets.is_empty() {
            return;
        }
        let (name, unit, ratios) = (name.to_owned(), unit.to_owned(), BTreeMap::new());
        let mut row = Row { name, unit, is_more_better, targets, ratios };
        let first = &by_target[&self.targets[0]];
        for target in &self.targets[1..] {
            let pairs = first.iter().filter_map(|(round, ours)| Some((ours, by_target[target].get(round)?)));
            let ratios: Vec<_> = pairs.map(|(ours, theirs)| row.times_as_good(*ours, *theirs)).collect();
            row.ratios.extend(Spread::of(&ratios).map(|ratio| (target.clone(), ratio)));
        }
        self.rows.push(row);
    }

    /// The row of a figure.
    pub fn row(&self, (name, unit): Figure) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name && row.unit == unit)
    }

    /// The first target's median of a figure.
    pub fn ours(&self, figure: Figure) -> Option<f64> {
        self.row(figure)?.median(&self.targets[0])
    }

    /// Takes over what the loads warn of, once each.
    pub fn take_warnings(&mut self) {
        for sample in &self.samples {
            for warning in sample.load.iter().flat_map(|load| &load.warnings) {
                // The same with other numbers is the same.
                let kind = |text: &str| text.chars().filter(|one| !one.is_ascii_digit()).collect::<String>();
                let note = format!("{}: {warning}", sample.target);
                if self.notes.iter().all(|known| kind(known) != kind(&note)) {
                    self.notes.push(note);
                }
            }
        }
    }

    /// Writes NAME.json into a folder.
    pub fn write(&self, folder: &Path) -> Result<(), BenchError> {
        let wrong = |source| BenchError::io(format!("write into {}", folder.display()), source);
        std::fs::create_dir_all(folder).map_err(wrong)?;
        let json = serde_json::to_string(self).map_err(BenchError::codec)?;
        std::fs::write(folder.join(format!("{}.json", self.name)), json).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(target: &str, round: usize, value: f64) -> Sample {
        let figures = BTreeMap::from([("speed".to_owned(), value)]);
        Sample { target: target.to_owned(), round, figures, load: None }
    }

    #[test]
    fn a_spread_is_the_median_with_its_neighbours_at_both_ends() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(&[1.0, 2.0, 3.0, 4.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[f64::NAN]), None);
    }

    #[test]
    fn ratios_are_of_pairs_and_more_than_one_is_better() {
        for (is_more_better, wanted) in [(true, 2.0), (false, 0.5)] {
            let targets = vec!["a".to_owned(), "b".to_owned()];
            let mut comparison = Comparison::new("x", "", Environment::default(), targets);
            // The machine was three times faster in the second round; the pairs do not see it.
            for (round, speed) in [(0, 1.0), (1, 3.0)] {
                comparison.samples.push(sample("a", round, 2.0 * speed));
                comparison.samples.push(sample("b", round, speed));
            }
            comparison.samples.push(sample("a", 2, 100.0));
            comparison.add_figure("speed", "m/s", is_more_better);
            let row = comparison.row(("speed", "m/s")).expect("it was measured");
            assert_eq!(row.ratios["b"], Spread { median: wanted, min: wanted, max: wanted });
            let table = crate::report::text::comparison(&comparison, None);
            assert!(table.contains("| speed, m/s | 6 (2–100) | 2 (1–3) |"), "{table}");
        }
    }
}
