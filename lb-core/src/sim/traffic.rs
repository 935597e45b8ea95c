//! Requests: steady ones that are only counted, and slow ones that stay open at their servers.

use std::time::Duration;

use super::cluster::Cluster;
use super::dice::Dice;
use super::host::Ailment;
use crate::model::{BackendName, HostId, ServerName};
use crate::routing::{Listener, RoutingTable, ServerState};

/// Time between two rounds of requests.
const ROUND: Duration = Duration::from_secs(1);
/// Most slow requests at once.
const MOST_OPEN: usize = 12;

#[derive(Debug)]
pub(super) struct Traffic {
    dice: Dice,
    next: Duration,
    pub(super) open: Vec<Request>,
}

/// A request in flight.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// At the balancer of this host,
    pub(super) at: HostId,
    pub(super) backend: BackendName,
    pub(super) server: ServerName,
    /// on this host.
    pub(super) on: HostId,
    until: Duration,
}

impl Traffic {
    pub(super) fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed, "traffic"), next: Duration::ZERO, open: Vec::new() }
    }

    /// Requests that are over end, and others begin.
    pub(super) fn flow(&mut self, cluster: &Cluster) {
        let now = cluster.now();
        if now < self.next {
            return;
        }
        self.next = now + ROUND;
        self.end(cluster, |request| request.until <= now);
        for host in cluster.hosts.values().filter(|h| !h.is(Ailment::is_down)) {
            let Some(table) = host.balancer.table() else { continue };
            for (name, backend) in table.backends.iter().filter(|(name, _)| leads_to(&table, name))
            {
                host.balancer.serve(name, self.dice.below(20));
                let servers = backend.servers.iter();
                let active: Vec<_> =
                    servers.filter(|(_, s)| s.state == ServerState::Active).collect();
                if self.open.len() >= MOST_OPEN || !self.dice.chance(10) {
                    continue;
                }
                let Some((server, s)) = self.dice.pick(&active).copied() else { continue };
                let Some(on) = s.host.clone() else { continue };
                self.open.push(Request {
                    at: host.id().clone(),
                    backend: name.clone(),
                    server: server.clone(),
                    on,
                    until: now + self.dice.millis(500, 60_000),
                });
            }
        }
        self.show(cluster);
    }

    /// Ends requests.
    pub(super) fn end(&mut self, cluster: &Cluster, over: impl Fn(&Request) -> bool) {
        let (ended, open): (Vec<_>, Vec<_>) = self.open.drain(..).partition(over);
        self.open = open;
        if ended.is_empty() {
            return;
        }
        for Request { at, backend, server, .. } in ended {
            if let Some(host) = cluster.hosts.get(&at) {
                host.balancer.set_open(&backend, &server, 0);
            }
        }
        self.show(cluster);
    }

    fn show(&self, cluster: &Cluster) {
        for request in &self.open {
            let Request { at, backend, server, .. } = request;
            let same = |r: &&Request| (&r.at, &r.backend, &r.server) == (at, backend, server);
            let count = self.open.iter().filter(same).count() as u64;
            if let Some(host) = cluster.hosts.get(at) {
                host.balancer.set_open(backend, server, count);
            }
        }
    }
}

/// Whether a listener leads to the backend: without one no request comes.
pub(super) fn leads_to(table: &RoutingTable, name: &BackendName) -> bool {
    table.listeners.values().any(|listener| match listener {
        Listener::Http { routes, .. } => routes.iter().any(|route| route.backend == *name),
        Listener::Tcp { backend, .. } => backend == name,
    })
}
