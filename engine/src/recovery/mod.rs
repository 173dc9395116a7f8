//! From what a crash or a clean stop left to partitions that can be opened, and back.
//!
//! [`replay`] runs once, before any core: it folds every journal into the segments, whatever the number of cores
//! was, makes that durable, and removes the journals. Then each core opens its own partitions (`open`): only
//! what lies behind the recovery point is looked at, and of that only what folding does not have in memory (`held`) is
//! read. [`seal`] ends a clean stop.
//!
//! Every step may be cut off by a crash and be done again: folding writes the same bytes to the same places, and
//! the journals go last.

mod blocks;
mod fold;
mod held;
mod live;
#[cfg(test)]
mod memory_file;
mod open;
mod read_ahead;
mod scan;
mod seal;
mod small_files;
mod survey;
mod swap;
mod window;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::try_join;

use crate::checkpoint::{self, CHECKPOINT_BYTES_MAX, Checkpoint, PartitionCheckpoint};
use crate::checkpoints::decode_offsets;
use crate::journal::JOURNAL_FOLDER;
use crate::layout::{CLEAN_SHUTDOWN, LOG_START_CHECKPOINT, RECOVERY_POINT_CHECKPOINT};
use crate::partition::Point;
use crate::storage::{Directory, Runtime, StorageError, StorageErrorKind};
use crate::{Offset, PartitionId};

use held::Held;
pub(crate) use open::{create_partition, open_partition};
pub(crate) use scan::next_offset;
pub(crate) use seal::ClosedPartition;
pub use seal::{ClosedCore, seal};
use small_files::read_small;
use survey::Survey;
use uuid::Uuid;

/// What the life before left; goes to every core's [`crate::Engine::open`].
#[derive(Debug, Clone, Default)]
pub struct RecoveredJournal {
    inner: Arc<Recovered>,
}

#[derive(Debug, Default)]
struct Recovered {
    clean: bool,
    /// The number of the life that starts now.
    life: u64,
    checkpoints: BTreeMap<PartitionId, PartitionCheckpoint>,
    /// How far the journals prove each log durable.
    durable: BTreeMap<PartitionId, Point>,
    /// What the journals vouch for of each log: it was flushed with its group, or folding has written it anew.
    vouched: BTreeMap<PartitionId, Vec<Vouched>>,
    /// What folding wrote.
    held: Held,
    /// Kafka's checkpoints, by folder.
    recovery_points: BTreeMap<String, Offset>,
    log_starts: BTreeMap<String, Offset>,
    /// The folders, as they are when the journals are folded in.
    survey: Survey,
}

/// A range of a log's file, of the segment at `base`.
#[derive(Debug, Clone)]
struct Vouched {
    base: Offset,
    positions: Range<u64>,
}

impl RecoveredJournal {
    /// Whether the life before stopped cleanly.
    pub fn stopped_cleanly(&self) -> bool {
        self.inner.clean
    }

    /// Whether Kafka's checkpoints, which know partitions by name only, said something of this one at the start.
    pub(crate) fn has_kafka_offsets(&self, name: &str) -> bool {
        self.inner.recovery_points.contains_key(name) || self.inner.log_starts.contains_key(name)
    }

    /// Every partition's folder in use, with the topic id that it says, if it says one.
    pub fn folders(&self) -> impl Iterator<Item = (&str, Option<Uuid>)> {
        self.inner.survey.folders.iter().map(|(name, folder)| (name.as_str(), folder.topic()))
    }

    /// These folders were renamed meanwhile. To be told before an engine opens.
    ///
    /// # Panics
    /// If there are other handles.
    pub fn forget_folders<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        let inner = Arc::get_mut(&mut self.inner).expect("told before an engine opens");
        for name in names {
            inner.survey.folders.remove(name);
        }
    }

    /// Every engine is open: what is in memory of partitions that none of them opened goes.
    pub fn let_go(&self) {
        self.inner.held.clear();
    }

    pub(crate) fn life(&self) -> u64 {
        self.inner.life
    }
}

/// Why a directory could not be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The directory failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A file is damaged where it had been durable: what is missing cannot be told apart from what was
    /// acknowledged.
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

/// Reads what the life before left: once, before any core opens, whatever the number of cores was. What the journals
/// hold is kept in `memory_bytes` until partitions are opened, and what does not fit there is read twice: the caches,
/// which are empty meanwhile, may be as large.
pub async fn replay(
    runtime: Rc<dyn Runtime>,
    directory: Rc<dyn Directory>,
    memory_bytes: u64,
) -> Result<RecoveredJournal, RecoveryError> {
    let started = runtime.monotonic();
    let clean = read_small(&*directory, CLEAN_SHUTDOWN).await?.is_some();
    let mut recovered = Recovered {
        clean,
        life: 1,
        recovery_points: read_offsets(&*directory, RECOVERY_POINT_CHECKPOINT).await?,
        log_starts: read_offsets(&*directory, LOG_START_CHECKPOINT).await?,
        ..Recovered::default()
    };
    let checkpoints = read_checkpoints(&*directory).await?;
    // A clean stop leaves no journal; whatever is there is older than what Kafka's files say.
    let journals = async {
        if clean {
            Ok(Vec::new())
        } else {
            fold::read_journals(&*directory, &checkpoints, memory_bytes).await
        }
    };
    let survey = async { Ok(Survey::of(&*directory).await?) };
    let (survey, journals) = try_join(survey, journals).await?;
    recovered.survey = survey;
    for checkpoint in &checkpoints {
        recovered.life = recovered.life.max(checkpoint.life + 1);
    }
    if !clean {
        for live in &journals {
            let (groups, read_mib) = (live.groups.len(), live.read_bytes >> 20);
            tracing::info!(journal = live.path, groups, read_mib, "read what is live");
        }
        fold::fold(&directory, &checkpoints, journals, &mut recovered).await?;
        // One flush for all that was folded; the journals are still there if it fails. And for all that a process
        // which was killed had written and not flushed: it looks durable, and is about to be served.
        if directory.list(Path::new("")).await?.iter().any(|entry| entry.is_directory) {
            directory.sync_all().await?;
        }
        for checkpoint in checkpoints {
            for partition in checkpoint.partitions {
                recovered.checkpoints.entry(partition.id).or_insert(partition);
            }
        }
    }
    if clean {
        // A stop leaves none; but one that is there would be believed once nothing says that it is too old.
        seal::remove_private(&*directory).await?;
        directory.remove_file(Path::new(CLEAN_SHUTDOWN)).await?;
        directory.sync_directory(Path::new("")).await?;
        return Ok(RecoveredJournal { inner: Arc::new(recovered) });
    }
    directory.remove_directory(Path::new(JOURNAL_FOLDER)).await?;
    if !recovered.checkpoints.is_empty() {
        // The journals must be gone for good first: without them, nothing of theirs can be void.
        directory.sync_directory(Path::new("")).await?;
        match checkpoint::keep(&*directory, recovered.life - 1, recovered.checkpoints.values()).await {
            Err(error) if error.kind == StorageErrorKind::NoSpace => {
                tracing::warn!(%error, "the checkpoints of the life before are not kept");
            }
            kept => kept?,
        }
    }
    let took_ms = runtime.monotonic().saturating_sub(started).as_millis() as u64;
    tracing::info!(partitions = recovered.checkpoints.len(), took_ms, "recovered the journals");
    Ok(RecoveredJournal { inner: Arc::new(recovered) })
}

/// Every sound checkpoint, of the newest life first.
async fn read_checkpoints(directory: &dyn Directory) -> Result<Vec<Checkpoint>, StorageError> {
    let mut checkpoints = Vec::new();
    for entry in directory.list(Path::new("")).await? {
        if entry.is_directory || !checkpoint::is_checkpoint(&entry.name) {
            continue;
        }
        let bytes = directory.read(Path::new(&entry.name), CHECKPOINT_BYTES_MAX).await?;
        match Checkpoint::decode(&bytes) {
            Some(checkpoint) => checkpoints.push(checkpoint),
            None => tracing::warn!(
                file = entry.name,
                "not a checkpoint; its partitions are read from farther back"
            ),
        }
    }
    checkpoints.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.life));
    Ok(checkpoints)
}

async fn read_offsets(
    directory: &dyn Directory,
    name: &str,
) -> Result<BTreeMap<String, Offset>, StorageError> {
    let Some(bytes) = read_small(directory, name).await? else { return Ok(BTreeMap::new()) };
    match decode_offsets(&bytes) {
        Ok(offsets) => Ok(offsets
            .into_iter()
            .map(|entry| (crate::layout::partition_folder(&entry.topic, entry.partition), entry.offset))
            .collect()),
        Err(error) => {
            tracing::warn!(file = name, %error, "not a checkpoint of Kafka's; it is left out");
            Ok(BTreeMap::new())
        }
    }
}
