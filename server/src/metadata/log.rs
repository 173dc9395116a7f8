//! Reading `__cluster_metadata-0` at start: the newest sound snapshot, then the log behind it.
//!
//! Before the cores start, on the main thread, with ordinary file calls. The last segment may end in a torn
//! batch or in zeros: what comes before counts. Damage anywhere else stops the start, and names the place.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flumen_engine::Timestamp;
use flumen_engine::batch::{self, BatchBuilder, BatchHeader, ControlRecord, ControlType};
use uuid::Uuid;

use super::image::{ApplyError, Image, Replay};
use super::records::{Record, RecordError};

/// Why the metadata log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file or folder cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A batch that is no sound batch, where it cannot be the torn end.
    #[error("{path} is damaged at byte {position}: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the batch starts.
        position: usize,
        /// What is wrong with it.
        why: String,
    },
    /// A record that cannot be read.
    #[error("{path}, offset {offset}: {source}")]
    Record {
        /// The file.
        path: PathBuf,
        /// The record's offset.
        offset: i64,
        /// Why.
        source: RecordError,
    },
    /// A record that contradicts those before it, or asks for what is not understood.
    #[error("{path}, offset {offset}: {source}")]
    Apply {
        /// The file.
        path: PathBuf,
        /// The record's offset.
        offset: i64,
        /// Why.
        source: ApplyError,
    },
    /// The log begins behind the end of every sound snapshot.
    #[error("{path}: offsets {expected} to {found} are missing: no sound snapshot covers them")]
    Gap {
        /// The folder.
        path: PathBuf,
        /// The first offset that is needed.
        expected: i64,
        /// The first offset that is there.
        found: i64,
    },
}

/// What a snapshot's control records say about the quorum (KIP-853).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Voters {
    /// `kraft.version`; 0 for a static quorum.
    pub kraft_version: i16,
    /// The value of the last VotersRecord, as it was written.
    pub record: Option<Bytes>,
}

/// The state that the folder holds.
#[derive(Debug)]
pub struct Loaded {
    /// All complete records, applied.
    pub image: Image,
    /// Whether the log ends inside a metadata transaction, whose records are not in the image.
    pub open_transaction: bool,
    /// The offset that the next record gets.
    pub end_offset: i64,
    /// The epoch of the last batch; −1 for none.
    pub last_epoch: i32,
    /// The end offset of the newest sound snapshot; 0 for none.
    pub snapshot_end: i64,
    /// Who votes.
    pub voters: Voters,
    /// Bytes of log that were read behind the snapshot.
    pub bytes_since_snapshot: u64,
    /// Topics whose removal the log holds.
    pub removed: BTreeSet<Uuid>,
}

/// A snapshot's file name: `{end offset:020}-{epoch:010}.checkpoint`.
pub fn snapshot_name(end_offset: i64, epoch: i32) -> String {
    format!("{end_offset:020}-{epoch:010}.checkpoint")
}

/// End offset and epoch in a snapshot's file name.
pub fn parse_snapshot_name(name: &str) -> Option<(i64, i32)> {
    let (offset, epoch) = name.strip_suffix(".checkpoint")?.split_once('-')?;
    (offset.len() == 20 && epoch.len() == 10).then_some((offset.parse().ok()?, epoch.parse().ok()?))
}

/// The records of `bootstrap.checkpoint`, with which an empty log begins.
pub fn read_bootstrap(path: &Path) -> Result<Vec<Record>, LogError> {
    let loader = read_snapshot(path, 0, 0)?;
    Ok(loader.replay.image().records().collect())
}

/// Reads the folder; a missing one is an empty log.
pub fn load(folder: &Path) -> Result<Loaded, LogError> {
    let mut segments = Vec::new();
    let mut snapshots = Vec::new();
    for name in names(folder)? {
        if let Some(snapshot) = parse_snapshot_name(&name) {
            snapshots.push(snapshot);
        } else if let Some(base) = name.strip_suffix(".log").and_then(|base| base.parse::<i64>().ok()) {
            segments.push(base);
        }
    }
    segments.sort_unstable();
    snapshots.sort_unstable();
    let mut loader = newest_snapshot(folder, &snapshots)?;
    let snapshot_end = loader.end_offset;
    // Segments that end before the snapshot does are not needed: the next one's base says where they end.
    let needed = segments.iter().rposition(|base| *base <= snapshot_end).unwrap_or(0);
    for (index, base) in segments.iter().enumerate().skip(needed) {
        if *base > loader.end_offset {
            let (expected, found) = (loader.end_offset, *base);
            return Err(LogError::Gap { path: folder.to_owned(), expected, found });
        }
        let is_last = index + 1 == segments.len();
        loader.read_file(&folder.join(format!("{base:020}.log")), is_last)?;
    }
    let (image, open_transaction) = loader.replay.finish();
    Ok(Loaded {
        image,
        open_transaction,
        end_offset: loader.end_offset,
        last_epoch: loader.last_epoch,
        snapshot_end,
        voters: loader.voters,
        bytes_since_snapshot: loader.bytes_read,
        removed: loader.removed,
    })
}

fn names(folder: &Path) -> Result<Vec<String>, LogError> {
    let io_error = |source| LogError::Io { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error(error)),
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    names.collect::<Result<_, _>>().map_err(io_error)
}

/// A loader that holds the newest snapshot that is whole; a damaged one is passed over, said, and left.
fn newest_snapshot(folder: &Path, snapshots: &[(i64, i32)]) -> Result<Loader, LogError> {
    for (end_offset, epoch) in snapshots.iter().rev() {
        let path = folder.join(snapshot_name(*end_offset, *epoch));
        match read_snapshot(&path, *end_offset, *epoch) {
            Ok(loader) => return Ok(loader),
            Err(LogError::Damaged { path, position, why }) => {
                tracing::warn!(path = %path.display(), position, why, "passing over a damaged snapshot");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Loader::default())
}

fn read_snapshot(path: &Path, end_offset: i64, epoch: i32) -> Result<Loader, LogError> {
    let mut loader = Loader { in_snapshot: true, ..Loader::default() };
    loader.read_file(path, false)?;
    if !loader.footer_seen {
        let why = "the snapshot has no footer".to_owned();
        return Err(LogError::Damaged { path: path.to_owned(), position: 0, why });
    }
    let (mut image, _) = loader.replay.finish();
    // Offsets inside a snapshot are its own; from here on they are the log's.
    image.rebase(end_offset - 1, if end_offset == 0 { -1 } else { epoch });
    Ok(Loader {
        replay: Replay::new(image),
        end_offset,
        last_epoch: if end_offset == 0 { -1 } else { epoch },
        voters: loader.voters,
        in_snapshot: false,
        footer_seen: false,
        bytes_read: 0,
        removed: BTreeSet::new(),
    })
}

#[derive(Debug)]
struct Loader {
    replay: Replay,
    /// Invariant: every offset below it is in `replay`.
    end_offset: i64,
    last_epoch: i32,
    voters: Voters,
    in_snapshot: bool,
    footer_seen: bool,
    bytes_read: u64,
    removed: BTreeSet<Uuid>,
}

impl Default for Loader {
    fn default() -> Self {
        Self {
            replay: Replay::default(),
            end_offset: 0,
            last_epoch: -1,
            voters: Voters::default(),
            in_snapshot: false,
            footer_seen: false,
            bytes_read: 0,
            removed: BTreeSet::new(),
        }
    }
}

impl Loader {
    fn read_file(&mut self, path: &Path, may_be_torn: bool) -> Result<(), LogError> {
        let bytes = fs::read(path).map_err(|source| LogError::Io { path: path.to_owned(), source })?;
        let mut position = 0;
        while position < bytes.len() {
            let rest = &bytes[position..];
            let sound = BatchHeader::parse(rest).and_then(|header| {
                let batch = &rest[..header.batch_bytes()];
                header.verify(batch).map(|()| (header, batch))
            });
            let (header, batch) = match sound {
                Ok(sound) => sound,
                Err(_) if may_be_torn => return Ok(()),
                Err(error) => return Err(damaged(path, position, error.to_string())),
            };
            let base = header.base_offset().0;
            if base > self.end_offset {
                return Err(damaged(path, position, format!("offset {base}, {} expected", self.end_offset)));
            }
            if header.last_offset().0 >= self.end_offset {
                self.read_batch(path, position, header, batch)?;
            }
            position += batch.len();
        }
        Ok(())
    }

    fn read_batch(
        &mut self,
        path: &Path,
        position: usize,
        header: &BatchHeader,
        batch: &[u8],
    ) -> Result<(), LogError> {
        let epoch = header.leader_epoch().0;
        let records = batch::records(batch).map_err(|error| damaged(path, position, error.to_string()))?;
        for record in records {
            let record = record.map_err(|error| damaged(path, position, error.to_string()))?;
            let offset = record.offset.0;
            if offset < self.end_offset {
                continue;
            }
            if header.is_control() {
                self.control(record.key, record.value);
                self.replay.skip(offset, epoch);
            } else {
                let value = record.value.unwrap_or_default();
                let record = Record::read(value).map_err(|source| LogError::Record {
                    path: path.to_owned(),
                    offset,
                    source,
                })?;
                self.replay.apply(offset, epoch, record).map_err(|source| LogError::Apply {
                    path: path.to_owned(),
                    offset,
                    source,
                })?;
            }
        }
        self.end_offset = header.last_offset().0 + 1;
        self.bytes_read += batch.len() as u64;
        if !self.in_snapshot {
            self.last_epoch = epoch;
        }
        Ok(())
    }

    fn control(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        match key.and_then(ControlType::of_key) {
            Some(ControlType::SnapshotFooter) => self.footer_seen = true,
            Some(ControlType::KraftVersion) => {
                // {version INT16, kraft version INT16}
                if let Some([_, _, high, low, ..]) = value {
                    self.voters.kraft_version = i16::from_be_bytes([*high, *low]);
                }
            }
            Some(ControlType::KraftVoters) => self.voters.record = value.map(Bytes::copy_from_slice),
            _ => {}
        }
    }
}

fn damaged(path: &Path, position: usize, why: String) -> LogError {
    LogError::Damaged { path: path.to_owned(), position, why }
}

/// Records of one batch of a snapshot, at most.
const SNAPSHOT_BATCH_RECORDS: usize = 1000;

/// A snapshot file of `records`: header, data batches, footer, as Kafka's `RecordsSnapshotWriter` does.
/// Offsets count from 0; the epoch is the one in its name. `pause` comes between two steps.
pub async fn snapshot_bytes(
    records: Vec<Vec<u8>>,
    epoch: i32,
    now: Timestamp,
    last_append: Timestamp,
    voters: &Voters,
    pause: impl AsyncFn(),
) -> Vec<u8> {
    use flumen_engine::{LeaderEpoch, Offset};
    let mut header = BatchBuilder::control(
        now,
        &ControlRecord::SnapshotHeader { last_contained_log_timestamp: last_append },
    );
    if let Some(record) = &voters.record {
        let mut version = 0i16.to_be_bytes().to_vec();
        version.extend_from_slice(&voters.kraft_version.to_be_bytes());
        version.push(0);
        header.append(now, Some(&control_key(ControlType::KraftVersion)), Some(&version), &[]);
        header.append(now, Some(&control_key(ControlType::KraftVoters)), Some(record), &[]);
    }
    let mut next = header.records() as i64;
    let mut out = header.leader_epoch(LeaderEpoch(epoch)).build().to_vec();
    let mut add = |builder: BatchBuilder| {
        let count = builder.records() as i64;
        out.extend_from_slice(&builder.base_offset(Offset(next)).leader_epoch(LeaderEpoch(epoch)).build());
        next += count;
    };
    let mut batch = BatchBuilder::new();
    for record in records {
        if batch.records() == SNAPSHOT_BATCH_RECORDS {
            add(std::mem::take(&mut batch));
        }
        batch.append(now, None, Some(&record), &[]);
        pause().await;
    }
    if batch.records() > 0 {
        add(batch);
    }
    add(BatchBuilder::control(now, &ControlRecord::SnapshotFooter));
    out
}

fn control_key(control: ControlType) -> [u8; 4] {
    let [high, low] = control.number().to_be_bytes();
    [0, 0, high, low]
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn folder_with(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).expect("written");
        }
        folder
    }

    const LOG: &[u8] = include_bytes!("golden/cluster_metadata.log");
    const LOG_NAME: &str = "00000000000000000000.log";

    #[test]
    fn kafkas_log_is_loaded() {
        let loaded = load(folder_with(&[(LOG_NAME, LOG)]).path()).expect("a sound log");
        assert_eq!((loaded.end_offset, loaded.last_epoch, loaded.snapshot_end), (53, 1, 0));
        assert!(!loaded.open_transaction);
        assert_eq!(loaded.image.topics().count(), 2);
        assert_eq!(loaded.image.offset(), 52);
    }

    #[test]
    fn nothing_is_an_empty_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let loaded = load(&folder.path().join("absent")).expect("an empty log");
        assert_eq!((loaded.end_offset, loaded.last_epoch), (0, -1));
        assert_eq!(loaded.image, Image::default());
    }

    #[test]
    fn a_torn_end_is_cut_and_zeros_are_no_records() {
        let whole = load(folder_with(&[(LOG_NAME, LOG)]).path()).expect("sound");
        let mut zeros = LOG.to_vec();
        zeros.resize(LOG.len() + 8192, 0);
        let loaded = load(folder_with(&[(LOG_NAME, &zeros)]).path()).expect("sound");
        assert_eq!(loaded.image, whole.image);
        for length in 0..LOG.len() {
            let loaded = load(folder_with(&[(LOG_NAME, &LOG[..length])]).path()).expect("torn, not damaged");
            assert!(loaded.end_offset < whole.end_offset);
        }
    }

    #[test]
    fn damage_before_the_last_segment_stops_the_start() {
        let mut damaged = LOG.to_vec();
        damaged[100] ^= 1;
        let next = BatchBuilder::control(Timestamp(0), &ControlRecord::SnapshotFooter)
            .base_offset(flumen_engine::Offset(53))
            .build();
        let folder = folder_with(&[(LOG_NAME, &damaged), ("00000000000000000053.log", &next)]);
        assert!(matches!(load(folder.path()), Err(LogError::Damaged { position: 91, .. })));
    }

    #[test]
    fn a_snapshot_stands_for_the_log_before_it() {
        let whole = load(folder_with(&[(LOG_NAME, LOG)]).path()).expect("sound");
        let levels = whole.image.levels();
        let records: Vec<Vec<u8>> = whole.image.records().map(|record| record.to_bytes(levels)).collect();
        let voters = Voters::default();
        let written = snapshot_bytes(records, 1, Timestamp(5), Timestamp(4), &voters, async || ());
        let bytes = written.now_or_never().expect("no pause waits");
        let name = snapshot_name(53, 1);
        let loaded = load(folder_with(&[(&name, &bytes)]).path()).expect("a sound snapshot");
        assert_eq!(loaded.image, whole.image);
        assert_eq!((loaded.end_offset, loaded.last_epoch, loaded.snapshot_end), (53, 1, 53));
        // With the log still there, and the snapshot cut: the log is enough.
        let folder = folder_with(&[(&name, &bytes[..bytes.len() - 1]), (LOG_NAME, LOG)]);
        let loaded = load(folder.path()).expect("the log is whole");
        assert_eq!((loaded.image, loaded.snapshot_end), (whole.image, 0));
        // Without: there is a gap.
        let next = BatchBuilder::control(Timestamp(0), &ControlRecord::SnapshotFooter)
            .base_offset(flumen_engine::Offset(53))
            .build();
        let folder = folder_with(&[(&name, &bytes[..80]), ("00000000000000000053.log", &next)]);
        assert!(matches!(load(folder.path()), Err(LogError::Gap { expected: 0, found: 53, .. })));
    }

    #[test]
    fn kafkas_bootstrap_checkpoint_is_a_snapshot() {
        let bytes = include_bytes!("golden/bootstrap.checkpoint");
        let loaded = load(folder_with(&[(&snapshot_name(0, 0), bytes)]).path()).expect("sound");
        assert_eq!(loaded.image.levels().metadata_version, 30);
        assert_eq!((loaded.end_offset, loaded.last_epoch, loaded.image.offset()), (0, -1, -1));
    }
}
