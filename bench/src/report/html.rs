//! The report as one page that needs nothing else.

use std::collections::BTreeMap;
use std::fmt::Write;

use hdrhistogram::Histogram;

use super::chart::{Chart, Scale, Series, escape};
use super::input::Input;
use super::limit::share_of_limit;
use super::summary::Summary;
use super::text::{milliseconds, number};
use crate::compare::{Comparison, Spread};
use crate::error::BenchError;
use crate::limits::LimitsResult;
use crate::load::tally::Kind;
use crate::result::{LatencySummary, LoadResult};

/// A percentile is drawn if so many samples lie beyond it.
const SAMPLES_BEYOND: f64 = 10.0;

/// The whole page.
pub fn page(input: &Input) -> Result<String, BenchError> {
    let mut body = String::from("<h1>Load test</h1>");
    body += &header(input);
    body += &goals(input);
    body += &throughput_against_latency(input);
    if !input.comparisons.is_empty() {
        body += "<h2>Side by side</h2><p class=\"quiet\">Medians of all rounds with the least and the greatest; × is how many times better the first target is, pair by pair.</p>";
        for comparison in &input.comparisons {
            body += &section(comparison, input.limits.as_ref())?;
        }
    }
    if !input.loads.is_empty() {
        body += "<h2>Loads</h2>";
        let named: Vec<_> = input.loads.iter().map(|load| (load.label.clone(), load)).collect();
        body += &loads(&named)?;
        for load in &input.loads {
            let text = super::text::load(load);
            let _ = write!(
                body,
                "<details><summary>{}</summary><div class=\"wide\"><pre>{}</pre></div></details>",
                escape(&load.label),
                escape(&text)
            );
        }
    }
    body += &logs(input);
    if let Some(limits) = &input.limits {
        body += &limit_table(limits);
    }
    Ok(format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Load test</title><style>{}</style></head><body><main>{body}</main></body></html>\n",
        include_str!("style.css")
    ))
}

/// Where, and by which commands.
fn header(input: &Input) -> String {
    let mut environments = input.comparisons.iter().map(|comparison| &comparison.environment);
    let environment = environments.next().or_else(|| input.loads.first().map(|load| &load.environment));
    let environment = environment.or_else(|| input.limits.as_ref().map(|limits| &limits.environment));
    let Some(environment) = environment else { return String::new() };
    format!(
        "<p class=\"quiet\">{}<br><code>{}</code></p>",
        escape(&environment.summary()),
        escape(&environment.command.join(" "))
    )
}

fn goals(input: &Input) -> String {
    let Some(summary) = Summary::of(input) else { return String::new() };
    format!(
        "<h2>{}</h2><p class=\"quiet\">Reached is the figure itself, or how many times it is: in a goal of at least so many times as good, in one of at most as much.</p><div class=\"card wide\">{}</div>",
        summary.title(),
        summary.html()
    )
}

fn section(comparison: &Comparison, limits: Option<&LimitsResult>) -> Result<String, BenchError> {
    let name = escape(&comparison.name);
    let mut out = format!(
        "<h3 id=\"{name}\">{name}</h3><p>{}</p><div class=\"card wide\">{}</div>",
        escape(&comparison.what),
        table(comparison, limits)
    );
    let samples = comparison.samples.iter();
    let named: Vec<_> =
        samples.filter_map(|sample| Some((sample.target.clone(), sample.load.as_ref()?))).collect();
    let in_order: Vec<_> = comparison
        .targets
        .iter()
        .flat_map(|target| named.iter().filter(move |(name, _)| name == target).cloned())
        .collect();
    out += &loads(&in_order)?;
    if !comparison.notes.is_empty() {
        let notes = comparison.notes.iter().map(|note| format!("<li>{}</li>", escape(note)));
        let _ = write!(out, "<ul class=\"quiet\">{}</ul>", notes.collect::<String>());
    }
    Ok(out)
}

fn table(comparison: &Comparison, limits: Option<&LimitsResult>) -> String {
    let mut out = String::from("<table><tr><th></th>");
    for target in &comparison.targets {
        let _ = write!(out, "<th>{}</th>", escape(target));
    }
    for target in &comparison.targets[1..] {
        let _ = write!(out, "<th>× {}</th>", escape(target));
    }
    out += "<th>limit</th><th>of it</th></tr>";
    for row in &comparison.rows {
        let _ = write!(out, "<tr><td>{}, {}</td>", escape(&row.name), escape(&row.unit));
        for target in &comparison.targets {
            out += &cell(row.targets.get(target));
        }
        for target in &comparison.targets[1..] {
            out += &cell(row.ratios.get(target));
        }
        match share_of_limit(comparison, row, limits) {
            Some((limit, share)) => {
                let _ = write!(
                    out,
                    "<td>{} ({})</td><td>{}</td>",
                    number(limit.value),
                    limit.name,
                    number(share)
                );
            }
            None => out += "<td></td><td></td>",
        }
        out += "</tr>";
    }
    out + "</table>"
}

fn cell(spread: Option<&Spread>) -> String {
    let Some(spread) = spread else { return "<td>–</td>".to_owned() };
    if spread.min == spread.max {
        return format!("<td>{}</td>", number(spread.median));
    }
    format!(
        "<td>{} <span class=\"spread\">{}–{}</span></td>",
        number(spread.median),
        number(spread.min),
        number(spread.max)
    )
}

/// The charts of some loads; those of the same name are put together.
fn loads(named: &[(String, &LoadResult)]) -> Result<String, BenchError> {
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in named {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let of = |name: &str| -> Vec<&LoadResult> {
        named.iter().filter(|(known, _)| known == name).map(|(_, load)| *load).collect()
    };
    let mut charts = String::new();
    for (kind, words) in [(Kind::EndToEnd, "end to end"), (Kind::Ack, "acknowledgement")] {
        let mut series = Vec::new();
        for name in &names {
            let summaries: Vec<_> = of(name).into_iter().filter_map(|load| load.latency(kind)).collect();
            if let Some(whole) = put_together(&summaries)? {
                series.push(Series { name: (*name).clone(), points: curve(&whole) });
            }
        }
        charts += &percentile_chart(&format!("Latency, {words}, from the intended send time"), series);
    }
    type Value = fn(&crate::result::Second) -> f64;
    let over_time: [(&str, &str, Scale, Value); 3] = [
        ("Acknowledgements over time: p99 of each second", "ms", Scale::Log, |second| {
            second.ack_p99_us / 1e3
        }),
        ("Throughput over time: produced and consumed", "MB/s", Scale::Linear, |second| {
            second.produced_megabytes_per_second + second.consumed_megabytes_per_second
        }),
        ("Cores the target kept busy", "cores", Scale::Linear, |second| second.broker_cores),
    ];
    for (caption, unit, scale, value) in over_time {
        let series = names.iter().filter_map(|name| {
            // The last round stands for all: a mean of rounds would hide what one of them shows.
            let last = *of(name).last()?;
            let points: Vec<_> = last.series.iter().map(|second| (second.at, value(second))).collect();
            let is_shown = points.iter().any(|(_, value)| *value > 0.0);
            is_shown.then(|| Series { name: (*name).clone(), points })
        });
        let chart = Chart {
            caption: caption.to_owned(),
            x_label: "seconds".to_owned(),
            y_label: unit.to_owned(),
            x_scale: Scale::Linear,
            y_scale: scale,
            series: series.collect(),
            has_marks: false,
        };
        charts += &chart.html();
    }
    Ok(format!("<div class=\"charts\">{charts}</div>"))
}

fn put_together(summaries: &[&LatencySummary]) -> Result<Option<Histogram<u64>>, BenchError> {
    let mut whole: Option<Histogram<u64>> = None;
    for summary in summaries {
        let one = summary.histogram()?;
        match &mut whole {
            Some(whole) => whole.add(&one).map_err(|error| BenchError::Codec(error.to_string()))?,
            None => whole = Some(one),
        }
    }
    Ok(whole)
}

fn percentile_chart(caption: &str, series: Vec<Series>) -> String {
    let chart = Chart {
        caption: caption.to_owned(),
        x_label: "percentile".to_owned(),
        y_label: "ms".to_owned(),
        x_scale: Scale::Percentile,
        y_scale: Scale::Log,
        series,
        has_marks: false,
    };
    chart.html()
}

/// Percentiles as −log₁₀ of what lies beyond, with milliseconds; as far as there are samples.
fn curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let farthest = (histogram.len() as f64 / SAMPLES_BEYOND).log10().max(0.0);
    let steps = (farthest * 20.0) as usize;
    let at = |step: usize| {
        let place = step as f64 / 20.0;
        let percentile = 100.0 * (1.0 - 10_f64.powf(-place));
        (place, histogram.value_at_percentile(percentile) as f64 / 1e6)
    };
    (0..=steps).map(at).collect()
}

/// Comparisons that differ in their rate alone, and loads of several rates: latency against throughput.
fn throughput_against_latency(input: &Input) -> String {
    let mut families = BTreeMap::<String, Vec<(String, &LoadResult)>>::new();
    for comparison in &input.comparisons {
        let Some((family, _)) = comparison.name.rsplit_once('-') else { continue };
        for sample in &comparison.samples {
            if let Some(load) = sample.load.as_ref().filter(|load| load.rate.is_some()) {
                families.entry(family.to_owned()).or_default().push((sample.target.clone(), load));
            }
        }
    }
    for load in input.loads.iter().filter(|load| load.rate.is_some()) {
        families.entry("Loads".to_owned()).or_default().push((load.target.clone(), load));
    }
    let mut out = String::new();
    for (family, loads) in families {
        let rate = |load: &LoadResult| load.rate.map_or(0, |rate| rate.asked as u64);
        let points: Vec<_> = loads.iter().map(|(target, load)| (target.as_str(), rate(load))).collect();
        if !is_curve(&points) {
            continue;
        }
        type Percentile = fn(&LatencySummary) -> Option<f64>;
        let percentiles: [(&str, Percentile); 3] =
            [("p50", |one| one.p50_us), ("p99", |one| one.p99_us), ("p99.9", |one| one.p99_9_us)];
        let mut charts = String::new();
        for (name, percentile) in percentiles {
            let chart = Chart {
                caption: format!("{family}: {name} against throughput"),
                x_label: "records/s".to_owned(),
                y_label: "ms".to_owned(),
                x_scale: Scale::Linear,
                y_scale: Scale::Log,
                series: rate_series(&loads, percentile),
                has_marks: true,
            };
            charts += &chart.html();
        }
        let _ = write!(
            out,
            "<h2>{}: latency against throughput</h2><div class=\"charts\">{charts}</div>",
            escape(&family)
        );
    }
    out
}

/// Whether any target was asked for more than one rate. Where each has a rate of its own, nothing is to be drawn.
fn is_curve(points: &[(&str, u64)]) -> bool {
    points.iter().any(|(target, rate)| points.iter().any(|(other, its)| other == target && its != rate))
}

fn rate_series(
    loads: &[(String, &LoadResult)],
    percentile: fn(&LatencySummary) -> Option<f64>,
) -> Vec<Series> {
    // In the order of their turns, so that a target looks the same in all charts.
    let mut by_target = Vec::<(&String, BTreeMap<u64, Vec<f64>>)>::new();
    for (target, load) in loads {
        let place = by_target.iter().position(|(known, _)| *known == target).unwrap_or_else(|| {
            by_target.push((target, BTreeMap::new()));
            by_target.len() - 1
        });
        let latency = load.end_to_end.as_ref().or(load.ack.as_ref());
        if let Some((rate, us)) = load.rate.zip(latency.and_then(percentile)) {
            by_target[place].1.entry(rate.asked as u64).or_default().push(us / 1e3);
        }
    }
    let series = by_target.into_iter().map(|(target, points)| Series {
        name: target.clone(),
        points: points
            .into_iter()
            .filter_map(|(rate, values)| Some((rate as f64, Spread::of(&values)?.median)))
            .collect(),
    });
    series.collect()
}

fn logs(input: &Input) -> String {
    if input.logs.is_empty() {
        return String::new();
    }
    let curves = input.logs.iter().map(|log| Series { name: log.name.clone(), points: curve(&log.whole) });
    let over_time = input.logs.iter().map(|log| Series {
        name: log.name.clone(),
        points: log
            .intervals
            .iter()
            .map(|(at, one)| (*at, one.value_at_percentile(99.0) as f64 / 1e6))
            .collect(),
    });
    let chart = Chart {
        caption: "Over time: p99 of each interval".to_owned(),
        x_label: "seconds".to_owned(),
        y_label: "ms".to_owned(),
        x_scale: Scale::Linear,
        y_scale: Scale::Log,
        series: over_time.collect(),
        has_marks: false,
    };
    let rows = input.logs.iter().map(|log| {
        let at = |percentile| milliseconds(crate::result::percentile_us(&log.whole, percentile));
        format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&log.name),
            at(50.0),
            at(99.0),
            at(99.9),
            milliseconds(Some(log.whole.max() as f64 / 1e3)),
            number(log.whole.len() as f64)
        )
    });
    format!(
        "<h2>Interval logs</h2><p class=\"quiet\">Values are taken as nanoseconds.</p><div class=\"charts\">{}{}</div><div class=\"card wide\"><table><tr><th></th><th>p50, ms</th><th>p99</th><th>p99.9</th><th>max</th><th>samples</th></tr>{}</table></div>",
        percentile_chart("Latency", curves.collect()),
        chart.html(),
        rows.collect::<String>()
    )
}

fn limit_table(limits: &LimitsResult) -> String {
    let rows = limits.limits.iter().map(|limit| {
        let cost = limit.cpu_seconds_per_gb.map(|cost| format!("{} CPU-s/GB", number(cost)));
        let cost = cost.or(limit.cpu_us_per_request.map(|cost| format!("{} CPU-µs/request", number(cost))));
        let latency = |value: fn(&LatencySummary) -> Option<f64>| {
            limit.latency.as_ref().map_or(String::new(), |latency| milliseconds(value(latency)))
        };
        format!(
            "<tr><td>{}</td><td class=\"words\">{}</td><td>{} {}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&limit.id),
            escape(&limit.what),
            number(limit.value),
            escape(&limit.unit),
            cost.unwrap_or_default(),
            latency(|latency| latency.p50_us),
            latency(|latency| latency.p99_us)
        )
    });
    format!(
        "<h2>Limits of the machine</h2><p class=\"quiet\">Measured without a broker, by other code than any broker's.</p><div class=\"card wide\"><table><tr><th></th><th></th><th>limit</th><th>cost</th><th>p50, ms</th><th>p99, ms</th></tr>{}</table></div>",
        rows.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_takes_two_rates_of_one_target() {
        assert!(is_curve(&[("a", 100), ("b", 100), ("a", 200)]));
        assert!(!is_curve(&[("a", 100), ("b", 50), ("a", 100), ("b", 50)]));
    }
}
