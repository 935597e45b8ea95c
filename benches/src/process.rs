//! CPU time of running processes, from /proc (the kernel's `sched-stats.rst`).

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// CPU time of a process so far, in seconds, over its threads: exact, where `stat` counts ticks of 10 ms.
///
/// # Errors
/// When the process is gone, a line does not parse, or the kernel keeps no such statistics.
pub fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path().join("schedstat");
        let text = fs::read_to_string(&path)?;
        let first = text.split(' ').next().and_then(|field| field.parse::<u64>().ok());
        nanoseconds +=
            first.ok_or_else(|| io::Error::other(format!("{} does not parse", path.display())))?;
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// The processes a process has started and not outlived.
///
/// # Errors
/// When it is gone, or the list does not parse.
pub fn children(pid: u32) -> io::Result<Vec<u32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    text.split_whitespace().map(|child| child.parse().map_err(io::Error::other)).collect()
}

/// The worker's process id, as HAProxy says on its stats socket.
///
/// # Errors
/// When the socket does not answer, or not with a `Pid:` line.
pub fn haproxy_pid(socket: &Path) -> io::Result<u32> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"show info\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let pid = answer.lines().find_map(|line| line.strip_prefix("Pid: ")?.trim().parse().ok());
    pid.ok_or_else(|| io::Error::other("show info has no Pid"))
}
