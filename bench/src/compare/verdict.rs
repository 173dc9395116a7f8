//! Goals, and what came of them.

use serde::{Deserialize, Serialize};

use super::{Comparison, Row};
use crate::report::text::number;

/// A figure by its name and its unit.
pub type Figure<'a> = (&'a str, &'a str);

/// What is wanted. Where a figure is held against another: at least so many times as good, at most so many times
/// as much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
}

/// What a figure is held against: a limit of the machine, or another case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Against {
    /// Its name, such as L7.
    pub name: String,
    /// In the figure's unit.
    pub value: f64,
}

/// A goal, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The figure's name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// What is wanted of it, such as `≥ 12 × Apache Kafka`.
    pub goal: String,
    /// The figure of who is judged.
    pub ours: f64,
    /// The peer's.
    pub peer: Option<f64>,
    /// What it is held against, if that is not the peer.
    pub against: Option<Against>,
    /// What was reached: the figure itself, or a ratio.
    pub reached: f64,
    /// Whether that is enough.
    pub is_met: bool,
}

impl Wanted {
    fn is_met(self, reached: f64) -> bool {
        match self {
            Self::AtLeast(least) => reached >= least,
            Self::AtMost(most) => reached <= most,
        }
    }

    fn words(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {}", number(least)),
            Self::AtMost(most) => format!("≤ {}", number(most)),
        }
    }

    /// One figure as so many times the other: as good, or as much.
    fn ratio(self, row: &Row, one: f64, other: f64) -> f64 {
        match self {
            Self::AtLeast(_) => row.times_as_good(one, other),
            Self::AtMost(_) => one / other,
        }
    }
}

impl Against {
    /// `None` where it was not measured.
    pub fn new(name: &str, value: Option<f64>) -> Option<Self> {
        Some(Self { name: name.to_owned(), value: value.filter(|value| *value > 0.0)? })
    }
}

/// What was not measured is not judged.
impl Comparison {
    /// Judges the first target's figure by itself.
    pub fn judge(&mut self, figure: Figure, wanted: Wanted) {
        let Some(row) = self.row(figure) else { return };
        let Some(ours) = row.median(&self.targets[0]) else { return };
        self.add_verdict(figure, wanted.words(), ours, None, ours, wanted);
    }

    /// Judges it against something else than a target.
    pub fn judge_against(&mut self, figure: Figure, against: Option<Against>, wanted: Wanted) {
        let Some((row, against)) = self.row(figure).zip(against) else { return };
        let Some(ours) = row.median(&self.targets[0]) else { return };
        let goal = format!("{} × {}", wanted.words(), against.name);
        let reached = wanted.ratio(row, ours, against.value);
        self.add_verdict(figure, goal, ours, Some(against), reached, wanted);
    }

    /// Judges how many times better it is than the second target's, if there is one, pair by pair.
    pub fn judge_against_peer(&mut self, figure: Figure, wanted: f64) {
        let wanted = Wanted::AtLeast(wanted);
        let Some((row, peer)) = self.row(figure).zip(self.targets.get(1)) else { return };
        let (ours, ratio) = (row.median(&self.targets[0]), row.ratios.get(peer));
        let Some((ours, ratio)) = ours.zip(ratio) else { return };
        let goal = format!("{} × {peer}", wanted.words());
        self.add_verdict(figure, goal, ours, None, ratio.median, wanted);
    }

    /// Judges one target against another, by their medians.
    pub fn judge_pair(&mut self, figure: Figure, one: &str, other: &str, wanted: Wanted) {
        let Some(row) = self.row(figure) else { return };
        let Some((ours, theirs)) = row.median(one).zip(row.median(other)) else { return };
        let goal = format!("{one}: {} × {other}", wanted.words());
        self.add_verdict(figure, goal, ours, None, wanted.ratio(row, ours, theirs), wanted);
    }

    fn add_verdict(
        &mut self,
        (name, unit): Figure,
        goal: String,
        ours: f64,
        against: Option<Against>,
        reached: f64,
        wanted: Wanted,
    ) {
        let row = self.row((name, unit));
        self.verdicts.push(Verdict {
            name: name.to_owned(),
            unit: unit.to_owned(),
            goal,
            ours,
            peer: row.zip(self.targets.get(1)).and_then(|(row, peer)| row.median(peer)),
            against,
            reached,
            is_met: wanted.is_met(reached),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Sample;
    use super::*;
    use crate::measure::environment::Environment;

    /// Two targets, the first of which is twice as fast and takes half the time.
    fn measured() -> Comparison {
        let targets = vec!["a".to_owned(), "b".to_owned()];
        let mut comparison = Comparison::new("x", "", Environment::default(), targets);
        for (target, speed, time) in [("a", 6.0, 2.0), ("b", 3.0, 4.0)] {
            let figures = BTreeMap::from([("speed".to_owned(), speed), ("time".to_owned(), time)]);
            comparison.samples.push(Sample { target: target.to_owned(), round: 0, figures, load: None });
        }
        comparison.add_figure("speed", "m/s", true);
        comparison.add_figure("time", "s", false);
        comparison
    }

    #[test]
    fn at_least_is_as_good_and_at_most_is_as_much() {
        let mut comparison = measured();
        let limit = |value| Against::new("L1", Some(value));
        comparison.judge_against(("speed", "m/s"), limit(12.0), Wanted::AtLeast(0.6));
        comparison.judge_against(("time", "s"), limit(1.0), Wanted::AtLeast(0.5));
        comparison.judge_against(("time", "s"), limit(1.0), Wanted::AtMost(1.5));
        comparison.judge_against_peer(("time", "s"), 2.0);
        comparison.judge(("time", "s"), Wanted::AtMost(1.0));
        let told = comparison.verdicts.iter().map(|one| (one.goal.as_str(), one.reached, one.is_met));
        let wanted = [
            ("≥ 0.6 × L1", 0.5, false),
            ("≥ 0.5 × L1", 0.5, true),
            ("≤ 1.5 × L1", 2.0, false),
            ("≥ 2 × b", 2.0, true),
            ("≤ 1", 2.0, false),
        ];
        assert_eq!(told.collect::<Vec<_>>(), wanted);
        assert_eq!((comparison.verdicts[0].ours, comparison.verdicts[0].peer), (6.0, Some(3.0)));
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        let mut comparison = measured();
        comparison.judge(("weight", "kg"), Wanted::AtMost(1.0));
        comparison.judge_against(("speed", "m/s"), Against::new("L1", None), Wanted::AtLeast(1.0));
        comparison.targets.truncate(1);
        comparison.judge_against_peer(("speed", "m/s"), 1.0);
        assert!(comparison.verdicts.is_empty());
    }
}
