//! The log directory's identity: formatting an empty one, and refusing one that is not this node's.
//!
//! Before the cores start, on the main thread, with ordinary file calls. A directory is formatted once
//! `meta.properties` is durable; it is written last, so that a crash before it leaves an unformatted one.
//! Nothing that is found is ever deleted here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flumen_engine::{RecoveredJournal, Timestamp};
use futures_util::FutureExt;
use uuid::Uuid;

use super::controller::SUPPORTED_FEATURES;
use super::image::{Image, METADATA_VERSION, ResourceKind};
use super::log::{self, Loaded, LogError, Voters};
use super::quorum::{QuorumState, QuorumStateError};
use super::records::{FeatureLevel, Levels, Record};
use super::strays;
use super::uuid_text;
use crate::config::NodeConfig;

/// The metadata partition's folder.
pub const METADATA_FOLDER: &str = "__cluster_metadata-0";
/// Where the commit journals lie while they are needed.
pub const JOURNAL_FOLDER: &str = "flumen-journal";
const META_PROPERTIES: &str = "meta.properties";
const BOOTSTRAP: &str = "bootstrap.checkpoint";
const QUORUM_STATE: &str = "quorum-state";

/// The features that are understood, each up to this level.
const FEATURES: [(&str, i16); 6] = [
    (METADATA_VERSION, Levels::METADATA_VERSION_MAX),
    ("eligible.leader.replicas.version", 1),
    ("group.version", 1),
    ("share.version", 2),
    ("streams.version", 1),
    ("transaction.version", 2),
];

/// Why a log directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A file or folder cannot be read or written.
    #[error("{path}: cannot {operation}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A directory with content that nobody formatted.
    #[error(
        "{path} holds {found} but no meta.properties: it is no log directory. \
         Point log.dirs at an empty folder, or at the data of this node"
    )]
    NotFormatted {
        /// The log directory.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// Another node's, another cluster's, or something that this broker cannot serve.
    #[error("{path}: {why}")]
    Foreign {
        /// The log directory, or what in it.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// `quorum-state` cannot be read.
    #[error("{path}: {source}")]
    Quorum {
        /// The log directory.
        path: PathBuf,
        /// Why.
        source: QuorumStateError,
    },
    /// The metadata log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Who this node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `node.id`.
    pub node_id: i32,
    /// The cluster's id, a text.
    pub cluster_id: String,
    /// This log directory's id.
    pub directory_id: Uuid,
}

/// A directory that this node may use, and the metadata in it.
#[derive(Debug)]
pub struct Opened {
    /// The log directory.
    pub path: PathBuf,
    /// Who this node is.
    pub identity: Identity,
    /// The metadata up to the last stop.
    pub loaded: Loaded,
    /// The epoch that the controller begins now: above every one before.
    pub epoch: i32,
    /// What the log begins with, if it is empty.
    pub bootstrap: Vec<Record>,
    /// Whether the directory was formatted just now.
    pub formatted: bool,
}

/// Opens the log directory, formatting an empty one.
pub fn open(config: &NodeConfig) -> Result<Opened, DirectoryError> {
    let path = &config.log_dir;
    fs::create_dir_all(path).map_err(|source| io_error(path, "create the folder", source))?;
    let (files, folders) = list(path)?;
    let formatted = !files.contains(META_PROPERTIES);
    if formatted {
        let harmless = |name: &str| {
            name.starts_with('.') || name == BOOTSTRAP || name.ends_with(".tmp") || name == "lost+found"
        };
        if let Some(found) = files.iter().chain(&folders).find(|name| !harmless(name)) {
            return Err(DirectoryError::NotFormatted { path: path.clone(), found: found.clone() });
        }
        format(config)?;
    }
    let identity = identity(config)?;
    check_folders(path, &folders)?;
    let loaded = log::load(&path.join(METADATA_FOLDER))?;
    let mut opened =
        Opened { path: path.clone(), identity, loaded, epoch: 0, bootstrap: Vec::new(), formatted };
    opened.check()?;
    Ok(opened)
}

impl Opened {
    /// Reads the metadata again: what a journal held was folded into it.
    pub fn reload(&mut self) -> Result<(), DirectoryError> {
        self.loaded = log::load(&self.path.join(METADATA_FOLDER))?;
        self.check()
    }

    /// Refuses metadata that this node alone cannot continue, and says in which epoch it does.
    fn check(&mut self) -> Result<(), DirectoryError> {
        let foreign = |why: String| DirectoryError::Foreign { path: self.path.clone(), why };
        let quorum = read_quorum_state(&self.path.join(METADATA_FOLDER))?;
        let voters = quorum.as_ref().and_then(|quorum| quorum.voters.as_ref());
        if let Some(voters) = voters.filter(|voters| **voters != [self.identity.node_id]) {
            return Err(foreign(format!(
                "quorum-state names the voters {voters:?}: this node alone cannot continue their log"
            )));
        }
        let image = &self.loaded.image;
        check_image(image, &self.identity).map_err(foreign)?;
        let empty = self.loaded.end_offset == 0 && image.cluster().feature(METADATA_VERSION) == 0;
        self.bootstrap = if empty { bootstrap_records(&self.path)? } else { Vec::new() };
        let seen = self.loaded.last_epoch.max(quorum.map_or(0, |quorum| quorum.leader_epoch));
        self.epoch = seen.max(0) + 1;
        Ok(())
    }

    /// Renames the folders of partitions that the metadata does not know, so that no topic to come inherits
    /// their records. After the journal was folded into them, and before a partition is opened.
    pub fn set_aside_strays(&self, recovered: &mut RecoveredJournal) -> Result<(), DirectoryError> {
        let folders = recovered.folders();
        let renamed = strays::set_aside(&self.path, folders, &self.loaded.image, &self.loaded.removed)
            .map_err(|source| io_error(&self.path, "set unknown partitions aside", source))?;
        for (from, to) in &renamed {
            tracing::warn!(from, to, "the cluster's metadata does not know this partition");
        }
        recovered.forget_folders(renamed.iter().map(|(from, _)| from.as_str()));
        Ok(())
    }

    /// Makes the new epoch durable, before its first record: `quorum-state`, and `partition.metadata` beside
    /// it. A later start, ours or Apache Kafka's, then takes a higher one.
    pub fn begin_epoch(&self) -> Result<(), DirectoryError> {
        let folder = self.path.join(METADATA_FOLDER);
        let is_new = !folder.is_dir();
        fs::create_dir_all(&folder).map_err(|source| io_error(&folder, "create the folder", source))?;
        let identity = folder.join("partition.metadata");
        if !identity.exists() {
            let topic_id = uuid_text::format(uuid_text::METADATA_TOPIC_ID);
            put(&identity, format!("version: 0\ntopic_id: {topic_id}").as_bytes())?;
        }
        let node_id = self.identity.node_id;
        let is_static = self.loaded.voters.kraft_version == 0;
        let state = QuorumState {
            leader_id: node_id,
            leader_epoch: self.epoch,
            voters: is_static.then(|| vec![node_id]),
        };
        replace(&folder.join(QUORUM_STATE), state.to_json().as_bytes())?;
        if is_new { sync_folder(&self.path) } else { Ok(()) }
    }
}

/// Writes a new directory's identity.
fn format(config: &NodeConfig) -> Result<(), DirectoryError> {
    let path = &config.log_dir;
    let levels = Levels { metadata_version: Levels::METADATA_VERSION_MAX };
    let records: Vec<Vec<u8>> = new_features().map(|feature| feature.to_bytes(levels)).collect();
    // Offsets and times of this file mean nothing to Kafka, which writes zeros too.
    let voters = Voters::default();
    let written = log::snapshot_bytes(records, 0, Timestamp(0), Timestamp(0), &voters, async || ());
    let bootstrap = written.now_or_never().expect("no pause waits");
    // Its name becomes durable with that of the next file; without it a start takes the same features.
    put(&path.join(BOOTSTRAP), &bootstrap)?;
    let cluster_id = config.cluster_id.clone().unwrap_or_else(|| uuid_text::format(uuid_text::random()));
    let directory_id = uuid_text::random();
    write_meta_properties(path, config.id.unwrap_or(1), &cluster_id, directory_id)
}

/// The features that a new node finalizes. Apache Kafka, started on the directory, can raise the others.
fn new_features() -> impl Iterator<Item = Record> {
    SUPPORTED_FEATURES
        .iter()
        .map(|(name, _, level_max)| FeatureLevel { name: (*name).to_owned(), level: *level_max }.into())
}

/// What an empty log begins with: the features of `bootstrap.checkpoint`, or those of a new node.
fn bootstrap_records(path: &Path) -> Result<Vec<Record>, DirectoryError> {
    let file = path.join(BOOTSTRAP);
    if file.exists() { Ok(log::read_bootstrap(&file)?) } else { Ok(new_features().collect()) }
}

fn write_meta_properties(
    path: &Path,
    node_id: i32,
    cluster_id: &str,
    directory_id: Uuid,
) -> Result<(), DirectoryError> {
    let directory_id = uuid_text::format(directory_id);
    let text =
        format!("#\nnode.id={node_id}\ndirectory.id={directory_id}\nversion=1\ncluster.id={cluster_id}\n");
    replace(&path.join(META_PROPERTIES), text.as_bytes())
}

/// Reads `meta.properties` and compares it with what is configured.
fn identity(config: &NodeConfig) -> Result<Identity, DirectoryError> {
    let file = config.log_dir.join(META_PROPERTIES);
    let text = fs::read_to_string(&file).map_err(|source| io_error(&file, "read", source))?;
    let values: BTreeMap<&str, &str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', '!']))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim(), value.trim()))
        .collect();
    let foreign = |why: String| DirectoryError::Foreign { path: file.clone(), why };
    let required = |key: &str| values.get(key).copied().ok_or_else(|| foreign(format!("{key} is missing")));
    match required("version")? {
        "1" => {}
        "0" => return Err(foreign("of a broker with ZooKeeper; migrate it to KRaft first".into())),
        other => return Err(foreign(format!("version {other}; 1 is known"))),
    }
    let node_id: i32 =
        required("node.id")?.parse().map_err(|_| foreign("node.id is no 32-bit number".into()))?;
    if let Some(configured) = config.id.filter(|id| *id != node_id) {
        return Err(foreign(format!("belongs to node {node_id}, but node.id={configured} is configured")));
    }
    let cluster_id = required("cluster.id")?.to_owned();
    if let Some(configured) = config.cluster_id.as_ref().filter(|id| **id != cluster_id) {
        return Err(foreign(format!("belongs to cluster {cluster_id}, but CLUSTER_ID={configured} is set")));
    }
    let directory_id = match values.get("directory.id") {
        Some(text) => {
            uuid_text::parse(text).ok_or_else(|| foreign(format!("directory.id={text} is no id")))?
        }
        // Written by a Kafka before 3.7; the newer ones add it, too.
        None => {
            let directory_id = uuid_text::random();
            write_meta_properties(&config.log_dir, node_id, &cluster_id, directory_id)?;
            directory_id
        }
    };
    Ok(Identity { node_id, cluster_id, directory_id })
}

/// A partition's folder, `topic-partition`.
pub fn parse_partition_folder(name: &str) -> Option<(&str, i32)> {
    let (topic, partition) = name.rsplit_once('-')?;
    let digits = !partition.is_empty() && partition.bytes().all(|byte| byte.is_ascii_digit());
    (digits && !topic.is_empty()).then_some((topic, partition.parse().ok()?))
}

/// Says what is left alone and refuses what is nothing of ours.
fn check_folders(path: &Path, folders: &BTreeSet<String>) -> Result<(), DirectoryError> {
    for name in folders {
        if name.ends_with("-stray") || name.ends_with("-future") {
            tracing::warn!(folder = name, "left alone: the cluster's metadata does not know it");
        } else if parse_partition_folder(name).is_none()
            && !name.ends_with("-delete")
            && !name.starts_with('.')
            && name != JOURNAL_FOLDER
            && name != "lost+found"
        {
            let why = "is no partition's folder (topic-number); move it out of the log directory".to_owned();
            return Err(DirectoryError::Foreign { path: path.join(name), why });
        }
    }
    Ok(())
}

/// What the metadata asks for that one node, or this broker, cannot give.
fn check_image(image: &Image, identity: &Identity) -> Result<(), String> {
    let own = identity.node_id;
    let brokers: Vec<i32> = image.cluster().brokers().map(|broker| broker.registration.broker_id).collect();
    if brokers.iter().any(|id| *id != own) {
        return Err(format!(
            "the brokers {brokers:?} are registered: this node alone is not their cluster; \
             unregister the others first"
        ));
    }
    if let Some(controller) = image.cluster().controllers().find(|other| other.controller_id != own) {
        return Err(format!("controller {} is registered, which is not this node", controller.controller_id));
    }
    let directories = image.cluster().broker(own).map_or(0, |own| own.registration.log_directories.len());
    if directories > 1 {
        return Err(format!("the node had {directories} log directories; several are not supported yet"));
    }
    for (name, level) in image.cluster().features() {
        match FEATURES.iter().find(|(known, _)| *known == name) {
            None => return Err(format!("the feature {name} (level {level}) is not understood")),
            Some((_, level_max)) if level > *level_max => {
                return Err(format!("{name} is at level {level}; up to {level_max} is understood"));
            }
            Some(_) => {}
        }
    }
    for (resource, values) in image.configs().iter() {
        let remote = values.get("remote.storage.enable").is_some_and(|value| value == "true");
        if resource.kind == ResourceKind::Topic && remote {
            return Err(format!("topic {} keeps data in remote storage, which is not served", resource.name));
        }
    }
    if image.security().has_access_control_entries() {
        tracing::warn!("the metadata holds access control entries; there is no authorizer to enforce them");
    }
    Ok(())
}

fn read_quorum_state(folder: &Path) -> Result<Option<QuorumState>, DirectoryError> {
    let file = folder.join(QUORUM_STATE);
    match fs::read_to_string(&file) {
        Ok(text) => {
            let state = QuorumState::from_json(&text);
            state.map(Some).map_err(|source| DirectoryError::Quorum { path: file, source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error(&file, "read", source)),
    }
}

/// The names in the log directory: files, then folders.
fn list(path: &Path) -> Result<(BTreeSet<String>, BTreeSet<String>), DirectoryError> {
    let list_error = |source| io_error(path, "list", source);
    let (mut files, mut folders) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(path).map_err(list_error)? {
        let entry = entry.map_err(list_error)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_folder = entry.file_type().map_err(list_error)?.is_dir();
        if is_folder {
            folders.insert(name)
        } else {
            files.insert(name)
        };
    }
    Ok((files, folders))
}

/// Replaces a file durably: a temporary one, fsync, rename, fsync of the folder.
fn replace(path: &Path, contents: &[u8]) -> Result<(), DirectoryError> {
    put(path, contents)?;
    sync_folder(path.parent().expect("a file in a folder"))
}

/// As `replace`, but the name is durable only once the folder is flushed.
fn put(path: &Path, contents: &[u8]) -> Result<(), DirectoryError> {
    let temporary = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| io_error(path, "write", source))
}

fn sync_folder(path: &Path) -> Result<(), DirectoryError> {
    let sync = || fs::File::open(path)?.sync_all();
    sync().map_err(|source| io_error(path, "flush", source))
}

fn io_error(path: &Path, operation: &'static str, source: io::Error) -> DirectoryError {
    DirectoryError::Io { path: path.to_owned(), operation, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: &Path) -> NodeConfig {
        NodeConfig { id: None, cluster_id: None, rack: None, log_dir: path.to_owned() }
    }

    fn kafkas_directory() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let metadata = folder.path().join(METADATA_FOLDER);
        fs::create_dir(&metadata).expect("created");
        let log = include_bytes!("golden/cluster_metadata.log");
        fs::write(metadata.join("00000000000000000000.log"), log).expect("written");
        let quorum = QuorumState { leader_id: 1, leader_epoch: 1, voters: Some(vec![1]) };
        fs::write(metadata.join(QUORUM_STATE), quorum.to_json()).expect("written");
        let properties = "#\n#Sun Nov 22 14:04:04 UTC 2026\nnode.id=1\n\
                          directory.id=SJwhIv7v5uERk-eqF-f37g\nversion=1\ncluster.id=SGYj_CATTUSHD1_Wmt5XCA\n";
        fs::write(folder.path().join(META_PROPERTIES), properties).expect("written");
        fs::create_dir(folder.path().join("plain-0")).expect("created");
        fs::create_dir(folder.path().join("gone-0.6d7dc75576d94b70a09de5ad9ad634d5-delete"))
            .expect("created");
        folder
    }

    #[test]
    fn an_empty_directory_is_formatted_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = open(&config(folder.path())).expect("formatted");
        assert!(first.formatted);
        assert_eq!((first.identity.node_id, first.epoch, first.loaded.end_offset), (1, 1, 0));
        assert_eq!(first.bootstrap.len(), SUPPORTED_FEATURES.len());
        first.begin_epoch().expect("written");
        let second = open(&config(folder.path())).expect("opened");
        assert!(!second.formatted);
        assert_eq!(second.identity, first.identity);
        assert_eq!(second.epoch, 2);
        let state = fs::read_to_string(folder.path().join(METADATA_FOLDER).join(QUORUM_STATE));
        assert!(state.expect("read").contains("\"leaderId\":1,\"leaderEpoch\":1,"));
    }

    /// What is supported is finalized as Kafka 4.3 does it, in its order; what is not is left off.
    #[test]
    fn a_new_directory_has_the_features_that_are_served_as_kafka_formats_them() {
        let (folder, kafkas) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        open(&config(folder.path())).expect("formatted");
        let golden = kafkas.path().join(BOOTSTRAP);
        fs::write(&golden, include_bytes!("golden/bootstrap.checkpoint")).expect("written");
        let is_served = |record: &Record| match record {
            Record::FeatureLevel(feature) => {
                SUPPORTED_FEATURES.iter().any(|(name, _, _)| *name == feature.name)
            }
            _ => false,
        };
        let mut expected = log::read_bootstrap(&golden).expect("Kafka's");
        expected.retain(is_served);
        assert_eq!(expected.len(), SUPPORTED_FEATURES.len());
        assert_eq!(log::read_bootstrap(&folder.path().join(BOOTSTRAP)).expect("ours"), expected);
        for (name, _, level_max) in SUPPORTED_FEATURES {
            assert!(FEATURES.contains(&(name, level_max)), "{name} is served and understood alike");
        }
    }

    #[test]
    fn a_crash_while_formatting_leaves_an_unformatted_directory() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(BOOTSTRAP), b"half").expect("written");
        fs::write(folder.path().join("meta.tmp"), b"ver").expect("written");
        assert!(open(&config(folder.path())).expect("formatted").formatted);
    }

    #[test]
    fn kafkas_directory_is_taken_over() {
        let folder = kafkas_directory();
        let opened = open(&config(folder.path())).expect("opened");
        assert_eq!((opened.identity.cluster_id.as_str(), opened.epoch), ("SGYj_CATTUSHD1_Wmt5XCA", 2));
        assert_eq!((opened.loaded.end_offset, opened.bootstrap.len()), (53, 0));
    }

    fn refusal(folder: &tempfile::TempDir, config: &NodeConfig) -> String {
        let _ = folder;
        open(config).expect_err("refused").to_string()
    }

    #[test]
    fn another_nodes_or_clusters_directory_is_refused_by_name() {
        let folder = kafkas_directory();
        let other_node = NodeConfig { id: Some(2), ..config(folder.path()) };
        assert!(refusal(&folder, &other_node).contains("belongs to node 1, but node.id=2"));
        let other_cluster = NodeConfig { cluster_id: Some("x".into()), ..config(folder.path()) };
        assert!(refusal(&folder, &other_cluster).contains("belongs to cluster SGYj_CATTUSHD1_Wmt5XCA"));
        let quorum = QuorumState { leader_id: 1, leader_epoch: 1, voters: Some(vec![1, 2, 3]) };
        let file = folder.path().join(METADATA_FOLDER).join(QUORUM_STATE);
        fs::write(file, quorum.to_json()).expect("written");
        assert!(refusal(&folder, &config(folder.path())).contains("names the voters [1, 2, 3]"));
    }

    #[test]
    fn folders_and_files_of_other_programs_are_refused_by_name() {
        let folder = kafkas_directory();
        fs::create_dir(folder.path().join("plain-1.x-stray")).expect("created");
        open(&config(folder.path())).expect("strays are left alone");
        fs::create_dir(folder.path().join("photos")).expect("created");
        assert!(refusal(&folder, &config(folder.path())).contains("photos: is no partition's folder"));
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("thesis.txt"), b"").expect("written");
        let refused = refusal(&folder, &config(folder.path()));
        assert!(refused.contains("holds thesis.txt but no meta.properties"), "{refused}");
    }

    #[test]
    fn partition_folders_are_told_from_others() {
        assert_eq!(parse_partition_folder("a-b-12"), Some(("a-b", 12)));
        for other in ["a", "a-", "-1", "a-x", "a-99999999999"] {
            assert_eq!(parse_partition_folder(other), None, "{other}");
        }
    }
}
