//! Names with a grammar: strings become types at the door, by an allow-list per field.
//!
//! Whatever passes here can stand in a container name, a label, a file name, a balancer configuration
//! or a runtime-API command without escaping: no type below admits white space, quotes, control
//! characters or non-ASCII. The one exception is [`EnvName`], which no balancer sees.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::signal;
use crate::error::{Error, Result};

/// Defines a name type over `Arc<str>` (cheap to clone) with its check, what it is called in errors,
/// and everything a name needs: parsing, display, ordering, serde through the same check.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Parses and checks.
            ///
            /// # Errors
            /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) naming the field, the value and the rule.
            pub fn new(value: impl AsRef<str>) -> Result<Self> {
                let value = value.as_ref();
                let check: fn(&str) -> Result<(), &'static str> = $check;
                match check(value) {
                    Ok(()) => Ok(Self(value.into())),
                    Err(rule) => Err(Error::invalid(shown($what, value), rule)),
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = Error;
            fn from_str(s: &str) -> Result<Self> {
                Self::new(s)
            }
        }

        impl TryFrom<String> for $type {
            type Error = Error;
            fn try_from(s: String) -> Result<Self> {
                Self::new(s)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0.as_ref().to_owned()
            }
        }
    };
}

/// `field "value"`, the value cut and escaped so that a hostile one cannot break a log line.
pub(crate) fn shown(what: &str, value: &str) -> String {
    const SHOWN: usize = 64;
    match value.char_indices().nth(SHOWN) {
        None => format!("{what} {value:?}"),
        Some((cut, _)) => format!("{what} {:?}... ({} bytes)", &value[..cut], value.len()),
    }
}

name! {
    /// One platform on shared engines: part of every name, label and network. 1 to 20 of `a-z 0-9 -`.
    ClusterId, "cluster", |s| label(s, 20, "must be 1 to 20 of a-z, 0-9 and inner '-'")
}
name! {
    /// A host's identity, stable across address changes and reboots. 1 to 63 of `a-z 0-9 - .`.
    HostId, "host", |s| dotted(s, 63, "must be 1 to 63 of a-z, 0-9, inner '-' and '.'")
}
name! {
    /// An app. 1 to 32 of `a-z 0-9 -` (a DNS label, RFC 1123).
    AppName, "app", |s| label(s, 32, "must be 1 to 32 of a-z, 0-9 and inner '-'")
}
name! {
    /// A port of an app. 1 to 15 of `a-z 0-9 -` (as service names in RFC 6335).
    PortName, "port", |s| label(s, 15, "must be 1 to 15 of a-z, 0-9 and inner '-'")
}
name! {
    /// A scale policy a platform registered. 1 to 32 of `a-z 0-9 -`.
    PolicyName, "policy", |s| label(s, 32, "must be 1 to 32 of a-z, 0-9 and inner '-'")
}
name! {
    /// A container on an engine; made by [`InstanceId::container_name`](crate::InstanceId::container_name). Up to 128.
    ContainerName, "container", |s| dotted(s, 128, "must be 1 to 128 of a-z, 0-9, inner '-' and '.'")
}
name! {
    /// A container network on an engine. 1 to 64 of `a-z 0-9 - .`.
    NetworkName, "network", |s| dotted(s, 64, "must be 1 to 64 of a-z, 0-9, inner '-' and '.'")
}
name! {
    /// The instances of one app port as the balancer knows them. 1 to 64 of `a-z 0-9 - .`.
    BackendName, "backend", |s| dotted(s, 64, "must be 1 to 64 of a-z, 0-9, inner '-' and '.'")
}
name! {
    /// One instance as the balancer knows it. 1 to 128 of `a-z 0-9 - .`.
    ServerName, "server", |s| dotted(s, 128, "must be 1 to 128 of a-z, 0-9, inner '-' and '.'")
}
name! {
    /// A host name requests are sent to: exact, or `*.example.org` for one further label. Lower case;
    /// without a final dot; at most 253 characters in labels of at most 63 (RFC 1123).
    DomainName, "host name", domain
}
name! {
    /// A path prefix in whole segments: `/` or `/cart/v2`. Segments of `A-Z a-z 0-9 . _ ~ -`, no `.` or
    /// `..`, no empty segment, no final `/`; at most 255 characters.
    PathPrefix, "path", path_prefix
}
name! {
    /// A path to send in a health check: as [`PathPrefix`] but a final `/` and a query of
    /// `A-Z a-z 0-9 . _ ~ - = &` are allowed; at most 255 characters with the query.
    HealthPath, "health path", health_path
}
name! {
    /// An environment variable's name: 1 to 255 bytes without `=` and NUL, as engines and the kernel take it
    /// (`discovery.type`). It reaches the engine alone.
    EnvName, "variable", |s| match (1..=255).contains(&s.len()) && !s.contains(['=', '\0']) {
        true => Ok(()),
        false => Err("must be 1 to 255 bytes without '=' and NUL"),
    }
}
name! {
    /// A label's key on a host or container: 1 to 63 of `A-Z a-z 0-9 . _ / -`.
    LabelKey, "label", |s| text(s, 1, 63, b"._/-", "must be 1 to 63 of A-Z, a-z, 0-9, '.', '_', '/' and '-'")
}
name! {
    /// A label's value on a host: 0 to 63 of `A-Z a-z 0-9 . _ / : -`.
    LabelValue, "label value", |s| text(s, 0, 63, b"._/:-", "must be at most 63 of A-Z, a-z, 0-9, '.', '_', '/', ':' and '-'")
}
name! {
    /// A header field's name in lower case: token characters of RFC 9110, 5.6.2 without `'`, `` ` ``, `#`, `$`, `%`, `&`, `*`, `|`, `~`, `!`, `^`, `+`.
    HeaderName, "header", |s| match s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b)) {
        true if (1..=64).contains(&s.len()) => Ok(()),
        _ => Err("must be 1 to 64 of a-z, 0-9, '-', '_' and '.', in lower case"),
    }
}
name! {
    /// A cookie's name: 1 to 64 of `A-Z a-z 0-9 _ -`.
    CookieName, "cookie", |s| text(s, 1, 64, b"_-", "must be 1 to 64 of A-Z, a-z, 0-9, '_' and '-'")
}
name! {
    /// A user in the container, `name`, `uid` or `name:group`: as Docker's `--user`.
    UserName, "user", |s| match s.split_once(':') {
        _ if s.len() > 64 => Err(USER_RULE),
        Some((user, group)) => text(user, 1, 32, b"_.-", USER_RULE).and_then(|()| text(group, 1, 32, b"_.-", USER_RULE)),
        None => text(s, 1, 32, b"_.-", USER_RULE),
    }
}
name! {
    /// A signal of Linux by name: `SIGTERM`, `SIGRTMIN+3`, `SIGRTMAX-1`.
    Signal, "signal", |s| signal::number(s).map(drop).ok_or(signal::RULE)
}
name! {
    /// An absolute path in a container or on a host: no `..`, no `:` or `,`, printable ASCII without quotes,
    /// white space or `\`; at most 255.
    AbsolutePath, "path", |s| {
        let plain = s.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\:,;{}$`#%*?<>|&()!".contains(&b));
        match s.starts_with('/') && plain && s.len() <= 255 && !s.split('/').any(|p| p == "..") {
            true => Ok(()),
            false => Err("must start with \"/\" and be plain characters without white space, quotes, ':', ',' or \"..\""),
        }
    }
}
name! {
    /// A volume the engine keeps, by name: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    VolumeName, "volume", |s| match s.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) {
        true => text(s, 1, 64, b"._-", VOLUME_RULE),
        false => Err(VOLUME_RULE),
    }
}
name! {
    /// A file beside a configuration: 1 to 64 of `a-z 0-9 . _ -`, not starting with a dot; no directory.
    FileName, "file", |s| match s.starts_with('.') || s.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Err(FILE_RULE),
        false => text(s, 1, 64, b"._-", FILE_RULE),
    }
}

const MAX_PATH: usize = 255;
const LONG_PATH: &str = "must be at most 255 characters";
const USER_RULE: &str = "must be a user or user:group of A-Z, a-z, 0-9, '_', '.' and '-'";
const VOLUME_RULE: &str =
    "must be 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', starting with a letter or digit";
const FILE_RULE: &str = "must be 1 to 64 of a-z, 0-9, '.', '_' and '-', not starting with '.'";

fn text(
    s: &str,
    min: usize,
    max: usize,
    also: &[u8],
    rule: &'static str,
) -> Result<(), &'static str> {
    let fits = (min..=max).contains(&s.len());
    match fits && s.bytes().all(|b| b.is_ascii_alphanumeric() || also.contains(&b)) {
        true => Ok(()),
        false => Err(rule),
    }
}

fn is_label(s: &str, max: usize) -> bool {
    (1..=max).contains(&s.len())
        && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !s.starts_with('-')
        && !s.ends_with('-')
}

fn label(s: &str, max: usize, rule: &'static str) -> Result<(), &'static str> {
    if is_label(s, max) { Ok(()) } else { Err(rule) }
}

fn dotted(s: &str, max: usize, rule: &'static str) -> Result<(), &'static str> {
    match s.len() <= max && s.split('.').all(|part| is_label(part, 63)) {
        true => Ok(()),
        false => Err(rule),
    }
}

fn domain(s: &str) -> Result<(), &'static str> {
    const RULE: &str = "must be a lower-case DNS name such as shop.example.org, or *.example.org, without a final dot";
    let rest = s.strip_prefix("*.").unwrap_or(s);
    dotted(rest, 253, RULE)
}

fn segments(s: &str) -> Result<(), &'static str> {
    let plain = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b))
    };
    match s.split('/').all(plain) {
        true => Ok(()),
        false => Err(
            "must be segments of A-Z, a-z, 0-9, '.', '_', '~' and '-', without empty, \".\" or \"..\" ones",
        ),
    }
}

fn path_prefix(s: &str) -> Result<(), &'static str> {
    match s.strip_prefix('/') {
        _ if s.len() > MAX_PATH => Err(LONG_PATH),
        None => Err("must start with \"/\""),
        Some("") => Ok(()),
        Some(rest) if rest.ends_with('/') => Err("must not end with \"/\""),
        Some(rest) => segments(rest),
    }
}

fn health_path(s: &str) -> Result<(), &'static str> {
    if s.len() > MAX_PATH {
        return Err(LONG_PATH);
    }
    let (path, query) = s.split_once('?').unwrap_or((s, ""));
    let Some(rest) = path.strip_prefix('/') else { return Err("must start with \"/\"") };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if !rest.is_empty() {
        segments(rest)?;
    }
    text(
        query,
        0,
        MAX_PATH,
        b"._~-=&",
        "must have a query of A-Z, a-z, 0-9, '.', '_', '~', '-', '=' and '&' only",
    )
}

impl DomainName {
    /// The part below `*.`, for a wildcard.
    pub fn wildcard_base(&self) -> Option<&str> {
        self.as_str().strip_prefix("*.")
    }
}

impl PathPrefix {
    /// `/`: every path.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// Whether this is `/`.
    pub fn is_root(&self) -> bool {
        self.as_str() == "/"
    }

    /// Whether `path` (of a request) lies under this prefix in whole segments.
    pub fn covers(&self, path: &str) -> bool {
        self.is_root()
            || path.strip_prefix(self.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'))
    }
}

impl AbsolutePath {
    /// The directories it leads through: `/data/`, `//data` and `/data/./` are one place.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.as_str().split('/').filter(|part| !part.is_empty() && *part != ".")
    }
}

impl Default for PathPrefix {
    fn default() -> Self {
        Self::root()
    }
}

impl BackendName {
    /// The backend of one app port: `app.port`.
    pub fn of(app: &AppName, port: &PortName) -> Self {
        Self(format!("{app}.{port}").into())
    }
}

impl From<&ContainerName> for ServerName {
    fn from(name: &ContainerName) -> Self {
        Self(name.0.clone())
    }
}
