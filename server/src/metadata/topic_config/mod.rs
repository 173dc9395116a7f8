//! The configuration of topics: the table of keys, what is valid, and what it amounts to.
//!
//! Pure. The values live in the metadata image; the broker's own settings are what they fall back to.

mod dynamic;
mod resolve;
mod table;
#[cfg(test)]
mod tests;
mod treatment;
mod validate;

pub use dynamic::is_dynamic;
pub use resolve::{Resolver, Source, Synonym};
pub use table::{INTERNAL_SEGMENT_BYTES, TOPIC_KEYS, TopicKey, find};
pub use treatment::Treatment;
pub use validate::{check, list_elements, validate};
