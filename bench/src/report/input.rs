//! What a report is made of: results of this program, told apart by their format, and anybody's interval logs.

use std::fs;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;
use serde::Deserialize;

use super::summary::Summary;
use super::text;
use crate::compare::{self, Comparison};
use crate::error::BenchError;
use crate::hlog;
use crate::limits::{self, LimitsResult};
use crate::load::tally::new_histogram;
use crate::result::{self, LoadResult, percentile_us};

/// All that was found.
#[derive(Default)]
pub struct Input {
    /// The limits of the machine, if they were measured.
    pub limits: Option<LimitsResult>,
    /// Scenarios and other comparisons, in the order of their names.
    pub comparisons: Vec<Comparison>,
    /// Loads of their own.
    pub loads: Vec<LoadResult>,
    /// Interval logs that belong to no result.
    pub logs: Vec<Log>,
}

/// One kind of latency in an interval log.
pub struct Log {
    /// The file's name, and the tag if there is one.
    pub name: String,
    /// All intervals together.
    pub whole: Histogram<u64>,
    /// When each interval began, in seconds behind the first, and its latencies.
    pub intervals: Vec<(f64, Histogram<u64>)>,
}

#[derive(Deserialize)]
struct Format {
    format: String,
}

impl Input {
    /// Reads files and folders; a file that is none of ours is an error only if it was named itself.
    pub fn read(paths: &[PathBuf]) -> Result<Self, BenchError> {
        let mut input = Self::default();
        for path in paths {
            if path.is_dir() {
                let wrong = |source| BenchError::io(format!("read {}", path.display()), source);
                let mut found: Vec<_> = fs::read_dir(path)
                    .map_err(wrong)?
                    .filter_map(|entry| Some(entry.ok()?.path()))
                    .filter(|path| is_known(path))
                    .collect();
                found.sort();
                for file in found {
                    input.take(&file)?;
                }
            } else {
                input.take(path)?;
            }
        }
        if input.limits.is_none()
            && input.comparisons.is_empty()
            && input.loads.is_empty()
            && input.logs.is_empty()
        {
            return Err(BenchError::Refused("there is no result to report".to_owned()));
        }
        input.comparisons.sort_by_key(|comparison| natural(&comparison.name));
        Ok(input)
    }

    fn take(&mut self, path: &Path) -> Result<(), BenchError> {
        let wrong = |source| BenchError::io(format!("read {}", path.display()), source);
        if path.extension().is_some_and(|extension| extension == "hlog") {
            // The log of a result shows nothing that the result does not.
            if !path.with_extension("json").exists() {
                self.take_log(path, &fs::read(path).map_err(wrong)?)?;
            }
            return Ok(());
        }
        let text = fs::read_to_string(path).map_err(wrong)?;
        let unreadable = |error| BenchError::Codec(format!("{}: {error}", path.display()));
        let format = serde_json::from_str::<Format>(&text).map_err(unreadable)?.format;
        match format.as_str() {
            result::FORMAT => self.loads.push(serde_json::from_str(&text).map_err(unreadable)?),
            limits::FORMAT => self.limits = Some(serde_json::from_str(&text).map_err(unreadable)?),
            compare::FORMAT => self.comparisons.push(serde_json::from_str(&text).map_err(unreadable)?),
            other => {
                let path = path.display();
                return Err(BenchError::Codec(format!(
                    "{path}: format {other} is not one of this program's"
                )));
            }
        }
        Ok(())
    }

    fn take_log(&mut self, path: &Path, bytes: &[u8]) -> Result<(), BenchError> {
        let file = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        for (tag, intervals) in hlog::read(bytes)? {
            let name = if tag.is_empty() { file.clone() } else { format!("{file} {tag}") };
            let mut whole = new_histogram();
            whole.auto(true);
            let first = intervals.first().map_or(0.0, |interval| interval.at);
            let mut kept = Vec::with_capacity(intervals.len());
            for interval in intervals {
                whole
                    .add(&interval.histogram)
                    .map_err(|error| BenchError::Codec(format!("{}: {error}", path.display())))?;
                kept.push((interval.at - first, interval.histogram));
            }
            self.logs.push(Log { name, whole, intervals: kept });
        }
        Ok(())
    }

    /// All of it as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        if let Some(limits) = &self.limits {
            out += &format!("Limits of the machine\n{}\n", limits.text());
        }
        for comparison in &self.comparisons {
            out += &format!("{}\n", text::comparison(comparison, self.limits.as_ref()));
        }
        if let Some(summary) = Summary::of(self) {
            out += &format!("{}\n\n{}\n", summary.title(), summary.text());
        }
        for load in &self.loads {
            out += &format!("{}\n", text::load(load));
        }
        for log in &self.logs {
            let at = |percentile| text::milliseconds(percentile_us(&log.whole, percentile));
            let worst = log.intervals.iter().max_by_key(|(_, histogram)| histogram.max());
            out += &format!(
                "{}: {} samples, p50 {} p99 {} p99.9 {} max {} ms, {:.0} s from the start\n",
                log.name,
                log.whole.len(),
                at(50.0),
                at(99.0),
                at(99.9),
                text::milliseconds(Some(log.whole.max() as f64 / 1e3)),
                worst.map_or(0.0, |(at, _)| *at)
            );
        }
        out
    }
}

fn is_known(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json" || extension == "hlog")
}

/// S2 before S10: digits by their value.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = vec![(String::new(), 0)];
    for character in name.chars() {
        let (text, number) = parts.last_mut().expect("there is a part");
        match character.to_digit(10) {
            Some(digit) => *number = *number * 10 + u64::from(digit),
            None if *number > 0 => parts.push((character.to_string(), 0)),
            None => text.push(character),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_as_people_do() {
        let mut names = ["S10", "S2-M", "S1-D", "S3-D-64", "S3-D-512", "S3-D-1"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["S1-D", "S2-M", "S3-D-1", "S3-D-64", "S3-D-512", "S10"]);
    }

    #[test]
    fn what_is_not_there_or_not_ours_is_refused() {
        let folder = std::env::temp_dir().join(format!("flumen-bench-input-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        assert!(Input::read(std::slice::from_ref(&folder)).is_err());
        fs::write(folder.join("x.json"), r#"{"format": "fio"}"#).expect("written");
        let refused = Input::read(std::slice::from_ref(&folder)).err().expect("not ours").to_string();
        assert!(refused.contains("fio"), "{refused}");
        fs::remove_dir_all(folder).expect("it was made");
    }

    #[test]
    fn the_interval_log_of_another_program_is_read() {
        let mut one = new_histogram();
        one.record(2_000_000).expect("in bounds");
        let line = hlog::Line {
            tag: "reads",
            at: std::time::Duration::from_secs(7),
            duration: std::time::Duration::from_secs(1),
            histogram: &one,
        };
        let mut log = Vec::new();
        hlog::write(&mut log, "x", std::time::UNIX_EPOCH, std::iter::once(line)).expect("written");
        let mut input = Input::default();
        input.take_log(Path::new("other.hlog"), &log).expect("read");
        assert_eq!(input.logs[0].name, "other reads");
        assert_eq!(input.logs[0].intervals.len(), 1);
        assert!(input.text().contains("1 samples"));
    }
}
