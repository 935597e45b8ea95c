//! Who is there, as the kernel shows it: the instances by a variable of theirs, the balancer by its command line.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::apps::{MARK, Name};
use super::judge::{Census, Living};

/// An instance's process.
#[derive(Debug, Clone)]
pub struct Instance {
    pub pid: u32,
    pub id: String,
    pub version: String,
    /// Not paused.
    pub runs: bool,
}

/// The instances of a cluster, by app.
pub fn instances(cluster: &str) -> BTreeMap<Name, Vec<Instance>> {
    let mark = format!("{MARK}={cluster}");
    let mut found: BTreeMap<Name, Vec<Instance>> = BTreeMap::new();
    for pid in processes() {
        let Ok(variables) = fs::read(format!("/proc/{pid}/environ")) else { continue };
        let variables: Vec<&[u8]> = variables.split(|byte| *byte == 0).collect();
        if !variables.contains(&mark.as_bytes()) {
            continue;
        }
        let value = |name: &str| {
            let entry = variables.iter().find_map(|v| v.strip_prefix(name.as_bytes()));
            String::from_utf8_lossy(entry.unwrap_or_default()).into_owned()
        };
        let app = value("LB_APP=").strip_prefix("app").and_then(|n| n.parse().ok());
        let (Some(app), Some(state)) = (app, state(pid)) else { continue };
        let instance = Instance {
            pid,
            id: value("LB_INSTANCE="),
            version: value("VERSION="),
            runs: !matches!(state, 'T' | 't'),
        };
        found.entry(Name(app)).or_default().push(instance);
    }
    found
}

/// The same for the judge.
pub fn census(instances: &BTreeMap<Name, Vec<Instance>>) -> Census {
    let living = |i: &Instance| Living { version: i.version.clone(), runs: i.runs };
    instances.iter().map(|(name, all)| (*name, all.iter().map(living).collect())).collect()
}

/// The processes of the balancer whose files lie in a directory.
pub fn balancer(directory: &Path) -> Vec<u32> {
    let directory = directory.to_string_lossy().into_owned();
    let is_ours = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let first = line.split('\0').next().unwrap_or_default();
        (first.contains("haproxy") || first.contains("nginx")) && line.contains(&directory)
    };
    let mut found: Vec<u32> = processes().filter(is_ours).collect();
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let mut new = lb_benches::process::children(*pid).unwrap_or_default();
        new.retain(|pid| !found.contains(pid));
        found.extend(new);
        next += 1;
    }
    found.retain(|pid| state(*pid).is_some());
    found
}

/// Resident memory in bytes; 0 of a process that is gone.
pub fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}

/// One that is gone takes no signal.
pub fn signal(pids: &[u32], signal: Signal) {
    for pid in pids {
        if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
            let _ = kill_process(pid, signal);
        }
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let all = fs::read_dir("/proc").into_iter().flatten();
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// None of a process that is gone, or that its parent has yet to notice the end of.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let state = stat.rsplit_once(") ")?.1.chars().next()?;
    (!matches!(state, 'Z' | 'X')).then_some(state)
}
