//! A balancer's directory: each file is written beside its place, synchronised, and renamed into it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_128;

use crate::error::{Error, ErrorKind as Kind, Result};
use crate::model::{AbsolutePath, FileName};

/// Where the next configuration is checked before it takes its place.
const STAGE: &str = "next";
/// Longest path of the directory: a unix socket's path ends at 108 bytes, its name is in it, and HAProxy adds
/// to it while it binds (management guide; `stats socket`).
const MOST_PATH: usize = 75;

/// What each file held when it was last written here: a line with its name and hash.
const SUMS: &str = ".sums";

/// The directory of one balancer, and the name of its main file. It knows what it wrote: [`edited`](Self::edited).
#[derive(Debug, Clone)]
pub struct ConfigDirectory {
    path: PathBuf,
    config: &'static str,
    /// Files as they were when they were last found to be what was written.
    seen: Arc<Mutex<BTreeMap<String, Stamp>>>,
    /// Whether an edit was found since the balancer was last loaded.
    edit_found: Arc<AtomicBool>,
}

/// By which a file that was written to is told from one that was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
}

/// The contents of files at one time, to go back to.
#[derive(Debug)]
pub struct Snapshot(BTreeMap<String, Option<Vec<u8>>>);

impl ConfigDirectory {
    /// Takes a path whose characters can stand in a configuration, short enough for the sockets in it.
    ///
    /// # Errors
    /// `Invalid` naming the rule.
    pub fn new(path: PathBuf, config: &'static str) -> Result<Self> {
        let text = path.to_str().unwrap_or_default();
        AbsolutePath::new(text).map_err(|e| Error::invalid("directory", e.to_string()))?;
        match text.len() > MOST_PATH {
            true => Err(Error::invalid(
                "directory",
                format!(
                    "{text:?} has {} bytes and must have at most {MOST_PATH}: the paths of unix sockets are short",
                    text.len()
                ),
            )),
            false => Ok(Self { path, config, seen: Arc::default(), edit_found: Arc::default() }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The main file.
    pub fn config(&self) -> PathBuf {
        self.path.join(self.config)
    }

    /// Where files are checked.
    pub fn stage_path(&self) -> PathBuf {
        self.path.join(STAGE)
    }

    /// The main file to check.
    pub fn staged_config(&self) -> PathBuf {
        self.stage_path().join(self.config)
    }

    /// The main file's text; `None`: there is none.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read.
    pub fn read_config(&self) -> Result<Option<String>> {
        match fs::read_to_string(self.config()) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("cannot be read", &self.config(), e)),
        }
    }

    /// Writes all files where they can be checked without touching those in force.
    ///
    /// # Errors
    /// `Unavailable` naming the file.
    pub fn stage<'a>(&self, files: impl Iterator<Item = (String, &'a [u8])>) -> Result<()> {
        let stage = self.stage_path();
        absent_is_fine(fs::remove_dir_all(&stage))
            .map_err(|e| failed("cannot be removed", &stage, e))?;
        self.make(&stage, 0o755)?;
        for (name, bytes) in files {
            write(&stage.join(&name), bytes, mode(&name))?;
        }
        Ok(())
    }

    /// Moves the staged files in their places, in this order: the main file belongs last.
    ///
    /// # Errors
    /// `Unavailable` naming the file.
    pub fn promote(&self, names: impl Iterator<Item = String>) -> Result<()> {
        let mut sums = BTreeMap::new();
        for name in names {
            let staged = self.path.join(STAGE).join(&name);
            let bytes = fs::read(&staged).map_err(|e| failed("cannot be read", &staged, e))?;
            rename(&staged, &self.path.join(&name))?;
            sums.insert(name, Some(sum(&bytes)));
        }
        self.note(sums);
        self.sync()
    }

    /// Replaces one file.
    ///
    /// # Errors
    /// `Unavailable` naming the file; it is then as it was.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let beside = self.path.join(format!(".{name}.new"));
        write(&beside, bytes, mode(name))?;
        rename(&beside, &self.path.join(name))?;
        self.note([(name.to_owned(), Some(sum(bytes)))].into());
        self.sync()
    }

    /// A file that is not what was last written here, or is not there any more; `None`: all are. Those of an earlier
    /// release, which did not write down what they held, count as they are.
    ///
    /// # Errors
    /// `Unavailable` when what was written down cannot be read.
    pub fn edited(&self) -> Result<Option<String>> {
        for (name, sum_then) in self.sums()? {
            let path = self.path.join(&name);
            let stamp = fs::metadata(&path).map(|metadata| Stamp {
                inode: metadata.ino(),
                length: metadata.len(),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            });
            let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if stamp.as_ref().ok().is_some_and(|stamp| seen().get(&name) == Some(stamp)) {
                continue;
            }
            match (stamp, fs::read(&path)) {
                (Ok(stamp), Ok(bytes)) if sum(&bytes) == sum_then => {
                    seen().insert(name, stamp);
                }
                _ => return Ok(Some(name)),
            }
        }
        Ok(None)
    }

    /// Looks whether somebody edited the files since the balancer was last [`loaded`](Self::loaded) with them: what it does
    /// is not known then, for it may have been loaded with the edit. Remembered also where they are put back.
    ///
    /// # Errors
    /// As [`edited`](Self::edited).
    pub fn look_for_edits(&self) -> Result<bool> {
        if let Some(file) = self.edited()?
            && !self.edit_found.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(file, "edited by somebody else: written anew with the next table");
        }
        Ok(self.is_edited())
    }

    /// What the last look found.
    pub fn is_edited(&self) -> bool {
        self.edit_found.load(Ordering::Relaxed)
    }

    /// The balancer runs what was last written.
    pub fn loaded(&self) {
        self.edit_found.store(false, Ordering::Relaxed);
    }

    fn sums(&self) -> Result<BTreeMap<String, String>> {
        let path = self.path.join(SUMS);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            Err(e) => return Err(failed("cannot be read", &path, e)),
        };
        let line = |line: &str| line.split_once(' ').map(|(sum, name)| (name.into(), sum.into()));
        Ok(text.lines().filter_map(line).collect())
    }

    /// Writes down what these files hold, or that they are gone. Not synchronised: lost with the machine's power, it
    /// costs a reload. Where it cannot be written, as on a full disk, nothing is written down: the files count as they
    /// are.
    fn note(&self, changes: BTreeMap<String, Option<String>>) {
        let (beside, path) = (self.path.join(format!("{SUMS}.new")), self.path.join(SUMS));
        let written = self.sums().and_then(|mut sums| {
            for (name, sum) in changes {
                match sum {
                    Some(sum) => drop(sums.insert(name, sum)),
                    None => drop(sums.remove(&name)),
                }
            }
            let lines = sums.iter().flat_map(|(name, sum)| [sum, " ", name, "\n"]);
            fs::write(&beside, lines.collect::<String>())
                .map_err(|e| failed("cannot be written", &beside, e))?;
            rename(&beside, &path)
        });
        if let Err(error) = written {
            tracing::warn!(%error, "edits by hand would not be noticed");
            let _ = fs::remove_file(beside);
            let _ = fs::remove_file(path);
        }
    }

    /// Makes a directory, and those above it, if absent.
    ///
    /// # Errors
    /// `Unavailable` naming it.
    pub fn make(&self, path: &Path, mode: u32) -> Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .map_err(|e| failed("cannot be made", path, e))
    }

    /// Adds permissions to those a path has.
    ///
    /// # Errors
    /// `Unavailable` naming it.
    pub fn allow(&self, path: &Path, mode: u32) -> Result<()> {
        let wrong = |e| failed("cannot be opened to others", path, e);
        let mut permissions = fs::metadata(path).map_err(wrong)?.permissions();
        permissions.set_mode(permissions.mode() | mode);
        fs::set_permissions(path, permissions).map_err(wrong)
    }

    /// Gives a path to another user.
    ///
    /// # Errors
    /// `Unavailable` naming it.
    pub fn give(&self, path: &Path, uid: u32, gid: u32) -> Result<()> {
        chown(path, Some(uid), Some(gid)).map_err(|e| failed("cannot be given away", path, e))
    }

    /// Files as they are now.
    ///
    /// # Errors
    /// `Unavailable` naming the file.
    pub fn snapshot(&self, names: impl Iterator<Item = String>) -> Result<Snapshot> {
        let read = |name: String| {
            let path = self.path.join(&name);
            match fs::read(&path) {
                Ok(bytes) => Ok((name, Some(bytes))),
                Err(e) if e.kind() == ErrorKind::NotFound => Ok((name, None)),
                Err(e) => Err(failed("cannot be read", &path, e)),
            }
        };
        names.map(read).collect::<Result<_>>().map(Snapshot)
    }

    /// Puts files back as they were. One that was absent goes away again.
    ///
    /// # Errors
    /// `Unavailable` naming the file.
    pub fn restore(&self, snapshot: &Snapshot) -> Result<()> {
        for (name, bytes) in &snapshot.0 {
            let Some(bytes) = bytes else {
                self.remove(name)?;
                self.note([(name.clone(), None)].into());
                continue;
            };
            self.replace(name, bytes)?;
        }
        Ok(())
    }

    /// Removes what the configuration before had and this one has not.
    pub fn tidy(&self, before: &BTreeSet<FileName>, now: &BTreeSet<FileName>) {
        let mut gone = BTreeMap::new();
        for name in before.difference(now) {
            match self.remove(name.as_str()) {
                Ok(()) => drop(gone.insert(name.to_string(), None)),
                Err(error) => tracing::warn!(file = %name, %error, "stale file stays"),
            }
        }
        if !gone.is_empty() {
            self.note(gone);
        }
    }

    /// Those of the files that people may look at, and the main file: all but private keys.
    ///
    /// # Errors
    /// `Unavailable` naming the file.
    pub fn shown(
        &self,
        files: impl IntoIterator<Item = FileName>,
    ) -> Result<BTreeMap<FileName, String>> {
        let config = FileName::new(self.config)?;
        let names = files.into_iter().filter(|n| !is_secret(n.as_str()));
        let read = |name: FileName| {
            let path = self.path.join(name.as_str());
            match fs::read_to_string(&path) {
                Ok(text) => Ok((name, text)),
                Err(e) => Err(failed("cannot be read", &path, e)),
            }
        };
        names.chain([config]).map(read).collect()
    }

    /// Removes these files, the main file, what was staged, and the directory if that leaves it empty.
    ///
    /// # Errors
    /// `Unavailable` naming the file.
    pub fn clear<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<()> {
        names.chain([self.config, SUMS]).try_for_each(|name| self.remove(name))?;
        let stage = self.stage_path();
        absent_is_fine(fs::remove_dir_all(&stage))
            .map_err(|e| failed("cannot be removed", &stage, e))?;
        // Not ours to remove while somebody else's files are in it.
        let _ = fs::remove_dir(&self.path);
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.path.join(name);
        absent_is_fine(fs::remove_file(&path)).map_err(|e| failed("cannot be removed", &path, e))
    }

    fn sync(&self) -> Result<()> {
        File::open(&self.path)
            .and_then(|dir| dir.sync_all())
            .map_err(|e| failed("cannot be synchronised", &self.path, e))
    }
}

fn sum(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

/// Private keys are the owner's only.
fn mode(name: &str) -> u32 {
    if is_secret(name) { 0o600 } else { 0o644 }
}

fn is_secret(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "pem")
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let wrong = |e| failed("cannot be written", path, e);
    absent_is_fine(fs::remove_file(path)).map_err(wrong)?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(wrong)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| {
        // A half-written one would keep what little room is left.
        let _ = fs::remove_file(path);
        wrong(e)
    })
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| failed("cannot be put in place", to, e))
}

fn failed(what: &str, path: &Path, source: std::io::Error) -> Error {
    let message = format!("{what}: {source}");
    Error::new(Kind::Unavailable, "", path.display().to_string(), message).with_source(source)
}

fn absent_is_fine(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: impl Into<PathBuf>) -> Result<ConfigDirectory> {
        ConfigDirectory::new(path.into(), "main.cfg")
    }

    #[test]
    fn a_path_too_long_for_sockets_is_refused_with_the_bound() {
        let error = at(format!("/{}", "d".repeat(MOST_PATH))).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains("at most 75"), "{error}");
    }

    #[test]
    fn a_path_that_could_end_its_line_is_refused() {
        for path in ["relative", "/run/a b", "/run/a\nuser root", "/run/../etc"] {
            assert!(at(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn files_are_put_back_as_they_were() {
        let dir = tempfile::Builder::new().prefix("lb").tempdir_in("/tmp").unwrap();
        let directory = at(dir.path()).unwrap();
        directory.replace("a.map", b"one").unwrap();
        let before = directory.snapshot(["a.map", "b.map"].map(str::to_owned).into_iter()).unwrap();
        directory.replace("a.map", b"two").unwrap();
        directory.replace("b.map", b"two").unwrap();
        directory.restore(&before).unwrap();
        assert_eq!(fs::read(dir.path().join("a.map")).unwrap(), b"one");
        assert!(!dir.path().join("b.map").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file stays");
    }

    #[test]
    fn an_edit_is_remembered_until_the_balancer_was_loaded() {
        let dir = tempfile::Builder::new().prefix("lb").tempdir_in("/tmp").unwrap();
        let directory = at(dir.path()).unwrap();
        directory.replace("a.map", b"one").unwrap();
        assert!(!directory.look_for_edits().unwrap());
        fs::write(dir.path().join("a.map"), "two").unwrap();
        assert!(directory.clone().look_for_edits().unwrap());
        // As after a reload that failed: what is put back is the edit.
        let edited = directory.snapshot(std::iter::once("a.map".to_owned())).unwrap();
        directory.replace("a.map", b"one").unwrap();
        directory.restore(&edited).unwrap();
        assert_eq!(directory.edited().unwrap(), None);
        assert!(directory.look_for_edits().unwrap());
        directory.loaded();
        assert!(!directory.is_edited());
    }

    #[test]
    fn what_cannot_be_written_down_counts_as_it_is() {
        let dir = tempfile::Builder::new().prefix("lb").tempdir_in("/tmp").unwrap();
        let directory = at(dir.path()).unwrap();
        directory.replace("a.map", b"one").unwrap();
        fs::create_dir(dir.path().join(".sums.new")).unwrap();
        directory.replace("a.map", b"two").unwrap();
        assert_eq!(directory.edited().unwrap(), None);
        fs::remove_dir(dir.path().join(".sums.new")).unwrap();
        directory.replace("b.map", b"one").unwrap();
        fs::write(dir.path().join("b.map"), "two").unwrap();
        assert_eq!(directory.edited().unwrap().as_deref(), Some("b.map"));
    }

    #[test]
    fn a_file_that_was_edited_or_removed_is_named() {
        let dir = tempfile::Builder::new().prefix("lb").tempdir_in("/tmp").unwrap();
        let directory = at(dir.path()).unwrap();
        let path = dir.path().join("a.map");
        directory.replace("a.map", b"one").unwrap();
        directory.stage([("main.cfg".to_owned(), &b"main"[..])].into_iter()).unwrap();
        directory.promote(std::iter::once("main.cfg".to_owned())).unwrap();
        for spoilt in [Some("two"), Some(""), None] {
            assert_eq!(directory.edited().unwrap(), None);
            match spoilt {
                Some(text) => fs::write(&path, text).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            assert_eq!(directory.edited().unwrap().as_deref(), Some("a.map"));
            // Also for a later process.
            assert_eq!(at(dir.path()).unwrap().edited().unwrap().as_deref(), Some("a.map"));
            directory.replace("a.map", b"one").unwrap();
        }
        let names = |names: &[&str]| names.iter().map(|n| FileName::new(*n).unwrap()).collect();
        directory.tidy(&names(&["a.map"]), &names(&[]));
        assert_eq!(directory.edited().unwrap(), None, "it may be gone");
        directory.clear(std::iter::empty()).unwrap();
        assert!(!dir.path().exists());
    }
}
