//! The balancer's directory: each file is written beside its place, synchronised, and renamed into it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use lb_core::{AbsolutePath, FileName};

use super::compose::{ADMIN_SOCKET, Composed};
use super::filed::Filed;
use crate::error::Failure;

/// The configuration's file name.
pub(crate) const CONFIG: &str = "haproxy.cfg";
/// The master's socket.
pub(crate) const MASTER_SOCKET: &str = "master.sock";
/// Where the next configuration is checked before it takes its place.
const STAGE: &str = "next";
/// Longest path of the directory: a unix socket's path ends at 108 bytes, and HAProxy adds to it while it
/// binds (management guide; `stats socket`).
const MOST_PATH: usize = 75;

/// The balancer's directory.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    path: PathBuf,
}

/// The contents of files at one time, to go back to.
#[derive(Debug)]
pub(crate) struct Snapshot(BTreeMap<String, Option<Vec<u8>>>);

impl Directory {
    /// Takes a path whose characters can stand in a configuration, short enough for the sockets in it.
    pub(crate) fn new(path: PathBuf) -> Result<Self, Failure> {
        let wrong = |message: String| Failure::Setup { field: "directory", message };
        let text = path.to_str().unwrap_or_default();
        AbsolutePath::new(text).map_err(|e| wrong(e.to_string()))?;
        match text.len() > MOST_PATH {
            true => Err(wrong(format!(
                "{text:?} has {} bytes and must have at most {MOST_PATH}: the paths of unix sockets are short",
                text.len()
            ))),
            false => Ok(Self { path }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path.join(CONFIG)
    }

    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.path.join(ADMIN_SOCKET)
    }

    pub(crate) fn master_socket(&self) -> PathBuf {
        self.path.join(MASTER_SOCKET)
    }

    /// The configuration to check.
    pub(crate) fn staged_config(&self) -> PathBuf {
        self.path.join(STAGE).join(CONFIG)
    }

    /// What the file in force says; `None`: there is none of ours.
    pub(crate) fn filed(&self) -> Result<Option<Filed>, Failure> {
        match fs::read_to_string(self.config()) {
            Ok(text) => Ok(Filed::parse(&text)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Failure::file("cannot be read", &self.config(), e)),
        }
    }

    /// Writes all files where they can be checked without touching those in force.
    pub(crate) fn stage(&self, composed: &Composed) -> Result<(), Failure> {
        let stage = self.path.join(STAGE);
        absent_is_fine(fs::remove_dir_all(&stage))
            .map_err(|e| Failure::file("cannot be removed", &stage, e))?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&stage)
            .map_err(|e| Failure::file("cannot be made", &stage, e))?;
        for (name, bytes) in contents(composed) {
            write(&stage.join(&name), bytes, mode(&name))?;
        }
        Ok(())
    }

    /// Moves the staged files in their places, the configuration last.
    pub(crate) fn promote(&self, composed: &Composed) -> Result<(), Failure> {
        for (name, _) in contents(composed) {
            rename(&self.path.join(STAGE).join(&name), &self.path.join(&name))?;
        }
        self.sync()
    }

    /// Replaces one file.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let beside = self.path.join(format!(".{name}.new"));
        write(&beside, bytes, mode(name))?;
        rename(&beside, &self.path.join(name))?;
        self.sync()
    }

    /// The files of that configuration as they are now.
    pub(crate) fn snapshot(&self, composed: &Composed) -> Result<Snapshot, Failure> {
        let read = |(name, _): (String, _)| {
            let path = self.path.join(&name);
            match fs::read(&path) {
                Ok(bytes) => Ok((name, Some(bytes))),
                Err(e) if e.kind() == ErrorKind::NotFound => Ok((name, None)),
                Err(e) => Err(Failure::file("cannot be read", &path, e)),
            }
        };
        contents(composed).map(read).collect::<Result<_, _>>().map(Snapshot)
    }

    /// Puts files back as they were. A configuration that was absent goes away again.
    pub(crate) fn restore(&self, snapshot: &Snapshot) -> Result<(), Failure> {
        for (name, bytes) in &snapshot.0 {
            match bytes {
                Some(bytes) => self.replace(name, bytes)?,
                None => self.remove(name)?,
            }
        }
        Ok(())
    }

    /// Removes what the configuration before had and this one has not.
    pub(crate) fn tidy(&self, before: &BTreeSet<FileName>, now: &BTreeSet<FileName>) {
        for name in before.difference(now) {
            if let Err(error) = self.remove(name.as_str()) {
                tracing::warn!(file = %name, %error, "stale file stays");
            }
        }
    }

    /// The files people may look at: all but certificates.
    pub(crate) fn shown(&self) -> Result<BTreeMap<FileName, String>, Failure> {
        let Some(filed) = self.filed()? else { return Ok(BTreeMap::new()) };
        let config = FileName::new(CONFIG)?;
        let names = filed.files.into_iter().filter(|n| !is_secret(n.as_str()));
        let read = |name: FileName| {
            let path = self.path.join(name.as_str());
            match fs::read_to_string(&path) {
                Ok(text) => Ok((name, text)),
                Err(e) => Err(Failure::file("cannot be read", &path, e)),
            }
        };
        names.chain([config]).map(read).collect()
    }

    /// Removes everything this crate makes, and the directory if that leaves it empty.
    pub(crate) fn clear(&self) -> Result<(), Failure> {
        let files = self.filed()?.map(|filed| filed.files).unwrap_or_default();
        for name in files.iter().map(FileName::as_str) {
            self.remove(name)?;
        }
        for name in [CONFIG, MASTER_SOCKET, ADMIN_SOCKET, "peers.sock"] {
            self.remove(name)?;
        }
        let stage = self.path.join(STAGE);
        absent_is_fine(fs::remove_dir_all(&stage))
            .map_err(|e| Failure::file("cannot be removed", &stage, e))?;
        // Not ours to remove while somebody else's files are in it.
        let _ = fs::remove_dir(&self.path);
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), Failure> {
        let path = self.path.join(name);
        absent_is_fine(fs::remove_file(&path))
            .map_err(|e| Failure::file("cannot be removed", &path, e))
    }

    fn sync(&self) -> Result<(), Failure> {
        File::open(&self.path)
            .and_then(|dir| dir.sync_all())
            .map_err(|e| Failure::file("cannot be synchronised", &self.path, e))
    }
}

/// All files by name, the configuration last.
fn contents(composed: &Composed) -> impl Iterator<Item = (String, &[u8])> {
    let files = composed.files.iter().map(|(name, text)| (name.to_string(), text.as_bytes()));
    let certificates =
        composed.certificates.iter().map(|(n, c)| (n.to_string(), c.pem.expose().as_bytes()));
    files.chain(certificates).chain([(CONFIG.to_owned(), composed.text.as_bytes())])
}

/// Private keys are the owner's only.
fn mode(name: &str) -> u32 {
    if is_secret(name) { 0o600 } else { 0o644 }
}

fn is_secret(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "pem")
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let wrong = |e| Failure::file("cannot be written", path, e);
    absent_is_fine(fs::remove_file(path)).map_err(wrong)?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(wrong)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| {
        // A half-written one would keep what little room is left.
        let _ = fs::remove_file(path);
        wrong(e)
    })
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::rename(from, to).map_err(|e| Failure::file("cannot be put in place", to, e))
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

    #[test]
    fn a_path_too_long_for_sockets_is_refused_with_the_bound() {
        let long = format!("/{}", "d".repeat(MOST_PATH));
        let error = Directory::new(long.into()).unwrap_err().during("build");
        assert_eq!(error.kind(), lb_core::ErrorKind::Invalid);
        assert!(error.to_string().contains("at most 75"), "{error}");
    }

    #[test]
    fn a_path_that_could_end_its_line_is_refused() {
        for path in ["relative", "/run/a b", "/run/a\nuser root", "/run/../etc"] {
            assert!(Directory::new(path.into()).is_err(), "{path:?}");
        }
    }

    #[test]
    fn files_are_put_back_as_they_were() {
        let dir = tempfile::Builder::new().prefix("lb").tempdir_in("/tmp").unwrap();
        let directory = Directory::new(dir.path().to_owned()).unwrap();
        directory.replace("a.map", b"one").unwrap();
        let before = Snapshot(BTreeMap::from([
            ("a.map".to_owned(), Some(b"one".to_vec())),
            ("b.map".to_owned(), None),
        ]));
        directory.replace("a.map", b"two").unwrap();
        directory.replace("b.map", b"two").unwrap();
        directory.restore(&before).unwrap();
        assert_eq!(fs::read(dir.path().join("a.map")).unwrap(), b"one");
        assert!(!dir.path().join("b.map").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }
}
