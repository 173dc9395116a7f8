//! All goals of all comparisons, and what came of them, as one table.

use std::fmt::Write;

use super::chart::escape;
use super::input::Input;
use super::limit::limit_of;
use super::text::number;
use crate::compare::Comparison;
use crate::compare::verdict::Verdict;
use crate::limits::LimitsResult;

/// The goals; without any there is no table.
pub struct Summary {
    head: [String; 7],
    lines: Vec<Line>,
}

/// One goal.
struct Line {
    /// Under the head, in its order.
    cells: [String; 7],
    is_met: bool,
}

impl Summary {
    /// Of all that was compared.
    pub fn of(input: &Input) -> Option<Self> {
        let judged = || input.comparisons.iter().filter(|comparison| !comparison.verdicts.is_empty());
        // A target may have a class behind its name where both are compared.
        let shortest = |nth: usize| {
            let names = judged().filter_map(|comparison| comparison.targets.get(nth));
            names.min_by_key(|name| name.len()).map_or("peer", String::as_str)
        };
        judged().next()?;
        let head = ["case", "figure", "goal", shortest(1), "limit", shortest(0), "reached"];
        let head = head.map(str::to_owned);
        let lines = judged().flat_map(|comparison| {
            let limits = input.limits.as_ref();
            comparison.verdicts.iter().map(move |verdict| Line::of(comparison, verdict, limits))
        });
        Some(Self { head, lines: lines.collect() })
    }

    /// Says how many goals were met.
    pub fn title(&self) -> String {
        let met = self.lines.iter().filter(|line| line.is_met).count();
        format!("Goals: {met} of {} met", self.lines.len())
    }

    /// As a table in Markdown.
    pub fn text(&self) -> String {
        let mut out = format!("| {} | |\n|---|---|---|--:|--:|--:|--:|---|\n", self.head.join(" | "));
        for line in &self.lines {
            let met = if line.is_met { "met" } else { "MISSED" };
            let _ = writeln!(out, "| {} | {met} |", line.cells.join(" | "));
        }
        out
    }

    /// As a table in HTML.
    pub fn html(&self) -> String {
        let mut out = String::from("<table><tr>");
        for (nth, cell) in self.head.iter().enumerate() {
            let _ = write!(out, "<th{}>{}</th>", class(nth), escape(cell));
        }
        out += "<th></th></tr>";
        for Line { cells, is_met } in &self.lines {
            let case = escape(&cells[0]);
            let _ = write!(out, "<tr><td><a href=\"#{case}\">{case}</a></td>");
            for (nth, cell) in cells.iter().enumerate().skip(1) {
                let _ = write!(out, "<td{}>{}</td>", class(nth), escape(cell));
            }
            let met = if *is_met { "met" } else { "missed" };
            let _ = write!(out, "<td class=\"{met}\">{met}</td></tr>");
        }
        out + "</table>"
    }
}

/// The figure and the goal are words.
fn class(column: usize) -> &'static str {
    if matches!(column, 1 | 2) { " class=\"words\"" } else { "" }
}

impl Line {
    fn of(comparison: &Comparison, verdict: &Verdict, limits: Option<&LimitsResult>) -> Self {
        let row = comparison.row((&verdict.name, &verdict.unit));
        let limit = || limit_of(comparison, row?, limits?);
        let limit = verdict.against.clone().or_else(limit);
        Self {
            cells: [
                comparison.name.clone(),
                format!("{}, {}", verdict.name, verdict.unit),
                verdict.goal.clone(),
                verdict.peer.map_or("–".to_owned(), number),
                limit.map_or("–".to_owned(), |limit| format!("{} {}", limit.name, number(limit.value))),
                number(verdict.ours),
                number(verdict.reached),
            ],
            is_met: verdict.is_met,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::compare::Sample;
    use crate::compare::verdict::{Against, Wanted};
    use crate::measure::environment::Environment;

    #[test]
    fn a_goal_stands_beside_the_peer_and_the_limit() {
        let targets = vec!["Flumen".to_owned(), "other".to_owned()];
        let mut comparison = Comparison::new("S1-M", "", Environment::default(), targets);
        for (target, speed) in [("Flumen", 600.0), ("other", 50.0)] {
            let figures = BTreeMap::from([("speed".to_owned(), speed)]);
            comparison.samples.push(Sample { target: target.to_owned(), round: 0, figures, load: None });
        }
        comparison.add_figure("speed", "m/s", true);
        comparison.judge_against_peer(("speed", "m/s"), 12.0);
        comparison.judge_against(("speed", "m/s"), Against::new("L7", Some(1200.0)), Wanted::AtLeast(0.6));
        assert!(Summary::of(&Input::default()).is_none());
        let input = Input { comparisons: vec![comparison], ..Input::default() };
        let summary = Summary::of(&input).expect("two goals");
        assert_eq!(summary.title(), "Goals: 1 of 2 met");
        let text = summary.text();
        for line in [
            "| case | figure | goal | other | limit | Flumen | reached | |",
            "| S1-M | speed, m/s | ≥ 12 × other | 50 | – | 600 | 12 | met |",
            "| S1-M | speed, m/s | ≥ 0.6 × L7 | 50 | L7 1,200 | 600 | 0.5 | MISSED |",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(summary.html().matches("class=\"missed\"").count(), 1);
    }
}
