//! Interval logs as HdrHistogram's tools write and read them (`HistogramLogProcessor`, hdr-plot): one line for
//! each second and each kind of latency, whose name is the line's tag. Values are nanoseconds, the maximum of a
//! line milliseconds.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag,
};
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use crate::error::BenchError;

/// One line of a log.
pub struct Line<'a> {
    /// The kind of latency.
    pub tag: &'a str,
    /// When its interval began, behind the start of the log.
    pub at: Duration,
    /// How long the interval was.
    pub duration: Duration,
    /// The latencies.
    pub histogram: &'a Histogram<u64>,
}

/// Writes a whole log.
pub fn write<'a>(
    out: &mut impl Write,
    comment: &str,
    start: SystemTime,
    lines: impl Iterator<Item = Line<'a>>,
) -> Result<(), BenchError> {
    let wrong = |error: &dyn std::fmt::Debug| BenchError::Codec(format!("the interval log: {error:?}"));
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment(comment)
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(1e6)
        .begin_log_with(out, &mut serializer)
        .map_err(|error| wrong(&error))?;
    for line in lines {
        log.write_histogram(line.histogram, line.at, line.duration, Tag::new(line.tag))
            .map_err(|error| wrong(&error))?;
    }
    Ok(())
}

/// One interval that was read.
pub struct ReadInterval {
    /// When it began, in seconds as the log gives them.
    pub at: f64,
    /// The latencies.
    pub histogram: Histogram<u64>,
}

/// Reads a log of ours or of somebody else: the intervals by tag. Lines without a tag have an empty one.
pub fn read(log: &[u8]) -> Result<BTreeMap<String, Vec<ReadInterval>>, BenchError> {
    let mut intervals = BTreeMap::<String, Vec<ReadInterval>>::new();
    for entry in IntervalLogIterator::new(log) {
        let entry = entry.map_err(|error| BenchError::Codec(format!("the interval log: {error:?}")))?;
        if let LogEntry::Interval(interval) = entry {
            let tag = interval.tag().map_or("", |tag| tag.as_str()).to_owned();
            intervals.entry(tag).or_default().push(ReadInterval {
                at: interval.start_timestamp().as_secs_f64(),
                histogram: decode(interval.encoded_histogram())?,
            });
        }
    }
    Ok(intervals)
}

/// A histogram as text: compressed, in base64, as in a log.
pub fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).expect("memory takes everything");
    BASE64.encode(&bytes)
}

/// Reads what [`encode`] or an interval log wrote.
pub fn decode(text: &str) -> Result<Histogram<u64>, BenchError> {
    let bytes = BASE64.decode(text).map_err(|error| BenchError::Codec(format!("a histogram: {error}")))?;
    Deserializer::new()
        .deserialize(&mut &bytes[..])
        .map_err(|error| BenchError::Codec(format!("a histogram: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[u64]) -> Histogram<u64> {
        let mut histogram = crate::load::tally::new_histogram();
        for value in values {
            histogram.record(*value).expect("it is in bounds");
        }
        histogram
    }

    #[test]
    fn a_log_is_read_back() {
        let (one, two) = (histogram(&[10_000, 2_000_000]), histogram(&[5_000_000]));
        let line = |tag, at, histogram| Line {
            tag,
            at: Duration::from_secs(at),
            duration: Duration::from_secs(1),
            histogram,
        };
        let lines = [line("ack", 0, &one), line("end-to-end", 0, &two), line("ack", 1, &two)];
        let mut log = Vec::new();
        write(&mut log, "a test", SystemTime::UNIX_EPOCH, lines.into_iter()).expect("it is written");
        let read = read(&log).expect("it is read");
        assert_eq!(read["ack"].len(), 2);
        assert_eq!(read["ack"][1].at, 1.0);
        assert_eq!(read["ack"][0].histogram, one);
        assert_eq!(read["end-to-end"][0].histogram, two);
    }

    #[test]
    fn what_is_no_histogram_is_an_error() {
        assert!(decode("not a histogram").is_err());
        assert!(decode("AAAA").is_err());
        assert_eq!(decode(&encode(&histogram(&[7_000]))).expect("it is one"), histogram(&[7_000]));
    }
}
