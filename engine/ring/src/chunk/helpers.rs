//! The threads that give chunks their memory.

use std::io;
use std::sync::Arc;

use super::warm::Warmer;
use crate::helper::Helper;
use crate::topology;

/// Handles to both threads; good on any core.
#[derive(Debug, Clone)]
pub struct ChunkHelpers {
    prompt: Helper,
    idle: Helper,
    warmer: Arc<Warmer>,
}

impl ChunkHelpers {
    /// Starts them.
    pub fn start() -> io::Result<Self> {
        Self::with(Helper::start_idle("flumen-growth")?)
    }

    fn with(idle: Helper) -> io::Result<Self> {
        Ok(Self { prompt: Helper::start("flumen-memory")?, idle, warmer: Arc::new(Warmer::new()?) })
    }

    /// Runs `job`, which appends may wait for and which needs no memory that has to be found.
    pub(super) fn promptly(&self, job: impl FnOnce() + Send + 'static) {
        self.prompt.run_detached(job);
    }

    /// Finds memory for a huge page and runs `job`, which is to use it.
    pub(super) fn with_memory(&self, job: impl FnOnce() + Send + 'static) {
        let warmer = self.warmer.clone();
        self.prompt.run_detached(move || {
            warmer.warm();
            job();
        });
    }

    /// The same, where the memory is found when a processor is idle. `job` is run on the same processor, where that
    /// memory is kept, but promptly: it takes locks of the whole address space, and whoever is idle may be kept from giving
    /// them back.
    pub(super) fn with_memory_when_idle(&self, job: impl FnOnce() + Send + 'static) {
        let (warmer, prompt) = (self.warmer.clone(), self.prompt.clone());
        self.idle.run_detached(move || {
            warmer.warm();
            let core = topology::current_core();
            prompt.run_detached(move || topology::run_on(core, job));
        });
    }
}

#[cfg(test)]
impl ChunkHelpers {
    /// Both prompt, for a test that does not wait until the machine is idle; and the second one.
    pub(crate) fn prompt() -> (Self, Helper) {
        let idle = Helper::start("test-helper").expect("a thread");
        (Self::with(idle.clone()).expect("threads"), idle)
    }
}
