//! The clock of all measurements: CLOCK_MONOTONIC in nanoseconds, the same in every process of a machine, so
//! that one process may stamp a record and another read the stamp.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// The present.
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::Monotonic);
        Self(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }

    /// As [`Moment::nanos`] gave it.
    pub fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the machine started.
    pub fn nanos(self) -> u64 {
        self.0
    }

    /// So much later.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_nanos() as u64))
    }

    /// How long ago `earlier` was; zero if it is in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }

    /// As [`Moment::since`], in nanoseconds.
    pub fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_never_back() {
        let one = Moment::now();
        let two = Moment::now();
        assert!(two >= one);
        assert_eq!(one.since(two.after(Duration::from_secs(1))), Duration::ZERO);
        assert_eq!(one.after(Duration::from_millis(3)).nanos_since(one), 3_000_000);
    }
}
