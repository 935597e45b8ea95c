//! How much one HAProxy may take: threads from the CPUs this process may use, connections from the
//! limit of file descriptors.

use std::num::NonZeroU32;

/// Most threads (2.6's own bound).
const MOST_THREADS: usize = 64;
/// Most connections by default: some 8 GB of buffers if all were busy at a time.
const MOST_CONNECTIONS: u64 = 100_000;
/// File descriptors assumed where the limit is the engine's and not known: what every engine met so far
/// gives a container. HAProxy does not start with more connections than its limit allows.
pub(crate) const ENGINE_FDS: u64 = 20_000;
/// File descriptors for logs, sockets, pollers and listeners.
const OVERHEAD: u64 = 256;

/// The numbers that go in `global`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub threads: u32,
    pub connections: u32,
    /// Descriptor pairs kept free for the checks of servers added later: HAProxy sizes its table by the
    /// servers in the file. `maxpipes` is the keyword that widens it.
    pub spare_pairs: u32,
}

/// What the limits come from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resources {
    /// Threads asked for.
    pub threads: Option<NonZeroU32>,
    /// Connections asked for.
    pub connections: Option<NonZeroU32>,
    /// The limit of file descriptors, where it is known.
    pub descriptors: Option<u64>,
}

impl Resources {
    /// The limits for so many servers. Two descriptors a connection, one a server for its check.
    pub(crate) fn limits(&self, servers: usize) -> Limits {
        let servers = servers as u64;
        let spare_pairs = (servers / 4).max(256);
        let descriptors = self.descriptors.unwrap_or(ENGINE_FDS);
        let free = descriptors.saturating_sub(OVERHEAD + servers + 2 * spare_pairs);
        let works = (free / 2).clamp(32, MOST_CONNECTIONS) as u32;
        Limits {
            threads: self.threads.map_or_else(cpus, NonZeroU32::get),
            connections: match (self.connections, self.descriptors) {
                (None, _) => works,
                (Some(asked), Some(_)) => asked.get().min(works),
                // Nobody knows better than who asks, until HAProxy complains.
                (Some(asked), None) => asked.get(),
            },
            spare_pairs: spare_pairs as u32,
        }
    }

    /// Learns the limit from HAProxy's own complaint. Whether there was one.
    pub(crate) fn learn(&mut self, log: &str) -> bool {
        let news = self.news(log);
        self.descriptors = news.or(self.descriptors);
        news.is_some()
    }

    /// Whether there is something to [`learn`](Self::learn).
    pub(crate) fn would_learn(&self, log: &str) -> bool {
        self.news(log).is_some()
    }

    /// A limit below the known one.
    fn news(&self, log: &str) -> Option<u64> {
        let (_, rest) = log.rsplit_once("Cannot raise FD limit to ")?;
        // 3.4 tells the limit now and how far that can be raised.
        let (_, rest) =
            rest.split_once("hard limit is ").or_else(|| rest.split_once("limit is "))?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let limit = digits.parse().ok()?;
        self.descriptors.is_none_or(|known| limit < known).then_some(limit)
    }
}

/// CPUs this process may use: affinity and the cgroup's quota count.
fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS)) as u32
}

/// The hard limit of this process's file descriptors, which its children inherit.
pub(crate) fn own_descriptors() -> Option<u64> {
    parse_limits(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

fn parse_limits(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_fits_the_descriptors() {
        for descriptors in [1_024, 20_000, 65_536, 1_048_576] {
            let resources = Resources { descriptors: Some(descriptors), ..Resources::default() };
            for servers in [0, 4, 100] {
                let limits = resources.limits(servers);
                let needed = 2 * u64::from(limits.connections)
                    + servers as u64
                    + 2 * u64::from(limits.spare_pairs);
                assert!(needed < descriptors, "{descriptors} {servers}: {limits:?}");
            }
        }
    }

    #[test]
    fn more_connections_than_work_are_not_promised() {
        let connections = NonZeroU32::new(50_000);
        let resources =
            Resources { connections, descriptors: Some(20_000), ..Resources::default() };
        assert_eq!(resources.limits(0).connections, 9_616);
    }

    #[test]
    fn what_is_asked_for_holds_until_a_limit_is_known() {
        let connections = NonZeroU32::new(50_000);
        let mut resources = Resources { connections, ..Resources::default() };
        assert_eq!(resources.limits(0).connections, 50_000);
        assert!(resources.learn("Cannot raise FD limit to 100768, limit is 20000."));
        assert_eq!(resources.limits(0).connections, 9_616);
    }

    #[test]
    fn the_limit_is_learnt_from_the_complaint() {
        let mut resources = Resources::default();
        let log = "[ALERT]    (5243) : [haproxy.main()] Cannot raise FD limit to 800045, limit is 20000.\n";
        assert!(resources.learn(log));
        assert_eq!(resources.descriptors, Some(20_000));
        assert!(!resources.learn(log), "nothing new");
        assert!(!resources.learn("Loading failure!"));
        let of_3_4 = "[haproxy.main()] Cannot raise FD limit to 90000000, current limit is 1024 and hard limit is 4096. You may prefer to let HAProxy adjust the limit by itself; you may also force a new 'maxconn' value that is a bit lower than half of the hard limit minus listeners and checks.";
        assert!(resources.learn(of_3_4));
        assert_eq!(resources.descriptors, Some(4_096));
    }

    #[test]
    fn the_hard_limit_is_the_second_number() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 524288               files\n";
        assert_eq!(parse_limits(text), Some(524_288));
    }
}
