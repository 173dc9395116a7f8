//! The numbers of the engine, each with its own type, so that two bare integers never meet.

use std::fmt;

use uuid::Uuid;

/// A record's place in its partition; the first is 0. Kafka: `offset`, INT64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

/// A byte position in a segment file, from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// The epoch of a partition's leader, stamped into each batch. Kafka: `partitionLeaderEpoch`, INT32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderEpoch(pub i32);

/// Milliseconds since 1970-01-01 UTC; −1 where a batch has none. Kafka: `timestamp`, INT64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// A producer's id. Kafka: `producerId`, INT64; −1 (no idempotence) is never held in this type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub i64);

/// A producer's epoch. Kafka: `producerEpoch`, INT16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerEpoch(pub i16);

/// One core of this broker, 0-based, dense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

/// A partition for its whole life: a topic that is deleted and created again has another id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// Kafka's topic id (KIP-516).
    pub topic: Uuid,
    /// The partition's index in its topic, 0-based.
    pub partition: i32,
}

macro_rules! displays_its_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }
    )*};
}
displays_its_number!(Offset, Position, LeaderEpoch, Timestamp, ProducerId, ProducerEpoch, CoreId);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
