//! The broker's configuration: raw text from a file, the environment and the command line, checked against
//! the table of keys, resolved once, and handed on by value.

pub mod key;

/// One listener: where it is bound and what clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Its name; Kafka: the part before `://`.
    pub name: String,
    /// The host to bind; empty for every interface.
    pub host: String,
    /// The port to bind; 0 for any free one.
    pub port: u16,
    /// The host that clients are told. Never empty, never a wildcard.
    pub advertised_host: String,
    /// The port that clients are told.
    pub advertised_port: u16,
}

/// Everything that the broker was told, validated and resolved.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// `node.id`.
    pub node_id: i32,
    /// `listeners` and `advertised.listeners`; at least one.
    pub listeners: Vec<ListenerConfig>,
}
