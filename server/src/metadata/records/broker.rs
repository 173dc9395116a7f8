//! Records about brokers and controllers: who they are, where they listen, whether they serve.

use uuid::Uuid;

use super::Levels;
use crate::metadata::codec::{CodecError, Field, Reader, TaggedFields, message};

message! {
    /// Where a broker or controller listens.
    pub struct Endpoint {
        /// The listener's name.
        pub name: String,
        /// The advertised host.
        pub host: String,
        /// The advertised port.
        pub port: u16,
        /// Kafka's number of the security protocol: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
        pub security_protocol: i16,
    }
}

message! {
    /// The levels of a feature that a node can keep.
    pub struct SupportedFeature {
        /// The feature's name.
        pub name: String,
        /// The lowest level.
        pub level_min: i16,
        /// The highest level.
        pub level_max: i16,
    }
}

/// RegisterBrokerRecord (api key 0, versions 0–4): a broker process joins, fenced as a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct RegisterBroker {
    /// The broker's id.
    pub broker_id: i32,
    /// From the migration off ZooKeeper; version 2 and newer.
    pub is_migrating_zk_broker: bool,
    /// Random for each process.
    pub incarnation_id: Uuid,
    /// The offset of this record, as Kafka assigns it.
    pub broker_epoch: i64,
    /// Its listeners.
    pub endpoints: Vec<Endpoint>,
    /// What it can keep.
    pub features: Vec<SupportedFeature>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Whether it does not serve yet.
    pub fenced: bool,
    /// Version 1 and newer.
    pub in_controlled_shutdown: bool,
    /// The ids of its log directories; version 3 and newer.
    pub log_directories: Vec<Uuid>,
    /// Log directories that take no new partitions (KIP-1066); version 4.
    pub cordoned_log_directories: Option<Vec<Uuid>>,
}

impl RegisterBroker {
    pub(super) const API_KEY: u32 = 0;
    pub(super) const VERSION_MAX: u32 = 4;

    pub(super) fn version(&self, levels: Levels) -> u32 {
        match levels.metadata_version {
            ..=7 => 1,
            8..=16 => 2,
            17..=29 => 3,
            _ => 4,
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>, version: u32) -> Result<Self, CodecError> {
        let broker_id = Field::read(reader)?;
        let is_migrating_zk_broker = if version >= 2 { Field::read(reader)? } else { false };
        let mut record = Self {
            broker_id,
            is_migrating_zk_broker,
            incarnation_id: Field::read(reader)?,
            broker_epoch: Field::read(reader)?,
            endpoints: Field::read(reader)?,
            features: Field::read(reader)?,
            rack: Field::read(reader)?,
            fenced: Field::read(reader)?,
            in_controlled_shutdown: if version >= 1 { Field::read(reader)? } else { false },
            log_directories: Vec::new(),
            cordoned_log_directories: None,
        };
        reader.tagged_fields(|tag, field| {
            match tag {
                0 if version >= 3 => record.log_directories = Field::read(field)?,
                1 if version >= 4 => record.cordoned_log_directories = Field::read(field)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(record)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, version: u32) {
        self.broker_id.write(out);
        if version >= 2 {
            self.is_migrating_zk_broker.write(out);
        }
        self.incarnation_id.write(out);
        self.broker_epoch.write(out);
        self.endpoints.write(out);
        self.features.write(out);
        self.rack.write(out);
        self.fenced.write(out);
        if version >= 1 {
            self.in_controlled_shutdown.write(out);
        }
        let mut tagged = TaggedFields::default();
        if version >= 3 {
            tagged.put(0, &self.log_directories, &Vec::new());
        }
        if version >= 4 {
            tagged.put(1, &self.cordoned_log_directories, &None);
        }
        tagged.write(out);
    }
}

message! {
    /// UnregisterBrokerRecord (api key 1): a broker is gone for good.
    pub struct UnregisterBroker {
        /// The broker's id.
        pub broker_id: i32,
        /// The epoch it was registered with.
        pub broker_epoch: i64,
    }
}

message! {
    /// FenceBrokerRecord (api key 7), of metadata before 3.3.
    pub struct FenceBroker {
        /// The broker's id.
        pub broker_id: i32,
        /// The epoch it was registered with.
        pub broker_epoch: i64,
    }
}

message! {
    /// UnfenceBrokerRecord (api key 8), of metadata before 3.3.
    pub struct UnfenceBroker {
        /// The broker's id.
        pub broker_id: i32,
        /// The epoch it was registered with.
        pub broker_epoch: i64,
    }
}

/// What becomes of a broker's fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FenceChange {
    /// Stays as it is (0).
    #[default]
    None,
    /// It serves from now on (−1).
    Unfenced,
    /// It no longer serves (1).
    Fenced,
}

impl Field for FenceChange {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(match i8::read(reader)? {
            0 => Self::None,
            ..0 => Self::Unfenced,
            1.. => Self::Fenced,
        })
    }
    fn write(&self, out: &mut Vec<u8>) {
        let number: i8 = match self {
            Self::None => 0,
            Self::Unfenced => -1,
            Self::Fenced => 1,
        };
        number.write(out);
    }
}

/// BrokerRegistrationChangeRecord (api key 17, versions 0–3): what changed about a registered broker.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerRegistrationChange {
    /// The broker's id.
    pub broker_id: i32,
    /// The epoch it was registered with.
    pub broker_epoch: i64,
    /// Whether it serves.
    pub fence: FenceChange,
    /// 1 when it begins to leave; version 1 and newer.
    pub in_controlled_shutdown: i8,
    /// Its log directories, empty for no change; version 2 and newer.
    pub log_directories: Vec<Uuid>,
    /// Its cordoned log directories, null for no change; version 3.
    pub cordoned_log_directories: Option<Vec<Uuid>>,
}

impl BrokerRegistrationChange {
    pub(super) const API_KEY: u32 = 17;
    pub(super) const VERSION_MAX: u32 = 3;

    /// As Kafka: the lowest version that can hold what is set.
    pub(super) fn version(&self) -> u32 {
        if self.cordoned_log_directories.is_some() {
            3
        } else if !self.log_directories.is_empty() {
            2
        } else {
            u32::from(self.in_controlled_shutdown != 0)
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>, version: u32) -> Result<Self, CodecError> {
        let mut record = Self {
            broker_id: Field::read(reader)?,
            broker_epoch: Field::read(reader)?,
            fence: FenceChange::None,
            in_controlled_shutdown: 0,
            log_directories: Vec::new(),
            cordoned_log_directories: None,
        };
        reader.tagged_fields(|tag, field| {
            match tag {
                0 => record.fence = Field::read(field)?,
                1 if version >= 1 => record.in_controlled_shutdown = Field::read(field)?,
                2 if version >= 2 => record.log_directories = Field::read(field)?,
                3 if version >= 3 => record.cordoned_log_directories = Field::read(field)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(record)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.broker_id.write(out);
        self.broker_epoch.write(out);
        let mut tagged = TaggedFields::default();
        tagged.put(0, &self.fence, &FenceChange::None);
        tagged.put(1, &self.in_controlled_shutdown, &0);
        tagged.put(2, &self.log_directories, &Vec::new());
        tagged.put(3, &self.cordoned_log_directories, &None);
        tagged.write(out);
    }
}

message! {
    /// RegisterControllerRecord (api key 27): a controller process joins.
    pub struct RegisterController {
        /// The controller's id.
        pub controller_id: i32,
        /// Random for each process.
        pub incarnation_id: Uuid,
        /// From the migration off ZooKeeper.
        pub zk_migration_ready: bool,
        /// Its listeners.
        pub endpoints: Vec<Endpoint>,
        /// What it can keep.
        pub features: Vec<SupportedFeature>,
    }
}
