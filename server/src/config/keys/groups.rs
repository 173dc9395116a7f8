//! Groups and their offsets.

use super::keys;

keys! {
    inert "group.consumer.assignment.interval.ms": Int = "1000", AtLeast(0);
        "Consumer groups of the new protocol (KIP-848)."
    inert "group.consumer.assignors": List = "uniform,range", Any;
        "Consumer groups of the new protocol (KIP-848)."
    inert "group.consumer.heartbeat.interval.ms": Int = "5000", AtLeast(1);
        "Consumer groups of the new protocol (KIP-848)."
    inert "group.consumer.max.assignment.interval.ms": Int = "15000", AtLeast(0);
        "Consumer groups of the new protocol (KIP-848)."
    inert "group.consumer.max.heartbeat.interval.ms": Int = "15000", AtLeast(1);
        "Consumer groups of the new protocol (KIP-848)."
    inert "group.consumer.max.session.timeout.ms": Int = "60000", AtLeast(1);
        "Consumer groups of the new protocol (KIP-848)."
    inert "group.consumer.max.size": Int = "2147483647", AtLeast(1);
        "Consumer groups of the new protocol (KIP-848)."
    inert "group.consumer.migration.policy": String = "bidirectional", OneOfAnyCase(&["DISABLED", "DOWNGRADE", "UPGRADE", "BIDIRECTIONAL"]);
        "Consumer groups of the new protocol (KIP-848)."
    inert "group.consumer.min.assignment.interval.ms": Int = "0", AtLeast(0);
        "Consumer groups of the new protocol (KIP-848)."
    inert "group.consumer.min.heartbeat.interval.ms": Int = "5000", AtLeast(1);
        "Consumer groups of the new protocol (KIP-848)."
    inert "group.consumer.min.session.timeout.ms": Int = "45000", AtLeast(1);
        "Consumer groups of the new protocol (KIP-848)."
    inert "group.consumer.regex.refresh.interval.ms": Int = "600000", AtLeast(10000);
        "Consumer groups of the new protocol (KIP-848)."
    inert "group.consumer.session.timeout.ms": Int = "45000", AtLeast(1);
        "Consumer groups of the new protocol (KIP-848)."
    inert "group.coordinator.append.linger.ms": Int = "-1", AtLeast(-1);
        "The coordinator of the Java broker."
    inert "group.coordinator.background.threads": Int = "2", AtLeast(1);
        "Threads and queues of the Java broker."
    inert "group.coordinator.cached.buffer.max.bytes": Int = "1048588", AtLeast(524288);
        "The coordinator of the Java broker."
    inert "group.coordinator.new.enable": Boolean = "true", Any;
        "The coordinator of the Java broker."
    inert "group.coordinator.rebalance.protocols": List = "classic,consumer,streams", EachOneOf(&["consumer", "classic", "share", "streams"]);
        "The coordinator of the Java broker."
    inert "group.coordinator.threads": Int = "4", AtLeast(1);
        "Threads and queues of the Java broker."
    "group.initial.rebalance.delay.ms": Int = "3000", Any;
        "Milliseconds that a new group waits for more members before its first rebalance."
    "group.max.session.timeout.ms": Int = "1800000", Any;
        "The longest session timeout that a member may ask for, in milliseconds."
    "group.max.size": Int = "2147483647", AtLeast(1);
        "Members of the largest group."
    "group.min.session.timeout.ms": Int = "6000", Any;
        "The shortest session timeout that a member may ask for, in milliseconds."
    inert "group.share.assignment.interval.ms": Int = "1000", AtLeast(0);
        "Share groups."
    inert "group.share.assignors": List = "simple", Any;
        "Share groups."
    inert "group.share.delivery.count.limit": Int = "5", Between(2, 10);
        "Share groups."
    inert "group.share.heartbeat.interval.ms": Int = "5000", AtLeast(1);
        "Share groups."
    inert "group.share.initialize.retry.interval.ms": Int = "30000", AtLeast(1);
        "Share groups."
    inert "group.share.max.assignment.interval.ms": Int = "15000", AtLeast(0);
        "Share groups."
    inert "group.share.max.delivery.count.limit": Int = "10", Between(5, 25);
        "Share groups."
    inert "group.share.max.heartbeat.interval.ms": Int = "15000", AtLeast(1);
        "Share groups."
    inert "group.share.max.partition.max.record.locks": Int = "4000", Between(2000, 10000);
        "Share groups."
    inert "group.share.max.record.lock.duration.ms": Int = "60000", Between(30000, 3600000);
        "Share groups."
    inert "group.share.max.session.timeout.ms": Int = "60000", AtLeast(1);
        "Share groups."
    inert "group.share.max.share.sessions": Int = "2000", AtLeast(1);
        "Share groups."
    inert "group.share.max.size": Int = "200", Between(1, 1000);
        "Share groups."
    inert "group.share.min.assignment.interval.ms": Int = "0", AtLeast(0);
        "Share groups."
    inert "group.share.min.delivery.count.limit": Int = "2", Between(2, 5);
        "Share groups."
    inert "group.share.min.heartbeat.interval.ms": Int = "5000", AtLeast(1);
        "Share groups."
    inert "group.share.min.partition.max.record.locks": Int = "100", Between(100, 2000);
        "Share groups."
    inert "group.share.min.record.lock.duration.ms": Int = "15000", Between(1000, 30000);
        "Share groups."
    inert "group.share.min.session.timeout.ms": Int = "45000", AtLeast(1);
        "Share groups."
    inert "group.share.partition.max.record.locks": Int = "2000", Between(100, 10000);
        "Share groups."
    inert "group.share.persister.class.name": String = "org.apache.kafka.server.share.persister.DefaultStatePersister", Any;
        "Share groups."
    inert "group.share.record.lock.duration.ms": Int = "30000", Between(1000, 3600000);
        "Share groups."
    inert "group.share.session.timeout.ms": Int = "45000", AtLeast(1);
        "Share groups."
    inert "group.streams.assignment.interval.ms": Int = "1000", AtLeast(0);
        "Streams groups."
    inert "group.streams.heartbeat.interval.ms": Int = "5000", AtLeast(1);
        "Streams groups."
    inert "group.streams.initial.rebalance.delay.ms": Int = "3000", AtLeast(0);
        "Streams groups."
    inert "group.streams.max.assignment.interval.ms": Int = "15000", AtLeast(0);
        "Streams groups."
    inert "group.streams.max.heartbeat.interval.ms": Int = "15000", AtLeast(1);
        "Streams groups."
    inert "group.streams.max.session.timeout.ms": Int = "60000", AtLeast(1);
        "Streams groups."
    inert "group.streams.max.size": Int = "2147483647", AtLeast(1);
        "Streams groups."
    inert "group.streams.max.standby.replicas": Int = "2", AtLeast(0);
        "Streams groups."
    inert "group.streams.min.assignment.interval.ms": Int = "0", AtLeast(0);
        "Streams groups."
    inert "group.streams.min.heartbeat.interval.ms": Int = "5000", AtLeast(1);
        "Streams groups."
    inert "group.streams.min.session.timeout.ms": Int = "45000", AtLeast(1);
        "Streams groups."
    inert "group.streams.num.standby.replicas": Int = "0", AtLeast(0);
        "Streams groups."
    inert "group.streams.session.timeout.ms": Int = "45000", AtLeast(1);
        "Streams groups."
    "offset.metadata.max.bytes": Int = "4096", Any;
        "Bytes of the text that a client may commit with an offset."
    inert "offsets.commit.timeout.ms": Int = "5000", AtLeast(1);
        "An offset commit waits for its acknowledgement."
    inert "offsets.load.buffer.size": Int = "5242880", AtLeast(1);
        "The coordinator of the Java broker."
    "offsets.retention.check.interval.ms": Long = "600000", AtLeast(1);
        "Milliseconds between two looks for committed offsets to forget."
    "offsets.retention.minutes": Int = "10080", AtLeast(1);
        "Minutes that committed offsets outlive their group's last member."
    inert "offsets.topic.compression.codec": Int = "0", Any;
        "The coordinator of the Java broker."
    "offsets.topic.num.partitions": Int = "50", AtLeast(1);
        "Partitions of `__consumer_offsets`; not to be changed once it exists."
    "offsets.topic.replication.factor": Short = "1", AtLeast(1);
        "Replicas of `__consumer_offsets`. Kafka's default is 3."
    "offsets.topic.segment.bytes": Int = "104857600", AtLeast(1);
        "Bytes of a segment of `__consumer_offsets`."
    inert "share.coordinator.append.linger.ms": Int = "-1", AtLeast(-1);
        "Share groups."
    inert "share.coordinator.cached.buffer.max.bytes": Int = "1048588", AtLeast(524288);
        "Share groups."
    inert "share.coordinator.cold.partition.snapshot.interval.ms": Int = "300000", AtLeast(1);
        "Share groups."
    inert "share.coordinator.load.buffer.size": Int = "5242880", AtLeast(1);
        "Share groups."
    inert "share.coordinator.snapshot.update.records.per.snapshot": Int = "500", Between(0, 500);
        "Share groups."
    inert "share.coordinator.state.topic.compression.codec": Int = "0", Any;
        "Share groups."
    inert "share.coordinator.state.topic.min.isr": Short = "2", AtLeast(1);
        "Share groups."
    inert "share.coordinator.state.topic.num.partitions": Int = "50", AtLeast(1);
        "Share groups."
    inert "share.coordinator.state.topic.prune.interval.ms": Int = "300000", AtLeast(1);
        "Share groups."
    inert "share.coordinator.state.topic.replication.factor": Short = "3", AtLeast(1);
        "Share groups."
    inert "share.coordinator.state.topic.segment.bytes": Int = "104857600", AtLeast(1);
        "Share groups."
    inert "share.coordinator.threads": Int = "1", AtLeast(1);
        "Share groups."
    inert "share.coordinator.write.timeout.ms": Int = "5000", AtLeast(1);
        "Share groups."
    inert "share.fetch.purgatory.purge.interval.requests": Int = "1000", Any;
        "Share groups."
}
