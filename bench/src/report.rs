//! The result, as one JSON object on one line.

use std::fmt::Write;

use crate::load::{BenchError, Load, Outcome, Work};

/// The run and what came of it. Rates are per second of what was counted, latencies in µs, bytes those of
/// record batches; a GB is 10⁹ bytes.
pub fn json(label: &str, load: &Load, outcome: &Outcome) -> String {
    let seconds = outcome.elapsed.as_secs_f64();
    let mut object = Object::new();
    object.text("label", label);
    match load.work {
        Work::Produce { record_bytes, records_per_batch, batches_per_request, depth, acks } => {
            object.text("work", "produce");
            object.number("record_bytes", record_bytes as f64);
            object.number("records_per_batch", records_per_batch as f64);
            object.number("batches_per_request", batches_per_request as f64);
            object.number("depth", depth as f64);
            object.number("acks", f64::from(acks));
            let records = outcome.requests as usize * records_per_batch * batches_per_request;
            object.number("records_per_second", records as f64 / seconds);
        }
        Work::Fetch { max_bytes, tail } => {
            object.text("work", if tail { "fetch-tail" } else { "fetch" });
            object.number("max_bytes", f64::from(max_bytes));
        }
    }
    object.number("connections", load.connections as f64);
    object.number("partitions", f64::from(load.partitions));
    object.number("seconds", seconds);
    object.number("requests", outcome.requests as f64);
    object.number("bytes", outcome.bytes as f64);
    object.number("requests_per_second", outcome.requests as f64 / seconds);
    object.number("megabytes_per_second", outcome.bytes as f64 / seconds / 1e6);
    for (name, percentile) in [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99_9", 99.9), ("max", 100.0)] {
        object.number(&format!("latency_us_{name}"), outcome.latency.value_at_percentile(percentile) as f64);
    }
    if let Some(cpu_seconds) = outcome.broker_cpu_seconds {
        object.number("broker_cpu_seconds", cpu_seconds);
        object.number("broker_cpu_seconds_per_gb", cpu_seconds / (outcome.bytes as f64 / 1e9));
        object.number("broker_cpu_us_per_request", cpu_seconds * 1e6 / outcome.requests as f64);
    }
    object.number("client_cpu_seconds", outcome.client_cpu_seconds);
    object.finish()
}

/// Prints a result.
#[expect(clippy::print_stdout, reason = "the result is the program's output")]
pub fn print(json: &str) {
    println!("{json}");
}

/// Says why there is no result.
#[expect(clippy::print_stderr, reason = "a command-line program says what went wrong")]
pub fn complain(error: &BenchError) {
    eprintln!("flumen-bench: {error}");
}

/// A flat JSON object.
struct Object {
    text: String,
}

impl Object {
    fn new() -> Self {
        Self { text: "{".to_owned() }
    }

    fn key(&mut self, key: &str) {
        if self.text.len() > 1 {
            self.text.push_str(", ");
        }
        let _ = write!(self.text, "\"{key}\": ");
    }

    /// At most three decimals; null where there is no number.
    fn number(&mut self, key: &str, value: f64) {
        self.key(key);
        if value.is_finite() {
            let rounded = (value * 1000.0).round() / 1000.0;
            let _ = write!(self.text, "{rounded}");
        } else {
            self.text.push_str("null");
        }
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.text.push('"');
        for character in value.chars() {
            match character {
                '"' | '\\' => self.text.extend(['\\', character]),
                control if control < ' ' => {
                    let _ = write!(self.text, "\\u{:04x}", control as u32);
                }
                plain => self.text.push(plain),
            }
        }
        self.text.push('"');
    }

    fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_json() {
        let mut object = Object::new();
        object.text("label", "a \"b\"\n\\");
        object.number("whole", 12.0);
        object.number("part", 0.123_456);
        object.number("none", f64::NAN);
        assert_eq!(
            object.finish(),
            r#"{"label": "a \"b\"\u000a\\", "whole": 12, "part": 0.123, "none": null}"#
        );
    }
}
