//! The one public error: what kind, during which operation, about what, and why.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Result with [`Error`] as the default error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as data a caller can act on. Backends map their own errors to one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input breaks a rule; repeating it unchanged cannot help.
    Invalid,
    /// The thing named does not exist.
    NotFound,
    /// The thing exists with other contents, or somebody else holds it.
    Conflict,
    /// No room left: addresses, ports, capacity, a named bound.
    Exhausted,
    /// Credentials are missing or refused.
    Denied,
    /// A lower term than one already seen: another leader has taken over.
    Fenced,
    /// The backend cannot do this, and says so rather than doing something near it.
    Unsupported,
    /// The other side cannot be reached or is not up.
    Unavailable,
    /// The deadline passed; the work may still end (see the contract of the call).
    Timeout,
    /// Stored state does not parse, fails its checksum, or is of a newer schema.
    Corrupt,
    /// It was tried, did not come about, and what was before stands again.
    RolledBack,
    /// An answer nobody expected. A bug here or there; the message holds the answer.
    Unexpected,
}

impl ErrorKind {
    /// Whether repeating the same call later can succeed.
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout | Self::Exhausted | Self::Unexpected)
    }
}

/// The error of every contract: kind, operation, subject, message and source.
///
/// It crosses the wire: the source becomes text there.
///
/// ```
/// use lb_core::{Error, ErrorKind};
/// let e = Error::new(ErrorKind::Invalid, "deploy", "app \"shop\"", "min must not exceed max");
/// assert_eq!(e.to_string(), "deploy app \"shop\": min must not exceed max");
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Error {
    kind: ErrorKind,
    operation: Cow<'static, str>,
    subject: String,
    message: String,
    #[serde(skip)]
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` while doing `operation` (a verb) on `subject` (a thing with its name).
    pub fn new(
        kind: ErrorKind,
        operation: impl Into<Cow<'static, str>>,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            operation: operation.into(),
            subject: subject.into(),
            message: message.into(),
            source: None,
        }
    }

    /// A broken rule about one field, said as `field "value": rule`.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, "", field, message)
    }

    /// Keeps the cause for `source()`. Its text is not added to the message: say what matters there.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Puts the outer thing in front of the subject: `app "shop": port "web": ...`.
    #[must_use]
    pub fn within(mut self, outer: impl fmt::Display) -> Self {
        self.subject = match self.subject.is_empty() {
            true => outer.to_string(),
            false => format!("{outer}: {}", self.subject),
        };
        self
    }

    /// Names the operation, where an inner helper could not know it.
    #[must_use]
    pub fn during(mut self, operation: impl Into<Cow<'static, str>>) -> Self {
        self.operation = operation.into();
        self
    }

    /// The kind, to act on.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The verb: what was being done. Empty for a value refused at the door.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// The thing it was done to, with its name.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What was wrong and what would be right.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// See [`ErrorKind::is_transient`].
    pub const fn is_transient(&self) -> bool {
        self.kind.is_transient()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.operation)?;
        if !self.operation.is_empty() && !self.subject.is_empty() {
            f.write_str(" ")?;
        }
        f.write_str(&self.subject)?;
        if !self.operation.is_empty() || !self.subject.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)?;
        let mut cause = self.source.as_deref().map(|s| s as &dyn StdError);
        while let Some(error) = cause {
            write!(f, "; caused by: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|s| s as &(dyn StdError + 'static))
    }
}

impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.operation, &self.subject, &self.message)
            == (other.kind, &other.operation, &other.subject, &other.message)
    }
}

/// What tests and simulations make up is right by construction.
#[cfg(any(feature = "conformance", feature = "sim"))]
pub(crate) fn valid<T>(made: Result<T>) -> T {
    made.unwrap_or_else(|e| unreachable!("valid by construction: {e}"))
}
