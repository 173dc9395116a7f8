//! Records about topics and their partitions.

use uuid::Uuid;

use super::Levels;
use crate::metadata::codec::{CodecError, Field, Reader, TaggedFields, message};

message! {
    /// TopicRecord (api key 2): a topic is created.
    pub struct Topic {
        /// Its name.
        pub name: String,
        /// Its id, random.
        pub topic_id: Uuid,
    }
}

message! {
    /// RemoveTopicRecord (api key 9): a topic is deleted with its partitions and configuration.
    pub struct RemoveTopic {
        /// Its id.
        pub topic_id: Uuid,
    }
}

message! {
    /// ClearElrRecord (api key 28): forget the eligible leader replicas of a topic, or of all.
    pub struct ClearElr {
        /// The topic; empty for every topic.
        pub topic_name: String,
    }
}

/// PartitionRecord (api key 3, versions 0–2): the whole state of one partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Partition {
    /// Its index in the topic.
    pub partition_id: i32,
    /// Its topic.
    pub topic_id: Uuid,
    /// Broker ids, in order of preference.
    pub replicas: Vec<i32>,
    /// The in-sync ones.
    pub isr: Vec<i32>,
    /// Those that a reassignment removes.
    pub removing_replicas: Vec<i32>,
    /// Those that a reassignment adds.
    pub adding_replicas: Vec<i32>,
    /// Who leads; −1 for nobody.
    pub leader: i32,
    /// 1 while the leader recovers from an unclean election.
    pub leader_recovery_state: i8,
    /// Grows with every election.
    pub leader_epoch: i32,
    /// Grows with every change.
    pub partition_epoch: i32,
    /// The log directory of each replica, in the order of `replicas`; version 1 and newer.
    pub directories: Vec<Uuid>,
    /// KIP-966; version 2.
    pub eligible_leader_replicas: Option<Vec<i32>>,
    /// KIP-966; version 2.
    pub last_known_elr: Option<Vec<i32>>,
}

/// Both partition records came to their versions together.
fn version(levels: Levels) -> u32 {
    match levels.metadata_version {
        ..=16 => 0,
        17..=22 => 1,
        _ => 2,
    }
}

#[cfg(test)]
impl Partition {
    /// One with a single replica, on broker 1, for tests.
    pub fn single(topic_id: Uuid, partition_id: i32) -> Self {
        Self {
            partition_id,
            topic_id,
            replicas: vec![1],
            isr: vec![1],
            removing_replicas: vec![],
            adding_replicas: vec![],
            leader: 1,
            leader_recovery_state: 0,
            leader_epoch: 4,
            partition_epoch: 9,
            directories: vec![],
            eligible_leader_replicas: None,
            last_known_elr: None,
        }
    }
}

impl Partition {
    pub(super) const API_KEY: u32 = 3;
    pub(super) const VERSION_MAX: u32 = 2;

    pub(super) fn version(&self, levels: Levels) -> u32 {
        version(levels)
    }

    pub(super) fn read(reader: &mut Reader<'_>, version: u32) -> Result<Self, CodecError> {
        let mut record = Self {
            partition_id: Field::read(reader)?,
            topic_id: Field::read(reader)?,
            replicas: Field::read(reader)?,
            isr: Field::read(reader)?,
            removing_replicas: Field::read(reader)?,
            adding_replicas: Field::read(reader)?,
            leader: Field::read(reader)?,
            leader_recovery_state: 0,
            leader_epoch: Field::read(reader)?,
            partition_epoch: Field::read(reader)?,
            directories: if version >= 1 { Field::read(reader)? } else { Vec::new() },
            eligible_leader_replicas: None,
            last_known_elr: None,
        };
        reader.tagged_fields(|tag, field| {
            match tag {
                0 => record.leader_recovery_state = Field::read(field)?,
                1 if version >= 2 => record.eligible_leader_replicas = Field::read(field)?,
                2 if version >= 2 => record.last_known_elr = Field::read(field)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(record)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, version: u32) {
        self.partition_id.write(out);
        self.topic_id.write(out);
        self.replicas.write(out);
        self.isr.write(out);
        self.removing_replicas.write(out);
        self.adding_replicas.write(out);
        self.leader.write(out);
        self.leader_epoch.write(out);
        self.partition_epoch.write(out);
        if version >= 1 {
            self.directories.write(out);
        }
        let mut tagged = TaggedFields::default();
        tagged.put(0, &self.leader_recovery_state, &0);
        if version >= 2 {
            tagged.put(1, &self.eligible_leader_replicas, &None);
            tagged.put(2, &self.last_known_elr, &None);
        }
        tagged.write(out);
    }
}

/// PartitionChangeRecord (api key 5, versions 0–2): what changed about a partition; `None` is unchanged.
///
/// Every change adds 1 to the partition epoch; naming a leader adds 1 to the leader epoch, also if it is
/// the same.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PartitionChange {
    /// Its index in the topic.
    pub partition_id: i32,
    /// Its topic.
    pub topic_id: Uuid,
    /// The in-sync replicas.
    pub isr: Option<Vec<i32>>,
    /// Who leads; −1 for nobody. (−2 on the disk is `None`.)
    pub leader: Option<i32>,
    /// The replicas.
    pub replicas: Option<Vec<i32>>,
    /// Those that a reassignment removes.
    pub removing_replicas: Option<Vec<i32>>,
    /// Those that a reassignment adds.
    pub adding_replicas: Option<Vec<i32>>,
    /// 1 while the leader recovers from an unclean election. (−1 on the disk is `None`.)
    pub leader_recovery_state: Option<i8>,
    /// KIP-966; version 2.
    pub eligible_leader_replicas: Option<Vec<i32>>,
    /// KIP-966; version 2.
    pub last_known_elr: Option<Vec<i32>>,
    /// The log directory of each replica; version 1 and newer.
    pub directories: Option<Vec<Uuid>>,
}

/// On the disk, a leader that stays.
const LEADER_UNCHANGED: i32 = -2;
/// On the disk, a recovery state that stays.
const RECOVERY_UNCHANGED: i8 = -1;

impl PartitionChange {
    pub(super) const API_KEY: u32 = 5;
    pub(super) const VERSION_MAX: u32 = 2;

    pub(super) fn version(&self, levels: Levels) -> u32 {
        version(levels)
    }

    pub(super) fn read(reader: &mut Reader<'_>, version: u32) -> Result<Self, CodecError> {
        let mut record =
            Self { partition_id: Field::read(reader)?, topic_id: Field::read(reader)?, ..Self::default() };
        reader.tagged_fields(|tag, field| {
            match tag {
                0 => record.isr = Field::read(field)?,
                1 => record.leader = Some(Field::read(field)?).filter(|id| *id != LEADER_UNCHANGED),
                2 => record.replicas = Field::read(field)?,
                3 => record.removing_replicas = Field::read(field)?,
                4 => record.adding_replicas = Field::read(field)?,
                5 => {
                    let state = Field::read(field)?;
                    record.leader_recovery_state = Some(state).filter(|state| *state != RECOVERY_UNCHANGED);
                }
                6 if version >= 2 => record.eligible_leader_replicas = Field::read(field)?,
                7 if version >= 2 => record.last_known_elr = Field::read(field)?,
                8 if version >= 1 => record.directories = Field::read(field)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(record)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, version: u32) {
        self.partition_id.write(out);
        self.topic_id.write(out);
        let mut tagged = TaggedFields::default();
        tagged.put(0, &self.isr, &None);
        tagged.put(1, &self.leader.unwrap_or(LEADER_UNCHANGED), &LEADER_UNCHANGED);
        tagged.put(2, &self.replicas, &None);
        tagged.put(3, &self.removing_replicas, &None);
        tagged.put(4, &self.adding_replicas, &None);
        tagged.put(5, &self.leader_recovery_state.unwrap_or(RECOVERY_UNCHANGED), &RECOVERY_UNCHANGED);
        if version >= 2 {
            tagged.put(6, &self.eligible_leader_replicas, &None);
            tagged.put(7, &self.last_known_elr, &None);
        }
        if version >= 1 {
            tagged.put(8, &self.directories, &None);
        }
        tagged.write(out);
    }
}
