//! Which limit of the machine a figure is read against.

use crate::compare::verdict::Against;
use crate::compare::{Comparison, Row};
use crate::limits::LimitsResult;

/// The limit of a figure, where there is one of its kind.
pub fn limit_of(comparison: &Comparison, row: &Row, limits: &LimitsResult) -> Option<Against> {
    let is_read = comparison.row(("consumed", "MB/s")).is_some();
    // An acknowledgement waits for the disk in the durable class alone, and hardly for anything else there.
    let is_durable = comparison.name.contains("-D");
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

/// A figure as a share of its limit: 1 is as good as the limit, less is worse.
pub fn share_of_limit(row: &Row, figure: f64, limit: &Against) -> f64 {
    if row.is_more_better { figure / limit.value } else { limit.value / figure }
}
