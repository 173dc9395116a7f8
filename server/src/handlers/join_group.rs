//! JoinGroup (11): becomes or stays a member; answered when the group's next generation begins.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use bytes::Bytes;
use flumen_wire::primitives::STRING_BYTES_MAX;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{Refusal, RequestContext, errors};
use crate::groups::messages::{Answer, JoinAnswer, JoinRequest, Protocol};
use crate::groups::partition::Request;
use crate::groups::route;

/// The text of a UUID.
const UUID_BYTES: usize = 36;

/// Versions that are served.
pub const VERSIONS: RangeInclusive<i16> = 0..=9;

/// From this version on a dynamic member has to come back with its id (KIP-394).
const KNOWN_MEMBER_ID_FROM: i16 = 4;
/// From this version on the protocol's name may be null.
const NULLABLE_PROTOCOL_FROM: i16 = 7;
/// From this version on a leader can be told that there is nothing to assign (KIP-814).
const SKIP_ASSIGNMENT_FROM: i16 = 9;

/// Joins.
pub async fn handle(
    context: &RequestContext,
    request: JoinGroupRequest,
) -> Result<JoinGroupResponse, Refusal> {
    let version = context.request.version;
    let group_id = request.group_id.to_string();
    let joining = parse(context, request);
    let answer = match joining.check(&group_id, context.shard.groups().settings()) {
        Err(error) => JoinAnswer::failed(&joining.member_id, error),
        Ok(()) => match route::ask(&context.shard, &group_id, Request::Join(joining)).await {
            Ok(Answer::Join(answer)) => answer,
            Ok(other) => unreachable!("JoinGroup is answered as such, not by {other:?}"),
            // Who is not its coordinator does not know the member, and does not name it either.
            Err(error) => JoinAnswer::failed("", error),
        },
    };
    let text = StrBytes::from_string;
    let member = |member: crate::groups::messages::JoinedMember| {
        JoinGroupResponseMember::default()
            .with_member_id(text(member.member_id))
            .with_group_instance_id(member.instance_id.map(text))
            .with_metadata(member.metadata)
    };
    let no_name = || (version < NULLABLE_PROTOCOL_FROM).then(String::new);
    Ok(JoinGroupResponse::default()
        .with_error_code(errors::code(answer.error))
        .with_generation_id(answer.generation)
        .with_protocol_type(answer.protocol_type.map(text))
        .with_protocol_name(answer.protocol_name.or_else(no_name).map(text))
        .with_leader(text(answer.leader))
        .with_skip_assignment(answer.skip_assignment)
        .with_member_id(text(answer.member_id))
        .with_members(answer.members.into_iter().map(member).collect()))
}

fn parse(context: &RequestContext, request: JoinGroupRequest) -> JoinRequest {
    let version = context.request.version;
    let client_id = context.request.client_id.as_deref().unwrap_or("").to_owned();
    let instance_id = request.group_instance_id.as_deref().map(str::to_owned);
    let prefix = instance_id.as_deref().unwrap_or(&client_id);
    let new_member_id = new_member_id(prefix);
    let mut names = BTreeSet::new();
    let protocols = request.protocols.iter().filter(|protocol| names.insert(protocol.name.clone()));
    // Copied: a member is kept for longer than the request's body.
    let protocol = |protocol: &kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol| {
        Protocol { name: protocol.name.to_string(), metadata: Bytes::copy_from_slice(&protocol.metadata) }
    };
    JoinRequest {
        member_id: request.member_id.to_string(),
        client_host: host(context.connection.peer.ip()),
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.map(protocol).collect(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if version == 0 {
            request.session_timeout_ms
        } else {
            request.rebalance_timeout_ms
        },
        requires_known_member_id: version >= KNOWN_MEMBER_ID_FROM,
        supports_skipping_assignment: version >= SKIP_ASSIGNMENT_FROM,
        reason: request.reason.as_deref().map(str::to_owned),
        client_id,
        instance_id,
        new_member_id,
    }
}

/// `prefix-UUID`, short enough for a string of the protocol.
fn new_member_id(prefix: &str) -> String {
    let prefix = &prefix[..prefix.floor_char_boundary(STRING_BYTES_MAX - 1 - UUID_BYTES)];
    format!("{prefix}-{}", Uuid::new_v4())
}

/// An address as Java prints it.
fn host(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => format!("/{address}"),
        IpAddr::V6(address) => {
            let groups: Vec<String> = address.segments().iter().map(|group| format!("{group:x}")).collect();
            format!("/{}", groups.join(":"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_id_fits_into_a_string_however_long_the_client_id() {
        assert_eq!(new_member_id("client").len(), "client".len() + 37);
        let long = "é".repeat(STRING_BYTES_MAX / 2);
        assert!((STRING_BYTES_MAX - 1..=STRING_BYTES_MAX).contains(&new_member_id(&long).len()));
    }

    #[test]
    fn addresses_are_printed_as_by_kafka() {
        assert_eq!(host("127.0.0.1".parse().unwrap()), "/127.0.0.1");
        assert_eq!(host("::ffff:10.0.0.1".parse().unwrap()), "/10.0.0.1");
        assert_eq!(host("::1".parse().unwrap()), "/0:0:0:0:0:0:0:1");
    }
}
