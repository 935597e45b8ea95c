//! A balancer in memory: holds the table in force and connections that tests open.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::{Faults, Op, lock};
use crate::balancer::{
    Applied, Ask, BackendTraffic, BalancerInfo, Change, ListenerProbe, LoadBalancer, Membership,
    ProbeAnswer, SetAside, Traffic,
};
use crate::error::{Error, ErrorKind, Result};
use crate::keyed::Keyed;
use crate::model::{BackendName, FileName, ServerName};
use crate::routing::{Listener, RoutingTable, ServerState, TableHash};

/// Tables remembered for [`MemoryBalancer::tables`].
pub const TABLES_KEPT: usize = 1024;
/// Longest a mutating call may take, delays asked for included.
const CALL_DEADLINE: Duration = Duration::from_secs(60);

/// A [`LoadBalancer`] in memory. Clones share one balancer.
#[derive(Debug, Clone, Default)]
pub struct MemoryBalancer {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    keyed: Keyed<&'static str>,
    faults: Faults,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Asked for and not yet taken up: of calls that wait, the latest wins.
    asked: Option<Arc<RoutingTable>>,
    pub(super) table: Option<Arc<RoutingTable>>,
    /// The hash of `table`: it is asked for far more often than it changes.
    hash: Option<TableHash>,
    tables: VecDeque<Arc<RoutingTable>>,
    traffic: BTreeMap<BackendName, BackendTraffic>,
    taken_ports: BTreeSet<u16>,
    reloads: u64,
    cut: u64,
    /// Whether tables are said to be in force that are not; see `lies`.
    pub(super) ignores: bool,
}

/// What a test asks of the balancer, and sees of it.
impl MemoryBalancer {
    /// A balancer not yet started.
    pub fn new() -> Self {
        Self::default()
    }

    /// The faults of its calls.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// The table in force.
    pub fn table(&self) -> Option<Arc<RoutingTable>> {
        lock(&self.shared.state).table.clone()
    }

    /// The tables that came in force, oldest first; the latest [`TABLES_KEPT`].
    pub fn tables(&self) -> Vec<Arc<RoutingTable>> {
        lock(&self.shared.state).tables.iter().cloned().collect()
    }

    /// Reloads so far: changes of more than servers.
    pub fn reloads(&self) -> u64 {
        lock(&self.shared.state).reloads
    }

    /// Connections that were shut because their server left the table.
    pub fn cut(&self) -> u64 {
        lock(&self.shared.state).cut
    }

    /// Sets the open connections of a server in the table; a server that is not there has none.
    pub fn set_open(&self, backend: &BackendName, server: &ServerName, open: u64) {
        let mut state = lock(&self.shared.state);
        if let Some(traffic) = state.traffic.get_mut(backend) {
            if let Some(server) = traffic.servers.get_mut(server) {
                server.open = open;
            }
            traffic.in_flight = traffic.servers.values().map(|s| s.open).sum();
        }
    }

    /// Sets how many idle clients may still be led to a server in the table; one that is not there has none.
    pub fn set_expected(&self, backend: &BackendName, server: &ServerName, expected: u64) {
        let mut state = lock(&self.shared.state);
        let traffic = state.traffic.get_mut(backend);
        if let Some(server) = traffic.and_then(|traffic| traffic.servers.get_mut(server)) {
            server.expected = expected;
        }
    }

    /// Counts so many requests to a backend, spread evenly over its active servers.
    /// All fail when there is none.
    pub fn serve(&self, backend: &BackendName, requests: u64) {
        let mut state = lock(&self.shared.state);
        let Some(table) = state.table.clone() else { return };
        let Some(shape) = table.backends.get(backend) else { return };
        let active: Vec<&ServerName> = shape
            .servers
            .iter()
            .filter(|(_, s)| s.state == ServerState::Active)
            .map(|(name, _)| name)
            .collect();
        let traffic = state.traffic.entry(backend.clone()).or_default();
        traffic.requests += requests;
        if active.is_empty() {
            traffic.failures += requests;
            return;
        }
        for (i, name) in (0u64..).zip(&active) {
            let share = (requests + i) / active.len() as u64;
            if let Some(server) = traffic.servers.get_mut(*name) {
                server.requests += share;
            }
        }
    }

    /// Sets what waits for a server of a backend, and the mean time to answer in seconds.
    pub fn set_load(&self, backend: &BackendName, queued: u64, response_time: Option<f64>) {
        let mut state = lock(&self.shared.state);
        let traffic = state.traffic.entry(backend.clone()).or_default();
        (traffic.queued, traffic.response_time) = (queued, response_time);
    }

    /// Somebody else is bound to this port: its listener is set aside.
    pub fn take_port(&self, port: u16) {
        lock(&self.shared.state).taken_ports.insert(port);
    }

    /// Nobody else is bound to it any more.
    pub fn free_port(&self, port: u16) {
        lock(&self.shared.state).taken_ports.remove(&port);
    }

    /// The balancer comes up again without any table, its counters and connections gone.
    pub fn lose_table(&self) {
        lock(&self.shared.state).forget_table();
    }
}

impl State {
    fn forget_table(&mut self) {
        (self.table, self.hash) = (None, None);
        self.traffic.clear();
    }

    fn apply(&mut self, table: &Arc<RoutingTable>) -> Result<Applied> {
        table.check()?;
        let hash = table.hash();
        let change = match &self.table {
            None => Change::Start,
            Some(_) if self.hash == Some(hash) => Change::None,
            Some(old) if old.shape() == table.shape() => Change::Live,
            Some(_) => Change::Reload,
        };
        if change == Change::Reload {
            self.reloads += 1;
        }
        if change != Change::None && !self.ignores {
            self.put_in_force(table.clone(), hash);
        }
        let blocked = table.listeners.keys().filter(|port| self.taken_ports.contains(port));
        let reason = |port| format!("port {port} is already bound by another process");
        let set_aside = blocked.map(|p| (SetAside::Listener(*p), reason(p))).collect();
        Ok(Applied { table: hash, change, set_aside })
    }

    pub(super) fn put_in_force(&mut self, table: Arc<RoutingTable>, hash: TableHash) {
        let cut = &mut self.cut;
        self.traffic.retain(|name, traffic| {
            let servers = table.backends.get(name).map(|b| &b.servers);
            traffic.servers.retain(|name, traffic| {
                let stays = servers.is_some_and(|s| s.contains_key(name));
                *cut += if stays { 0 } else { traffic.open };
                stays
            });
            traffic.in_flight = traffic.servers.values().map(|s| s.open).sum();
            servers.is_some()
        });
        for (name, backend) in &table.backends {
            let traffic = self.traffic.entry(name.clone()).or_default();
            for server in backend.servers.keys() {
                traffic.servers.entry(server.clone()).or_default().up = true;
            }
        }
        self.tables.push_back(table.clone());
        if self.tables.len() > TABLES_KEPT {
            self.tables.pop_front();
        }
        (self.table, self.hash) = (Some(table), Some(hash));
    }

    /// What a client that asks a route's own host and path is answered.
    fn answer(&self, probe: &ListenerProbe) -> Result<ProbeAnswer> {
        let listener = self.table.as_ref().and_then(|t| t.listeners.get(&probe.port));
        let listener = listener.filter(|_| !self.taken_ports.contains(&probe.port));
        let refused = || {
            let subject = format!("listener {}:{}", probe.address, probe.port);
            Error::new(ErrorKind::Unavailable, "ask", subject, "connect: connection refused")
        };
        match (listener.ok_or_else(refused)?, &probe.ask) {
            (_, Ask::Connection) => Ok(ProbeAnswer::Connected),
            (Listener::Tcp { .. }, Ask::Get { .. }) => Err(refused()),
            (Listener::Http { routes, .. }, Ask::Get { host, path }) => {
                let route = routes.iter().find(|r| r.host == *host && r.path == *path);
                Ok(ProbeAnswer::Status(route.map_or(404, |r| self.status_of(&r.backend))))
            }
        }
    }

    fn status_of(&self, backend: &BackendName) -> u16 {
        let backend = self.table.as_ref().and_then(|t| t.backends.get(backend));
        let mut servers = backend.into_iter().flat_map(|b| b.servers.values());
        if servers.any(|s| s.state == ServerState::Active) { 200 } else { 503 }
    }

    fn listing(&self) -> String {
        let mut text = String::new();
        let Some(table) = &self.table else { return text };
        for port in table.listeners.keys() {
            let _ = writeln!(text, "listener {port}");
        }
        for (name, backend) in &table.backends {
            let _ = writeln!(text, "backend {name} {:?} {:?}", backend.protocol, backend.balance);
            for (server, s) in &backend.servers {
                let address = s.address_from(table.host.as_ref());
                let _ = writeln!(text, "  {server} {address} {:?} weight {}", s.state, s.weight);
            }
        }
        text
    }
}

#[async_trait]
impl LoadBalancer for MemoryBalancer {
    async fn describe(&self) -> Result<BalancerInfo> {
        let info = || {
            Ok(BalancerInfo {
                name: "memory".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                servers_without_reload: true,
                membership: Membership::RunTime,
                abilities: BTreeSet::new(),
                reloads: self.reloads(),
                cut: 0,
            })
        };
        self.shared.faults.call(Op::Describe, "balancer", info).await
    }

    async fn apply(&self, table: &RoutingTable) -> Result<Applied> {
        let asked = Arc::new(table.clone());
        lock(&self.shared.state).asked = Some(asked.clone());
        let shared = self.shared.clone();
        let work = async move {
            let apply = || {
                let mut state = lock(&shared.state);
                let latest = state.asked.clone().unwrap_or(asked);
                state.apply(&latest)
            };
            shared.faults.call(Op::Apply, "routing table", apply).await
        };
        self.shared.keyed.run("routing table", "apply", CALL_DEADLINE, work).await
    }

    async fn traffic(&self) -> Result<Traffic> {
        let traffic = || {
            let state = lock(&self.shared.state);
            let table = state.hash;
            Ok(Traffic { table, backends: state.traffic.clone(), old_workers: 0 })
        };
        self.shared.faults.call(Op::Traffic, "balancer", traffic).await
    }

    async fn probe(&self, listener: &ListenerProbe) -> Result<ProbeAnswer> {
        let answer = || lock(&self.shared.state).answer(listener);
        self.shared.faults.call(Op::Probe, "listener", answer).await
    }

    async fn files(&self) -> Result<BTreeMap<FileName, String>> {
        let files = || {
            let name = FileName::new("table.txt")?;
            Ok(BTreeMap::from([(name, lock(&self.shared.state).listing())]))
        };
        self.shared.faults.call(Op::Files, "balancer", files).await
    }

    async fn shutdown(&self) -> Result<()> {
        let shared = self.shared.clone();
        let work = async move {
            let end = || {
                let mut state = lock(&shared.state);
                let open: u64 = state.traffic.values().map(|t| t.in_flight).sum();
                state.cut += open;
                state.asked = None;
                state.forget_table();
                Ok(())
            };
            shared.faults.call(Op::Shutdown, "balancer", end).await
        };
        self.shared.keyed.run("routing table", "shut down", CALL_DEADLINE, work).await
    }
}
