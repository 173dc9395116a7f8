//! Threads on a core, what they cost, and the limit of the processor alone.

use std::hint::black_box;
use std::time::Duration;

use super::{Limit, LimitSettings};
use crate::clock::Moment;
use crate::error::BenchError;
use crate::measure::cores;
use crate::measure::process::ThreadTimes;
use crate::protocol::batches::Random;

/// Runs something on a thread of this core, and waits for it.
pub fn on_core<T: Send>(core: usize, work: impl FnOnce() -> T + Send) -> Result<T, BenchError> {
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                cores::pin(&[core])?;
                Ok(work())
            })
            .join()
            .expect("a measurement does not panic")
    })
}

/// What one thread did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Bytes or requests.
    pub count: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// CPU time of the thread.
    pub busy: Duration,
}

/// Measures what the calling thread does from here on.
pub struct Stopwatch {
    started: Moment,
    times: ThreadTimes,
}

impl Stopwatch {
    /// Starts it.
    pub fn start() -> Self {
        Self { started: Moment::now(), times: ThreadTimes::now() }
    }

    /// How long it has run.
    pub fn elapsed(&self) -> Duration {
        Moment::now().since(self.started)
    }

    /// Stops it.
    pub fn done(&self, count: u64) -> Done {
        Done { count, elapsed: self.elapsed(), busy: ThreadTimes::now().since(self.times).busy }
    }
}

impl Limit {
    /// Bytes.
    pub fn of_bytes(id: &str, what: &str, done: Done) -> Self {
        let gigabytes = done.count as f64 / 1e9;
        Self {
            id: id.to_owned(),
            what: what.to_owned(),
            value: done.count as f64 / 1e6 / done.elapsed.as_secs_f64().max(1e-9),
            unit: "MB/s".to_owned(),
            cpu_seconds_per_gb: (gigabytes > 0.0).then(|| done.busy.as_secs_f64() / gigabytes),
            ..Self::default()
        }
    }

    /// Requests.
    pub fn of_requests(id: &str, what: &str, done: Done) -> Self {
        Self {
            id: id.to_owned(),
            what: what.to_owned(),
            value: done.count as f64 / done.elapsed.as_secs_f64().max(1e-9),
            unit: "requests/s".to_owned(),
            cpu_us_per_request: (done.count > 0).then(|| done.busy.as_secs_f64() * 1e6 / done.count as f64),
            ..Self::default()
        }
    }
}

/// L2: CRC-32C over 64 KiB, in the cache and out of it.
pub fn checksum(settings: &LimitSettings) -> Result<Vec<Limit>, BenchError> {
    const PIECE_BYTES: usize = 64 << 10;
    let kinds = [("CRC-32C over 64 KiB, hot", PIECE_BYTES), ("CRC-32C over 64 KiB, cold", 256 << 20)];
    let mut limits = Vec::new();
    for (what, memory_bytes) in kinds {
        let seconds = settings.seconds;
        let done = on_core(settings.broker_core, || {
            let mut random = Random::new(7);
            let mut memory = vec![0_u8; memory_bytes];
            memory.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&random.next().to_be_bytes()));
            let watch = Stopwatch::start();
            let mut bytes = 0;
            'measured: loop {
                for piece in memory.chunks(PIECE_BYTES) {
                    black_box(crc32c::crc32c(black_box(piece)));
                    bytes += piece.len() as u64;
                    if watch.elapsed().as_secs_f64() >= seconds {
                        break 'measured;
                    }
                }
            }
            watch.done(bytes)
        })?;
        limits.push(Limit::of_bytes("L2", what, done));
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_is_not_there_is_refused() {
        assert!(on_core(1 << 20, || ()).is_err());
    }

    #[test]
    fn a_limit_is_a_rate_and_a_cost() {
        let done =
            Done { count: 2_000_000_000, elapsed: Duration::from_secs(4), busy: Duration::from_secs(1) };
        let limit = Limit::of_bytes("L1", "", done);
        assert_eq!((limit.value, limit.cpu_seconds_per_gb), (500.0, Some(0.5)));
        let limit = Limit::of_requests("L7", "", Done { count: 1_000_000, ..done });
        assert_eq!((limit.value, limit.cpu_us_per_request), (250_000.0, Some(1.0)));
    }
}
