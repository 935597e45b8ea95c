//! "Images" of this backend: programs a platform registers by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lb_core::{EnvName, ImageDigest, ImageRef};
use sha2::{Digest, Sha256};

use crate::error::{LocalError, Result};

/// The image that runs what the app's own `command` names, by absolute path.
pub const HOST_IMAGE: &str = "host";

/// A program that plays the part of an image.
///
/// In arguments `{address}`, `{port}` (the first port by name) and `{port:NAME}` stand for where the
/// instance is to listen; the environment says the same as `HOST` (and `BIND`) and `PORT`.
///
/// ```
/// use lb_local::Program;
/// let web = Program::new("/usr/bin/python3").args(["-m", "http.server", "--bind", "{address}", "{port}"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<EnvName, String>,
}

impl Program {
    /// A program file without arguments.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), args: Vec::new(), env: BTreeMap::new() }
    }

    /// Adds arguments; an app's own `args` replace them.
    #[must_use]
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable; an app's own one of the same name replaces it.
    #[must_use]
    pub fn env(mut self, name: EnvName, value: impl Into<String>) -> Self {
        self.env.insert(name, value.into());
        self
    }

    /// Names the definition, not the file's bytes: all hosts that register the same program agree on it.
    /// A program rebuilt in place is the same image; register another tag to roll it out.
    fn digest(&self) -> ImageDigest {
        let definition = serde_json::to_vec(&(&self.path, &self.args, &self.env))
            .unwrap_or_else(|_| self.path.to_string_lossy().as_bytes().to_vec());
        digest_of(&definition)
    }
}

/// The registered programs of a host.
#[derive(Debug, Default)]
pub(crate) struct Images(BTreeMap<String, Program>);

/// What an image reference stands for here.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Image<'a> {
    /// A registered program.
    Program(&'a Program),
    /// [`HOST_IMAGE`].
    Host,
}

impl Images {
    pub(crate) fn add(&mut self, image: &ImageRef, program: Program) {
        self.0.insert(key(image), program);
    }

    /// Finds what `image` stands for, and checks the digest it is pinned to.
    pub(crate) fn find(&self, image: &ImageRef) -> Result<(Image<'_>, ImageDigest)> {
        let (found, digest) = match self.0.get(&key(image)) {
            Some(program) => (Image::Program(program), program.digest()),
            None if image.repository() == HOST_IMAGE => (Image::Host, digest_of(b"host")),
            None => {
                let image = image.to_string();
                return Err(LocalError::NoImage { image, known: self.known() });
            }
        };
        match image.digest().is_none_or(|pinned| *pinned == digest) {
            true => Ok((found, digest)),
            false => {
                Err(LocalError::OtherDigest { image: image.to_string(), here: digest.to_string() })
            }
        }
    }

    fn known(&self) -> String {
        let names = self.0.keys().map(String::as_str).chain([HOST_IMAGE]);
        names.collect::<Vec<_>>().join(", ")
    }
}

impl Image<'_> {
    /// Fails unless the program is a file.
    pub(crate) fn check(self) -> Result<()> {
        match self {
            Self::Program(program) => check_program(&program.path),
            Self::Host => Ok(()),
        }
    }
}

/// Fails unless `path` is a file, seen from here.
pub(crate) fn check_program(path: &Path) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => Err(LocalError::Missing(format!("program {} must be a file", path.display()))),
        Err(e) => Err(LocalError::Missing(format!("program {}: {e}", path.display()))),
    }
}

fn key(image: &ImageRef) -> String {
    format!("{}:{}", image.repository(), image.tag().unwrap_or("latest"))
}

fn digest_of(bytes: &[u8]) -> ImageDigest {
    use std::fmt::Write as _;
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    ImageDigest::new(text).unwrap_or_else(|e| unreachable!("a digest is 64 digits: {e}"))
}
