//! What can go wrong between this crate and NGINX, and how the contracts' error says it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lb_core::{Error, ErrorKind};

/// Longest part of a program's output or of a reply kept in an error, in characters.
const MOST_SHOWN: usize = 2_000;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot be reached: {source}")]
    Connect { path: PathBuf, source: io::Error },
    #[error("did not answer {request:?} within {deadline:?}")]
    Silent { path: PathBuf, request: String, deadline: Duration },
    #[error("broke off while answering {request:?}")]
    Cut { path: PathBuf, request: String },
    #[error("answered {request:?} with {reply:?}")]
    Reply { request: String, reply: String },
    #[error("{message}")]
    Configuration { message: String },
    #[error("{message}")]
    Setup { field: &'static str, message: String },
    #[error("cannot be started: {message}")]
    Start { message: String },
    #[error("the check could not be run: {message}")]
    Checker { message: String },
    #[error("the new configuration did not come up, the last one serves on: {message}")]
    NotSeen { message: String },
    #[error("{0}")]
    Other(#[from] Error),
}

impl Failure {
    /// A reply that nothing known here gives.
    pub(crate) fn reply(request: impl Into<String>, reply: &str) -> Self {
        Self::Reply { request: request.into(), reply: shortened(reply) }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect { .. }
            | Self::Cut { .. }
            | Self::Start { .. }
            | Self::Checker { .. }
            | Self::NotSeen { .. } => ErrorKind::Unavailable,
            Self::Silent { .. } => ErrorKind::Timeout,
            Self::Reply { .. } => ErrorKind::Unexpected,
            Self::Configuration { .. } | Self::Setup { .. } => ErrorKind::Invalid,
            Self::Other(error) => error.kind(),
        }
    }

    fn subject(&self) -> String {
        match self {
            Self::Connect { path, .. } | Self::Silent { path, .. } | Self::Cut { path, .. } => {
                path.display().to_string()
            }
            Self::Setup { field, .. } => (*field).to_owned(),
            _ => "nginx".to_owned(),
        }
    }

    /// The contracts' error, while doing `operation`.
    pub(crate) fn during(self, operation: &'static str) -> Error {
        match self {
            Self::Other(error) if error.operation().is_empty() => error.during(operation),
            Self::Other(error) => error,
            failure => {
                let message = failure.to_string();
                Error::new(failure.kind(), operation, failure.subject(), message)
                    .with_source(failure)
            }
        }
    }
}

/// The last part of a long text, where programs say why they gave up.
pub(crate) fn shortened(text: &str) -> String {
    let text = text.trim();
    let count = text.chars().count();
    match count > MOST_SHOWN {
        true => format!("...{}", text.chars().skip(count - MOST_SHOWN).collect::<String>()),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_operation_subject_and_reason() {
        let path = PathBuf::from("/run/lb/private/status.sock");
        let deadline = Duration::from_secs(5);
        let e = Failure::Silent { path, request: "GET /status".into(), deadline }.during("apply");
        assert_eq!(e.kind(), ErrorKind::Timeout);
        assert_eq!(
            e.to_string(),
            "apply /run/lb/private/status.sock: did not answer \"GET /status\" within 5s"
        );
    }
}
