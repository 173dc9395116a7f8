//! What a topic may be called. Kafka: `org.apache.kafka.common.internals.Topic`.

/// The topic of the groups' offsets.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// The topic of the transactions' states.
pub const TRANSACTION_STATE: &str = "__transaction_state";
/// The topic of the share groups' states.
pub const SHARE_GROUP_STATE: &str = "__share_group_state";
/// The topic of the metadata log, which no client may create.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";

/// The longest name, in characters: a folder's name must fit `-` and the partition behind it.
const LENGTH_MAX: usize = 249;

/// Whether the topic belongs to the broker itself.
pub fn is_internal(name: &str) -> bool {
    [CONSUMER_OFFSETS, TRANSACTION_STATE, SHARE_GROUP_STATE].contains(&name)
}

/// Whether this may be a topic's name; Kafka's words if not.
pub fn validate(name: &str) -> Result<(), String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let why = match name {
        "" => "the empty string is not allowed".to_owned(),
        "." | ".." => format!("'{name}' is not allowed"),
        long if long.chars().count() > LENGTH_MAX => {
            format!("the length of '{long}' is longer than the max allowed length {LENGTH_MAX}")
        }
        other if other.bytes().all(legal) => return Ok(()),
        other => format!(
            "'{other}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ),
    };
    Err(format!("Topic name is invalid: {why}"))
}

/// What names have in common that differ only in `.` and `_`: their metrics would have one name.
pub fn unify(name: &str) -> String {
    name.replace('.', "_")
}

/// Whether the name could collide with another.
pub fn may_collide(name: &str) -> bool {
    name.contains(['.', '_'])
}
