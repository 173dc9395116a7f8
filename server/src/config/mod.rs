//! The broker's configuration: raw text from a file, the environment and the command line, checked against
//! the table of keys, resolved once, and handed on by value.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flumen_engine::LogConfig;

pub mod key;
pub mod keys;
mod listeners;
mod properties;
mod quorum;
mod raw;
pub mod reference;
pub mod requirements;
mod resolve;

pub use listeners::ListenerConfig;
pub use raw::{Origin, Settings};

/// Everything that the broker was told, validated and resolved.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Who this node is and where its data lies.
    pub node: NodeConfig,
    /// Listeners and connections.
    pub network: NetworkConfig,
    /// Cores, memory, disk.
    pub resources: ResourceConfig,
    /// Limits of fetches.
    pub fetch: FetchConfig,
    /// What a new topic is like.
    pub topics: TopicDefaults,
    /// What a partition's log is like where its topic does not say otherwise.
    pub log: LogConfig,
    /// Groups and their offsets.
    pub groups: GroupConfig,
    /// The metadata log.
    pub metadata: MetadataConfig,
    /// Between two looks at what retention may delete (`log.retention.check.interval.ms`).
    pub retention_check_interval: Duration,
    /// Between two looks at which producers have expired (`producer.id.expiration.check.interval.ms`).
    pub producer_expiration_check_interval: Duration,
    /// What was set, as text: DescribeConfigs answers from it.
    pub settings: Settings,
}

/// Who this node is and where its data lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// `node.id` (or `broker.id`), if set; the directory's own id is filled in when it is read.
    pub id: Option<i32>,
    /// `CLUSTER_ID` of the environment, if set: the id that a new directory is formatted with.
    pub cluster_id: Option<String>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// `log.dirs`.
    pub log_dir: PathBuf,
}

/// Listeners and connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// `listeners` and `advertised.listeners`; at least one.
    pub listeners: Vec<ListenerConfig>,
    /// `socket.request.max.bytes`.
    pub request_bytes_max: usize,
    /// `queued.max.request.bytes`; `None` to take a share of the memory limit.
    pub request_memory_bytes: Option<u64>,
    /// `connections.max.idle.ms`; `None` for never.
    pub idle_max: Option<Duration>,
    /// `max.connections`.
    pub connections_max: usize,
    /// `max.connections.per.ip`.
    pub connections_per_address_max: usize,
    /// `max.connections.per.ip.overrides`.
    pub connections_per_address: BTreeMap<IpAddr, usize>,
}

/// Cores, memory, disk.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceConfig {
    /// `flumen.cores`; `None` for every core available.
    pub cores: Option<u16>,
    /// `flumen.cache.bytes`, of all cores together; `None` to take the fraction.
    pub cache_bytes: Option<u64>,
    /// `flumen.cache.fraction` of the memory limit.
    pub cache_fraction: f64,
    /// `flumen.journal.bytes`, of each core.
    pub journal_bytes: u64,
    /// `flumen.io.direct`.
    pub direct_io: bool,
}

/// Limits of fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchConfig {
    /// `fetch.max.bytes`.
    pub bytes_max: usize,
    /// `max.incremental.fetch.session.cache.slots`, of all cores together.
    pub sessions_max: usize,
    /// `flumen.fetch.memory.bytes`, of all cores together; `None` to take a share of the memory limit.
    pub memory_bytes: Option<u64>,
    /// `flumen.fetch.sendfile.bytes`.
    pub sendfile_bytes_min: usize,
}

/// What a new topic is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicDefaults {
    /// `num.partitions`.
    pub partitions: i32,
    /// `default.replication.factor`.
    pub replication_factor: i16,
    /// `min.insync.replicas`.
    pub min_insync_replicas: i32,
    /// `auto.create.topics.enable`.
    pub auto_create: bool,
    /// `delete.topic.enable`.
    pub deletable: bool,
}

/// Groups and their offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// `offsets.topic.num.partitions`.
    pub offsets_partitions: i32,
    /// `offsets.topic.replication.factor`.
    pub offsets_replication_factor: i16,
    /// `offsets.topic.segment.bytes`.
    pub offsets_segment_bytes: u32,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval: Duration,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_bytes_max: usize,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max_ms: i32,
    /// `group.max.size`.
    pub members_max: usize,
}

/// The metadata log and its snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetadataConfig {
    /// `metadata.log.max.record.bytes.between.snapshots`.
    pub snapshot_bytes: u64,
    /// `metadata.log.max.snapshot.interval.ms`; `None` for never.
    pub snapshot_interval: Option<Duration>,
    /// `metadata.max.retention.bytes`; `None` for no bound.
    pub retention_bytes: Option<u64>,
    /// `metadata.log.segment.bytes`.
    pub segment_bytes: u32,
    /// `metadata.log.segment.ms`.
    pub segment_ms: i64,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {why}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// No key of this name.
    #[error("{key}={value}: no such setting{hint}; `flumen config` lists all")]
    Unknown {
        /// The name.
        key: String,
        /// Its value.
        value: String,
        /// What may have been meant.
        hint: String,
    },
    /// A value of the wrong type or out of range, or one that contradicts another.
    #[error(transparent)]
    Invalid(#[from] key::InvalidValue),
}

impl BrokerConfig {
    /// Reads, checks and resolves the file, the `KAFKA_…` variables of `environment` and `overrides`.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: &[(String, String)],
        host_name: &str,
    ) -> Result<Self, ConfigError> {
        let mut cluster_id = None;
        let environment = environment.into_iter().inspect(|(name, value)| {
            if name == "CLUSTER_ID" && !value.is_empty() {
                cluster_id = Some(value.clone());
            }
        });
        let settings = Settings::gather(file, environment, overrides)?;
        let mut config = resolve::resolve(settings, host_name)?;
        config.node.cluster_id = cluster_id;
        Ok(config)
    }

    /// This node's id: the one set or read from the directory, else 1.
    pub fn node_id(&self) -> i32 {
        self.node.id.unwrap_or(1)
    }
}
