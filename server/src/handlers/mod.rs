//! What answers each request: one file per API, each with the versions that it serves.
//!
//! A handler is `pub const VERSIONS: RangeInclusive<i16>` and `async fn handle(&RequestContext, Request) ->
//! Result<Response, Refusal>` on the core of the connection. Errors that Kafka's protocol can express travel
//! inside the response; a [`Refusal`] ends the connection. To serve another API, write its file and add one
//! line to the table in [`crate::dispatch`].

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;

use crate::config::ListenerConfig;
use crate::shard::Shard;

pub mod alter_configs;
pub mod api_versions;
mod cluster_view;
pub mod consumer_group_heartbeat;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_acls;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod elect_leaders;
mod epochs;
pub mod errors;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sync_group;

/// Whether a reader's level of isolation is one. Kafka: `IsolationLevel`, uncommitted and committed.
fn is_isolation_level(level: i8) -> bool {
    (0..=1).contains(&level)
}

/// Who asks, what, and where to turn for the answer.
#[derive(Clone)]
pub struct RequestContext {
    /// The core that this connection lives on.
    pub shard: Rc<Shard>,
    /// The connection that the request came in on.
    pub connection: Rc<ConnectionFacts>,
    /// Which request it is.
    pub request: RequestFacts,
}

/// What stays the same for a connection's whole life.
#[derive(Debug)]
pub struct ConnectionFacts {
    /// Unique on this broker since it started.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// The listener that accepted it; a client is told the addresses of this one.
    pub listener: Arc<ListenerConfig>,
}

/// The request's header.
#[derive(Debug, Clone)]
pub struct RequestFacts {
    /// Which API.
    pub api: ApiKey,
    /// In which version; within the handler's range.
    pub version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<StrBytes>,
}

/// Why a request gets no answer and its connection is closed, as Kafka does with what it cannot parse.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A frame that is no request, or of no known API.
    #[error(transparent)]
    Frame(#[from] flumen_wire::frame::FrameError),
    /// An API or a version of it that is not served.
    #[error("{api:?} version {version} is not served")]
    UnsupportedVersion {
        /// The API.
        api: ApiKey,
        /// The version that was asked for.
        version: i16,
    },
    /// A body that is no such request.
    #[error(transparent)]
    Undecodable(#[from] flumen_wire::bounds::DecodeError),
    /// Bytes that are no such request.
    #[error("malformed {what}: {why}")]
    Malformed {
        /// What it claimed to be.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// The client asked not to be answered (Produce with acks=0), and something failed.
    #[error("a request without acknowledgement failed: {0}")]
    Unacknowledged(String),
    /// A response that cannot be written in the version asked for: our own mistake.
    #[error("cannot encode the answer to {api:?} version {version}: {why}")]
    Unencodable {
        /// The API.
        api: ApiKey,
        /// The version that was asked for.
        version: i16,
        /// What the codec said.
        why: String,
    },
    /// The broker is stopping.
    #[error("the broker is stopping")]
    Stopping,
}
