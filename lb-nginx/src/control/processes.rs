//! NGINX's processes, by the titles it gives them.

use std::collections::BTreeSet;
use std::path::Path;

/// The processes of one NGINX.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Processes {
    pub master: u32,
    /// Workers that accept.
    pub workers: BTreeSet<u32>,
    /// Workers of earlier configurations, which end with their last connection; the oldest first.
    pub old: Vec<u32>,
}

#[derive(Debug)]
struct Entry {
    pid: u32,
    parent: u32,
    group: u32,
    /// When it began, in ticks since the machine did.
    began: u64,
    title: String,
}

impl Processes {
    /// Those that run from this file; `None` when there are none, or this process may not see them.
    pub(crate) fn find(config: &Path) -> Option<Self> {
        let (all, config) = (entries(), config.display().to_string());
        let is_ours = |e: &&Entry| {
            let words = || e.title.split_whitespace();
            e.title.starts_with("nginx: master process") && words().any(|w| w == config)
        };
        let master = all.iter().find(is_ours)?.pid;
        let mut found = Self { master, ..Self::default() };
        let mut children: Vec<&Entry> = all.iter().filter(|e| e.parent == master).collect();
        children.sort_by_key(|e| (e.began, e.pid));
        for worker in children {
            match worker.title.strip_prefix("nginx: worker process") {
                Some(rest) if rest.trim().is_empty() => drop(found.workers.insert(worker.pid)),
                Some(_) => found.old.push(worker.pid),
                None => {}
            }
        }
        Some(found)
    }
}

/// Workers of a master that has died: they accept on until they are told to end.
pub(crate) fn orphans(master: u32) -> Vec<u32> {
    let is_orphan = |e: &Entry| {
        e.group == master && e.parent != master && e.title.starts_with("nginx: worker process")
    };
    entries().into_iter().filter(is_orphan).map(|e| e.pid).collect()
}

fn entries() -> Vec<Entry> {
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = all.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter_map(entry).collect()
}

fn entry(pid: u32) -> Option<Entry> {
    let title = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    if !title.starts_with(b"nginx: ") {
        return None;
    }
    let title = String::from_utf8_lossy(&title).replace('\0', " ");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // PID (COMM) STATE PPID PGRP ... STARTTIME, the 22nd, ...
    let mut words = stat.rsplit_once(") ")?.1.split(' ').skip(1);
    let (parent, group) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let began = words.nth(16)?.parse().ok()?;
    Some(Entry { pid, parent, group, began, title: title.trim_end().to_owned() })
}
