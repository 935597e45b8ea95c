//! Processes as the kernel shows them: who is who, who lives, and how to end them.

use std::fs;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};
use rustix_libc_wrappers::process::SignalExt as _;
use serde::{Deserialize, Serialize};

/// The variable that marks every process of a container, whoever forked it: its directory here.
pub(crate) const MARK: &str = "LB_CONTAINER_DIR";

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    /// Its number, also its group's.
    pub(crate) pid: i32,
    /// When it started, in clock ticks since boot; 0 where the kernel does not tell.
    started: u64,
    /// Of which boot; empty where the kernel does not tell.
    boot: String,
}

/// What `/proc/PID/stat` says (proc(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: i32,
    pub(crate) state: char,
    pub(crate) group: i32,
    pub(crate) cpu_ticks: u64,
    pub(crate) started: u64,
    pub(crate) resident_pages: u64,
}

impl ProcessId {
    /// The process that has this number now.
    pub(crate) fn of(pid: i32) -> Self {
        Self { pid, started: stat(pid).map_or(0, |s| s.started), boot: boot() }
    }

    /// Whether it still runs; a zombie does not.
    pub(crate) fn is_alive(&self) -> bool {
        match stat(self.pid) {
            Some(now) => {
                now.started == self.started
                    && !matches!(now.state, 'Z' | 'X')
                    && self.boot == boot()
            }
            None if Path::new("/proc/self/stat").exists() => false,
            None => Pid::from_raw(self.pid).is_some_and(|pid| test_kill_process(pid).is_ok()),
        }
    }

    /// Sends a signal to its whole group. A group that is gone is success.
    pub(crate) fn signal_group(&self, signal: Signal) -> Result<(), Errno> {
        let Some(group) = Pid::from_raw(self.pid) else { return Ok(()) };
        match kill_process_group(group, signal) {
            Err(Errno::SRCH) | Ok(()) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

/// The leader among the processes marked as this container's: the one an earlier orchestrator started
/// and did not live to write down.
pub(crate) fn find_leader(dir: &Path) -> Option<ProcessId> {
    marked(dir).into_iter().find(|s| s.pid == s.group).map(|s| ProcessId::of(s.pid))
}

/// Kills whatever still bears the container's mark.
pub(crate) fn kill_marked(dir: &Path) {
    for process in marked(dir) {
        if let Some(pid) = Pid::from_raw(process.pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn marked(dir: &Path) -> Vec<Stat> {
    let mark = format!("{MARK}={}", dir.display());
    let bears = |pid: i32| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|env| env.split(|b| *b == 0).any(|entry| entry == mark.as_bytes()))
    };
    all().into_iter().filter(|s| !matches!(s.state, 'Z' | 'X') && bears(s.pid)).collect()
}

/// Every process of this machine; empty where there is no `/proc`.
pub(crate) fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter_map(stat).collect()
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The command name may hold anything, `)` too: fields are counted from the last one.
fn parse_stat(line: &str) -> Option<Stat> {
    let (head, tail) = line.rsplit_once(')')?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        pid: head.split_once(' ')?.0.parse().ok()?,
        state: fields.first()?.chars().next()?,
        group: fields.get(2)?.parse().ok()?,
        cpu_ticks: number(14)? + number(15)?,
        started: number(22)?,
        resident_pages: number(24)?,
    })
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// A signal as the system has it; SIGTERM where none is asked for.
pub(crate) fn stop_signal(asked: Option<&lb_core::Signal>) -> Signal {
    asked.and_then(|signal| Signal::from_raw(signal.number().into())).unwrap_or(Signal::TERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_command_name_does_not_shift_the_fields() {
        let line = "42 (a) R 1 (b) S 7 42 42 0 -1 0 1 2 3 4 10 5 1 1 20 0 1 0 999 4096 33 0";
        let stat = parse_stat(line).unwrap();
        let expected = Stat {
            pid: 42,
            state: 'S',
            group: 42,
            cpu_ticks: 15,
            started: 999,
            resident_pages: 33,
        };
        assert_eq!(stat, expected);
    }

    #[test]
    fn a_number_used_again_is_not_the_same_process() {
        let me = ProcessId::of(std::process::id().cast_signed());
        assert!(me.is_alive());
        assert!(!ProcessId { started: me.started + 1, ..me.clone() }.is_alive());
        assert!(!ProcessId { boot: "another".into(), ..me }.is_alive());
    }
}
