//! Files as stores write them: for their owner only, and on disk once that is said.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use crate::error::{Error, ErrorKind};

pub(super) fn io_error(operation: &'static str, path: &Path, e: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, operation, shown(path), e.to_string()).with_source(e)
}

pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    private().write(true).create(true).truncate(false).open(path)
}

pub(super) fn shown(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

/// Files only the owner reads: apps hold secrets.
pub(super) fn private() -> OpenOptions {
    #[allow(unused_mut, reason = "only Unix has modes")]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// A rename is on disk once its directory is.
#[cfg(unix)]
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
pub(super) fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
