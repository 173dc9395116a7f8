//! Records about who may do what, kept for the day they are enforced, and for Kafka's own tools.

use bytes::Bytes;
use uuid::Uuid;

use crate::metadata::codec::message;

message! {
    /// AccessControlEntryRecord (api key 18).
    pub struct AccessControlEntry {
        /// Its id.
        pub id: Uuid,
        /// Kafka's number of the resource type.
        pub resource_type: i8,
        /// The resource, or a prefix of it.
        pub resource_name: String,
        /// 3 literal, 4 prefixed.
        pub pattern_type: i8,
        /// `User:name`.
        pub principal: String,
        /// A host, or `*`.
        pub host: String,
        /// Kafka's number of the operation.
        pub operation: i8,
        /// 2 deny, 3 allow.
        pub permission_type: i8,
    }
}

message! {
    /// RemoveAccessControlEntryRecord (api key 19).
    pub struct RemoveAccessControlEntry {
        /// The entry's id.
        pub id: Uuid,
    }
}

message! {
    /// UserScramCredentialRecord (api key 11).
    pub struct UserScramCredential {
        /// The user.
        pub name: String,
        /// 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
        pub mechanism: i8,
        /// RFC 5802.
        pub salt: Bytes,
        /// RFC 5802.
        pub stored_key: Bytes,
        /// RFC 5802.
        pub server_key: Bytes,
        /// RFC 5802.
        pub iterations: i32,
    }
}

message! {
    /// RemoveUserScramCredentialRecord (api key 22).
    pub struct RemoveUserScramCredential {
        /// The user.
        pub name: String,
        /// 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
        pub mechanism: i8,
    }
}

message! {
    /// DelegationTokenRecord (api key 10).
    pub struct DelegationToken {
        /// Whose it is.
        pub owner: String,
        /// Who asked for it.
        pub requester: String,
        /// Who may renew it.
        pub renewers: Vec<String>,
        /// Milliseconds since 1970 UTC.
        pub issue_timestamp: i64,
        /// Milliseconds since 1970 UTC.
        pub max_timestamp: i64,
        /// Milliseconds since 1970 UTC.
        pub expiration_timestamp: i64,
        /// Its id.
        pub token_id: String,
    }
}

message! {
    /// RemoveDelegationTokenRecord (api key 26).
    pub struct RemoveDelegationToken {
        /// Its id.
        pub token_id: String,
    }
}
