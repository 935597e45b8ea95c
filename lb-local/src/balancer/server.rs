//! A server while it is known: what it has open, how it does, and its idle connections.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lb_core::ServerName;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::live::BackendState;
use super::upstream::Idle;

/// Failed connections in a row that put a server aside.
const FAULTS: u32 = 3;
/// How long it is put aside the first time; twice as long each time after, up to the longest.
const ASIDE: Duration = Duration::from_secs(1);
const LONGEST_ASIDE: Duration = Duration::from_secs(30);

/// Lives from table to table while name and address stay.
#[derive(Debug)]
pub(crate) struct ServerState {
    pub(crate) name: ServerName,
    pub(crate) address: SocketAddr,
    pub(crate) open: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) standing: AtomicI64,
    pub(crate) since: Instant,
    /// Takes nothing new; idle connections are of no more use.
    pub(crate) draining: AtomicBool,
    /// It left the table: whatever it still has open is shut.
    pub(crate) gone: CancellationToken,
    pub(crate) idle: Mutex<Vec<Idle>>,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    faults: u32,
    until: Option<Instant>,
}

impl ServerState {
    pub(crate) fn new(name: ServerName, address: SocketAddr) -> Self {
        Self {
            name,
            address,
            open: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            standing: AtomicI64::new(0),
            since: Instant::now(),
            draining: AtomicBool::new(false),
            gone: CancellationToken::new(),
            idle: Mutex::default(),
            health: Mutex::default(),
        }
    }

    /// Whether it may be chosen before others: not put aside for failing.
    pub(crate) fn is_up(&self) -> bool {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.until.is_none_or(|until| Instant::now() >= until)
    }

    pub(crate) fn succeeded(&self) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if health.faults > 0 {
            *health = Health::default();
        }
    }

    pub(crate) fn failed(&self) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.faults = health.faults.saturating_add(1);
        if let Some(doublings) = health.faults.checked_sub(FAULTS) {
            let aside = LONGEST_ASIDE.min(ASIDE * (1 << doublings.min(5)));
            health.until = Some(Instant::now() + aside);
            tracing::warn!(server = %self.name, faults = health.faults, ?aside, "put aside");
        }
    }

    pub(crate) fn drop_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Takes a place, unless `limit` of them are taken.
    fn enter(&self, limit: Option<u64>) -> bool {
        let limit = limit.unwrap_or(u64::MAX);
        let more = |open| (open < limit).then_some(open + 1);
        self.open.fetch_update(Relaxed, Relaxed, more).is_ok()
    }
}

/// A place at a server, held while a request or connection is in flight.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) server: Arc<ServerState>,
    pub(crate) backend: Arc<BackendState>,
}

impl Lease {
    /// `None` when the server is full.
    pub(crate) fn take(
        server: &Arc<ServerState>,
        backend: &Arc<BackendState>,
        limit: Option<u64>,
    ) -> Option<Self> {
        server.enter(limit).then(|| {
            server.requests.fetch_add(1, Relaxed);
            Self { server: server.clone(), backend: backend.clone() }
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.server.open.fetch_sub(1, Relaxed);
        self.backend.freed.notify_one();
    }
}
