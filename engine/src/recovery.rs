//! From what a crash or a clean stop left to partitions that can be opened, and back.

use std::rc::Rc;
use std::sync::Arc;

use crate::storage::{Directory, Runtime, StorageError};

/// What the journals and checkpoints of the life before held; goes to every core's [`crate::Engine::open`].
#[derive(Debug, Clone, Default)]
pub struct RecoveredJournal {
    inner: Arc<Recovered>,
}

#[derive(Debug, Default)]
struct Recovered {
    clean: bool,
}

impl RecoveredJournal {
    /// Whether the life before stopped cleanly.
    pub fn stopped_cleanly(&self) -> bool {
        self.inner.clean
    }
}

/// Why a directory could not be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The directory failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A journal is damaged in its middle: what follows cannot be told apart from what was acknowledged.
    #[error("{path}: damaged at {position}: {reason}")]
    Damaged {
        /// The file, below the log directory.
        path: String,
        /// Where in it.
        position: u64,
        /// What was expected and what was found.
        reason: String,
    },
}

/// What one core leaves behind at a clean stop; goes to [`seal`].
#[derive(Debug, Default)]
pub struct ClosedCore {}

/// Reads what the life before left: once, before any core opens, whatever the number of cores was.
pub async fn replay(
    runtime: Rc<dyn Runtime>,
    directory: Rc<dyn Directory>,
) -> Result<RecoveredJournal, RecoveryError> {
    let _ = (runtime, directory);
    Ok(RecoveredJournal::default())
}

/// Ends a clean stop, once every core closed: Kafka's checkpoint files, no journal, `.kafka_cleanshutdown`.
pub async fn seal(directory: Rc<dyn Directory>, cores: Vec<ClosedCore>) -> Result<(), StorageError> {
    let _ = (directory, cores);
    Ok(())
}
