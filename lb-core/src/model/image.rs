//! Image references and digests, by the grammar of the distribution reference.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::names::shown;
use super::units::whole;
use crate::error::{Error, Result};

/// A content digest, `sha256:` and 64 hexadecimal digits.
///
/// For an image that came from a registry it is the manifest's digest, for one that was built or
/// imported on the host the image's own id: both name the same bytes for ever.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageDigest(String);

impl ImageDigest {
    /// Parses `sha256:<64 hex>`.
    pub fn new(value: impl Into<String>) -> Result<Self> {
        let value = value.into();
        let hex = value.strip_prefix("sha256:").unwrap_or_default();
        match hex.len() == 64
            && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            true => Ok(Self(value)),
            false => Err(Error::invalid(
                shown("image digest", &value),
                "must be \"sha256:\" and 64 lower-case hexadecimal digits",
            )),
        }
    }

    /// The text, with `sha256:`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An image: `[registry[:port]/]path[:tag][@digest]`, at most 255 characters without the digest.
///
/// Grammar: github.com/distribution/reference. Without tag and digest the tag is `latest`.
///
/// ```
/// use lb_core::ImageRef;
/// let image: ImageRef = "registry.example.org:5000/team/shop:1.2".parse()?;
/// assert_eq!(image.registry(), Some("registry.example.org:5000"));
/// assert_eq!(image.repository(), "registry.example.org:5000/team/shop");
/// assert_eq!(image.tag(), Some("1.2"));
/// # Ok::<(), lb_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    repository: String,
    tag: Option<String>,
    digest: Option<ImageDigest>,
}

impl ImageRef {
    /// Parses and checks.
    pub fn new(value: impl AsRef<str>) -> Result<Self> {
        let value = value.as_ref();
        let fail = |rule: &str| Error::invalid(shown("image", value), rule);
        let (rest, digest) = match value.split_once('@') {
            Some((rest, digest)) => (rest, Some(ImageDigest::new(digest)?)),
            None => (value, None),
        };
        let name_start = rest.rfind('/').map_or(0, |i| i + 1);
        let (repository, tag) = match rest[name_start..].find(':') {
            Some(i) => (&rest[..name_start + i], Some(&rest[name_start + i + 1..])),
            None => (rest, None),
        };
        if rest.len() > 255 || !repository_is_valid(repository) {
            return Err(fail(
                "must be [registry[:port]/]path[:tag][@digest], the path in lower case, such as \"registry.example.org/team/shop:1.2\"",
            ));
        }
        if tag.is_some_and(|tag| !tag_is_valid(tag)) {
            return Err(fail(
                "the tag must be 1 to 128 of A-Z, a-z, 0-9, '_', '.' and '-', not starting with '.' or '-'",
            ));
        }
        Ok(Self { repository: repository.to_owned(), tag: tag.map(str::to_owned), digest })
    }

    /// Registry and path, without tag and digest.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The registry's host and port, where the reference names one.
    pub fn registry(&self) -> Option<&str> {
        let (first, _) = self.repository.split_once('/')?;
        (first.contains(['.', ':']) || first == "localhost").then_some(first)
    }

    /// The tag as written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, once pinned.
    pub const fn digest(&self) -> Option<&ImageDigest> {
        self.digest.as_ref()
    }

    /// The same image pinned to `digest`.
    #[must_use]
    pub fn with_digest(mut self, digest: ImageDigest) -> Self {
        self.digest = Some(digest);
        self
    }
}

fn tag_is_valid(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        && !tag.starts_with(['.', '-'])
}

fn repository_is_valid(repository: &str) -> bool {
    let (registry, path) = match repository.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            (Some(first), rest)
        }
        _ => (None, repository),
    };
    registry.is_none_or(registry_is_valid) && path.split('/').all(component_is_valid)
}

fn registry_is_valid(registry: &str) -> bool {
    let (host, port) = registry.split_once(':').unwrap_or((registry, "80"));
    whole::<u16>(port).is_some_and(|p| p > 0)
        && host.split('.').all(|part| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !part.starts_with('-')
                && !part.ends_with('-')
        })
}

/// `[a-z0-9]+` joined by one of `.`, `_`, `__` or any number of `-`.
fn component_is_valid(component: &str) -> bool {
    let edge = |c: Option<u8>| c.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    edge(component.bytes().next())
        && edge(component.bytes().last())
        && component
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        && !["..", "___", "._", "_.", ".-", "-.", "_-", "-_"]
            .iter()
            .any(|bad| component.contains(bad))
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Debug for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Parsing and serde go through `new` for both types.
macro_rules! through_new {
    ($type:ident) => {
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
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}
through_new!(ImageDigest);
through_new!(ImageRef);
