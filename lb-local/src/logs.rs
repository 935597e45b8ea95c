//! A container's output: two bounded files, written by the process itself so that it survives us.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Size at which a log is put aside. It can grow past it until the next sweep.
pub(crate) const LOG_SIZE: u64 = 4 << 20;
/// Most bytes read back for a tail.
pub(crate) const TAIL_SIZE: u64 = 1 << 20;

/// Opens the log for a new process. Appending, so that cutting it short never leaves a hole.
pub(crate) fn open(dir: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(current(dir))
}

/// Puts a log that has grown too large aside. What is written meanwhile is lost.
pub(crate) fn rotate(dir: &Path, limit: u64) -> io::Result<()> {
    let log = OpenOptions::new().write(true).open(current(dir))?;
    if log.metadata()?.len() > limit {
        fs::copy(current(dir), earlier(dir))?;
        log.set_len(0)?;
    }
    Ok(())
}

/// The last `lines` lines, oldest first.
pub(crate) fn tail(dir: &Path, lines: usize) -> io::Result<String> {
    let text = end(dir, TAIL_SIZE)?;
    let mut starts = text.trim_end_matches('\n').rmatch_indices('\n');
    let from = match lines {
        0 => text.len(),
        n => starts.nth(n - 1).map_or(0, |(i, _)| i + 1),
    };
    Ok(text[from..].to_owned())
}

/// The last `bytes` bytes, as text.
pub(crate) fn end(dir: &Path, bytes: u64) -> io::Result<String> {
    let mut newest = end_of(&current(dir), bytes)?;
    let room = bytes.saturating_sub(newest.len() as u64);
    if room > 0 {
        let mut older = end_of(&earlier(dir), room)?;
        older.append(&mut newest);
        newest = older;
    }
    Ok(String::from_utf8_lossy(&newest).into_owned())
}

fn end_of(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(bytes)))?;
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text)?;
    Ok(text)
}

fn current(dir: &Path) -> PathBuf {
    dir.join("log")
}

fn earlier(dir: &Path) -> PathBuf {
    dir.join("log.1")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_tail_reaches_over_a_rotation_and_the_log_stays_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path()).unwrap();
        for n in 0..100 {
            writeln!(log, "line {n}").unwrap();
            rotate(dir.path(), 300).unwrap();
        }
        assert_eq!(tail(dir.path(), 3).unwrap(), "line 97\nline 98\nline 99\n");
        assert_eq!(tail(dir.path(), 0).unwrap(), "");
        let kept: u64 =
            ["log", "log.1"].iter().map(|f| fs::metadata(dir.path().join(f)).unwrap().len()).sum();
        assert!(kept < 700, "{kept}");
        let all = tail(dir.path(), 1000).unwrap();
        assert!(all.lines().count() > 30, "{all}");
        assert!(all.ends_with("line 98\nline 99\n"));
    }
}
