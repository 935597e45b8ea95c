//! Counters that never go back: HAProxy forgets its own at each reload and restart.

use std::collections::BTreeMap;

use lb_core::{BackendName, ServerName};

use crate::control::{RowKind, Stat};

/// What is counted: a backend or one of its servers.
type Key = (BackendName, Option<ServerName>);

/// Counts of one backend or server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub requests: u64,
    pub failures: u64,
}

/// Sums over all workers there ever were.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    sums: BTreeMap<Key, Count>,
    /// The latest reading of each worker that still runs.
    seen: BTreeMap<u32, BTreeMap<Key, Count>>,
}

impl Totals {
    /// Takes in a reading of one worker.
    pub(crate) fn add(&mut self, worker: u32, stat: &Stat) {
        let mut before = self.seen.remove(&worker).unwrap_or_default();
        let mut readings = BTreeMap::new();
        for row in &stat.rows {
            let Ok(backend) = BackendName::new(&row.backend) else { continue };
            let server = match &row.kind {
                RowKind::Backend { .. } => None,
                RowKind::Server { name, .. } => match ServerName::new(name) {
                    Ok(name) => Some(name),
                    Err(_) => continue,
                },
            };
            let key = (backend, server);
            let now = Count { requests: row.requests, failures: row.failures };
            let then = before.remove(&key).unwrap_or_default();
            let sum = self.sums.entry(key.clone()).or_default();
            sum.requests += since(then.requests, now.requests);
            sum.failures += since(then.failures, now.failures);
            readings.insert(key, now);
        }
        self.seen.insert(worker, readings);
    }

    /// Forgets workers that ended; their counts stay in the sums.
    pub(crate) fn keep_workers(&mut self, alive: &[u32]) {
        self.seen.retain(|worker, _| alive.contains(worker));
    }

    /// Forgets what is neither wanted nor in any reading: names do not come again.
    pub(crate) fn keep(&mut self, wanted: impl Fn(&BackendName, Option<&ServerName>) -> bool) {
        let seen = &self.seen;
        self.sums.retain(|key, _| {
            wanted(&key.0, key.1.as_ref()) || seen.values().any(|r| r.contains_key(key))
        });
    }

    /// The sum so far.
    pub(crate) fn of(&self, backend: &BackendName, server: Option<&ServerName>) -> Count {
        self.sums.get(&(backend.clone(), server.cloned())).copied().unwrap_or_default()
    }
}

/// What was added since the last reading; a smaller one means the worker's number is another's now.
const fn since(then: u64, now: u64) -> u64 {
    if now >= then { now - then } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Row;

    fn stat(requests: u64) -> Stat {
        let kind = RowKind::Backend { response_time: None };
        let row = Row { backend: "a.b".into(), kind, open: 0, queued: 0, requests, failures: 1 };
        Stat { rows: vec![row] }
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
            totals.add(worker, &stat(counter));
            let now = totals.of(&name, None).requests;
            assert_eq!(now, sum);
            assert!(now >= last);
            last = now;
        }
        totals.keep_workers(&[11]);
        totals.add(11, &stat(41));
        assert_eq!(totals.of(&name, None).requests, 206);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let name = BackendName::new("a.b").unwrap();
        let mut totals = Totals::default();
        totals.add(10, &stat(7));
        totals.keep(|_, _| false);
        assert_eq!(totals.of(&name, None).requests, 7, "still in a reading");
        totals.keep_workers(&[]);
        totals.keep(|_, _| false);
        assert_eq!(totals.of(&name, None), Count::default());
    }
}
