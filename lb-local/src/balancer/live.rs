//! The table in force, ready for lookup. A new table takes over the state of servers that stay.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use lb_core::{
    Backend, BackendName, Balance, Listener, RoutingTable, Server, ServerName,
    ServerState as State, TableHash,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::limit::Rates;
use super::pick::{Candidate, How, choose};
use super::route::Router;
use super::server::{Lease, ServerState};
use super::stats::Stats;
use crate::address::real_address;
use crate::hash::hash_bytes;

/// Weights are multiplied by it so that a slow start has steps to rise by.
const FINE: f64 = 100.0;

/// A table in force.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) hash: Option<TableHash>,
    pub(crate) table: RoutingTable,
    pub(crate) listeners: BTreeMap<u16, Arc<ListenerLive>>,
    pub(crate) backends: BTreeMap<BackendName, Arc<BackendLive>>,
}

/// Where what comes in at a port goes.
#[derive(Debug)]
pub(crate) enum ListenerLive {
    Http(Router<Arc<BackendLive>>),
    Tcp(Arc<BackendLive>),
}

/// A backend of this table.
#[derive(Debug)]
pub(crate) struct BackendLive {
    pub(crate) name: BackendName,
    pub(crate) spec: Arc<Backend>,
    pub(crate) state: Arc<BackendState>,
    entries: Vec<Entry>,
}

/// What stays of a backend from table to table.
#[derive(Debug, Default)]
pub(crate) struct BackendState {
    pub(crate) stats: Stats,
    pub(crate) rates: Rates,
    /// A place became free, or the table changed.
    pub(crate) freed: Notify,
    turn: AtomicU64,
    /// One round robin at a time: its steps belong together.
    choosing: Mutex<()>,
}

#[derive(Debug)]
struct Entry {
    server: Arc<ServerState>,
    spec: Server,
    cookie: String,
}

/// What decides who gets a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choice {
    /// For consistent hashing; without it, round robin.
    pub(crate) key: Option<u64>,
    /// The client's sticky cookie.
    pub(crate) cookie: Option<String>,
    /// Servers that failed this request already.
    pub(crate) tried: Vec<Arc<ServerState>>,
}

/// What came of asking for a place.
#[derive(Debug)]
pub(crate) enum Picked {
    Place {
        lease: Lease,
        /// What the sticky cookie is to say, where it does not say it yet.
        cookie: Option<String>,
    },
    /// All are taken: wait.
    Full,
    /// No server takes requests.
    Nobody,
}

impl Live {
    /// Compiles a table, taking over from `old` what stays.
    pub(crate) fn new(table: &RoutingTable, old: &Self) -> Self {
        let backends: BTreeMap<_, _> = table
            .backends
            .iter()
            .map(|(name, spec)| {
                let backend = BackendLive::new(name, spec, table, old.backends.get(name));
                (name.clone(), Arc::new(backend))
            })
            .collect();
        let listeners = table.listeners.iter().filter_map(|(port, listener)| {
            let live = match listener {
                Listener::Http { routes, .. } => ListenerLive::Http(Router::new(routes, |route| {
                    backends.get(&route.backend).cloned()
                })),
                Listener::Tcp { backend, .. } => ListenerLive::Tcp(backends.get(backend)?.clone()),
            };
            Some((*port, Arc::new(live)))
        });
        let listeners = listeners.collect();
        Self { hash: Some(table.hash()), table: table.clone(), listeners, backends }
    }

    /// Every server.
    pub(crate) fn servers(&self) -> impl Iterator<Item = (&BackendName, &Arc<ServerState>)> {
        let each = self.backends.iter();
        each.flat_map(|(name, backend)| backend.entries.iter().map(move |e| (name, &e.server)))
    }
}

impl BackendLive {
    fn new(
        name: &BackendName,
        spec: &Arc<Backend>,
        table: &RoutingTable,
        old: Option<&Arc<Self>>,
    ) -> Self {
        let state = old.map(|b| b.state.clone()).unwrap_or_default();
        let entry = |(server, spec): (&ServerName, &Server)| {
            let address = real_address(spec.address_from(table.host.as_ref()));
            let kept = old.and_then(|b| b.entries.iter().find(|e| e.server.name == *server));
            let kept = kept.map(|e| &e.server).filter(|s| s.address == address).cloned();
            let state = kept.unwrap_or_else(|| Arc::new(ServerState::new(server.clone(), address)));
            state.draining.store(spec.state == State::Draining, Relaxed);
            Entry { server: state, spec: spec.clone(), cookie: cookie_of(server) }
        };
        let entries = spec.servers.iter().map(entry).collect();
        Self { name: name.clone(), spec: spec.clone(), state, entries }
    }

    /// Takes a place at a server, by the backend's algorithm.
    pub(crate) fn pick(&self, choice: &Choice) -> Picked {
        let fits = |e: &&Entry| {
            e.spec.state == State::Active && !choice.tried.iter().any(|t| Arc::ptr_eq(t, &e.server))
        };
        let mut fit: Vec<&Entry> = self.entries.iter().filter(fits).collect();
        if fit.is_empty() {
            return Picked::Nobody;
        }
        if fit.iter().any(|e| e.server.is_up()) {
            fit.retain(|e| e.server.is_up());
        }
        if let Some(stuck) = self.stuck_to(&fit, choice) {
            fit = vec![stuck];
        }
        let limit = self.spec.limits.connections_per_instance.map(|n| u64::from(n.get()));
        while !fit.is_empty() {
            let chosen = fit.swap_remove(self.choose(&fit, choice, limit));
            if let Some(lease) = Lease::take(&chosen.server, &self.state, limit) {
                let new = choice.cookie.as_deref() != Some(&chosen.cookie);
                let cookie = (self.spec.sticky.is_some() && new).then(|| chosen.cookie.clone());
                return Picked::Place { lease, cookie };
            }
        }
        Picked::Full
    }

    fn stuck_to<'a>(&self, fit: &[&'a Entry], choice: &Choice) -> Option<&'a Entry> {
        self.spec.sticky.as_ref()?;
        let cookie = choice.cookie.as_deref()?;
        fit.iter().copied().find(|e| e.cookie == cookie)
    }

    /// Among those with room where there are any.
    fn choose(&self, fit: &[&Entry], choice: &Choice, limit: Option<u64>) -> usize {
        let has_room = |e: &Entry| limit.is_none_or(|limit| e.server.open.load(Relaxed) < limit);
        let mut roomy: Vec<usize> = (0..fit.len()).filter(|i| has_room(fit[*i])).collect();
        if roomy.is_empty() {
            roomy = (0..fit.len()).collect();
        }
        let candidate = |i: &usize| Candidate {
            id: fit[*i].spec.id.get(),
            weight: self.weight(fit[*i]),
            open: fit[*i].server.open.load(Relaxed),
            standing: &fit[*i].server.standing,
        };
        let candidates: Vec<Candidate<'_>> = roomy.iter().map(candidate).collect();
        let turn = self.state.turn.fetch_add(1, Relaxed);
        let _one = self.state.choosing.lock().unwrap_or_else(PoisonError::into_inner);
        roomy[choose(self.how(choice), &candidates, turn)]
    }

    fn how(&self, choice: &Choice) -> How {
        match (&self.spec.balance, choice.key) {
            (Balance::LeastConnections, _) => How::LeastConnections,
            (Balance::RandomTwo, _) => How::RandomTwo,
            (Balance::SourceHash | Balance::UriHash | Balance::HeaderHash(_), Some(key)) => {
                How::Hash(key)
            }
            _ => How::RoundRobin,
        }
    }

    /// Rises from a hundredth to the full weight over the slow start.
    fn weight(&self, entry: &Entry) -> u64 {
        let risen = self.spec.limits.slow_start.map_or(1.0, |over| {
            let age = Instant::now().duration_since(entry.server.since);
            (age.as_secs_f64() / over.as_secs_f64()).min(1.0)
        });
        ((f64::from(entry.spec.weight) * FINE * risen) as u64).max(1)
    }
}

/// Says nothing of the server to the client, and is the same in every balancer.
fn cookie_of(server: &ServerName) -> String {
    let mut cookie = String::with_capacity(16);
    let _ = write!(cookie, "{:016x}", hash_bytes(server.as_str().as_bytes()));
    cookie
}
