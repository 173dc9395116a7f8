//! One core's composition root: what lives on it, and how the others are reached.
//!
//! A shard is of one thread and never shared. Another core's partitions and groups are reached by
//! [`Shard::call`], which runs work over there and brings back what it answers.

use std::rc::Rc;
use std::sync::Arc;

use flumen_engine::CoreId;

use crate::config::BrokerConfig;

/// What one core holds.
pub struct Shard {
    core: CoreId,
    config: Arc<BrokerConfig>,
}

impl Shard {
    /// The shard of `core`.
    pub fn new(core: CoreId, config: Arc<BrokerConfig>) -> Rc<Self> {
        Rc::new(Self { core, config })
    }

    /// Which core this is.
    pub fn core(&self) -> CoreId {
        self.core
    }

    /// The broker's configuration, as it was resolved at start.
    pub fn config(&self) -> &BrokerConfig {
        &self.config
    }

    /// Runs `work` on the shard of `core` and answers with what it answers.
    ///
    /// Calls from one core to another start in the order in which they were made, up to the first point
    /// where their work waits.
    pub async fn call<T, F>(
        self: &Rc<Self>,
        core: CoreId,
        work: impl FnOnce(Rc<Shard>) -> F + Send + 'static,
    ) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        assert_eq!(core, self.core, "one core only");
        work(self.clone()).await
    }
}
