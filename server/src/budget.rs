//! How the memory limit is shared out: the cache, bodies of requests, answers to fetches, and the process itself.
//!
//! Pure. In a container the kernel ends the process that goes beyond the limit, so what would not fit is refused, or at
//! least said at the start.

use crate::config::BrokerConfig;

/// Requests, and answers, have a sixteenth of the limit each, where nothing is configured, within these bounds.
const SHARE_BYTES_MIN: u64 = 128 << 20;
const SHARE_BYTES_MAX: u64 = 2 << 30;

/// A core's cache has at least so many bytes: a batch of the default `message.max.bytes` fits the half of it that one append
/// may have.
const CORE_CACHE_BYTES_MIN: u64 = 4 << 20;

/// What the process needs beside them: its code, its threads' stacks, its rings, small buffers of connections.
const PROCESS_BYTES: u64 = 32 << 20;

/// What each use of memory may have, on all cores together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudget {
    /// The limit of the cgroup, or else of the machine.
    pub limit_bytes: u64,
    /// The caches.
    pub cache_bytes: u64,
    /// Bodies of requests. One that is larger than its core's part is let in alone.
    pub request_bytes: u64,
    /// Answers to fetches: what they hold beside the cache, as what is in the cache is there anyway.
    pub answer_bytes: u64,
    /// The largest single request: `socket.request.max.bytes`, or less where the limit has no room for one on each core.
    pub request_bytes_max: usize,
}

impl MemoryBudget {
    /// Shares out `limit_bytes` among `cores`.
    pub fn new(config: &BrokerConfig, limit_bytes: u64, cores: u16) -> Self {
        let share = (limit_bytes / 16).clamp(SHARE_BYTES_MIN.min(limit_bytes / 8), SHARE_BYTES_MAX);
        // A fraction of 1 at most: the product is no larger than the limit.
        let fraction = (limit_bytes as f64 * config.resources.cache_fraction) as u64;
        let cache_bytes =
            config.resources.cache_bytes.unwrap_or(fraction).max(CORE_CACHE_BYTES_MIN * u64::from(cores));
        let request_bytes = config.network.request_memory_bytes.unwrap_or(share);
        let answer_bytes = config.fetch.memory_bytes.unwrap_or(share);
        let room = limit_bytes.saturating_sub(cache_bytes + answer_bytes + PROCESS_BYTES);
        let one = usize::try_from(room.max(request_bytes) / u64::from(cores)).unwrap_or(usize::MAX);
        let request_bytes_max = config.network.request_bytes_max.min(one);
        Self { limit_bytes, cache_bytes, request_bytes, answer_bytes, request_bytes_max }
    }

    /// What does not fit, and what to do about it.
    pub fn warnings(&self, config: &BrokerConfig) -> Vec<String> {
        let mebibytes = |bytes: u64| bytes >> 20;
        let limit = mebibytes(self.limit_bytes);
        let mut warnings = Vec::new();
        let needed = self.cache_bytes + self.request_bytes + self.answer_bytes + PROCESS_BYTES;
        if needed > self.limit_bytes {
            warnings.push(format!(
                "the memory limit of {limit} MiB is less than what may be used: {} MiB of cache, {} MiB of requests, {} \
                 MiB of answers and about {} MiB for the process itself. Beyond the limit the kernel ends it: raise the \
                 limit, or lower flumen.cache.bytes, queued.max.request.bytes and flumen.fetch.memory.bytes",
                mebibytes(self.cache_bytes),
                mebibytes(self.request_bytes),
                mebibytes(self.answer_bytes),
                mebibytes(PROCESS_BYTES),
            ));
        }
        let configured = config.network.request_bytes_max;
        if self.request_bytes_max < configured {
            warnings.push(format!(
                "socket.request.max.bytes={configured} has no place in the memory limit of {limit} MiB: connections that \
                 send a request of more than {} bytes are closed. Raise the limit, or lower flumen.cache.bytes, for larger \
                 ones",
                self.request_bytes_max,
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: u64 = 1 << 20;

    fn config(given: &[(&str, &str)]) -> BrokerConfig {
        let given: Vec<(String, String)> =
            given.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        BrokerConfig::load(None, [], &given, "localhost").expect("valid")
    }

    #[test]
    fn a_large_machine_has_kafkas_largest_request() {
        let config = config(&[]);
        for (limit, cores, share) in [(1 << 10, 2, 128), (16 << 10, 16, 1 << 10), (256 << 10, 64, 2 << 10)] {
            let budget = MemoryBudget::new(&config, limit * MEBIBYTE, cores);
            assert_eq!(budget.request_bytes, share * MEBIBYTE);
            assert_eq!(budget.answer_bytes, share * MEBIBYTE);
            assert_eq!(budget.cache_bytes, limit * MEBIBYTE / 4);
            assert_eq!(budget.request_bytes_max, 100 << 20);
            assert_eq!(budget.warnings(&config), Vec::<String>::new());
        }
    }

    /// With the largest request on every core at once.
    #[test]
    fn a_small_limit_holds_whatever_is_sent() {
        let config = config(&[]);
        for limit in (96..2048).map(|limit| limit * MEBIBYTE) {
            for cores in [1, 2, 4, 8] {
                let budget = MemoryBudget::new(&config, limit, cores);
                let requests = budget.request_bytes.max(budget.request_bytes_max as u64 * u64::from(cores));
                let used = budget.cache_bytes + requests + budget.answer_bytes + PROCESS_BYTES;
                assert!(used <= limit, "{used} of {limit} on {cores} cores");
                let told = budget.warnings(&config);
                assert_eq!(told.len(), usize::from(budget.request_bytes_max < 100 << 20), "{told:?}");
            }
        }
    }

    #[test]
    fn what_cannot_fit_is_said() {
        let default = config(&[]);
        let told = MemoryBudget::new(&default, 24 * MEBIBYTE, 2).warnings(&default);
        assert!(told[0].starts_with("the memory limit of 24 MiB is less than"), "{told:?}");
        assert!(told[1].contains("socket.request.max.bytes=104857600 has no place"), "{told:?}");
        let large = config(&[("flumen.cache.bytes", "1073741824"), ("socket.request.max.bytes", "1048576")]);
        let told = MemoryBudget::new(&large, 1024 * MEBIBYTE, 2).warnings(&large);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("1024 MiB of cache"), "{told:?}");
    }

    #[test]
    fn each_core_has_a_cache_that_takes_a_batch() {
        let small = config(&[("flumen.cache.bytes", "16777216")]);
        for (cores, cache) in [(1, 16), (4, 16), (8, 32), (64, 256)] {
            let budget = MemoryBudget::new(&small, 4096 * MEBIBYTE, cores);
            assert_eq!(budget.cache_bytes, cache * MEBIBYTE, "{cores} cores");
        }
    }

    #[test]
    fn what_is_configured_counts() {
        let config = config(&[
            ("flumen.cache.bytes", "67108864"),
            ("queued.max.request.bytes", "33554432"),
            ("socket.request.max.bytes", "33554432"),
            ("flumen.fetch.memory.bytes", "16777216"),
        ]);
        let budget = MemoryBudget::new(&config, 512 * MEBIBYTE, 2);
        let sizes =
            [budget.cache_bytes, budget.request_bytes, budget.answer_bytes].map(|bytes| bytes / MEBIBYTE);
        assert_eq!((sizes, budget.request_bytes_max), ([64, 32, 16], 32 << 20));
    }
}
