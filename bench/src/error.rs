//! Why there is no result, or not a whole one.

use std::io;

use thiserror::Error;

/// Why there is no result, or not a whole one.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The system refused.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A message could not be coded.
    #[error("a message could not be coded: {0}")]
    Codec(String),
    /// The broker answered with an error, or with nonsense.
    #[error("{0}")]
    Broker(String),
    /// The broker did not answer in time.
    #[error("the target does not answer: {0}")]
    Silent(String),
    /// What was asked for cannot be measured here.
    #[error("refused: {0}")]
    Refused(String),
}

impl BenchError {
    /// The system refused to do `what`.
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }

    /// A message could not be coded.
    pub fn codec(error: impl std::fmt::Display) -> Self {
        Self::Codec(format!("{error:#}"))
    }

    /// The broker took longer than `what` allows, or the system refused.
    pub fn network(what: impl Into<String>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::ConnectionRefused => {
                Self::Silent(format!("{}: {source}", what.into()))
            }
            _ => Self::io(what, source),
        }
    }
}
