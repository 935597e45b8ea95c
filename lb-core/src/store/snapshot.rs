//! One value in a file that survives crashes: written whole, checked when read, the one before kept.
//!
//! `NAME.json` is `{ schema, checksum, payload }`. A write goes to `NAME.json.tmp`, which is synced; then
//! `NAME.json` becomes `NAME.previous.json`, the new file takes its place, and the directory is synced.
//! So at every moment one of the two is whole. `NAME.lock` keeps processes apart.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, ErrorKind, Result};

/// Tries to get the lock before giving up, and the time between two: 5 s in all.
const LOCK_TRIES: u32 = 250;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Where a value of one schema is kept. All calls block: run them on a blocking thread.
#[derive(Debug)]
pub(super) struct Snapshot<T> {
    directory: PathBuf,
    name: &'static str,
    schema: u32,
    fallback: Fallback,
    kind: PhantomData<fn() -> T>,
}

/// What happens when the value written last is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fallback {
    /// The one before it counts.
    Previous,
    /// It is an error: an older value would be wrong.
    Refuse,
}

/// When a file was written, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    modified: Option<SystemTime>,
    length: u64,
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    schema: u32,
    checksum: String,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// What one of the two files holds.
enum Found<T> {
    Whole(T),
    Absent,
    Damaged(Error),
}

/// The same rule in every schema, so that a newer one is told from damage.
fn checksum(schema: u32, payload: &str) -> String {
    let mut hash = Xxh3::new();
    hash.update(&schema.to_le_bytes());
    hash.update(payload.as_bytes());
    format!("{:032x}", hash.digest128())
}

/// A value that is kept in a file.
pub(super) trait Payload: Serialize + DeserializeOwned {
    /// Reads what this schema or an older one wrote.
    fn read(_schema: u32, text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }
}

impl<T: Payload> Snapshot<T> {
    pub(super) fn new(
        directory: PathBuf,
        name: &'static str,
        schema: u32,
        fallback: Fallback,
    ) -> Self {
        Self { directory, name, schema, fallback, kind: PhantomData }
    }

    fn path(&self, suffix: &str) -> PathBuf {
        self.directory.join(format!("{}.{suffix}", self.name))
    }

    /// Tells one writing of the file from another: each is a file of its own.
    pub(super) fn mark(&self) -> Result<Option<Mark>> {
        let path = self.path("json");
        match fs::metadata(&path) {
            Ok(file) => Ok(Some(Mark { modified: file.modified().ok(), length: file.len() })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error("look at", &path, e)),
        }
    }

    /// The value written last; the one before when that is damaged; `None` when nothing was ever written.
    pub(super) fn read(&self) -> Result<Option<T>> {
        self.current().map(|(value, _)| value)
    }

    /// Puts a new value in place of the old one, which `change` sees, with no other process between.
    /// On any error the old one stays.
    pub(super) fn update(&self, change: impl FnOnce(Option<T>) -> Result<T>) -> Result<T> {
        let lock = self.lock()?;
        let (old, place) = self.current()?;
        let new = change(old)?;
        self.write(&new, place).map_err(|e| io_error("write", &self.path("json"), e))?;
        drop(lock);
        Ok(new)
    }

    fn current(&self) -> Result<(Option<T>, Place)> {
        let (path, before) = (self.path("json"), self.path("previous.json"));
        let damage = match self.read_file(&path)? {
            Found::Whole(value) => return Ok((Some(value), Place::Whole)),
            Found::Absent if self.fallback == Fallback::Refuse => return Ok((None, Place::Empty)),
            Found::Absent => None,
            Found::Damaged(error) if self.fallback == Fallback::Refuse => return Err(error),
            Found::Damaged(error) => {
                tracing::warn!(path = %path.display(), %error, "snapshot_damaged");
                Some(error)
            }
        };
        match (self.read_file(&before)?, damage) {
            (Found::Whole(value), _) => Ok((Some(value), Place::Empty)),
            (Found::Absent, None) => Ok((None, Place::Empty)),
            (_, Some(damage)) | (Found::Damaged(damage), None) => Err(damage),
        }
    }

    fn read_file(&self, path: &Path) -> Result<Found<T>> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Absent),
            Err(e) => return Err(io_error("read", path, e)),
        };
        match self.parse(&text) {
            Ok(value) => Ok(Found::Whole(value)),
            Err(e) if e.kind() == ErrorKind::Unsupported => Err(e.within(shown(path))),
            Err(e) => Ok(Found::Damaged(e.within(shown(path)))),
        }
    }

    fn parse(&self, text: &[u8]) -> Result<T> {
        let damaged = |what: &str| Error::new(ErrorKind::Corrupt, "read", "", what);
        let envelope: Envelope<'_> = serde_json::from_slice(text)
            .map_err(|e| damaged(&format!("must be a whole snapshot: {e}")))?;
        let Envelope { schema, checksum: written, payload } = envelope;
        if written != checksum(schema, payload.get()) {
            return Err(damaged("the checksum must match the payload"));
        }
        if schema > self.schema {
            let rule = format!("schema {schema} is newer than {}: upgrade first", self.schema);
            return Err(Error::new(ErrorKind::Unsupported, "read", "", rule));
        }
        T::read(schema, payload.get())
            .map_err(|e| damaged(&format!("the payload must be of schema {schema}: {e}")))
    }

    fn write(&self, value: &T, place: Place) -> io::Result<()> {
        let (path, temporary) = (self.path("json"), self.path("json.tmp"));
        let payload = serde_json::value::to_raw_value(value)?;
        let checksum = checksum(self.schema, payload.get());
        let envelope = Envelope { schema: self.schema, checksum, payload: &payload };
        let mut file = private().write(true).create(true).truncate(true).open(&temporary)?;
        file.write_all(&serde_json::to_vec(&envelope)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        if place == Place::Whole && self.fallback == Fallback::Previous {
            fs::rename(&path, self.path("previous.json"))?;
        }
        fs::rename(&temporary, &path)?;
        sync_directory(&self.directory)
    }

    fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.directory).map_err(|e| io_error("make", &self.directory, e))?;
        let path = self.path("lock");
        let file = open_lock(&path).map_err(|e| io_error("open", &path, e))?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(fs::TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(fs::TryLockError::Error(e)) => return Err(io_error("lock", &path, e)),
            }
        }
        let rule = "another process has held it too long";
        Err(Error::new(ErrorKind::Unavailable, "lock", shown(&path), rule))
    }
}

/// Whether the file that a write replaces is worth keeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Whole,
    /// Absent or damaged: the snapshot before it stays the one to fall back to.
    Empty,
}

pub(super) fn io_error(operation: &'static str, path: &Path, e: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, operation, shown(path), e.to_string()).with_source(e)
}

pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    private().write(true).create(true).truncate(false).open(path)
}

fn shown(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

/// Files only the owner reads: apps hold secrets.
fn private() -> OpenOptions {
    #[allow(unused_mut, reason = "only Unix has modes")]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// A rename is on disk once its directory is.
#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
