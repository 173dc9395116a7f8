//! Topics and their logs.

use super::keys;

keys! {
    "auto.create.topics.enable": Boolean = "true", Any;
        "Whether a topic is created when a client asks for the metadata of one that does not exist."
    "compression.gzip.level": Int = "-1", BetweenOr(1, 9, -1);
        "The level of gzip where the broker compresses; -1 for 6."
    inert "compression.lz4.level": Int = "9", Between(1, 17);
        "The level of a codec that has one level here."
    "compression.type": String = "producer", OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]);
        "`producer` keeps batches as they came. Another codec is accepted, and batches are kept as they came."
    inert "compression.zstd.level": Int = "3", Between(-131072, 22);
        "The level of a codec that has one level here."
    inert "cordoned.log.dirs": List = "", Any;
        "The Java broker's own."
    "default.replication.factor": Int = "1", Any;
        "Replicas of a topic that is created without saying how many; at most the number of brokers."
    "delete.topic.enable": Boolean = "true", Any;
        "Whether topics can be deleted."
    inert "log.cleaner.backoff.ms": Long = "15000", AtLeast(0);
        "Compaction."
    inert "log.cleaner.dedupe.buffer.size": Long = "134217728", Any;
        "Compaction."
    inert "log.cleaner.delete.retention.ms": Long = "86400000", AtLeast(0);
        "Compaction."
    inert "log.cleaner.enable": Boolean = "true", Any;
        "Compaction."
    inert "log.cleaner.io.buffer.load.factor": Double = "0.9", Any;
        "Compaction."
    inert "log.cleaner.io.buffer.size": Int = "524288", AtLeast(0);
        "Compaction."
    inert "log.cleaner.io.max.bytes.per.second": Double = "1.7976931348623157E308", Any;
        "Compaction."
    inert "log.cleaner.max.compaction.lag.ms": Long = "9223372036854775807", AtLeast(1);
        "Compaction."
    inert "log.cleaner.min.cleanable.ratio": Double = "0.5", Fraction(0.0, 1.0);
        "Compaction."
    inert "log.cleaner.min.compaction.lag.ms": Long = "0", AtLeast(0);
        "Compaction."
    inert "log.cleaner.threads": Int = "1", AtLeast(0);
        "Compaction."
    "log.cleanup.policy": List = "delete", EachOneOf(&["compact", "delete"]);
        "What happens to old records: `delete`, `compact` or both. Compaction refuses records without a key; old values are not removed yet."
    "log.dir": List = "/tmp/kafka-logs", NotEmpty;
        "The data directory, where `log.dirs` is unset."
    inert "log.dir.failure.timeout.ms": Long = "30000", AtLeast(1);
        "Files and timers of the Java broker."
    "log.dirs": List = unset, NotEmpty;
        "The data directory; one."
    "log.flush.interval.messages": Long = "1", AtLeast(1);
        "Records after which a partition is flushed: 1 acknowledges only what is on the disk, 9223372036854775807 acknowledges from memory, a number between acknowledges from memory and flushes every so many. Kafka's default is 9223372036854775807."
    "log.flush.interval.ms": Long = unset, Any;
        "Milliseconds after which an unflushed record is flushed; unset: `log.flush.scheduler.interval.ms`."
    inert "log.flush.offset.checkpoint.interval.ms": Int = "60000", AtLeast(0);
        "Files and timers of the Java broker."
    "log.flush.scheduler.interval.ms": Long = "9223372036854775807", Any;
        "Milliseconds after which an unflushed record is flushed, where `log.flush.interval.ms` is unset."
    inert "log.flush.start.offset.checkpoint.interval.ms": Int = "60000", AtLeast(0);
        "Files and timers of the Java broker."
    "log.index.interval.bytes": Int = "4096", AtLeast(0);
        "Bytes of log between two entries of an offset index."
    "log.index.size.max.bytes": Int = "10485760", AtLeast(4);
        "Bytes of the largest index; a segment is rolled before it."
    inert "log.initial.task.delay.ms": Long = "30000", AtLeast(0);
        "Files and timers of the Java broker."
    inert "log.message.downconversion.enable": Boolean = "true", Any;
        "Gone from Kafka since version 4."
    inert "log.message.format.version": String = unset, Any;
        "Gone from Kafka since version 4."
    "log.message.timestamp.after.max.ms": Long = "3600000", AtLeast(0);
        "Milliseconds that a record's time may lie after the broker's."
    "log.message.timestamp.before.max.ms": Long = "9223372036854775807", AtLeast(0);
        "Milliseconds that a record's time may lie before the broker's."
    inert "log.message.timestamp.difference.max.ms": Long = unset, Any;
        "Gone from Kafka since version 4."
    "log.message.timestamp.type": String = "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]);
        "Whether a record keeps its producer's time (`CreateTime`) or gets the broker's (`LogAppendTime`)."
    inert "log.preallocate": Boolean = "false", Any;
        "Files and timers of the Java broker."
    "log.retention.bytes": Long = "-1", Any;
        "Bytes of a partition that are kept; −1 for no limit."
    "log.retention.check.interval.ms": Long = "300000", AtLeast(1);
        "Milliseconds between two looks at what may be deleted."
    "log.retention.hours": Int = "168", Any;
        "Hours that a record is kept, where neither milliseconds nor minutes are set."
    "log.retention.minutes": Int = unset, Any;
        "Minutes that a record is kept, where `log.retention.ms` is unset."
    "log.retention.ms": Long = unset, Any;
        "Milliseconds that a record is kept, −1 for ever; unset: `log.retention.minutes`."
    "log.roll.hours": Int = "168", AtLeast(1);
        "Hours at which a segment is rolled, where `log.roll.ms` is unset."
    inert "log.roll.jitter.hours": Int = "0", AtLeast(0);
        "Files and timers of the Java broker."
    inert "log.roll.jitter.ms": Long = unset, Any;
        "Files and timers of the Java broker."
    "log.roll.ms": Long = unset, Any;
        "Milliseconds at which a segment is rolled; unset: `log.roll.hours`."
    "log.segment.bytes": Int = "1073741824", AtLeast(1048576);
        "Bytes at which a segment is rolled."
    "log.segment.delete.delay.ms": Long = "60000", AtLeast(0);
        "Milliseconds between removing a segment and deleting its file."
    "min.insync.replicas": Int = "1", AtLeast(1);
        "In-sync replicas without which acks=all is refused; a topic can say otherwise."
    "num.partitions": Int = "1", AtLeast(1);
        "Partitions of a topic that is created without saying how many."
    inert "num.recovery.threads.per.data.dir": Int = "2", AtLeast(1);
        "Threads and queues of the Java broker."
}
