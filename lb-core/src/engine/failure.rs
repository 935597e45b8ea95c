//! What can go wrong with one request to an engine.

use std::error::Error as StdError;
use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// A cause, of whatever client the backend uses.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What went wrong in one request.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection, or one that broke.
    #[error("the engine cannot be reached: {}", innermost(.0.as_ref()))]
    Unreachable(#[source] BoxError),
    /// No answer in time.
    #[error("the engine did not answer within {0:?}")]
    Late(Duration),
    /// The engine said no, in its own words.
    #[error("{message} (HTTP {status})")]
    Refused {
        /// What that means, by the backend's reading.
        kind: ErrorKind,
        /// The status it came with.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// An answer that does not parse.
    #[error("the engine's answer does not parse: {0}")]
    Garbled(#[source] BoxError),
    /// A rule of ours, with the kind it breaks.
    #[error("{message}")]
    Rule {
        /// The kind.
        kind: ErrorKind,
        /// What was wrong and what would be right.
        message: String,
    },
}

impl Failure {
    /// Something is there already, or somebody else's.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::rule(ErrorKind::Conflict, message)
    }

    /// A setting that cannot be.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::rule(ErrorKind::Invalid, message)
    }

    /// An answer that parses and makes no sense.
    pub fn unexpected(message: impl Into<String>) -> Self {
        Self::rule(ErrorKind::Unexpected, message)
    }

    /// Any rule of ours.
    pub fn rule(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::Rule { kind, message: message.into() }
    }

    /// What it is to the core.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Unreachable(_) => ErrorKind::Unavailable,
            Self::Late(_) => ErrorKind::Timeout,
            Self::Garbled(_) => ErrorKind::Unexpected,
            Self::Refused { kind, .. } | Self::Rule { kind, .. } => *kind,
        }
    }

    /// Whether the engine said that the thing does not exist.
    pub const fn is_absent(&self) -> bool {
        matches!(
            self,
            Self::Refused { status: 404, .. } | Self::Refused { kind: ErrorKind::NotFound, .. }
        )
    }

    /// Whether it may have been done although it failed: the answer is what is missing.
    pub const fn is_unclear(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Late(_) | Self::Garbled(_))
    }

    /// The core's error: what was being done, to what.
    pub fn into_error(self, operation: &'static str, subject: impl Into<String>) -> Error {
        Error::new(self.kind(), operation, subject, self.to_string()).with_source(self)
    }
}

/// The cause that says most: clients' own texts are like "connection error".
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

/// What an HTTP status says to the core where an engine's words say no more.
pub const fn kind_of_status(status: u16) -> ErrorKind {
    match status {
        400 => ErrorKind::Invalid,
        401 | 403 => ErrorKind::Denied,
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        429 | 502..=504 => ErrorKind::Unavailable,
        501 => ErrorKind::Unsupported,
        _ => ErrorKind::Unexpected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_operation_subject_and_the_engines_words() {
        let failure = Failure::Refused {
            kind: ErrorKind::NotFound,
            status: 404,
            message: "No such container: x".into(),
        };
        assert!(failure.is_absent() && !failure.is_unclear());
        let error = failure.into_error("stop", "container \"x\"");
        assert_eq!(error.to_string(), "stop container \"x\": No such container: x (HTTP 404)");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
