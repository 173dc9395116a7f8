//! A result as text, in columns that fio's and OpenMessaging's readers know.

use std::fmt::Write;

use super::limit::share_of_limit;
use crate::compare::{Comparison, Spread};
use crate::limits::LimitsResult;
use crate::load::tally::Kind;
use crate::result::{LatencySummary, LoadResult};

/// One load.
pub fn load(result: &LoadResult) -> String {
    let mut out = String::new();
    let settings = &result.settings;
    let kind = result
        .rate
        .map_or("closed loop".to_owned(), |rate| format!("open loop at {} records/s", number(rate.asked)));
    let _ = writeln!(
        out,
        "{}: {kind}, {} connections × {} in flight, {} B records, {} to a batch, acks {}, {:.1} s, ended by {}",
        result.label,
        settings.connections,
        settings.depth(),
        settings.record_bytes,
        settings.batch_records,
        if settings.acks == -1 { "all".to_owned() } else { settings.acks.to_string() },
        result.seconds,
        result.ended
    );
    let _ = writeln!(out, "  {}", result.environment.summary());
    for (name, flow) in [("produced", result.produced), ("consumed", result.consumed)] {
        if let Some(flow) = flow {
            let _ = writeln!(
                out,
                "  {name:<10} {:>12} records/s {:>12} requests/s {:>10.1} MB/s",
                number(flow.records_per_second),
                number(flow.requests_per_second),
                flow.megabytes_per_second
            );
        }
    }
    out += &latencies(result);
    if let Some(broker) = &result.broker {
        let optional = |value: Option<f64>, unit: &str| {
            value.map_or(String::new(), |value| format!("{:>10} {unit}", number(value)))
        };
        let _ = writeln!(
            out,
            "  target     {:>6.2} cores {} {}   RSS {:.0} MB   pid {}",
            broker.cores,
            optional(broker.cpu_us_per_request, "CPU-µs/request"),
            optional(broker.cpu_seconds_per_gb, "CPU-s/GB"),
            broker.rss_bytes_max as f64 / 1e6,
            broker.pid
        );
    }
    if let Some(device) = &result.device {
        let _ = writeln!(
            out,
            "  device     {}: {:.1} MB/s written, {}, {} flushes/s, {:.1} MB/s read",
            device.name,
            device.written_bytes as f64 / 1e6 / result.seconds.max(1e-9),
            device.written_per_produced.map_or("–".to_owned(), |ratio| format!("{ratio:.2} bytes/byte")),
            number(device.flushes_per_second),
            device.read_bytes as f64 / 1e6 / result.seconds.max(1e-9)
        );
    }
    let client = &result.client;
    let _ = writeln!(
        out,
        "  load       busiest thread {:.0} % of its core, waited {:.0} % for it",
        client.busiest_thread_share * 100.0,
        client.waiting_share * 100.0
    );
    for warning in &result.warnings {
        let _ = writeln!(out, "  ! {warning}");
    }
    out
}

/// A comparison as a table in Markdown.
pub fn comparison(comparison: &Comparison, limits: Option<&LimitsResult>) -> String {
    let (ours, peers) = (&comparison.targets[0], &comparison.targets[1..]);
    let mut out = format!("**{}** {}\n\n| |", comparison.name, comparison.what);
    for target in &comparison.targets {
        let _ = write!(out, " {target} |");
    }
    for peer in peers {
        let _ = write!(out, " {ours} × {peer} |");
    }
    let _ = writeln!(out, " limit | of it |\n|---|{}", "--:|".repeat(2 * comparison.targets.len() + 1));
    for row in &comparison.rows {
        let _ = write!(out, "| {}, {} |", row.name, row.unit);
        let targets = comparison.targets.iter().map(|target| row.targets.get(target));
        for spread in targets.chain(peers.iter().map(|peer| row.ratios.get(peer))) {
            let _ = write!(out, " {} |", spread.map_or("–".to_owned(), Spread::text));
        }
        let _ = match share_of_limit(comparison, row, limits) {
            Some((limit, share)) => {
                writeln!(out, " {} {} | {} |", limit.name, number(limit.value), number(share))
            }
            None => writeln!(out, " | |"),
        };
    }
    out.push('\n');
    for note in &comparison.notes {
        let _ = writeln!(out, "- note: {note}");
    }
    out
}

fn latencies(result: &LoadResult) -> String {
    let mut out = String::new();
    let rows = [
        (Kind::Slip, "send slip"),
        (Kind::Ack, "ack"),
        (Kind::Service, "service"),
        (Kind::EndToEnd, "end to end"),
    ];
    let rows: Vec<_> =
        rows.into_iter().filter_map(|(kind, name)| Some((name, result.latency(kind)?))).collect();
    if rows.is_empty() {
        return out;
    }
    let _ = writeln!(
        out,
        "  {:<10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}   samples",
        "ms", "min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"
    );
    for (name, summary) in rows {
        let _ = writeln!(out, "  {name:<10} {}", columns(summary));
    }
    out
}

fn columns(summary: &LatencySummary) -> String {
    let known = [Some(summary.min_us), Some(summary.mean_us)];
    let percentiles = [summary.p50_us, summary.p90_us, summary.p99_us, summary.p99_9_us, summary.p99_99_us];
    let cells = known.into_iter().chain(percentiles).chain([Some(summary.max_us)]);
    let cells: Vec<_> = cells.map(|value| format!("{:>8}", milliseconds(value))).collect();
    format!("{} {:>9}", cells.join(" "), number(summary.samples as f64))
}

/// Microseconds as milliseconds, to three digits; a dash where there are not enough samples.
pub fn milliseconds(us: Option<f64>) -> String {
    let Some(us) = us else { return "–".to_owned() };
    let ms = us / 1e3;
    match ms {
        ..10.0 => format!("{ms:.3}"),
        ..100.0 => format!("{ms:.2}"),
        ..1000.0 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}

/// A number to three digits or more, with commas.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    if value.abs() < 100.0 {
        let decimals = if value.abs() < 1.0 {
            3
        } else if value.abs() < 10.0 {
            2
        } else {
            1
        };
        let text = format!("{value:.decimals$}");
        return if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        };
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_long_as_they_need_to_be() {
        for (value, text) in [
            (0.0, "0"),
            (0.0123, "0.012"),
            (1.5, "1.5"),
            (42.0, "42"),
            (100.0, "100"),
            (1234.6, "1,235"),
            (-1_234_567.0, "-1,234,567"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn milliseconds_have_three_digits() {
        assert_eq!(milliseconds(None), "–");
        assert_eq!(milliseconds(Some(12.0)), "0.012");
        assert_eq!(milliseconds(Some(12_345.0)), "12.35");
        assert_eq!(milliseconds(Some(2_000_000.0)), "2000");
    }
}
