//! From settings, each valid by itself, to the resolved configuration: units, precedence among keys that
//! mean the same, and what contradicts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use flumen_engine::LogConfig;

use super::key::{InvalidValue, elements};
use super::{
    BrokerConfig, FetchConfig, GroupConfig, MetadataConfig, NetworkConfig, NodeConfig, ResourceConfig,
    Settings, TopicDefaults, listeners, quorum, requirements,
};

/// Resolves checked settings. `host_name` is what a listener without a host advertises.
pub(super) fn resolve(mut settings: Settings, host_name: &str) -> Result<BrokerConfig, InvalidValue> {
    let node_id = node_id(&Reader { settings: &settings })?;
    if let Some(warning) = quorum::check(&settings, node_id, host_name)? {
        settings.warn(warning);
    }
    let read = Reader { settings: &settings };
    requirements::check(|key| settings.value(key))
        .map_err(|unmet| read.invalid(unmet.key, &unmet.requirement))?;
    Ok(BrokerConfig {
        node: node(&read, node_id)?,
        network: network(&read, host_name)?,
        resources: resources(&read),
        fetch: FetchConfig {
            bytes_max: read.size("fetch.max.bytes"),
            sessions_max: read.size("max.incremental.fetch.session.cache.slots"),
            memory_bytes: u64::try_from(read.long("flumen.fetch.memory.bytes")).ok(),
            sendfile_bytes_min: read.size("flumen.fetch.sendfile.bytes"),
        },
        topics: topics(&read),
        log: log(&read),
        groups: groups(&read)?,
        metadata: metadata(&read),
        retention_check_interval: read.milliseconds("log.retention.check.interval.ms"),
        producer_expiration_check_interval: read.milliseconds("producer.id.expiration.check.interval.ms"),
        settings,
    })
}

/// Reads values that were checked when they were set.
struct Reader<'a> {
    settings: &'a Settings,
}

impl Reader<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.settings.value(name).filter(|value| !value.is_empty())
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        let value = self.text(name)?;
        Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} was checked against its type")))
    }

    fn required<T: std::str::FromStr>(&self, name: &str) -> T {
        self.number(name).unwrap_or_else(|| panic!("{name} has a default"))
    }

    fn long(&self, name: &str) -> i64 {
        self.required(name)
    }

    fn int(&self, name: &str) -> i32 {
        self.required(name)
    }

    /// A number that cannot be negative; a negative one counts as 0.
    fn size(&self, name: &str) -> usize {
        usize::try_from(self.long(name)).unwrap_or(0)
    }

    fn bytes_u32(&self, name: &str) -> u32 {
        u32::try_from(self.long(name)).unwrap_or(u32::MAX)
    }

    fn milliseconds(&self, name: &str) -> Duration {
        Duration::from_millis(self.long(name).max(0).unsigned_abs())
    }

    fn flag(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    fn invalid(&self, name: &str, expected: &str) -> InvalidValue {
        self.settings.invalid(name, expected)
    }
}

fn node_id(read: &Reader) -> Result<Option<i32>, InvalidValue> {
    let (own, older) = (read.number::<i32>("node.id"), read.number::<i32>("broker.id").filter(|id| *id >= 0));
    if own.is_some() && older.is_some() && own != older {
        return Err(read.invalid("broker.id", "must be the same as node.id where both are set"));
    }
    Ok(own.or(older))
}

fn node(read: &Reader, id: Option<i32>) -> Result<NodeConfig, InvalidValue> {
    let roles: Vec<&str> = elements(read.text("process.roles").unwrap_or_default()).collect();
    if !roles.contains(&"broker") {
        return Err(read.invalid("process.roles", "must contain broker: a controller alone is not served"));
    }
    if !roles.contains(&"controller") {
        let why = "must be broker,controller: a broker under other controllers is not served yet";
        return Err(read.invalid("process.roles", why));
    }
    let name = if read.text("log.dirs").is_some() { "log.dirs" } else { "log.dir" };
    let directories: Vec<&str> = elements(read.text(name).unwrap_or_default()).collect();
    let [directory] = directories[..] else {
        return Err(read.invalid(name, "must be one directory: several are not supported yet"));
    };
    if read.text("metadata.log.dir").is_some_and(|metadata| metadata != directory) {
        return Err(read.invalid("metadata.log.dir", "must be the same as log.dirs, or unset"));
    }
    Ok(NodeConfig {
        id,
        cluster_id: None,
        rack: read.text("broker.rack").map(String::from),
        log_dir: PathBuf::from(directory),
    })
}

fn metadata(read: &Reader) -> MetadataConfig {
    let interval = read.milliseconds("metadata.log.max.snapshot.interval.ms");
    MetadataConfig {
        snapshot_bytes: read.size("metadata.log.max.record.bytes.between.snapshots") as u64,
        snapshot_interval: (!interval.is_zero()).then_some(interval),
        retention_bytes: u64::try_from(read.long("metadata.max.retention.bytes")).ok(),
        segment_bytes: read.bytes_u32("metadata.log.segment.bytes"),
        segment_ms: read.long("metadata.log.segment.ms"),
    }
}

fn network(read: &Reader, host_name: &str) -> Result<NetworkConfig, InvalidValue> {
    let mut connections_per_address = BTreeMap::new();
    let overrides = "max.connections.per.ip.overrides";
    for entry in elements(read.text(overrides).unwrap_or_default()) {
        let parsed = entry
            .rsplit_once(':')
            .and_then(|(address, count)| Some((address.trim().parse().ok()?, count.trim().parse().ok()?)));
        let (address, count) =
            parsed.ok_or_else(|| read.invalid(overrides, "must be a list of address:count"))?;
        connections_per_address.insert(address, count);
    }
    let idle_ms = read.long("connections.max.idle.ms");
    Ok(NetworkConfig {
        listeners: listeners::resolve(read.settings, host_name)?,
        request_bytes_max: read.size("socket.request.max.bytes"),
        request_memory_bytes: u64::try_from(read.long("queued.max.request.bytes"))
            .ok()
            .filter(|bytes| *bytes > 0),
        idle_max: u64::try_from(idle_ms).ok().map(Duration::from_millis),
        connections_max: read.size("max.connections"),
        connections_per_address_max: read.size("max.connections.per.ip"),
        connections_per_address,
    })
}

fn resources(read: &Reader) -> ResourceConfig {
    ResourceConfig {
        cores: Some(read.required::<u16>("flumen.cores")).filter(|cores| *cores > 0),
        cache_bytes: u64::try_from(read.long("flumen.cache.bytes")).ok(),
        cache_fraction: read.required("flumen.cache.fraction"),
        journal_bytes: read.long("flumen.journal.bytes").unsigned_abs(),
        direct_io: read.flag("flumen.io.direct"),
    }
}

fn topics(read: &Reader) -> TopicDefaults {
    TopicDefaults {
        partitions: read.int("num.partitions"),
        replication_factor: i16::try_from(read.int("default.replication.factor")).unwrap_or(i16::MAX),
        min_insync_replicas: read.int("min.insync.replicas"),
        auto_create: read.flag("auto.create.topics.enable"),
        deletable: read.flag("delete.topic.enable"),
    }
}

fn log(read: &Reader) -> LogConfig {
    let minute: i64 = 60_000;
    let policies: Vec<&str> = elements(read.text("log.cleanup.policy").unwrap_or_default()).collect();
    let retention_ms = read
        .number::<i64>("log.retention.ms")
        .or_else(|| read.number::<i64>("log.retention.minutes").map(|minutes| minutes * minute))
        .unwrap_or_else(|| read.long("log.retention.hours") * 60 * minute);
    LogConfig {
        flush_messages: read.long("log.flush.interval.messages"),
        flush_ms: read
            .number("log.flush.interval.ms")
            .unwrap_or_else(|| read.long("log.flush.scheduler.interval.ms")),
        segment_bytes: read.bytes_u32("log.segment.bytes"),
        segment_ms: read.number("log.roll.ms").unwrap_or_else(|| read.long("log.roll.hours") * 60 * minute),
        index_interval_bytes: read.bytes_u32("log.index.interval.bytes"),
        segment_index_bytes: read.bytes_u32("log.index.size.max.bytes"),
        max_message_bytes: read.bytes_u32("message.max.bytes"),
        retention_ms: retention_ms.max(-1),
        retention_bytes: read.long("log.retention.bytes").max(-1),
        file_delete_delay_ms: read.long("log.segment.delete.delay.ms"),
        delete: policies.contains(&"delete"),
        compact: policies.contains(&"compact"),
        log_append_time: read.text("log.message.timestamp.type") == Some("LogAppendTime"),
        timestamp_before_max_ms: read.long("log.message.timestamp.before.max.ms"),
        timestamp_after_max_ms: read.long("log.message.timestamp.after.max.ms"),
        producer_expiration_ms: read.long("producer.id.expiration.ms"),
    }
}

fn groups(read: &Reader) -> Result<GroupConfig, InvalidValue> {
    let config = GroupConfig {
        offsets_partitions: read.int("offsets.topic.num.partitions"),
        offsets_replication_factor: read.required("offsets.topic.replication.factor"),
        offsets_segment_bytes: read.bytes_u32("offsets.topic.segment.bytes"),
        offsets_retention: Duration::from_secs(60 * read.long("offsets.retention.minutes").unsigned_abs()),
        offsets_retention_check_interval: read.milliseconds("offsets.retention.check.interval.ms"),
        offset_metadata_bytes_max: read.size("offset.metadata.max.bytes"),
        initial_rebalance_delay: read.milliseconds("group.initial.rebalance.delay.ms"),
        session_timeout_min_ms: read.int("group.min.session.timeout.ms"),
        session_timeout_max_ms: read.int("group.max.session.timeout.ms"),
        members_max: read.size("group.max.size"),
    };
    if config.session_timeout_min_ms > config.session_timeout_max_ms {
        let why = "must not be above group.max.session.timeout.ms";
        return Err(read.invalid("group.min.session.timeout.ms", why));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(given: &[(&str, &str)]) -> Result<BrokerConfig, String> {
        let given: Vec<(String, String)> =
            given.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let settings = Settings::gather(None, [], &given).map_err(|error| error.to_string())?;
        resolve(settings, "localhost").map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_kafkas_and_durable() {
        let config = load(&[]).expect("defaults");
        assert_eq!(config.log, LogConfig::default());
        assert_eq!(config.topics.partitions, 1);
        assert_eq!(config.network.idle_max, Some(Duration::from_secs(600)));
        assert_eq!(config.network.connections_max, i32::MAX as usize);
        assert_eq!(config.resources.cores, None);
        assert_eq!(config.node_id(), 1);
    }

    #[test]
    fn of_several_units_the_finest_counts() {
        let hours = load(&[("log.retention.hours", "2")]).expect("hours");
        assert_eq!(hours.log.retention_ms, 7_200_000);
        let given =
            [("log.retention.hours", "2"), ("log.retention.minutes", "3"), ("log.retention.ms", "-1")];
        assert_eq!(load(&given).expect("milliseconds").log.retention_ms, -1);
        assert_eq!(load(&given[..2]).expect("minutes").log.retention_ms, 180_000);
    }

    #[test]
    fn contradictions_stop_the_start() {
        for (given, says) in [
            (&[("node.id", "1"), ("broker.id", "2")][..], "broker.id=2"),
            (&[("log.dirs", "/a,/b")], "one directory"),
            (&[("log.dirs", "/a"), ("metadata.log.dir", "/b")], "metadata.log.dir=/b"),
            (&[("process.roles", "broker")], "broker,controller"),
            (&[("process.roles", "controller")], "must contain broker"),
            (
                &[("node.id", "1"), ("controller.quorum.voters", "1@a:9093,2@b:9093")],
                "a cluster of several nodes is not served yet",
            ),
            (
                &[("group.min.session.timeout.ms", "9"), ("group.max.session.timeout.ms", "8")],
                "must not be above",
            ),
            (&[("max.connections.per.ip.overrides", "here:2")], "address:count"),
            (&[("authorizer.class.name", "org.x.Y")], "must be empty"),
            (
                &[("log.retention.hours", "0")],
                "log.retention.hours=0: log.retention.ms must be unlimited (-1) or",
            ),
            (&[("log.roll.ms", "0")], "log.roll.ms=0: log.roll.ms must be greater than or equal to 1"),
            (&[("remote.log.storage.system.enable", "true")], "must be false"),
            (&[("flumen.cache.bytes", "0")], "at least 16777216, or -1"),
        ] {
            let error = load(given).expect_err(says);
            assert!(error.contains(says), "{error}");
        }
    }
}
