//! What runs on this machine, containers' processes too, from `/proc`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The processes with this text in their command line, or in the title they gave themselves.
pub fn with(text: &str) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| command_line(*pid).contains(text)).collect()
}

/// Those started with a path of the directory, and what they started.
pub fn of(directory: &Path) -> Vec<u32> {
    let mut found = with(directory.to_str().unwrap());
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let mut new = children(*pid);
        new.retain(|pid| !found.contains(pid));
        found.extend(new);
        next += 1;
    }
    found
}

/// Arguments are divided by NULs; empty when the process is gone.
pub fn command_line(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).into_owned()
}

/// None when the process is gone.
pub fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Neither gone nor waiting for its parent to notice.
pub fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

/// Sends a signal; a process that is gone takes none.
pub fn signal(signal: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string);
    Command::new("kill").arg(signal).args(pids).stderr(Stdio::null()).status().unwrap();
}
