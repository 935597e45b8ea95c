//! What can go wrong with processes and files, mapped to the one public error.

use std::io;
use std::path::PathBuf;

use lb_core::{Error, ErrorKind};

/// Private causes; callers see [`lb_core::Error`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    #[error("{path}: {source}", path = .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{path}: {reason}", path = .path.display())]
    Corrupt { path: PathBuf, reason: String },
    #[error("program {program:?} cannot be started: {source}")]
    Spawn { program: PathBuf, source: io::Error },
    #[error("no image {image} here; known: {known}")]
    NoImage { image: String, known: String },
    #[error("image {image}: its definition here has the digest {here}")]
    OtherDigest { image: String, here: String },
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Unsupported(&'static str),
    #[error("{0}")]
    Missing(String),
    #[error("process {pid} did not end after SIGKILL")]
    Unkillable { pid: i32 },
    #[error("a worker thread ended early")]
    Lost,
}

/// Result of the parts below the contracts.
pub(crate) type Result<T, E = LocalError> = std::result::Result<T, E>;

impl LocalError {
    /// Wraps an I/O error on `path`.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// The public error of `operation` on `subject`.
    pub(crate) fn during(self, operation: &'static str, subject: impl Into<String>) -> Error {
        Error::new(self.kind(), operation, subject, self.to_string()).with_source(self)
    }

    const fn kind(&self) -> ErrorKind {
        match self {
            Self::File { .. } => ErrorKind::Unavailable,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Spawn { .. } | Self::Invalid(_) => ErrorKind::Invalid,
            Self::NoImage { .. } | Self::OtherDigest { .. } | Self::Missing(_) => {
                ErrorKind::NotFound
            }
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Unkillable { .. } => ErrorKind::Timeout,
            Self::Lost => ErrorKind::Unexpected,
        }
    }
}
