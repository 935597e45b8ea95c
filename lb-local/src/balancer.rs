//! An HTTP and TCP balancer inside this process.

mod body;
mod headers;
mod http;
mod limit;
mod listen;
mod live;
mod patient;
mod pick;
mod refused;
mod route;
mod server;
mod shared;
mod stats;
mod tcp;
mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use lb_core::balancer::{HEADER_BYTES, checked_header_bytes};
use lb_core::{
    Applied, BalancerInfo, ByteSize, Change, Error, ErrorKind, FileName, Keyed, Listener,
    LoadBalancer, Membership, Result, RoutingTable, SetAside, Traffic,
};
use tokio::sync::Mutex as AsyncMutex;

use self::listen::Listening;
use self::live::Live;
use self::shared::Shared;

/// Deadline of `apply` and `shutdown`.
const CALL: Duration = Duration::from_secs(30);
/// How long what is in flight may take when the balancer ends.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Balances inside this process: HTTP/1.1 and HTTP/2 in the clear from clients, HTTP/1.1 to servers, and
/// TCP. No reload, no files, no other process; it ends when the last clone of it is dropped.
///
/// It speaks no TLS: such listeners are set aside. Listeners are bound to one address, 127.0.0.1 unless
/// said otherwise, so that several can share a machine.
///
/// ```no_run
/// # async fn example(table: lb_core::RoutingTable) -> lb_core::Result<()> {
/// use lb_core::LoadBalancer as _;
/// let balancer = lb_local::LocalBalancer::new();
/// let applied = balancer.apply(&table).await?;
/// assert!(applied.set_aside.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LocalBalancer {
    inner: Arc<Inner>,
    keyed: Keyed<&'static str>,
}

/// What the value owns. Connections hold [`Shared`] only, so that the last value's drop closes the ports.
#[derive(Debug)]
struct Inner {
    ip: IpAddr,
    shared: Arc<Shared>,
    /// One change at a time; the ports that are open.
    open: AsyncMutex<Open>,
    asked: AtomicU64,
}

#[derive(Debug, Default)]
struct Open {
    /// Which call the table in force is from: a later call must not be undone by an earlier one.
    call: u64,
    ports: BTreeMap<u16, Listening>,
    set_aside: BTreeMap<SetAside, String>,
}

impl LocalBalancer {
    /// A balancer on 127.0.0.1.
    pub fn new() -> Self {
        Self::on(Ipv4Addr::LOCALHOST.into())
    }

    /// A balancer whose listeners are bound to `ip`.
    pub fn on(ip: IpAddr) -> Self {
        Self::bounded(ip, HEADER_BYTES).unwrap_or_else(|e| unreachable!("the default: {e}"))
    }

    /// The same with another bound on the header fields of a request, and of an answer, than
    /// [`HEADER_BYTES`]: 8 KiB to 1 MiB.
    ///
    /// # Errors
    /// `Invalid` when it is out of that range.
    pub fn bounded(ip: IpAddr, header_bytes: ByteSize) -> Result<Self> {
        let header_bytes = checked_header_bytes(header_bytes)?;
        let inner = Inner {
            ip,
            shared: Arc::new(Shared::new(header_bytes)),
            open: AsyncMutex::default(),
            asked: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner), keyed: Keyed::default() })
    }
}

impl Default for LocalBalancer {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl LoadBalancer for LocalBalancer {
    async fn describe(&self) -> Result<BalancerInfo> {
        Ok(BalancerInfo {
            name: "local".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            servers_without_reload: true,
            membership: Membership::RunTime,
            abilities: BTreeSet::new(),
            reloads: 0,
            cut: 0,
        })
    }

    async fn apply(&self, table: &RoutingTable) -> Result<Applied> {
        table.check().map_err(|e| e.during("apply"))?;
        let call = self.inner.asked.fetch_add(1, Relaxed) + 1;
        let (inner, table) = (self.inner.clone(), table.clone());
        let work = async move { Ok(inner.put_in_force(call, &table).await) };
        self.keyed.run("table", "apply", CALL, work).await
    }

    async fn traffic(&self) -> Result<Traffic> {
        Ok(self.inner.shared.traffic())
    }

    async fn files(&self) -> Result<BTreeMap<FileName, String>> {
        let mut table = self.inner.shared.live().table.clone();
        for listener in table.listeners.values_mut() {
            match listener {
                Listener::Http { certificates, .. } => certificates.clear(),
                Listener::Tcp { certificate, .. } => *certificate = None,
            }
        }
        let failed = |e: serde_json::Error| {
            Error::new(ErrorKind::Unexpected, "show", "table", e.to_string()).with_source(e)
        };
        let text = serde_json::to_string_pretty(&table).map_err(failed)?;
        Ok(BTreeMap::from([(FileName::new("table.json")?, text)]))
    }

    async fn shutdown(&self) -> Result<()> {
        let call = self.inner.asked.fetch_add(1, Relaxed) + 1;
        let inner = self.inner.clone();
        let work = async move {
            inner.end(call).await;
            Ok(())
        };
        self.keyed.run("table", "shutdown", CALL, work).await
    }
}

impl Inner {
    async fn put_in_force(&self, call: u64, table: &RoutingTable) -> Applied {
        let mut open = self.open.lock().await;
        let old = self.shared.live();
        let hash = table.hash();
        if call < open.call {
            let now = old.hash.unwrap_or(hash);
            return Applied { table: now, change: Change::None, set_aside: open.set_aside.clone() };
        }
        open.call = call;
        if old.hash == Some(hash) && open.set_aside.is_empty() {
            return Applied { table: hash, change: Change::None, set_aside: BTreeMap::new() };
        }
        let change = match old.hash {
            None => Change::Start,
            Some(old) if old == hash => Change::None,
            Some(_) => Change::Live,
        };
        // The table first: a port that opens must find its routes.
        self.shared.swap(Live::new(table, &old));
        open.set_aside = self.open_ports(&mut open.ports, table).await;
        tracing::info!(table = %hash, ?change, set_aside = open.set_aside.len(), "table in force");
        Applied { table: hash, change, set_aside: open.set_aside.clone() }
    }

    /// Closes ports that left the table, opens those that came, and says which could not be.
    async fn open_ports(
        &self,
        ports: &mut BTreeMap<u16, Listening>,
        table: &RoutingTable,
    ) -> BTreeMap<SetAside, String> {
        let mut set_aside = BTreeMap::new();
        ports.retain(|port, _| table.listeners.get(port).is_some_and(|l| !is_tls(l)));
        for (port, listener) in &table.listeners {
            if is_tls(listener) {
                let reason = "TLS needs a balancer that speaks it, such as lb-haproxy";
                set_aside.insert(SetAside::Listener(*port), reason.to_owned());
            } else if !ports.contains_key(port) {
                match listen::open(&self.shared, self.ip, *port).await {
                    Ok(listening) => drop(ports.insert(*port, listening)),
                    Err(error) => {
                        let reason = format!("{}:{port} cannot be bound: {error}", self.ip);
                        tracing::warn!(port, %error, "listener set aside");
                        set_aside.insert(SetAside::Listener(*port), reason);
                    }
                }
            }
        }
        set_aside
    }

    async fn end(&self, call: u64) {
        let mut open = self.open.lock().await;
        *open = Open { call, ..Open::default() };
        let tasks = &self.shared.tasks;
        tasks.close();
        let done = tokio::time::timeout(SHUTDOWN, tasks.wait()).await;
        self.shared.cut();
        if done.is_err() {
            tasks.wait().await;
        }
        tasks.reopen();
        self.shared.swap(Live::default());
    }
}

fn is_tls(listener: &Listener) -> bool {
    match listener {
        Listener::Http { certificates, .. } => !certificates.is_empty(),
        Listener::Tcp { certificate, .. } => certificate.is_some(),
    }
}

impl fmt::Debug for LocalBalancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBalancer")
            .field("ip", &self.inner.ip)
            .field("table", &self.inner.shared.live().hash)
            .finish_non_exhaustive()
    }
}
