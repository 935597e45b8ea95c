//! `show proc` on the master's socket.

use std::num::NonZeroU32;

use lb_core::balancer::Failure;

/// The processes of one HAProxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Processes {
    /// The master.
    pub master: u32,
    /// Reloads asked of it so far.
    pub reloads: u64,
    /// Of the latest ones, how many failed in a row.
    pub failed: u64,
    /// Workers of the configuration in force: one, or none for a moment.
    pub workers: Vec<u32>,
    /// Workers of earlier ones, which end when their connections do; the oldest last.
    pub old: Vec<u32>,
}

impl Processes {
    /// Reads the table: sections begin with `#`, lines hold pid, type and reloads.
    ///
    /// After a reload that failed the worker in force stands among the old ones (3.2): it is the one that has seen
    /// the fewest reloads.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = || Failure::reply("show proc", text);
        let mut processes =
            Self { master: 0, reloads: 0, failed: 0, workers: Vec::new(), old: Vec::new() };
        let mut old = Vec::new();
        let mut section = "";
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
            if let Some(title) = line.strip_prefix('#') {
                section = title.trim();
                continue;
            }
            let mut fields = line.split_whitespace();
            let (pid, kind, reloads) = (fields.next(), fields.next(), fields.next());
            let reloads = || reloads.and_then(|r| r.parse::<u64>().ok()).ok_or_else(wrong);
            // Not 0: to a signal, that is the sender's own group.
            let pid: NonZeroU32 = pid.and_then(|p| p.parse().ok()).ok_or_else(wrong)?;
            let pid = pid.get();
            match (kind, section) {
                (Some("master"), _) => {
                    processes.master = pid;
                    processes.reloads = reloads()?;
                    processes.failed = failed(line).ok_or_else(wrong)?;
                }
                (Some("worker"), "workers") => processes.workers.push(pid),
                (Some("worker"), "old workers") => old.push((reloads()?, pid)),
                (Some(_), "programs" | "old programs") => {}
                _ => return Err(wrong()),
            }
        }
        if processes.workers.is_empty() && processes.failed > 0 {
            let in_force = (0..old.len()).min_by_key(|at| old[*at].0);
            processes.workers.extend(in_force.map(|at| old.remove(at).1));
        }
        old.sort_by_key(|(reloads, _)| *reloads);
        processes.old = old.into_iter().map(|(_, pid)| pid).collect();
        match processes.master {
            0 => Err(wrong()),
            _ => Ok(processes),
        }
    }

    /// The worker of the configuration in force.
    pub(crate) fn worker(&self) -> Option<u32> {
        self.workers.first().copied()
    }
}

/// The number in `[failed: N]`.
fn failed(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("[failed:")?;
    rest.split_once(']')?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Recorded from 2.6.12.
    const FRESH: &str = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n5243            master          0 [failed: 0]   0d00h00m02s     2.6.12-1+deb12u3\n# workers\n5271            worker          0               0d00h00m02s     2.6.12-1+deb12u3\n# programs\n\n";
    const OLD: &str = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n1162            master          5 [failed: 1]   0d00h02m07s     2.6.12\n# workers\n1271            worker          1               0d00h00m00s     2.6.12\n# old workers\n1233            worker          3               0d00h00m43s     2.6.12\n1240            worker          2               0d00h00m40s     2.6.12\n# programs\n1244            foo             0               0d00h00m00s     -\n# old programs\n1255            bar             1               0d00h00m00s     -\n\n";

    #[test]
    fn a_fresh_master_has_one_worker() {
        let p = Processes::parse(FRESH).unwrap();
        assert_eq!((p.master, p.reloads, p.failed), (5243, 0, 0));
        assert_eq!((p.worker(), p.old.len()), (Some(5271), 0));
    }

    #[test]
    fn old_workers_and_programs_are_told_apart() {
        let p = Processes::parse(OLD).unwrap();
        assert_eq!((p.reloads, p.failed), (5, 1));
        assert_eq!((p.workers, p.old), (vec![1271], vec![1240, 1233]));
    }

    // Recorded from 3.2.26 and 3.4.0, with connections that keep the old ones: before and after reloads that failed.
    const BEFORE_3_2: &str = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n12220           master          2 [failed: 0]   0d00h00m06s     3.2.26-1       \n# workers\n12415           worker          0               0d00h00m01s     3.2.26-1       \n# old workers\n12325           worker          1               0d00h00m03s     3.2.26-1       \n12227           worker          2               0d00h00m06s     3.2.26-1       \n\n";
    const FAILED_3_2: &str = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n12220           master          4 [failed: 1]   0d00h00m08s     3.2.26-1       \n# workers\n# old workers\n12415           worker          2               0d00h00m03s     3.2.26-1       \n12325           worker          3               0d00h00m05s     3.2.26-1       \n12227           worker          4               0d00h00m08s     3.2.26-1       \n\n";
    const FAILED_3_4: &str = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n10836           master          2 [failed: 1]   0d00h00m11s     3.4.0-64a335366\n# workers\n# old workers\n12592           worker          1               0d00h00m03s     3.4.0-64a335366\n\n";

    #[test]
    fn the_worker_in_force_stays_so_when_a_reload_failed() {
        let before = Processes::parse(BEFORE_3_2).unwrap();
        assert_eq!((before.worker(), &before.old), (Some(12415), &vec![12325, 12227]));
        let after = Processes::parse(FAILED_3_2).unwrap();
        assert_eq!((after.reloads, after.failed), (4, 1));
        assert_eq!((after.workers, after.old), (before.workers, before.old));
        let after = Processes::parse(FAILED_3_4).unwrap();
        assert_eq!((after.workers, after.old), (vec![12592], vec![]));
        // In whatever order they stand.
        let mut lines: Vec<&str> = FAILED_3_2.trim_end().lines().collect();
        lines[4..].reverse();
        let after = Processes::parse(&lines.join("\n")).unwrap();
        assert_eq!((after.worker(), after.old.len()), (Some(12415), 2));
        // Between two good ones there is none for a moment: an old one is not it.
        let moment = FAILED_3_2.replace("[failed: 1]", "[failed: 0]");
        assert_eq!(Processes::parse(&moment).unwrap().worker(), None);
    }

    #[test]
    fn anything_else_is_refused() {
        let zero = OLD.replace("1240", "0");
        for text in ["", "Permission denied\n", "# workers\nx worker 0\n", "12 master 0\n", &zero] {
            assert!(Processes::parse(text).is_err(), "{text:?}");
        }
    }
}
