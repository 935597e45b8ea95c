//! What connections share: the table in force, places at servers, counts.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use hyper::HeaderMap;
use lb_core::{BackendName, BackendTraffic, Listener, Traffic};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::headers;
use super::live::{Choice, Live, Picked};
use super::refused::Refused;
use super::server::{Lease, ServerState};

/// Client connections open at a time; more wait to be accepted.
const CLIENTS: usize = 16_384;
/// Requests that wait for a free server, for each backend; more get 503 at once.
const QUEUE: u64 = 4_096;
/// Silence between requests where a listener has no backend to say otherwise.
const IDLE: Duration = Duration::from_secs(60);
/// Servers that left the table and still hold connections, remembered for the counts.
const RETIRED: usize = 4_096;

/// What connections need.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) live: RwLock<Arc<Live>>,
    pub(crate) retired: Mutex<Vec<(BackendName, Arc<ServerState>)>>,
    pub(crate) clients: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    pub(crate) hard: Mutex<CancellationToken>,
    /// Most bytes of a message's header fields.
    pub(crate) header_bytes: u32,
}

impl Shared {
    pub(crate) fn new(header_bytes: u32) -> Self {
        Self {
            live: RwLock::default(),
            retired: Mutex::default(),
            clients: Arc::new(Semaphore::new(CLIENTS)),
            tasks: TaskTracker::new(),
            hard: Mutex::default(),
            header_bytes,
        }
    }

    pub(crate) fn live(&self) -> Arc<Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn hard(&self) -> CancellationToken {
        self.hard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a message's header fields are too long.
    pub(crate) fn too_long(&self, headers: &HeaderMap) -> bool {
        headers::bytes(headers) > self.header_bytes as usize
    }

    /// Shuts every client's connection.
    pub(crate) fn cut(&self) {
        let mut hard = self.hard.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *hard).cancel();
    }

    /// Puts a table in force. Once this returns nobody takes a place by the old one.
    pub(crate) fn swap(&self, new: Live) {
        let new = Arc::new(new);
        let old = {
            let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *live, new.clone())
        };
        self.retire(&old, &new);
        for (_, server) in new.servers().filter(|(_, s)| s.draining.load(Relaxed)) {
            server.drop_idle();
        }
        for backend in old.backends.values() {
            backend.state.freed.notify_waiters();
        }
    }

    /// Shuts what is still open at servers that left.
    fn retire(&self, old: &Live, new: &Live) {
        let stays: BTreeSet<*const ServerState> =
            new.servers().map(|(_, s)| Arc::as_ptr(s)).collect();
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|(_, s)| s.open.load(Relaxed) > 0);
        for (backend, server) in old.servers().filter(|(_, s)| !stays.contains(&Arc::as_ptr(s))) {
            server.gone.cancel();
            server.drop_idle();
            if server.open.load(Relaxed) > 0 && retired.len() < RETIRED {
                retired.push((backend.clone(), server.clone()));
            }
        }
    }

    /// A place at a server of the backend, waiting for one as long as its queue allows.
    pub(crate) async fn place(
        &self,
        backend: &BackendName,
        choice: &Choice,
    ) -> Result<(Lease, Option<String>), Refused> {
        if let Some(settled) = settled(self.pick(backend, choice)) {
            return settled;
        }
        let live = self.live();
        let Some(full) = live.backends.get(backend) else { return Err(Refused::Nobody) };
        let state = full.state.clone();
        let deadline = Instant::now() + full.spec.limits.queue;
        let _waiting = Waiting::enter(&state.stats.queued)?;
        loop {
            let freed = state.freed.notified();
            tokio::pin!(freed);
            // Before looking, or a place freed in between would wake nobody.
            freed.as_mut().enable();
            if let Some(settled) = settled(self.pick(backend, choice)) {
                return settled;
            }
            timeout_at(deadline, freed).await.map_err(|_| Refused::Queue)?;
        }
    }

    /// Under the lock: a place is taken by the table in force, or not at all.
    fn pick(&self, backend: &BackendName, choice: &Choice) -> Picked {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        live.backends.get(backend).map_or(Picked::Nobody, |backend| backend.pick(choice))
    }

    /// How long a client's connection may wait for its next request.
    pub(crate) fn idle_timeout(&self, port: u16) -> Duration {
        let live = self.live();
        let Some(Listener::Http { routes, .. }) = live.table.listeners.get(&port) else {
            return IDLE;
        };
        let backends = routes.iter().filter_map(|r| live.backends.get(&r.backend));
        let longest = backends.map(|b| b.spec.timeouts.keep_alive.max(b.spec.timeouts.request));
        longest.max().unwrap_or(IDLE)
    }

    pub(crate) fn traffic(&self) -> Traffic {
        let live = self.live();
        let mut traffic = Traffic { table: live.hash, ..Traffic::default() };
        for (name, backend) in &live.backends {
            let stats = &backend.state.stats;
            let counted = BackendTraffic {
                requests: stats.requests.load(Relaxed),
                failures: stats.failures.load(Relaxed),
                queued: stats.queued.load(Relaxed),
                response_time: stats.response_time(),
                ..BackendTraffic::default()
            };
            traffic.backends.insert(name.clone(), counted);
        }
        let retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let old = retired.iter().map(|(name, server)| (name, server));
        for (name, server) in live.servers().chain(old) {
            let backend = traffic.backends.entry(name.clone()).or_default();
            let open = server.open.load(Relaxed);
            backend.in_flight += open;
            let seen = backend.servers.entry(server.name.clone()).or_default();
            seen.open += open;
            seen.requests += server.requests.load(Relaxed);
            seen.up |= server.is_up() && !server.gone.is_cancelled();
        }
        traffic
    }
}

fn settled(picked: Picked) -> Option<Result<(Lease, Option<String>), Refused>> {
    match picked {
        Picked::Place { lease, cookie } => Some(Ok((lease, cookie))),
        Picked::Nobody => Some(Err(Refused::Nobody)),
        Picked::Full => None,
    }
}

/// A place in a queue.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn enter(queued: &'a AtomicU64) -> Result<Self, Refused> {
        let more = |n| (n < QUEUE).then_some(n + 1);
        match queued.fetch_update(Relaxed, Relaxed, more) {
            Ok(_) => Ok(Self(queued)),
            Err(_) => Err(Refused::Queue),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
