//! Where a client should go instead: the two tagged structures that Produce and Fetch answers share
//! (KIP-951).

use bytes::{BufMut, BytesMut};

use crate::primitives::{
    put_array_count, put_no_tagged_fields, put_string, put_unsigned_varint, unsigned_varint_bytes,
};

/// A partition's leader. Kafka: LeaderIdAndEpoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderIdAndEpoch {
    /// The leader's broker id; −1 if unknown.
    pub leader_id: i32,
    /// The newest epoch known.
    pub leader_epoch: i32,
}

/// A broker's address. Kafka: NodeEndpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// The broker's id.
    pub node_id: i32,
    /// Its advertised host.
    pub host: String,
    /// Its advertised port.
    pub port: i32,
    /// Its rack, if it has one.
    pub rack: Option<String>,
}

/// Writes one tagged field: tag, length, value.
pub(crate) fn put_tagged(out: &mut BytesMut, tag: u32, value: &[u8]) {
    put_unsigned_varint(out, tag);
    put_unsigned_varint(out, u32::try_from(value.len()).expect("a tagged field is small"));
    out.put_slice(value);
}

/// Writes two integers as a structure in a tagged field: first an INT32, then an INT32.
pub(crate) fn put_tagged_leader(out: &mut BytesMut, tag: u32, leader: LeaderIdAndEpoch) {
    put_unsigned_varint(out, tag);
    put_unsigned_varint(out, 9);
    out.put_i32(leader.leader_id);
    out.put_i32(leader.leader_epoch);
    out.put_u8(0);
}

/// Writes the tagged fields at the end of an answer: the endpoints under tag 0, or none.
pub(crate) fn put_tagged_endpoints(out: &mut BytesMut, endpoints: &[NodeEndpoint]) {
    if endpoints.is_empty() {
        out.put_u8(0);
        return;
    }
    let mut value = BytesMut::with_capacity(unsigned_varint_bytes(u32::MAX) + endpoints.len() * 64);
    put_array_count(&mut value, endpoints.len(), true);
    for endpoint in endpoints {
        value.put_i32(endpoint.node_id);
        put_string(&mut value, Some(&endpoint.host), true);
        value.put_i32(endpoint.port);
        put_string(&mut value, endpoint.rack.as_deref(), true);
        put_no_tagged_fields(&mut value, true);
    }
    out.put_u8(1);
    put_tagged(out, 0, &value);
}
