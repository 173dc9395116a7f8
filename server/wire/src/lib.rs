//! Sans-I/O Kafka framing and the codecs of the hot path.
#![forbid(unsafe_code)]
