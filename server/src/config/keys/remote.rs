//! Tiered storage.

use super::keys;

keys! {
    inert "follower.fetch.last.tiered.offset.enable": Boolean = "false", Any;
        "Tiered storage."
    inert "log.local.retention.bytes": Long = "-2", AtLeast(-2);
        "Tiered storage."
    inert "log.local.retention.ms": Long = "-2", AtLeast(-2);
        "Tiered storage."
    inert "remote.fetch.max.wait.ms": Int = "500", AtLeast(1);
        "Tiered storage."
    inert "remote.list.offsets.request.timeout.ms": Long = "30000", AtLeast(1);
        "Tiered storage."
    inert "remote.log.index.file.cache.total.size.bytes": Long = "1073741824", AtLeast(1);
        "Tiered storage."
    inert "remote.log.index.file.cache.ttl.ms": Long = "900000", AtLeast(-1);
        "Tiered storage."
    inert "remote.log.manager.copier.thread.pool.size": Int = "10", AtLeast(1);
        "Tiered storage."
    inert "remote.log.manager.copy.max.bytes.per.second": Long = "9223372036854775807", AtLeast(1);
        "Tiered storage."
    inert "remote.log.manager.copy.quota.window.num": Int = "11", AtLeast(1);
        "Tiered storage."
    inert "remote.log.manager.copy.quota.window.size.seconds": Int = "1", AtLeast(1);
        "Tiered storage."
    inert "remote.log.manager.expiration.thread.pool.size": Int = "10", AtLeast(1);
        "Tiered storage."
    inert "remote.log.manager.fetch.max.bytes.per.second": Long = "9223372036854775807", AtLeast(1);
        "Tiered storage."
    inert "remote.log.manager.fetch.quota.window.num": Int = "11", AtLeast(1);
        "Tiered storage."
    inert "remote.log.manager.fetch.quota.window.size.seconds": Int = "1", AtLeast(1);
        "Tiered storage."
    inert "remote.log.manager.follower.thread.pool.size": Int = "2", AtLeast(1);
        "Tiered storage."
    inert "remote.log.manager.task.interval.ms": Long = "30000", AtLeast(1);
        "Tiered storage."
    inert "remote.log.manager.task.retry.backoff.max.ms": Long = "30000", AtLeast(1);
        "Tiered storage."
    inert "remote.log.manager.task.retry.backoff.ms": Long = "500", AtLeast(1);
        "Tiered storage."
    inert "remote.log.manager.task.retry.jitter": Double = "0.2", Fraction(0.0, 0.5);
        "Tiered storage."
    inert "remote.log.manager.thread.pool.size": Int = "2", AtLeast(1);
        "Tiered storage."
    inert "remote.log.metadata.custom.metadata.max.bytes": Int = "128", AtLeast(0);
        "Tiered storage."
    inert "remote.log.metadata.manager.class.name": String = "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager", Any;
        "Tiered storage."
    inert "remote.log.metadata.manager.class.path": String = unset, Any;
        "Tiered storage."
    inert "remote.log.metadata.manager.impl.prefix": String = "rlmm.config.", Any;
        "Tiered storage."
    inert "remote.log.metadata.manager.listener.name": String = unset, Any;
        "Tiered storage."
    inert "remote.log.reader.max.pending.tasks": Int = "100", AtLeast(1);
        "Tiered storage."
    inert "remote.log.reader.threads": Int = "10", AtLeast(1);
        "Tiered storage."
    inert "remote.log.storage.manager.class.name": String = unset, Any;
        "Tiered storage."
    inert "remote.log.storage.manager.class.path": String = unset, Any;
        "Tiered storage."
    inert "remote.log.storage.manager.impl.prefix": String = "rsm.config.", Any;
        "Tiered storage."
    "remote.log.storage.system.enable": Boolean = "false", OneOf(&["false"]);
        "Tiered storage is not served: must be `false`."
}
