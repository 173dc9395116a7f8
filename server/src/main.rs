//! The binary `flumen`.
#![forbid(unsafe_code)]
fn main() {}
