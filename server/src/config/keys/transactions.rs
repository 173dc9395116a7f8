//! Producers' ids and transactions.

use super::keys;

keys! {
    inert "add.partitions.to.txn.retry.backoff.max.ms": Int = "100", AtLeast(0);
        "Transactions."
    inert "add.partitions.to.txn.retry.backoff.ms": Int = "20", AtLeast(1);
        "Transactions."
    "producer.id.expiration.check.interval.ms": Int = "600000", AtLeast(1);
        "Milliseconds between two looks at which producers wrote nothing for too long."
    "producer.id.expiration.ms": Int = "86400000", AtLeast(1);
        "Milliseconds that an idempotent producer is remembered after the newest timestamp that it wrote; what it sends again later is not recognised."
    inert "transaction.abort.timed.out.transaction.cleanup.interval.ms": Int = "10000", AtLeast(1);
        "Transactions."
    inert "transaction.max.timeout.ms": Int = "900000", AtLeast(1);
        "Transactions."
    inert "transaction.partition.verification.enable": Boolean = "true", Any;
        "Transactions."
    inert "transaction.remove.expired.transaction.cleanup.interval.ms": Int = "3600000", AtLeast(1);
        "Transactions."
    inert "transaction.state.log.load.buffer.size": Int = "5242880", AtLeast(1);
        "Transactions."
    inert "transaction.state.log.min.isr": Int = "2", AtLeast(1);
        "Transactions."
    inert "transaction.state.log.num.partitions": Int = "50", AtLeast(1);
        "Transactions."
    inert "transaction.state.log.replication.factor": Short = "3", AtLeast(1);
        "Transactions."
    inert "transaction.state.log.segment.bytes": Int = "104857600", AtLeast(1);
        "Transactions."
    inert "transaction.two.phase.commit.enable": Boolean = "false", Any;
        "Transactions."
    inert "transactional.id.expiration.ms": Int = "604800000", AtLeast(1);
        "Transactions."
}
