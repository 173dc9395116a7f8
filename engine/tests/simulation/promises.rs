//! How far a log must reach after a crash, though its class changes now and then.

use std::ops::Range;

/// What the durable class promised of one log.
#[derive(Debug, Default)]
pub struct Promises {
    /// Offsets that are, or will be, appended under the durable class, in order; the last one may be open.
    durable: Vec<Range<i64>>,
    /// Everything below is there after a crash.
    reaches: i64,
}

impl Promises {
    /// A life begins, of the durable class or not. What recovery finds is durable before it is served.
    pub fn begin_life(&mut self, is_durable: bool) {
        self.durable.clear();
        if is_durable {
            self.durable.push(0..i64::MAX);
        }
    }

    /// The class is this one from now on; the log ends at `end`.
    pub fn set_class(&mut self, is_durable: bool, end: i64) {
        let was_durable = self.durable.last().is_some_and(|last| last.end == i64::MAX);
        match self.durable.last_mut() {
            Some(last) if was_durable && !is_durable => last.end = end,
            _ if !was_durable && is_durable => self.durable.push(end..i64::MAX),
            _ => {}
        }
    }

    /// The record at `offset` was acknowledged, or seen.
    pub fn note(&mut self, offset: i64) {
        if self.durable.iter().any(|range| range.contains(&offset)) {
            self.reaches = self.reaches.max(offset + 1);
        }
    }

    /// The log was cut rightly, and goes on at `end` under the class that it has now.
    pub fn cut(&mut self, end: i64) {
        self.reaches = self.reaches.min(end);
        let is_durable = self.durable.last().is_some_and(|last| last.end == i64::MAX);
        self.durable.retain_mut(|range| {
            range.end = range.end.min(end);
            !range.is_empty()
        });
        if is_durable {
            self.durable.push(end..i64::MAX);
        }
    }

    /// The offset that the log ends at or behind after a crash.
    pub fn reaches(&self) -> i64 {
        self.reaches
    }
}
