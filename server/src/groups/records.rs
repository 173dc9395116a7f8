//! The records of `__consumer_offsets`, byte for byte as Apache Kafka writes them.
//!
//! A key begins with a version, which says what the record is: 0 and 1 a committed offset (OffsetCommitKey),
//! 2 a classic group's generation (GroupMetadataKey), 3 and above what the newer group protocols keep
//! (KIP-848, KIP-932, KIP-1071). A value begins with its own version. No value is a tombstone.
//!
//! Written: OffsetCommitKey 1 with OffsetCommitValue 4 (1 when the offset carries its own expiration),
//! GroupMetadataKey 2 with GroupMetadataValue 3. Read: every version there was.

use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::messages::Protocol;
use super::roster::Member;

const OFFSET_KEY_VERSION: i16 = 1;
const OFFSET_VALUE_VERSION: i16 = 4;
const OFFSET_VALUE_VERSION_EXPIRING: i16 = 1;
const GROUP_KEY_VERSION: i16 = 2;
const GROUP_VALUE_VERSION: i16 = 3;
/// The tag of `topicId` in OffsetCommitValue 4.
const TOPIC_ID_TAG: u32 = 0;

/// A record to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub key: Bytes,
    /// What holds from now on; None: nothing.
    pub value: Option<Bytes>,
}

/// What a key says that its record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// A committed offset.
    Offset {
        /// The group's id.
        group: String,
        /// The topic's name.
        topic: String,
        /// The partition's index.
        partition: i32,
    },
    /// A generation of a classic group.
    Group {
        /// The group's id.
        group: String,
    },
    /// Something of another group protocol.
    Other {
        /// The key's version, 3 or above.
        version: i16,
        /// The group's id, with which every such key begins.
        group: String,
    },
}

/// A committed offset. Kafka: OffsetCommitValue 0–4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The next offset to consume.
    pub offset: i64,
    /// The epoch of the last record that was consumed; −1 when unknown.
    pub leader_epoch: i32,
    /// Whatever the client wanted to keep.
    pub metadata: String,
    /// When it was committed, on the wall clock.
    pub commit_ms: i64,
    /// When it expires, if the client said so (OffsetCommit 2–4).
    pub expire_ms: Option<i64>,
    /// The topic's id; nil when it was not known.
    pub topic_id: Uuid,
}

/// A generation of a classic group. Kafka: GroupMetadataValue 0–4.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupMetadata {
    /// Empty for a group that nobody ever joined.
    pub protocol_type: String,
    /// The generation.
    pub generation: i32,
    /// The protocol in use.
    pub protocol_name: Option<String>,
    /// The leader's member id.
    pub leader: Option<String>,
    /// When the group entered its state; −1 when unknown.
    pub state_since_ms: i64,
    /// Everyone in the group.
    pub members: Vec<GroupMember>,
}

/// A member in [`GroupMetadata`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// The member's id.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub instance_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// Its rebalance timeout; −1 in records before version 1.
    pub rebalance_timeout_ms: i32,
    /// Its session timeout.
    pub session_timeout_ms: i32,
    /// Its metadata for the protocol in use.
    pub subscription: Bytes,
    /// What it was assigned.
    pub assignment: Bytes,
}

impl GroupMember {
    /// The member that this record restores; of its protocols only the one in use is known.
    pub fn into_member(self, protocol: &str) -> Member {
        let rebalance_timeout_ms =
            if self.rebalance_timeout_ms == -1 { self.session_timeout_ms } else { self.rebalance_timeout_ms };
        Member {
            id: Rc::from(self.member_id),
            instance_id: self.instance_id,
            client_id: self.client_id,
            client_host: self.client_host,
            rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            protocols: vec![Protocol { name: protocol.to_owned(), metadata: self.subscription }],
            assignment: self.assignment,
            joining: None,
            syncing: None,
            is_new: false,
            session: None,
        }
    }
}

impl Record {
    /// A committed offset.
    pub fn offset(group: &str, topic: &str, partition: i32, commit: &OffsetCommit) -> Self {
        let mut value = BytesMut::with_capacity(48 + commit.metadata.len());
        let expiring = commit.expire_ms;
        value.put_i16(if expiring.is_some() { OFFSET_VALUE_VERSION_EXPIRING } else { OFFSET_VALUE_VERSION });
        value.put_i64(commit.offset);
        if let Some(expire_ms) = expiring {
            put_string(&mut value, &commit.metadata);
            value.put_i64(commit.commit_ms);
            value.put_i64(expire_ms);
        } else {
            value.put_i32(commit.leader_epoch);
            put_varint(&mut value, commit.metadata.len() + 1);
            value.put_slice(commit.metadata.as_bytes());
            value.put_i64(commit.commit_ms);
            if commit.topic_id.is_nil() {
                value.put_u8(0);
            } else {
                value.put_slice(&[1, TOPIC_ID_TAG as u8, 16]);
                value.put_slice(commit.topic_id.as_bytes());
            }
        }
        Self { key: offset_key(group, topic, partition), value: Some(value.freeze()) }
    }

    /// Takes a committed offset back.
    pub fn offset_tombstone(group: &str, topic: &str, partition: i32) -> Self {
        Self { key: offset_key(group, topic, partition), value: None }
    }

    /// A generation of a classic group.
    pub fn group(group: &str, metadata: &GroupMetadata) -> Self {
        let mut value = BytesMut::with_capacity(128);
        value.put_i16(GROUP_VALUE_VERSION);
        put_string(&mut value, &metadata.protocol_type);
        value.put_i32(metadata.generation);
        put_nullable_string(&mut value, metadata.protocol_name.as_deref());
        put_nullable_string(&mut value, metadata.leader.as_deref());
        value.put_i64(metadata.state_since_ms);
        value.put_u32(length(metadata.members.len()));
        for member in &metadata.members {
            put_string(&mut value, &member.member_id);
            put_nullable_string(&mut value, member.instance_id.as_deref());
            put_string(&mut value, &member.client_id);
            put_string(&mut value, &member.client_host);
            value.put_i32(member.rebalance_timeout_ms);
            value.put_i32(member.session_timeout_ms);
            for bytes in [&member.subscription, &member.assignment] {
                value.put_u32(length(bytes.len()));
                value.put_slice(bytes);
            }
        }
        Self { key: group_key(group), value: Some(value.freeze()) }
    }

    /// Removes a classic group.
    pub fn group_tombstone(group: &str) -> Self {
        Self { key: group_key(group), value: None }
    }

    /// About how many bytes the record takes in a batch.
    pub fn size(&self) -> usize {
        // Attributes, both lengths, both deltas, the count of headers: at most 20 bytes.
        20 + self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

fn offset_key(group: &str, topic: &str, partition: i32) -> Bytes {
    let mut key = BytesMut::with_capacity(10 + group.len() + topic.len());
    key.put_i16(OFFSET_KEY_VERSION);
    put_string(&mut key, group);
    put_string(&mut key, topic);
    key.put_i32(partition);
    key.freeze()
}

fn group_key(group: &str) -> Bytes {
    let mut key = BytesMut::with_capacity(4 + group.len());
    key.put_i16(GROUP_KEY_VERSION);
    put_string(&mut key, group);
    key.freeze()
}

fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("the protocol bounds strings at 32 KiB"));
    out.put_slice(text.as_bytes());
}

fn put_nullable_string(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_string(out, text),
        None => out.put_i16(-1),
    }
}

fn put_varint(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("the protocol bounds requests at 2 GiB")
}

/// Why a record's key or value could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end too early, or a length says more than there is.
    #[error("{field} is cut short")]
    Short {
        /// What was being read.
        field: &'static str,
    },
    /// Text that is not UTF-8.
    #[error("{field} is not UTF-8")]
    Text {
        /// What was being read.
        field: &'static str,
    },
    /// A version that is not known.
    #[error("{what} of version {version}")]
    Version {
        /// What was being read.
        what: &'static str,
        /// Its version.
        version: i16,
    },
}

/// Reads a record's key.
pub fn read_key(key: &Bytes) -> Result<Key, RecordError> {
    let mut input = Input { bytes: key.clone(), flexible: false };
    match input.i16("key version")? {
        0 | 1 => Ok(Key::Offset {
            group: input.string("group")?,
            topic: input.string("topic")?,
            partition: input.i32("partition")?,
        }),
        2 => Ok(Key::Group { group: input.string("group")? }),
        version if version >= 3 => Ok(Key::Other { version, group: input.string("group")? }),
        version => Err(RecordError::Version { what: "key", version }),
    }
}

/// Reads the value of a committed offset.
pub fn read_offset(value: &Bytes) -> Result<OffsetCommit, RecordError> {
    let mut input = Input { bytes: value.clone(), flexible: false };
    let version = input.i16("value version")?;
    if !(0..=4).contains(&version) {
        return Err(RecordError::Version { what: "OffsetCommitValue", version });
    }
    input.flexible = version >= 4;
    let offset = input.i64("offset")?;
    let leader_epoch = if version >= 3 { input.i32("leader epoch")? } else { -1 };
    let metadata = input.string("metadata")?;
    let commit_ms = input.i64("commit timestamp")?;
    let expire_ms =
        if version == 1 { Some(input.i64("expire timestamp")?).filter(|ms| *ms != -1) } else { None };
    let mut topic_id = Uuid::nil();
    input.tagged_fields(|tag, bytes| {
        if let (TOPIC_ID_TAG, Ok(id)) = (tag, bytes[..].try_into()) {
            topic_id = Uuid::from_bytes(id);
        }
    })?;
    Ok(OffsetCommit { offset, leader_epoch, metadata, commit_ms, expire_ms, topic_id })
}

/// Reads the value of a classic group's generation.
pub fn read_group(value: &Bytes) -> Result<GroupMetadata, RecordError> {
    let mut input = Input { bytes: value.clone(), flexible: false };
    let version = input.i16("value version")?;
    if !(0..=4).contains(&version) {
        return Err(RecordError::Version { what: "GroupMetadataValue", version });
    }
    input.flexible = version >= 4;
    let mut metadata = GroupMetadata {
        protocol_type: input.string("protocol type")?,
        generation: input.i32("generation")?,
        protocol_name: input.nullable_string("protocol")?,
        leader: input.nullable_string("leader")?,
        state_since_ms: if version >= 2 { input.i64("state timestamp")? } else { -1 },
        members: Vec::new(),
    };
    for _ in 0..input.array_length("members")? {
        let member = GroupMember {
            member_id: input.string("member id")?,
            instance_id: if version >= 3 { input.nullable_string("instance id")? } else { None },
            client_id: input.string("client id")?,
            client_host: input.string("client host")?,
            rebalance_timeout_ms: if version >= 1 { input.i32("rebalance timeout")? } else { -1 },
            session_timeout_ms: input.i32("session timeout")?,
            subscription: input.byte_array("subscription")?,
            assignment: input.byte_array("assignment")?,
        };
        input.tagged_fields(|_, _| {})?;
        metadata.members.push(member);
    }
    input.tagged_fields(|_, _| {})?;
    Ok(metadata)
}

/// What is left of a key or value. Nothing is allocated for a length that is larger than what is left.
struct Input {
    bytes: Bytes,
    /// Lengths are varints and structures end with tagged fields (KIP-482).
    flexible: bool,
}

impl Input {
    fn take(&mut self, length: usize, field: &'static str) -> Result<Bytes, RecordError> {
        if length > self.bytes.len() {
            return Err(RecordError::Short { field });
        }
        Ok(self.bytes.split_to(length))
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], RecordError> {
        Ok(self.take(N, field)?[..].try_into().expect("as many bytes were taken"))
    }

    fn i16(&mut self, field: &'static str) -> Result<i16, RecordError> {
        self.array(field).map(i16::from_be_bytes)
    }

    fn i32(&mut self, field: &'static str) -> Result<i32, RecordError> {
        self.array(field).map(i32::from_be_bytes)
    }

    fn i64(&mut self, field: &'static str) -> Result<i64, RecordError> {
        self.array(field).map(i64::from_be_bytes)
    }

    fn varint(&mut self, field: &'static str) -> Result<u32, RecordError> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array(field)?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::Short { field })
    }

    /// A length, None for null: a varint plus one, or a fixed integer with −1.
    fn length(&mut self, wide: bool, field: &'static str) -> Result<Option<usize>, RecordError> {
        let length = match (self.flexible, wide) {
            (true, _) => i64::from(self.varint(field)?) - 1,
            (false, true) => i64::from(self.i32(field)?),
            (false, false) => i64::from(self.i16(field)?),
        };
        Ok(usize::try_from(length).ok())
    }

    fn nullable_string(&mut self, field: &'static str) -> Result<Option<String>, RecordError> {
        let Some(length) = self.length(false, field)? else { return Ok(None) };
        let bytes = self.take(length, field)?;
        String::from_utf8(bytes.into()).map(Some).map_err(|_| RecordError::Text { field })
    }

    fn string(&mut self, field: &'static str) -> Result<String, RecordError> {
        self.nullable_string(field).map(Option::unwrap_or_default)
    }

    /// Copied, so that what is kept of a group does not keep the batch that it was read from.
    fn byte_array(&mut self, field: &'static str) -> Result<Bytes, RecordError> {
        let length = self.length(true, field)?.unwrap_or(0);
        Ok(Bytes::copy_from_slice(&self.take(length, field)?))
    }

    fn array_length(&mut self, field: &'static str) -> Result<usize, RecordError> {
        let length = self.length(true, field)?.unwrap_or(0);
        if length > self.bytes.len() { Err(RecordError::Short { field }) } else { Ok(length) }
    }

    fn tagged_fields(&mut self, mut each: impl FnMut(u32, &Bytes)) -> Result<(), RecordError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.varint("tagged fields")? {
            let tag = self.varint("tag")?;
            let size = self.varint("tagged field")?;
            let bytes = self.take(usize::try_from(size).expect("32 bits fit"), "tagged field")?;
            each(tag, &bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
