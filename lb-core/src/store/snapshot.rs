//! One value in a file that survives crashes: written whole, checked when read, the one before kept.
//!
//! `NAME.json` is `{ schema, checksum, payload }`. A write goes to `NAME.json.tmp`, which is synced and read
//! back; then `NAME.json` becomes `NAME.previous.json`, the new file takes its place, and the directory is
//! synced. So at every moment one of the two is whole. A damaged file that a write replaces is kept aside as
//! `NAME.json.damaged`. `NAME.lock` keeps processes apart.

use std::fs::{self, File};
use std::io::{self, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::Xxh3;

use super::disk::{io_error, open_lock, private, shown, sync_directory};
use crate::error::{Error, ErrorKind, Result};

/// Tries to get the lock before giving up, and the time between two: 5 s in all.
const LOCK_TRIES: u32 = 250;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Damaged files kept aside; the last gives way to further ones.
const MOST_ASIDE: usize = 9;

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
    /// The one before it counts; without one, nothing is replaced.
    Previous,
    /// The one before it counts; without one, the value may be begun anew.
    Anew,
    /// It is an error, for an older value would be wrong, and the value may be begun anew.
    Refuse,
}

/// When a file was written and how long it is, and how many damaged ones lie beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    modified: Option<SystemTime>,
    length: Option<u64>,
    aside: usize,
}

/// A value as it was found.
#[derive(Debug)]
pub(super) struct Reading<T> {
    /// The value that counts; `None`: nothing was ever written.
    pub(super) value: Option<T>,
    /// What is wrong with the file that should have held it.
    pub(super) damage: Option<Error>,
    place: Place,
}

/// What the file is that a write replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Whole,
    Absent,
    Damaged,
}

impl<T> Reading<T> {
    const fn of(value: Option<T>, place: Place) -> Self {
        Self { value, damage: None, place }
    }

    /// A value as it was just written.
    pub(super) const fn whole(value: T) -> Self {
        Self::of(Some(value), Place::Whole)
    }
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

/// A value that is kept in a file.
pub(super) trait Payload: Serialize + DeserializeOwned {
    /// Reads what this schema or an older one wrote.
    fn read(_schema: u32, text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }
}

/// The same rule in every schema, so that a newer one is told from damage.
fn checksum(schema: u32, payload: &str) -> String {
    let mut hash = Xxh3::new();
    hash.update(&schema.to_le_bytes());
    hash.update(payload.as_bytes());
    format!("{:032x}", hash.digest128())
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

    /// The file that holds the value written last.
    pub(super) fn file(&self) -> PathBuf {
        self.path("json")
    }

    /// Tells one writing of the file from another: each is a file of its own.
    pub(super) fn mark(&self) -> Result<Mark> {
        let path = self.path("json");
        let (modified, length) = match fs::metadata(&path) {
            Ok(file) => (file.modified().ok(), Some(file.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => (None, None),
            Err(e) => return Err(io_error("look at", &path, e)),
        };
        Ok(Mark { modified, length, aside: self.aside().count() })
    }

    /// The damaged files that were kept, oldest first. Whoever has looked at one deletes it.
    pub(super) fn aside(&self) -> impl Iterator<Item = PathBuf> {
        self.places_aside().filter(|path| path.exists())
    }

    fn places_aside(&self) -> impl Iterator<Item = PathBuf> {
        let one = self.path("json.damaged");
        let more =
            (2..=MOST_ASIDE).map(|n| self.path(&format!("json.damaged.{n}"))).collect::<Vec<_>>();
        std::iter::once(one).chain(more)
    }

    /// The value written last; the one before when that is damaged.
    pub(super) fn read(&self) -> Result<Reading<T>> {
        let (path, before) = (self.path("json"), self.path("previous.json"));
        let damage = match self.read_file(&path)? {
            Found::Whole(value) => return Ok(Reading::of(Some(value), Place::Whole)),
            Found::Absent => None,
            Found::Damaged(error) => Some(error),
        };
        if self.fallback == Fallback::Refuse {
            return damage.map_or(Ok(Reading::of(None, Place::Absent)), |e| Err(self.lost(&e)));
        }
        match (self.read_file(&before)?, damage) {
            (Found::Whole(value), None) => Ok(Reading::of(Some(value), Place::Absent)),
            (Found::Whole(value), damage) => {
                Ok(Reading { damage, ..Reading::of(Some(value), Place::Damaged) })
            }
            (Found::Absent, None) => Ok(Reading::of(None, Place::Absent)),
            (_, Some(damage)) | (Found::Damaged(damage), None) => Err(self.lost(&damage)),
        }
    }

    /// Nothing whole is left.
    fn lost(&self, damage: &Error) -> Error {
        let advice = match self.fallback {
            Fallback::Previous => {
                "and so is the one before: put a good copy in its place, or move both away to begin without"
            }
            Fallback::Anew | Fallback::Refuse => {
                "it is begun anew, and what is damaged is kept beside it, its name ending in .damaged"
            }
        };
        Error::new(
            ErrorKind::Corrupt,
            "read",
            damage.subject(),
            format!("{}; {advice}", damage.message()),
        )
    }

    /// Puts a new value in place of the old one, which `change` sees, with no other process between.
    /// On any error the old one stays.
    pub(super) fn update(&self, change: impl FnOnce(Option<T>) -> Result<T>) -> Result<T> {
        self.update_from(None, change)
    }

    /// As [`update`](Self::update); `instead` is what counts when nothing whole is left.
    pub(super) fn update_from(
        &self,
        instead: Option<T>,
        change: impl FnOnce(Option<T>) -> Result<T>,
    ) -> Result<T> {
        let lock = self.lock()?;
        let old = match self.read() {
            Err(e) if e.kind() == ErrorKind::Corrupt && self.fallback != Fallback::Previous => {
                Reading::of(instead, Place::Damaged)
            }
            reading => reading?,
        };
        let new = change(old.value)?;
        self.write(&new, old.place)?;
        drop(lock);
        Ok(new)
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

    fn write(&self, value: &T, place: Place) -> Result<()> {
        let (path, temporary) = (self.path("json"), self.path("json.tmp"));
        let failed = |e: io::Error| io_error("write", &path, e);
        let text = self.text(value).map_err(|e| failed(e.into()))?;
        let mut file =
            private().write(true).create(true).truncate(true).open(&temporary).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        self.read_back(&temporary, &text)?;
        self.make_room(place).and_then(|()| fs::rename(&temporary, &path)).map_err(failed)?;
        sync_directory(&self.directory).map_err(failed)
    }

    fn text(&self, value: &T) -> serde_json::Result<Vec<u8>> {
        let payload = serde_json::value::to_raw_value(value)?;
        let checksum = checksum(self.schema, payload.get());
        let mut text =
            serde_json::to_vec(&Envelope { schema: self.schema, checksum, payload: &payload })?;
        text.push(b'\n');
        Ok(text)
    }

    /// What cannot be read again is not stored: it would be lost at the next start, and its neighbours with it.
    fn read_back(&self, path: &Path, written: &[u8]) -> Result<()> {
        let text = fs::read(path).map_err(|e| io_error("read back", path, e))?;
        let again = self.parse(&text).and_then(|value| {
            self.text(&value).map_err(|e| Error::new(ErrorKind::Corrupt, "read", "", e.to_string()))
        });
        let rule = match again {
            Ok(again) if text == written && again == written => return Ok(()),
            Ok(_) => "comes back as something else".to_owned(),
            Err(e) => e.message().to_owned(),
        };
        let rule = format!("what is written must come back when it is read: {rule}");
        Err(Error::new(ErrorKind::Invalid, "write", shown(&self.path("json")), rule))
    }

    /// A whole value becomes the one before; what is damaged is kept aside, and the one before stays.
    fn make_room(&self, place: Place) -> io::Result<()> {
        let (path, before) = (self.path("json"), self.path("previous.json"));
        let damaged = |path: &&PathBuf| matches!(self.read_file(path), Ok(Found::Damaged(_)));
        match place {
            Place::Whole if self.fallback != Fallback::Refuse => fs::rename(path, before),
            Place::Whole | Place::Absent => Ok(()),
            Place::Damaged => [&before, &path]
                .into_iter()
                .filter(damaged)
                .try_for_each(|path| self.put_aside(path)),
        }
    }

    fn put_aside(&self, path: &Path) -> io::Result<()> {
        let mut places: Vec<_> = self.places_aside().collect();
        let free = places.iter().position(|place| !place.exists());
        let place = places.swap_remove(free.unwrap_or(MOST_ASIDE - 1));
        tracing::warn!(path = %path.display(), kept = %place.display(), "snapshot_damaged");
        fs::rename(path, place)
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
