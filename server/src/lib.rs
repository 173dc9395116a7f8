//! Flumen, the Kafka front end: everything behind the binary `flumen`.
#![forbid(unsafe_code)]
