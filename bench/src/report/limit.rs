//! Which limit of the machine a figure is read against.

use crate::compare::measure::Measure;
use crate::compare::verdict::Against;
use crate::compare::{Comparison, Row};
use crate::limits::LimitsResult;

/// The limit of a figure, where there is one of its kind.
pub fn limit_of(comparison: &Comparison, row: &Row, limits: &LimitsResult) -> Option<Against> {
    let is_read = comparison.row(Measure::ConsumedMegabytes.figure()).is_some();
    // An acknowledgement waits for the disk in the durable class alone, and hardly for anything else there. A case of
    // both classes is not held against one commit.
    let mut loads = comparison.samples.iter().filter_map(|sample| sample.load.as_ref()).peekable();
    let is_durable = loads.peek().is_some() && loads.all(|load| load.settings.is_durable());
    let commit = || limits.best("L4", "64 KiB").filter(|_| is_durable)?.latency.as_ref();
    let (id, value) = match (row.name.as_str(), row.unit.as_str()) {
        ("requests answered", _) if !is_durable => ("L7", Some(limits.best("L7", "64 connections")?.value)),
        ("produced", "MB/s") => ("L8", Some(limits.best("L8", "")?.value)),
        ("consumed", "MB/s") => ("L6", Some(limits.best("L6", "")?.value)),
        (_, "CPU-s/GB") if is_read => ("L6", limits.best("L6", "")?.cpu_seconds_per_gb),
        (_, "CPU-s/GB") => ("L8", limits.best("L8", "")?.cpu_seconds_per_gb),
        (_, "CPU-µs/request") => ("L7", limits.best("L7", "64 connections")?.cpu_us_per_request),
        ("ack p50", _) => ("L4", commit()?.p50_us.map(|us| us / 1e3)),
        ("ack p99", _) => ("L4", commit()?.p99_us.map(|us| us / 1e3)),
        _ => return None,
    };
    Against::new(id, value)
}

/// The limit of a figure, and the first target's share of it: 1 is as good as the limit, less is worse.
pub fn share_of_limit(
    comparison: &Comparison,
    row: &Row,
    limits: Option<&LimitsResult>,
) -> Option<(Against, f64)> {
    let limit = limit_of(comparison, row, limits?)?;
    let share = row.times_as_good(row.median(&comparison.targets[0])?, limit.value);
    Some((limit, share))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::compare::Sample;
    use crate::limits::{FORMAT, Limit};
    use crate::load::settings::{DURABLE, IN_MEMORY, LoadSettings};
    use crate::measure::environment::Environment;
    use crate::result::{LatencySummary, LoadResult};

    #[test]
    fn a_share_is_of_the_limit_of_its_kind() {
        let limit = |id: &str, value, cpu_seconds_per_gb| Limit {
            id: id.to_owned(),
            value,
            cpu_seconds_per_gb,
            ..Limit::default()
        };
        let limits = LimitsResult {
            format: FORMAT.to_owned(),
            environment: Environment::default(),
            limits: vec![limit("L6", 4000.0, Some(0.4)), limit("L8", 1000.0, Some(0.5))],
        };
        let mut comparison =
            Comparison::new("S2-M", "", Environment::default(), vec!["a".to_owned(), "b".to_owned()]);
        let mut measured = |name: &str, unit, value, is_more_better| {
            for target in ["a", "b"] {
                let figures = BTreeMap::from([(name.to_owned(), value)]);
                comparison.samples.push(Sample { target: target.to_owned(), round: 0, figures, load: None });
            }
            comparison.add_figure(name, unit, is_more_better);
            comparison.rows.clone().iter().map(|row| told(&comparison, row, &limits)).collect::<Vec<_>>()
        };
        assert_eq!(measured("produced", "MB/s", 500.0, true), ["L8 0.5"]);
        assert_eq!(measured("target's CPU time", "CPU-s/GB", 2.0, false), ["L8 0.5", "L8 0.25"]);
        // Where something is read, the bytes that go out cost more than those that come in.
        assert_eq!(measured("consumed", "MB/s", 1000.0, true), ["L8 0.5", "L6 0.2", "L6 0.25"]);
    }

    #[test]
    fn an_acknowledgement_waits_for_a_commit_where_all_loads_are_durable() {
        let latency = LatencySummary { p50_us: Some(4_000.0), ..LatencySummary::default() };
        let commit = |what: &str| Limit {
            id: "L4".to_owned(),
            what: what.to_owned(),
            latency: Some(latency.clone()),
            ..Limit::default()
        };
        let limits = LimitsResult {
            format: FORMAT.to_owned(),
            environment: Environment::default(),
            limits: vec![commit("64 KiB")],
        };
        // Whatever the case is called.
        let limit = |loads: &[&str]| {
            let mut case = Comparison::new("S4-D", "", Environment::default(), vec!["a".to_owned()]);
            for (round, config) in loads.iter().enumerate() {
                let settings =
                    LoadSettings { configs: vec![(*config).to_owned()], ..LoadSettings::default() };
                let ack = Some(LatencySummary { p50_us: Some(2_000.0), ..LatencySummary::default() });
                let load = Some(LoadResult { settings, ack, ..LoadResult::default() });
                case.samples.push(Sample { target: "a".to_owned(), round, figures: BTreeMap::new(), load });
            }
            case.add_measure(Measure::AckP50);
            limit_of(&case, &case.rows[0], &limits).map(|limit| (limit.name, limit.value))
        };
        assert_eq!(limit(&[DURABLE, DURABLE]), Some(("L4".to_owned(), 4.0)));
        assert_eq!(limit(&[DURABLE, IN_MEMORY]), None);
        assert_eq!(limit(&[IN_MEMORY]), None);
        assert_eq!(limit(&["retention.ms=1000"]), None);
    }

    fn told(comparison: &Comparison, row: &Row, limits: &LimitsResult) -> String {
        let (limit, share) = share_of_limit(comparison, row, Some(limits)).expect("there is one of its kind");
        format!("{} {share}", limit.name)
    }
}
