//! The node, its controller, and what is left.

use super::keys;

keys! {
    "alter.config.policy.class.name": Class = unset, OneOf(&[""]);
        "Policies are Java classes and cannot be run: must be unset."
    inert "auto.include.jmx.reporter": Boolean = "true", Any;
        "Metrics of the Java broker."
    inert "background.threads": Int = "10", AtLeast(1);
        "Threads and queues of the Java broker."
    inert "broker.heartbeat.interval.ms": Int = "2000", Any;
        "The controllers' quorum."
    "broker.id": Int = unset, Any;
        "The older name of `node.id`."
    inert "broker.id.generation.enable": Boolean = "true", Any;
        "Gone from Kafka since version 4."
    "broker.rack": String = unset, Any;
        "The rack that clients are told."
    inert "broker.session.timeout.ms": Int = "9000", Any;
        "The controllers' quorum."
    "config.providers": List = "", OneOf(&[""]);
        "Values from elsewhere are not looked up: must be empty."
    inert "control.plane.listener.name": String = unset, Any;
        "Gone from Kafka since version 4."
    inert "controlled.shutdown.enable": Boolean = "true", Any;
        "The Java broker's own."
    inert "controller.performance.always.log.threshold.ms": Long = "2000", AtLeast(0);
        "The controllers' quorum."
    inert "controller.performance.sample.period.ms": Long = "60000", AtLeast(100);
        "The controllers' quorum."
    inert "controller.quorum.append.linger.ms": Int = "25", AtLeast(0);
        "The controllers' quorum."
    inert "controller.quorum.auto.join.enable": Boolean = "false", Any;
        "The controllers' quorum."
    "controller.quorum.bootstrap.servers": List = "", Any;
        "`host:port` of the controller, which is this node. Several are refused: there are no clusters of several nodes yet."
    inert "controller.quorum.election.backoff.max.ms": Int = "1000", AtLeast(0);
        "The controllers' quorum."
    inert "controller.quorum.election.timeout.ms": Int = "1000", AtLeast(0);
        "The controllers' quorum."
    inert "controller.quorum.fetch.max.bytes": Int = "1048576", AtLeast(1);
        "The controllers' quorum."
    inert "controller.quorum.fetch.snapshot.max.bytes": Int = "1048576", AtLeast(1);
        "The controllers' quorum."
    inert "controller.quorum.fetch.timeout.ms": Int = "2000", AtLeast(0);
        "The controllers' quorum."
    inert "controller.quorum.request.timeout.ms": Int = "2000", AtLeast(0);
        "The controllers' quorum."
    inert "controller.quorum.retry.backoff.ms": Int = "20", AtLeast(0);
        "The controllers' quorum."
    "controller.quorum.voters": List = "", Any;
        "`id@host:port` of the controller, which is this node. Others are refused: there are no clusters of several nodes yet."
    inert "controller.socket.timeout.ms": Int = "30000", Any;
        "The controllers' quorum."
    "create.topic.policy.class.name": Class = unset, OneOf(&[""]);
        "Policies are Java classes and cannot be run: must be unset."
    inert "eligible.leader.replicas.enable": Boolean = "false", Any;
        "The Java broker's own."
    inert "initial.broker.registration.timeout.ms": Int = "60000", Any;
        "The controllers' quorum."
    inert "inter.broker.protocol.version": String = unset, Any;
        "Gone from Kafka since version 4."
    inert "internal.metadata.delete.delay.millis": Long = "60000", Any;
        "The controllers' quorum."
    inert "internal.metadata.log.segment.bytes": Int = unset, Any;
        "The controllers' quorum."
    inert "internal.metadata.max.batch.size.in.bytes": Int = "8388608", Any;
        "The controllers' quorum."
    inert "kafka.metrics.polling.interval.secs": Int = "10", AtLeast(1);
        "Metrics of the Java broker."
    inert "kafka.metrics.reporters": List = "", Any;
        "Metrics of the Java broker."
    "metadata.log.dir": String = unset, Any;
        "Where the metadata log lies; must be the data directory."
    "metadata.log.max.record.bytes.between.snapshots": Long = "20971520", AtLeast(1);
        "Bytes of metadata log after which a snapshot is written, and the log before it may go."
    "metadata.log.max.snapshot.interval.ms": Long = "3600000", AtLeast(0);
        "How long after the last snapshot, or the start, a change leads to another; 0 for never."
    "metadata.log.segment.bytes": Int = "1073741824", AtLeast(8388608);
        "Size at which the metadata log is rolled; a snapshot rolls it, too."
    "metadata.log.segment.ms": Long = "604800000", Any;
        "Age at which the metadata log is rolled."
    inert "metadata.max.idle.interval.ms": Int = "500", AtLeast(0);
        "The controllers' quorum."
    "metadata.max.retention.bytes": Long = "104857600", Any;
        "Size of the metadata log and its snapshots above which the oldest go; the two newest snapshots stay."
    inert "metadata.max.retention.ms": Long = "604800000", Any;
        "The metadata log and its snapshots go by size alone."
    inert "metric.reporters": List = "org.apache.kafka.common.metrics.JmxReporter", Any;
        "Metrics of the Java broker."
    inert "metrics.num.samples": Int = "2", AtLeast(1);
        "Metrics of the Java broker."
    inert "metrics.recording.level": String = "INFO", Any;
        "Metrics of the Java broker."
    inert "metrics.sample.window.ms": Long = "30000", AtLeast(1);
        "Metrics of the Java broker."
    "node.id": Int = unset, AtLeast(0);
        "This node's id. Unset: the one in the data directory, else 1."
    "process.roles": List = "broker,controller", EachOneOf(&["broker", "controller"]);
        "What this process is. One node is both: `broker,controller`."
    inert "reserved.broker.max.id": Int = "1000", Any;
        "Gone from Kafka since version 4."
    inert "server.max.startup.time.ms": Long = "9223372036854775807", AtLeast(0);
        "The controllers' quorum."
    inert "telemetry.max.bytes": Int = "1048576", AtLeast(1);
        "Metrics of the Java broker."
    inert "unstable.api.versions.enable": Boolean = "false", Any;
        "The Java broker's own."
    inert "unstable.feature.versions.enable": Boolean = "false", Any;
        "The Java broker's own."
    inert "zookeeper.connect": String = unset, Any;
        "Gone from Kafka since version 4."
    inert "zookeeper.connection.timeout.ms": Int = unset, Any;
        "Gone from Kafka since version 4."
    inert "zookeeper.metadata.migration.enable": Boolean = "false", Any;
        "Gone from Kafka since version 4."
    inert "zookeeper.session.timeout.ms": Int = "18000", Any;
        "Gone from Kafka since version 4."
    inert "zookeeper.set.acl": Boolean = "false", Any;
        "Gone from Kafka since version 4."
}
