//! `show info` on a worker's socket.

use lb_core::balancer::Failure;

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkerInfo {
    /// Its version.
    pub version: String,
    /// Its process id, in its own namespace.
    pub pid: u32,
    /// The generation mark: the configuration's `description`.
    pub mark: String,
    /// Whether it has stopped to accept and ends with its last connection.
    pub stopping: bool,
    /// When it began, in seconds since 1970.
    started: u32,
}

impl WorkerInfo {
    /// This run of a worker: in a container the next one may get the same process id. HAProxy tells its start in
    /// whole seconds, so a run that ends in the second it began, followed in that second by one with its id, counts as
    /// the same: what it counted is then kept only if the next one is first seen with less.
    pub(crate) const fn run(&self) -> u64 {
        (self.started as u64) << 32 | self.pid as u64
    }

    /// Reads `Key: value` lines.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let value = |key: &str| {
            let of_key = |l: &'_ str| -> Option<String> {
                Some(l.strip_prefix(key)?.strip_prefix(':')?.trim().to_owned())
            };
            text.lines().find_map(of_key)
        };
        let wrong = || Failure::reply("show info", text);
        Ok(Self {
            version: value("Version").ok_or_else(wrong)?,
            pid: value("Pid").and_then(|p| p.parse().ok()).ok_or_else(wrong)?,
            mark: value("description").unwrap_or_default(),
            stopping: value("Stopping").ok_or_else(wrong)? != "0",
            started: value("Start_time_sec").and_then(|s| s.parse().ok()).ok_or_else(wrong)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_the_description() {
        // Cut from 2.6.12.
        let text = "Name: HAProxy\nVersion: 2.6.12-1+deb12u3\nPid: 5271\nUptime: 0d 0h00m48s\nnode: vm\ndescription: 0123456789abcdef0123456789abcdef\nStopping: 0\nJobs: 5\nStart_time_sec: 1795740743\n\n";
        let info = WorkerInfo::parse(text).unwrap();
        assert_eq!((info.pid, info.stopping), (5271, false));
        assert_eq!(info.mark, "0123456789abcdef0123456789abcdef");
        assert_eq!(info.version, "2.6.12-1+deb12u3");
    }

    #[test]
    fn a_configuration_of_somebody_else_has_no_mark() {
        let info =
            WorkerInfo::parse("Version: 2.6\nPid: 1\nStopping: 1\nStart_time_sec: 7\n").unwrap();
        assert_eq!((info.mark.as_str(), info.stopping), ("", true));
    }

    #[test]
    fn an_unknown_answer_is_refused() {
        assert!(WorkerInfo::parse("Permission denied\n").is_err());
        let known = "Version: 2.6\nPid: 1\nStopping: 0\nStart_time_sec: 7\n";
        for (known_line, wrong) in
            [("Pid: 1", "Pid: x"), ("Stopping: 0\n", ""), ("sec: 7", "sec: -7")]
        {
            let text = known.replace(known_line, wrong);
            assert!(WorkerInfo::parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_restart_is_another_run_though_the_process_id_is_the_same() {
        let run = |pid: u32, began: u32| {
            let text = format!("Version: 2.6\nPid: {pid}\nStopping: 0\nStart_time_sec: {began}\n");
            WorkerInfo::parse(&text).unwrap().run()
        };
        assert_eq!(run(8, 100), run(8, 100));
        assert_ne!(run(8, 100), run(8, 101));
        assert_ne!(run(8, 100), run(9, 100));
    }
}
