//! The binary `flumen-bench`.
#![forbid(unsafe_code)]
fn main() {}
