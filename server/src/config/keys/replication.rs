//! Replication and quotas.

use super::keys;

keys! {
    inert "alter.log.dirs.replication.quota.window.num": Int = "11", AtLeast(1);
        "Replication between brokers."
    inert "alter.log.dirs.replication.quota.window.size.seconds": Int = "1", AtLeast(1);
        "Replication between brokers."
    inert "auto.leader.rebalance.enable": Boolean = "true", Any;
        "Replication between brokers."
    inert "client.quota.callback.class": Class = unset, Any;
        "Quotas."
    inert "controller.quota.window.num": Int = "11", AtLeast(1);
        "The controllers' quorum."
    inert "controller.quota.window.size.seconds": Int = "1", AtLeast(1);
        "The controllers' quorum."
    inert "delete.records.purgatory.purge.interval.requests": Int = "1", Any;
        "Replication between brokers."
    inert "fetch.purgatory.purge.interval.requests": Int = "1000", Any;
        "Replication between brokers."
    inert "leader.imbalance.check.interval.seconds": Long = "300", AtLeast(1);
        "Replication between brokers."
    inert "leader.imbalance.per.broker.percentage": Int = "10", Any;
        "Replication between brokers."
    inert "num.replica.alter.log.dirs.threads": Int = unset, Any;
        "Replication between brokers."
    inert "num.replica.fetchers": Int = "1", AtLeast(1);
        "Replication between brokers."
    inert "producer.purgatory.purge.interval.requests": Int = "1000", Any;
        "Replication between brokers."
    inert "quota.window.num": Int = "11", AtLeast(1);
        "Quotas."
    inert "quota.window.size.seconds": Int = "1", AtLeast(1);
        "Quotas."
    inert "replica.fetch.backoff.ms": Int = "1000", AtLeast(0);
        "Replication between brokers."
    inert "replica.fetch.max.bytes": Int = "1048576", AtLeast(0);
        "Replication between brokers."
    inert "replica.fetch.min.bytes": Int = "1", Any;
        "Replication between brokers."
    inert "replica.fetch.response.max.bytes": Int = "10485760", AtLeast(0);
        "Replication between brokers."
    inert "replica.fetch.wait.max.ms": Int = "500", Any;
        "Replication between brokers."
    inert "replica.high.watermark.checkpoint.interval.ms": Long = "5000", Any;
        "Replication between brokers."
    inert "replica.lag.time.max.ms": Long = "30000", Any;
        "Replication between brokers."
    inert "replica.selector.class": String = unset, Any;
        "Replication between brokers."
    inert "replica.socket.receive.buffer.bytes": Int = "65536", Any;
        "Replication between brokers."
    inert "replica.socket.timeout.ms": Int = "30000", Any;
        "Replication between brokers."
    inert "replication.quota.window.num": Int = "11", AtLeast(1);
        "Replication between brokers."
    inert "replication.quota.window.size.seconds": Int = "1", AtLeast(1);
        "Replication between brokers."
    inert "unclean.leader.election.enable": Boolean = "false", Any;
        "Replication between brokers."
    inert "unclean.leader.election.interval.ms": Long = "300000", AtLeast(1);
        "Replication between brokers."
}
