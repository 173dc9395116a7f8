//! Sans-I/O Kafka framing and the codecs of the hot path.
//!
//! Bytes in, values out, and back; nothing here waits, reads a clock or owns a socket. `frame` finds a
//! request in a stream of bytes and reads its header, `produce` and `fetch` borrow the two hot requests
//! from their body and frame the answers, `bounds` proves the lengths of every other request before
//! `kafka-protocol` decodes it.
//!
//! Invariant: no input makes this crate panic, or allocate more than a small multiple of the input's length.

#![forbid(unsafe_code)]

pub mod bounds;
pub mod fetch;
pub mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod leaders;
pub mod primitives;
pub mod produce;

pub use kafka_protocol::protocol::StrBytes;
pub use leaders::{LeaderIdAndEpoch, NodeEndpoint};
pub use primitives::{ParseError, Problem};
