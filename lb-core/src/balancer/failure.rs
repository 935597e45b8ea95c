//! What can go wrong between a backend and its balancer, and how the contracts' error says it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// Longest part of a program's output or of a reply kept in an error, in characters.
const MOST_SHOWN: usize = 2_000;

/// A failure on the way to a balancer, or of it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Its socket takes no connection.
    #[error("cannot be reached: {source}")]
    Connect {
        /// Of the socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It took a command and has not answered.
    #[error("did not answer {command:?} within {deadline:?}")]
    Silent {
        /// Of the socket.
        path: PathBuf,
        /// What was asked.
        command: String,
        /// How long that was waited for.
        deadline: Duration,
    },
    /// Its answer has no end.
    #[error("broke off while answering {command:?}")]
    Cut {
        /// Of the socket.
        path: PathBuf,
        /// What was asked.
        command: String,
    },
    /// Its answer is none that is known.
    #[error("answered {command:?} with {reply:?}")]
    Reply {
        /// What was asked.
        command: String,
        /// The end of what it said.
        reply: String,
    },
    /// It refuses the configuration.
    #[error("{message}")]
    Configuration {
        /// What it says of it.
        message: String,
    },
    /// The backend was built wrongly.
    #[error("{message}")]
    Setup {
        /// What to build otherwise.
        field: &'static str,
        /// What would be right.
        message: String,
    },
    /// It does not start.
    #[error("cannot be started: {message}")]
    Start {
        /// Why.
        message: String,
    },
    /// Nobody could say whether the configuration is right.
    #[error("the check could not be run: {message}")]
    Checker {
        /// Why.
        message: String,
    },
    /// It took the new configuration and does not run it.
    #[error("the new configuration did not come up, the last one serves on: {message}")]
    NotSeen {
        /// What it says of it.
        message: String,
    },
    /// An error of a contract.
    #[error("{0}")]
    Other(#[from] Error),
}

impl Failure {
    /// A reply that no version known here gives.
    pub fn reply(command: impl Into<String>, reply: &str) -> Self {
        Self::Reply { command: command.into(), reply: shortened(reply) }
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

    fn subject(&self, program: &str) -> String {
        match self {
            Self::Connect { path, .. } | Self::Silent { path, .. } | Self::Cut { path, .. } => {
                path.display().to_string()
            }
            Self::Setup { field, .. } => (*field).to_owned(),
            _ => program.to_owned(),
        }
    }

    /// The contracts' error, while doing `operation` with the balancer's program.
    pub fn during(self, operation: &'static str, program: &str) -> Error {
        match self {
            Self::Other(error) if error.operation().is_empty() => error.during(operation),
            Self::Other(error) => error,
            failure => {
                let message = failure.to_string();
                Error::new(failure.kind(), operation, failure.subject(program), message)
                    .with_source(failure)
            }
        }
    }
}

/// The last part of a long text, where programs say why they gave up.
pub fn shortened(text: &str) -> String {
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
        let path = PathBuf::from("/run/lb/master.sock");
        let e =
            Failure::Silent { path, command: "show proc".into(), deadline: Duration::from_secs(2) }
                .during("apply", "haproxy");
        assert_eq!(e.kind(), ErrorKind::Timeout);
        assert_eq!(
            e.to_string(),
            "apply /run/lb/master.sock: did not answer \"show proc\" within 2s"
        );
    }

    #[test]
    fn a_long_output_keeps_its_end() {
        let text = format!("{}the reason", "x".repeat(5_000));
        assert!(shortened(&text).ends_with("the reason"));
        assert!(shortened(&text).len() <= MOST_SHOWN + 3);
    }
}
