//! Which folders of partitions there are, and what is in them: each is visited once, many at a time, because on a
//! machine that has just started every name is a wait for the disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures_util::stream::{StreamExt, TryStreamExt, iter};
use uuid::Uuid;

use super::small_files::SMALL_FILE_BYTES_MAX;
use crate::checkpoints::decode_partition_metadata;
use crate::layout::{
    FolderState, PARTITION_METADATA, PartitionFolder, SegmentFile, SegmentFileKind, SegmentFileState,
};
use crate::storage::{Directory, DirectoryEntry, StorageError, if_there};
use crate::{Offset, PartitionId};

/// So many folders are visited at a time.
const VISITS_MAX: usize = 64;

/// One folder in use.
#[derive(Debug, Clone)]
pub(super) struct SurveyedFolder {
    pub(super) partition: i32,
    pub(super) entries: Vec<DirectoryEntry>,
    /// What `partition.metadata` holds, if it is there.
    pub(super) metadata: Option<Vec<u8>>,
}

impl SurveyedFolder {
    /// The topic whose partition it says that it is.
    pub(super) fn topic(&self) -> Option<Uuid> {
        decode_partition_metadata(self.metadata.as_deref()?).ok()
    }

    /// How long a `.log` is, if it is there.
    pub(super) fn log_length(&self, name: &str) -> Option<u64> {
        self.entries.iter().find(|entry| entry.name == name).map(|entry| entry.length)
    }

    /// Whether there is a `.log` of a later segment.
    pub(super) fn has_log_behind(&self, base: Offset) -> bool {
        let files = self.entries.iter().filter_map(|entry| SegmentFile::parse(&entry.name));
        files
            .filter(|file| file.state == SegmentFileState::Live && file.kind == SegmentFileKind::Log)
            .any(|file| file.offset > base)
    }

    /// A `.log` was written just now, and has this length.
    pub(super) fn note_log(&mut self, name: String, length: u64) {
        match self.entries.iter_mut().find(|entry| entry.name == name) {
            Some(entry) => (entry.length, entry.modified_ms) = (length, None),
            None => {
                self.entries.push(DirectoryEntry { name, is_directory: false, length, modified_ms: None });
            }
        }
    }
}

/// Every partition's folder in use, by name.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) folders: BTreeMap<String, SurveyedFolder>,
}

impl Survey {
    pub(super) async fn of(directory: &dyn Directory) -> Result<Self, StorageError> {
        let names = directory.list(Path::new("")).await?.into_iter().filter(|entry| entry.is_directory);
        let live = names.filter_map(|entry| {
            let folder = PartitionFolder::parse(&entry.name)?;
            (folder.state == FolderState::Live).then_some((entry.name, folder.partition))
        });
        let visits = iter(live).map(|(name, partition)| async move {
            let folder = visit(directory, Path::new(&name), partition).await?;
            Ok(folder.map(|folder| (name, folder)))
        });
        let folders: Vec<_> = visits.buffer_unordered(VISITS_MAX).try_collect().await?;
        Ok(Self { folders: folders.into_iter().flatten().collect() })
    }

    /// The folders by what they say of themselves.
    pub(super) fn by_id(&self) -> BTreeMap<PartitionId, PathBuf> {
        let named = self.folders.iter().filter_map(|(name, folder)| {
            let id = PartitionId { topic: folder.topic()?, partition: folder.partition };
            Some((id, PathBuf::from(name)))
        });
        named.collect()
    }
}

/// One folder, if it is there.
pub(super) async fn visit(
    directory: &dyn Directory,
    path: &Path,
    partition: i32,
) -> Result<Option<SurveyedFolder>, StorageError> {
    // Of the other files nobody asks how long they are.
    let is_log = |name: &str| SegmentFile::parse(name).is_some_and(|file| file.kind == SegmentFileKind::Log);
    let visited = if_there(directory.visit(path, PARTITION_METADATA, SMALL_FILE_BYTES_MAX, is_log).await)?;
    Ok(visited.map(|(entries, metadata)| SurveyedFolder { partition, entries, metadata }))
}
