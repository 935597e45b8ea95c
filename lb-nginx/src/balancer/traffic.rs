//! What goes through NGINX, over all its workers, and whether it still is what the files say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use lb_core::balancer::{Count, Counted, Failure};
use lb_core::{
    BackendName, BackendTraffic, Error, ErrorKind, ServerName, ServerTraffic, TableHash, Traffic,
};

use super::compose::STATUS_SOCKET;
use super::engine::{Engine, blocking};
use super::look::Met;
use super::main_lines::KEPT_IDLE;
use crate::control::{self, LogTarget, Logged, Status};

/// Mean times, from sums that grow.
#[derive(Debug, Default)]
pub(crate) struct Times(BTreeMap<BackendName, Timed>);

#[derive(Debug, Clone, Copy, Default)]
struct Timed {
    seconds: f64,
    requests: u64,
    mean: Option<f64>,
}

impl Times {
    /// The mean since the last call, or the one before where nothing came since.
    fn mean(&mut self, name: &BackendName, seconds: f64, requests: u64) -> Option<f64> {
        let timed = self.0.entry(name.clone()).or_default();
        if requests < timed.requests {
            *timed = Timed { mean: timed.mean, ..Timed::default() };
        }
        if requests > timed.requests {
            let since = (requests - timed.requests) as f64;
            let mean = ((seconds - timed.seconds) / since).max(0.0);
            *timed = Timed { seconds, requests, mean: Some(mean) };
        }
        timed.mean
    }

    /// Takes in so many seconds and requests more.
    fn add_more(&mut self, name: &BackendName, seconds: f64, requests: u64) {
        let timed = self.0.get(name).copied().unwrap_or_default();
        self.mean(name, timed.seconds + seconds, timed.requests.saturating_add(requests));
    }

    /// The latest mean.
    fn latest(&self, name: &BackendName) -> Option<f64> {
        self.0.get(name)?.mean
    }
}

impl Engine {
    /// Reads all workers.
    pub(crate) async fn traffic(&mut self) -> Result<Traffic, Failure> {
        let met = self.meet().await?;
        self.remember(&met).await?;
        let Met::Up(status) = met else {
            let message = "nginx does not run; the next table starts it";
            return Err(Error::new(ErrorKind::Unavailable, "", "", message).into());
        };
        if self.force.is_none() {
            return Ok(Traffic::default());
        }
        self.listen().await?;
        let edited = self.look_for_edits().await?;
        let table = self.table(&status).filter(|_| !edited);
        let open = self.open().await?;
        let old_workers = self.old_workers().await?;
        let gentle = self.ground().await?.abilities.version.reloads_gently();
        let expected = match gentle && self.replaced.elapsed() < KEPT_IDLE {
            true => u64::from(old_workers),
            false => 0,
        };
        let backends = self.report(&open, expected);
        Ok(Traffic { table, backends, old_workers })
    }

    fn table(&self, status: &Status) -> Option<TableHash> {
        let filed = self.force.as_ref()?;
        (filed.mark == status.mark).then_some(filed.table)
    }

    /// Connections to servers.
    async fn open(&self) -> Result<BTreeMap<SocketAddr, u64>, Failure> {
        let Some(force) = &self.force else { return Ok(BTreeMap::new()) };
        let addresses: BTreeSet<_> =
            force.record.backends().flat_map(|(_, servers)| servers.values().copied()).collect();
        if addresses.is_empty() {
            return Ok(BTreeMap::new());
        }
        let socket = self.parts.directory.path().join(STATUS_SOCKET);
        blocking(move || {
            if control::shares_network(&socket) {
                return Ok(control::connections(&addresses));
            }
            let message =
                "connections cannot be counted: this process must be in NGINX's network namespace";
            Err(Error::new(ErrorKind::Unsupported, "", "nginx", message).into())
        })
        .await
    }

    /// `expected`: old workers that keep idle clients, and lead the next request of each by their own servers.
    fn report(
        &mut self,
        open: &BTreeMap<SocketAddr, u64>,
        expected: u64,
    ) -> BTreeMap<BackendName, BackendTraffic> {
        self.count_logged();
        let Some(force) = &self.force else { return BTreeMap::new() };
        let mut backends: BTreeMap<BackendName, BackendTraffic> = BTreeMap::new();
        for (name, servers) in force.record.backends() {
            let backend = backends.entry(name.clone()).or_default();
            backend.response_time = self.times.latest(name);
            for (server, address) in servers {
                let open = open.get(address).copied().unwrap_or_default();
                backend.in_flight += open;
                let traffic = ServerTraffic { open, expected, requests: 0, up: true };
                backend.servers.insert(server.clone(), traffic);
            }
        }
        for (name, backend) in &mut backends {
            let sum = self.totals.of(name, None);
            (backend.requests, backend.failures) = (sum.requests, sum.failures);
            for (server, traffic) in &mut backend.servers {
                traffic.requests = self.totals.of(name, Some(server)).requests;
            }
        }
        let wanted = |b: &BackendName, s: Option<&ServerName>| {
            backends.get(b).is_some_and(|b| s.is_none_or(|s| b.servers.contains_key(s)))
        };
        self.totals.keep(wanted);
        self.times.0.retain(|name, _| backends.contains_key(name));
        backends
    }

    /// Adds what log lines said since the last call: also before a reload, while the addresses in them are this
    /// table's.
    pub(super) fn count_logged(&mut self) {
        let logged = self.logged();
        for ((name, server), l) in &logged {
            if server.is_none() {
                self.times.add_more(name, l.seconds, l.timed);
            }
        }
        let count = |l: Logged| Count { requests: l.requests, failures: l.failures };
        self.totals.add_more(logged.into_iter().map(|(key, l)| (key, count(l))));
    }

    /// The same by names of the table: a backend's own counts, and its servers'.
    fn logged(&self) -> BTreeMap<Counted, Logged> {
        let mut by_name: BTreeMap<Counted, Logged> = BTreeMap::new();
        let (Some(force), Some(log)) = (&self.force, &self.log) else { return by_name };
        for ((target, address), logged) in log.take() {
            let backend = match target {
                LogTarget::Backend(name) => Some(name),
                LogTarget::Port(port) => force.listeners.get(&port).cloned().flatten(),
            };
            let Some((backend, servers)) =
                backend.and_then(|b| Some((b.clone(), force.record.get(&b)?)))
            else {
                continue;
            };
            by_name.entry((backend.clone(), None)).or_default().add(logged);
            let server = servers.iter().find(|(_, a)| Some(**a) == address);
            if let Some((server, _)) = server {
                by_name.entry((backend, Some(server.clone()))).or_default().add(logged);
            }
        }
        by_name
    }
}
