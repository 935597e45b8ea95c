//! Load at full speed by `wrk` (Debian's package of that name).

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// One run's result.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Requests answered.
    pub requests: u64,
    /// Of them, errors of any kind.
    pub errors: u64,
    /// Requests a second.
    pub rate: f64,
}

/// Writes the script that asks `hosts` in turn and prints the result as one line.
///
/// # Errors
/// When it cannot be written.
pub fn write_script(directory: &Path, hosts: &[String]) -> io::Result<PathBuf> {
    let mut script = String::from("local hosts = {");
    for host in hosts {
        let _ = write!(script, "\"{host}\",");
    }
    script.push_str(
        r#"}
local requests, next = {}, 0
function init()
  for i, host in ipairs(hosts) do requests[i - 1] = wrk.format("GET", "/", { Host = host }) end
end
function request()
  next = (next + 7) % #hosts
  return requests[next]
end
function done(summary)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %f\n", summary.requests,
    e.connect + e.read + e.write + e.status + e.timeout, summary.requests * 1e6 / summary.duration))
end
"#,
    );
    let path = directory.join("hosts.lua");
    std::fs::write(&path, script)?;
    Ok(path)
}

/// Runs one thread of wrk against `address` for `time`.
///
/// # Errors
/// When wrk is missing or prints no result.
pub fn run(address: &str, connections: usize, time: Duration, script: &Path) -> io::Result<Run> {
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{connections}"), &format!("-d{}s", time.as_secs()), "-s"])
        .arg(script)
        .arg(format!("http://{address}/"))
        .output()
        .map_err(|e| io::Error::new(e.kind(), format!("wrk: {e}; apt-get install wrk")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let fields = text.lines().find_map(|line| line.strip_prefix("RESULT ")).unwrap_or_default();
    let mut fields = fields.split(' ');
    let mut field = || fields.next().and_then(|f| f.parse::<f64>().ok());
    match (field(), field(), field()) {
        (Some(requests), Some(errors), Some(rate)) => {
            Ok(Run { requests: requests as u64, errors: errors as u64, rate })
        }
        _ => Err(io::Error::other(format!("wrk printed no result: {text}"))),
    }
}
