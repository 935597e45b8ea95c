//! Counters that never go back: balancers forget their own at each reload and restart.

use std::collections::BTreeMap;

use crate::model::{BackendName, ServerName};

/// What is counted: a backend or one of its servers.
pub type Counted = (BackendName, Option<ServerName>);

/// Counts of one backend or server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests or connections.
    pub requests: u64,
    /// Of them, those that failed.
    pub failures: u64,
}

/// Sums over all sources there ever were. A source is whatever counts from 0 when it begins: a worker, a run.
#[derive(Debug, Default)]
pub struct Totals {
    sums: BTreeMap<Counted, Count>,
    /// The latest reading of each source that still counts.
    seen: BTreeMap<u64, BTreeMap<Counted, Count>>,
}

impl Totals {
    /// Takes in a reading of one source.
    pub fn add(&mut self, source: u64, readings: impl IntoIterator<Item = (Counted, Count)>) {
        let mut before = self.seen.remove(&source).unwrap_or_default();
        let mut latest = BTreeMap::new();
        for (key, now) in readings {
            let then = before.remove(&key).unwrap_or_default();
            let requests = since(then.requests, now.requests);
            let failures = since(then.failures, now.failures);
            self.add_more([(key.clone(), Count { requests, failures })]);
            latest.insert(key, now);
        }
        self.seen.insert(source, latest);
    }

    /// Adds what was counted since such counts were last added.
    pub fn add_more(&mut self, counts: impl IntoIterator<Item = (Counted, Count)>) {
        for (key, more) in counts {
            let sum = self.sums.entry(key).or_default();
            sum.requests = sum.requests.saturating_add(more.requests);
            sum.failures = sum.failures.saturating_add(more.failures);
        }
    }

    /// Forgets sources that ended; their counts stay in the sums.
    pub fn keep_sources(&mut self, alive: &[u64]) {
        self.seen.retain(|source, _| alive.contains(source));
    }

    /// Forgets what is neither wanted nor in any reading: what comes again begins at 0.
    pub fn keep(&mut self, wanted: impl Fn(&BackendName, Option<&ServerName>) -> bool) {
        let seen = &self.seen;
        self.sums.retain(|key, _| {
            wanted(&key.0, key.1.as_ref()) || seen.values().any(|r| r.contains_key(key))
        });
    }

    /// The sum so far.
    pub fn of(&self, backend: &BackendName, server: Option<&ServerName>) -> Count {
        self.sums.get(&(backend.clone(), server.cloned())).copied().unwrap_or_default()
    }
}

/// What was added since the last reading; a smaller one means the source's number is another's now.
const fn since(then: u64, now: u64) -> u64 {
    if now >= then { now - then } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(requests: u64) -> [(Counted, Count); 1] {
        [((BackendName::new("a.b").unwrap(), None), Count { requests, failures: 1 })]
    }

    #[test]
    fn sums_go_on_over_reloads_restarts_and_reused_process_ids() {
        let name = BackendName::new("a.b").unwrap();
        let mut totals = Totals::default();
        let mut last = 0;
        // (worker, its counter), what the sum must then be
        for ((worker, counter), sum) in [
            ((10, 100), 100),
            ((10, 150), 150),
            ((11, 0), 150),   // reload: a new worker begins at 0
            ((10, 160), 160), // the old one goes on beside it
            ((11, 40), 200),
            ((10, 5), 205), // restart: the same number, another process
        ] {
            totals.add(worker, reading(counter));
            let now = totals.of(&name, None).requests;
            assert_eq!(now, sum);
            assert!(now >= last);
            last = now;
        }
        totals.keep_sources(&[11]);
        totals.add(11, reading(41));
        assert_eq!(totals.of(&name, None).requests, 206);
    }

    #[test]
    fn what_is_gone_is_forgotten_and_begins_at_0_when_it_comes_again() {
        let name = BackendName::new("a.b").unwrap();
        let mut totals = Totals::default();
        totals.add_more(reading(3));
        totals.add_more(reading(2));
        assert_eq!(totals.of(&name, None), Count { requests: 5, failures: 2 });
        totals.keep(|_, _| false);
        totals.add(10, reading(7));
        totals.keep(|_, _| false);
        assert_eq!(totals.of(&name, None).requests, 7, "still in a reading");
        totals.keep_sources(&[]);
        totals.keep(|_, _| false);
        assert_eq!(totals.of(&name, None), Count::default());
    }
}
