//! Snapshots of the image, and the log that goes once they stand for it.
//!
//! Within the controller's turn, after a change. Each step may be the last: a snapshot counts once it is
//! renamed into place; then the log is rolled, its start moves up to the oldest snapshot that is kept, the
//! segments below go, and last the older snapshots. So at any time the log reaches back to a snapshot.

use std::path::{Path, PathBuf};

use flumen_engine::Offset;
use flumen_engine::storage::DirectoryEntry;

use super::{Controller, Turns};
use crate::metadata::directory::METADATA_FOLDER;
use crate::metadata::image::Image;
use crate::metadata::log;

/// Snapshots that are kept whatever their size: the newest, and the one before it should the newest be damaged.
const SNAPSHOTS_KEPT: usize = 2;

impl Controller {
    /// Writes a snapshot if enough was written, or enough time has passed, since the last one.
    pub(super) async fn snapshot_when_due(&self) {
        if self.state.borrow().ended || !self.is_due() {
            return;
        }
        // Before it is written: one that fails is tried again after as many bytes, not at every change.
        let last_append = {
            let mut state = self.state.borrow_mut();
            state.bytes_since_snapshot = 0;
            state.last_snapshot = self.runtime.monotonic();
            state.last_append
        };
        let image = self.image();
        let turns = Turns::of(&self.runtime);
        let records = written_down(&image, &turns).await;
        let pause = async || turns.pause().await;
        let bytes =
            log::snapshot_bytes(records, image.epoch(), self.now(), last_append, &self.voters, pause).await;
        let folder = PathBuf::from(METADATA_FOLDER);
        let name = log::snapshot_name(image.offset() + 1, image.epoch());
        if let Err(error) = self.directory.replace(&folder.join(&name), bytes).await {
            tracing::warn!(snapshot = name, %error, "cannot write a metadata snapshot; the log is whole");
            return;
        }
        tracing::info!(snapshot = name, "metadata snapshot written");
        self.log.roll();
        self.clean(&folder).await;
    }

    fn is_due(&self) -> bool {
        let (state, config) = (self.state.borrow(), &self.config.metadata);
        let waited = self.runtime.monotonic().saturating_sub(state.last_snapshot);
        state.bytes_since_snapshot >= config.snapshot_bytes
            || config.snapshot_interval.is_some_and(|interval| waited >= interval)
    }

    /// Removes the oldest snapshots, and the log that only they need, while all together take too much.
    async fn clean(&self, folder: &Path) {
        let Ok(listing) = self.directory.list(folder).await else { return };
        let Some(excess) = excess(&listing, self.config.metadata.retention_bytes) else { return };
        if let Err(error) = self.log.delete_before(Offset(excess.log_start)).await {
            tracing::warn!(%error, "cannot cut the metadata log below its snapshots");
            return;
        }
        for old in excess.snapshots {
            if let Err(error) = self.directory.remove_file(&folder.join(&old)).await {
                tracing::warn!(snapshot = old, %error, "cannot remove an old metadata snapshot");
            }
        }
    }
}

/// The records of an image, as bytes.
async fn written_down(image: &Image, turns: &Turns) -> Vec<Vec<u8>> {
    let (levels, mut written) = (image.levels(), Vec::new());
    for record in image.records() {
        written.push(record.to_bytes(levels));
        turns.pause().await;
    }
    written
}

/// What may go.
#[derive(Debug, PartialEq, Eq)]
struct Excess {
    /// The end of the oldest snapshot that stays.
    log_start: i64,
    /// Names of older ones.
    snapshots: Vec<String>,
}

/// What may go of a folder of which `retention_bytes` are to stay: nothing, if it holds fewer or no more than
/// the snapshots that always stay.
fn excess(listing: &[DirectoryEntry], retention_bytes: Option<u64>) -> Option<Excess> {
    let mut snapshots: Vec<(i64, &DirectoryEntry)> =
        listing.iter().filter_map(|entry| Some((log::parse_snapshot_name(&entry.name)?.0, entry))).collect();
    snapshots.sort_unstable_by_key(|(end, _)| *end);
    let mut segments: Vec<(i64, u64)> = listing
        .iter()
        .filter_map(|entry| Some((entry.name.strip_suffix(".log")?.parse().ok()?, entry.length)))
        .collect();
    segments.sort_unstable();
    let bytes_from = |oldest: usize| -> u64 {
        let log_start = snapshots[oldest].0;
        // A segment ends where the next one begins; the last one always stays.
        let needed = segments.iter().rposition(|(base, _)| *base <= log_start).unwrap_or(0);
        let of_segments: u64 = segments.iter().skip(needed).map(|(_, length)| length).sum();
        of_segments + snapshots[oldest..].iter().map(|(_, entry)| entry.length).sum::<u64>()
    };
    let retention_bytes = retention_bytes?;
    let removable = snapshots.len().checked_sub(SNAPSHOTS_KEPT)?;
    let all: u64 = snapshots.iter().map(|(_, entry)| entry.length).sum::<u64>()
        + segments.iter().map(|(_, length)| length).sum::<u64>();
    if all <= retention_bytes {
        return None;
    }
    let oldest = (0..removable).find(|oldest| bytes_from(*oldest) <= retention_bytes).unwrap_or(removable);
    let (log_start, _) = snapshots[oldest];
    let names = snapshots[..oldest].iter().map(|(_, entry)| entry.name.clone());
    Some(Excess { log_start, snapshots: names.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(snapshots: &[(i64, u64)], segments: &[(i64, u64)]) -> Vec<DirectoryEntry> {
        let entry = |name: String, length: u64| DirectoryEntry {
            name,
            is_directory: false,
            length,
            modified_ms: None,
        };
        let snapshots = snapshots.iter().map(|(end, length)| entry(log::snapshot_name(*end, 1), *length));
        let segments = segments.iter().map(|(base, length)| entry(format!("{base:020}.log"), *length));
        let others = ["quorum-state", "00000000000000000000.index", "leader-epoch-checkpoint"];
        let others = others.iter().map(|name| entry((*name).to_owned(), 1_000));
        snapshots.chain(segments).chain(others).collect()
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let folder =
            folder(&[(10, 5), (20, 5), (30, 5), (40, 5)], &[(0, 100), (10, 100), (20, 100), (30, 100)]);
        let log_start = |retention| excess(&folder, retention).map(|excess| excess.log_start);
        assert_eq!(log_start(None), None);
        assert_eq!(log_start(Some(420)), None);
        assert_eq!(log_start(Some(419)), Some(10), "the first segment is needed by no snapshot");
        assert_eq!(log_start(Some(319)), Some(20));
        assert_eq!(log_start(Some(0)), Some(30), "two snapshots stay");
        let names = excess(&folder, Some(0)).expect("too much").snapshots;
        assert_eq!(names, [log::snapshot_name(10, 1), log::snapshot_name(20, 1)]);
    }

    #[test]
    fn a_log_without_two_snapshots_stays_whole() {
        assert_eq!(excess(&folder(&[], &[(0, 100)]), Some(0)), None);
        assert_eq!(excess(&folder(&[(10, 5)], &[(0, 100), (10, 100)]), Some(0)), None);
        let two = excess(&folder(&[(10, 5), (20, 5)], &[(0, 100), (15, 100)]), Some(0));
        assert_eq!(two, Some(Excess { log_start: 10, snapshots: Vec::new() }));
    }
}
