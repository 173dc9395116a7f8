//! KRaft metadata records: the values of `__cluster_metadata-0` and of its snapshots.
//!
//! A value is: frame version (unsigned varint, 1), api key, version, then the message in Kafka's flexible
//! encoding (Kafka 4.3: `metadata/src/main/resources/common/metadata/*.json`). Reading accepts every version
//! that Kafka 4.3 writes; writing takes the version that the cluster's `metadata.version` implies, so that
//! every Apache Kafka that could read the log before still can.

mod broker;
mod security;
mod settings;
#[cfg(test)]
mod tests;
mod topic;

pub use broker::{
    BrokerRegistrationChange, Endpoint, FenceBroker, FenceChange, RegisterBroker, RegisterController,
    SupportedFeature, UnfenceBroker, UnregisterBroker,
};
pub use security::{
    AccessControlEntry, DelegationToken, RemoveAccessControlEntry, RemoveDelegationToken,
    RemoveUserScramCredential, UserScramCredential,
};
pub use settings::{
    AbortTransaction, BeginTransaction, ClientQuota, Config, EndTransaction, FeatureLevel, NoOp, ProducerIds,
    QuotaEntity, ZkMigrationState,
};
pub use topic::{ClearElr, Partition, PartitionChange, RemoveTopic, Topic};

use super::codec::{CodecError, Field, Reader, put_unsigned_varint};

/// The only frame version there is.
const FRAME_VERSION: u32 = 1;

/// What decides in which version a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    /// The finalized level of `metadata.version`: 7 is 3.3-IV3, 30 is 4.3-IV0.
    pub metadata_version: i16,
}

impl Levels {
    /// The oldest metadata that is understood: Kafka 4.x's own oldest, 3.3-IV3.
    pub const METADATA_VERSION_MIN: i16 = 7;
    /// The newest, and that of a new node: 4.3-IV0.
    pub const METADATA_VERSION_MAX: i16 = 30;
}

/// Why a value is no metadata record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The frame is of a later Kafka, or no frame.
    #[error("frame version {0}; only 1 is known")]
    Frame(u32),
    /// A record of a later Kafka: what it means is unknown, so nothing after it may be applied.
    #[error("metadata record with the unknown api key {api_key} (version {version})")]
    UnknownRecord {
        /// The record's number.
        api_key: u32,
        /// Its version.
        version: u32,
    },
    /// A known record in a version of a later Kafka.
    #[error("metadata record {name} in version {version}; up to {version_max} is known")]
    UnknownVersion {
        /// The record's name.
        name: &'static str,
        /// Its version.
        version: u32,
        /// The newest that is known.
        version_max: u32,
    },
    /// The message is damaged.
    #[error("metadata record {name}: {source}")]
    Damaged {
        /// The record's name, or "frame".
        name: &'static str,
        /// Where and why.
        source: CodecError,
    },
}

/// Declares the record types that exist in version 0 only, beside those with versions of their own.
macro_rules! records {
    (
        simple { $($simple:ident = $simple_key:literal,)* }
        versioned_by_level { $($levelled:ident,)* }
    ) => {
        /// One metadata record.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Record {
            $(#[doc = concat!("Api key ", stringify!($simple_key), ".")] $simple($simple),)*
            $(#[doc = concat!("See [`", stringify!($levelled), "`].")] $levelled($levelled),)*
            /// Api key 17.
            BrokerRegistrationChange(BrokerRegistrationChange),
        }

        $(impl From<$simple> for Record { fn from(record: $simple) -> Self { Self::$simple(record) } })*
        $(impl From<$levelled> for Record { fn from(record: $levelled) -> Self { Self::$levelled(record) } })*
        impl From<BrokerRegistrationChange> for Record {
            fn from(record: BrokerRegistrationChange) -> Self { Self::BrokerRegistrationChange(record) }
        }

        impl Record {
            /// Appends the record's value: frame, key, version, message.
            pub fn write(&self, out: &mut Vec<u8>, levels: Levels) {
                put_unsigned_varint(out, FRAME_VERSION);
                match self {
                    $(Self::$simple(record) => {
                        put_unsigned_varint(out, $simple_key);
                        put_unsigned_varint(out, 0);
                        record.write(out);
                    })*
                    $(Self::$levelled(record) => {
                        let version = record.version(levels);
                        put_unsigned_varint(out, $levelled::API_KEY);
                        put_unsigned_varint(out, version);
                        record.write(out, version);
                    })*
                    Self::BrokerRegistrationChange(record) => {
                        put_unsigned_varint(out, BrokerRegistrationChange::API_KEY);
                        put_unsigned_varint(out, record.version());
                        record.write(out);
                    }
                }
            }

            fn read_message(api_key: u32, version: u32, reader: &mut Reader<'_>) -> Result<Self, RecordError> {
                match api_key {
                    $($simple_key => {
                        known_version(stringify!($simple), version, 0)?;
                        $simple::read(reader).map(Self::$simple)
                            .map_err(|source| RecordError::Damaged { name: stringify!($simple), source })
                    })*
                    $($levelled::API_KEY => {
                        known_version(stringify!($levelled), version, $levelled::VERSION_MAX)?;
                        $levelled::read(reader, version).map(Self::$levelled)
                            .map_err(|source| RecordError::Damaged { name: stringify!($levelled), source })
                    })*
                    BrokerRegistrationChange::API_KEY => {
                        let name = "BrokerRegistrationChange";
                        known_version(name, version, BrokerRegistrationChange::VERSION_MAX)?;
                        BrokerRegistrationChange::read(reader, version).map(Self::BrokerRegistrationChange)
                            .map_err(|source| RecordError::Damaged { name, source })
                    }
                    _ => Err(RecordError::UnknownRecord { api_key, version }),
                }
            }
        }
    };
}

records! {
    simple {
        UnregisterBroker = 1,
        Topic = 2,
        Config = 4,
        FenceBroker = 7,
        UnfenceBroker = 8,
        RemoveTopic = 9,
        DelegationToken = 10,
        UserScramCredential = 11,
        FeatureLevel = 12,
        ClientQuota = 14,
        ProducerIds = 15,
        AccessControlEntry = 18,
        RemoveAccessControlEntry = 19,
        NoOp = 20,
        ZkMigrationState = 21,
        RemoveUserScramCredential = 22,
        BeginTransaction = 23,
        EndTransaction = 24,
        AbortTransaction = 25,
        RemoveDelegationToken = 26,
        RegisterController = 27,
        ClearElr = 28,
    }
    versioned_by_level {
        RegisterBroker,
        Partition,
        PartitionChange,
    }
}

impl Record {
    /// The record in `value`, which it must fill to the last byte.
    pub fn read(value: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(value);
        let in_frame = |source| RecordError::Damaged { name: "frame", source };
        let frame = reader.unsigned_varint().map_err(in_frame)?;
        if frame != FRAME_VERSION {
            return Err(RecordError::Frame(frame));
        }
        let api_key = reader.unsigned_varint().map_err(in_frame)?;
        let version = reader.unsigned_varint().map_err(in_frame)?;
        let record = Self::read_message(api_key, version, &mut reader)?;
        reader.finish().map_err(in_frame)?;
        Ok(record)
    }

    /// The record's value as bytes of its own.
    pub fn to_bytes(&self, levels: Levels) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes, levels);
        bytes
    }
}

fn known_version(name: &'static str, version: u32, version_max: u32) -> Result<(), RecordError> {
    if version > version_max {
        return Err(RecordError::UnknownVersion { name, version, version_max });
    }
    Ok(())
}
