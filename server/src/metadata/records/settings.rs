//! Records about configuration, features, quotas, producer ids and metadata transactions.

use crate::metadata::codec::{CodecError, Field, Reader, TaggedFields, message};

message! {
    /// ConfigRecord (api key 4): one key of one resource is set, or removed.
    pub struct Config {
        /// Kafka's number: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
        pub resource_type: i8,
        /// The topic, the broker's id, or empty for all brokers.
        pub resource_name: String,
        /// The key.
        pub name: String,
        /// The value; `None` removes the key.
        pub value: Option<String>,
    }
}

message! {
    /// FeatureLevelRecord (api key 12): the level of a feature that all brokers keep.
    pub struct FeatureLevel {
        /// The feature.
        pub name: String,
        /// Its level; 0 for off.
        pub level: i16,
    }
}

message! {
    /// ProducerIdsRecord (api key 15): a broker was given a block of producer ids.
    pub struct ProducerIds {
        /// The broker that asked.
        pub broker_id: i32,
        /// The epoch it was registered with.
        pub broker_epoch: i64,
        /// The first id of the next block.
        pub next_producer_id: i64,
    }
}

message! {
    /// One part of what a quota applies to.
    pub struct QuotaEntity {
        /// `user`, `client-id` or `ip`.
        pub entity_type: String,
        /// The name; `None` for the default.
        pub entity_name: Option<String>,
    }
}

message! {
    /// ClientQuotaRecord (api key 14): a quota is set, or removed.
    pub struct ClientQuota {
        /// What it applies to.
        pub entity: Vec<QuotaEntity>,
        /// The quota's key.
        pub key: String,
        /// Its value, unless removed.
        pub value: f64,
        /// Whether it is removed.
        pub remove: bool,
    }
}

message! {
    /// NoOpRecord (api key 20): Kafka's active controller writes one each half second.
    pub struct NoOp {}
}

message! {
    /// ZkMigrationStateRecord (api key 21).
    pub struct ZkMigrationState {
        /// 0 for a cluster that never was on ZooKeeper.
        pub state: i8,
    }
}

message! {
    /// EndTransactionRecord (api key 24): all records since its begin apply at once.
    pub struct EndTransaction {}
}

/// BeginTransactionRecord (api key 23): the following records apply only with the end of it.
#[derive(Debug, Clone, PartialEq)]
pub struct BeginTransaction {
    /// What it is for.
    pub name: Option<String>,
}

/// AbortTransactionRecord (api key 25): the records since its begin never apply.
#[derive(Debug, Clone, PartialEq)]
pub struct AbortTransaction {
    /// Why.
    pub reason: Option<String>,
}

/// The only field of both: tag 0.
fn read_tag_0(reader: &mut Reader<'_>) -> Result<Option<String>, CodecError> {
    let mut text = None;
    reader.tagged_fields(|tag, field| {
        if tag == 0 {
            text = Field::read(field)?;
        }
        Ok(())
    })?;
    Ok(text)
}

fn write_tag_0(text: &Option<String>, out: &mut Vec<u8>) {
    let mut tagged = TaggedFields::default();
    tagged.put(0, text, &None);
    tagged.write(out);
}

impl Field for BeginTransaction {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self { name: read_tag_0(reader)? })
    }
    fn write(&self, out: &mut Vec<u8>) {
        write_tag_0(&self.name, out);
    }
}

impl Field for AbortTransaction {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self { reason: read_tag_0(reader)? })
    }
    fn write(&self, out: &mut Vec<u8>) {
        write_tag_0(&self.reason, out);
    }
}
