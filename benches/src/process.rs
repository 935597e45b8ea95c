//! CPU time of running processes, from /proc (proc(5)).

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Clock ticks a second in /proc: `USER_HZ`, 100 on every Linux port in use.
const TICKS: f64 = 100.0;

/// User and system CPU time of a process so far, in seconds. Ticks are 10 ms: measure over seconds.
///
/// # Errors
/// When the process is gone or the line does not parse.
pub fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let wrong = || io::Error::other(format!("/proc/{pid}/stat does not parse"));
    // The name in parentheses may hold spaces: fields are counted behind it. utime is field 14, stime 15.
    let (_, fields) = stat.rsplit_once(") ").ok_or_else(wrong)?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
    let sum: f64 = ticks.sum::<Result<f64, _>>().map_err(|_| wrong())?;
    Ok(sum / TICKS)
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
