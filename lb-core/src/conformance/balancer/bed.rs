//! What the cases run on: a balancer, and tables written shortly.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::super::{Ground, Stalled, Wrapped, eventually};
use super::client::{Answer, get};
use super::site::Site;
use crate::balancer::{Applied, BackendTraffic, LoadBalancer, ServerTraffic};
use crate::model::{AppName, BackendName, PathPrefix, Prefix, Protocol, ServerName};
use crate::routing::{Backend, Listener, Route, RoutingTable, Server, ServerState};

/// What a balancer's tests give the suite. Made anew for each case; cases run beside each other.
#[async_trait]
pub trait BalancerSetup: Debug + Send + Sync + 'static {
    /// The balancer of this case, not yet started. Asked again, another value for the same one, as a later
    /// process of the platform makes it.
    async fn balancer(&self) -> Arc<dyn LoadBalancer>;

    /// The address at which its listeners are reached. Servers of the cases listen on 127.0.0.1.
    fn address(&self) -> IpAddr;

    /// A port that nobody is bound to at that address, another at each call.
    fn port(&self) -> u16;

    /// Kills the balancer, as a crash does: nothing of it runs on, and what it wrote stays. A balancer within
    /// this process has nothing to kill, and leaves the cases out that need it.
    async fn kill(&self) {
        panic!("{self:?} has nothing to kill");
    }

    /// The directory its files lie in. A balancer without files leaves the cases out that need it.
    fn directory(&self) -> PathBuf {
        panic!("{self:?} has no files");
    }

    /// Keeps the balancer from answering and from doing anything, as a machine out of breath does. A balancer
    /// within this process cannot be stopped alone, and leaves the cases out that need it.
    async fn stall(&self) -> Stalled {
        panic!("{self:?} cannot be stalled");
    }

    /// Whether it waits for nothing but time, as [`Ground::is_in_memory`] says. Default: no.
    fn is_in_memory(&self) -> bool {
        false
    }
}

/// A balancer under test.
#[derive(Debug)]
pub struct Bed {
    /// The setup.
    pub setup: Arc<dyn BalancerSetup>,
    /// Its balancer.
    pub balancer: Arc<dyn LoadBalancer>,
    /// A port for a listener.
    pub port: u16,
}

impl Bed {
    /// A bed with a balancer that has not started.
    pub async fn new(setup: impl BalancerSetup) -> Self {
        let balancer = setup.balancer().await;
        Self { port: setup.port(), setup: Arc::new(setup), balancer }
    }

    /// Where a listener is reached.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.setup.address(), port)
    }

    /// Puts a table in force, and nothing may be set aside.
    pub async fn apply(&self, table: &RoutingTable) -> Applied {
        let applied = self.balancer.apply(table).await.unwrap();
        assert_eq!(applied.table, table.hash());
        assert_eq!(applied.set_aside, BTreeMap::new());
        applied
    }

    /// Whether the balancer says that this table is in force.
    pub async fn serves(&self, table: &RoutingTable) -> bool {
        self.balancer.traffic().await.unwrap().table == Some(table.hash())
    }

    /// A `GET` to the bed's port that must be answered.
    pub async fn get(&self, path: &str) -> Answer {
        get(self.at(self.port), "shop.test", path).await.unwrap()
    }

    /// Traffic of the backend `shop.web`.
    pub async fn traffic(&self) -> BackendTraffic {
        let traffic = self.balancer.traffic().await.unwrap();
        traffic.backends.get(&shop()).cloned().unwrap_or_default()
    }

    /// Traffic of one of its servers.
    pub async fn server(&self, site: &Site) -> ServerTraffic {
        self.traffic().await.servers.get(&site.name).copied().unwrap_or_default()
    }

    /// The servers of that backend.
    pub async fn servers(&self) -> Vec<ServerName> {
        self.traffic().await.servers.into_keys().collect()
    }

    /// Waits until so many connections or requests are open at a server.
    pub async fn open_at(&self, site: &Site, open: u64) {
        let what = format!("{open} open at {}", site.name);
        eventually(&what, async || self.server(site).await.open == open).await;
    }

    /// An HTTP listener at the bed's port that leads everything to `shop.web` with these servers.
    pub fn http(&self, sites: &[&Site]) -> RoutingTable {
        let mut table = RoutingTable::default();
        add_http(&mut table, self.port, None, "/", "shop");
        put(&mut table, "shop", backend(Protocol::Http, sites));
        table
    }

    /// A TCP listener there instead.
    pub fn tcp(&self, sites: &[&Site]) -> RoutingTable {
        let listener = Listener::Tcp { backend: shop(), certificate: None };
        let mut table = RoutingTable::default();
        table.listeners.insert(self.port, listener);
        put(&mut table, "shop", backend(Protocol::Tcp, sites));
        table
    }
}

/// The backend of most cases.
pub(super) fn shop() -> BackendName {
    name_of("shop")
}

pub(super) fn name_of(app: &str) -> BackendName {
    BackendName::new(format!("{app}.web")).unwrap()
}

/// A backend with these servers.
pub(super) fn backend(protocol: Protocol, sites: &[&Site]) -> Backend {
    let mut backend = Backend::new(AppName::new("shop").unwrap(), protocol);
    for site in sites {
        backend.servers.insert(site.name.clone(), server(site));
    }
    backend
}

pub(super) fn server(site: &Site) -> Server {
    Server::new(site.id, site.address)
}

/// A server nobody listens behind.
pub(super) fn dead(id: u32) -> (ServerName, Server) {
    let closed = SocketAddr::from(([127, 0, 0, 1], 1));
    let name = ServerName::new(format!("dead-{id}")).unwrap();
    (name, Server::new(NonZeroU32::new(id).unwrap(), closed))
}

pub(super) fn put(table: &mut RoutingTable, app: &str, backend: Backend) {
    let app_name = AppName::new(app).unwrap();
    table.backends.insert(name_of(app), Arc::new(Backend { app: app_name, ..backend }));
}

pub(super) fn change(table: &mut RoutingTable, change: impl FnOnce(&mut Backend)) {
    change(Arc::make_mut(table.backends.get_mut(&shop()).unwrap()));
}

pub(super) fn draining(table: &RoutingTable, site: &Site) -> RoutingTable {
    let mut table = table.clone();
    change(&mut table, |b| b.servers.get_mut(&site.name).unwrap().state = ServerState::Draining);
    table
}

/// A route of an HTTP listener, which is made if it is not there.
pub(super) fn add_http(
    table: &mut RoutingTable,
    port: u16,
    host: Option<&str>,
    path: &str,
    app: &str,
) {
    let none = || Listener::Http { routes: BTreeSet::new(), certificates: BTreeMap::new() };
    let Listener::Http { routes, .. } = table.listeners.entry(port).or_insert_with(none) else {
        panic!("{port} carries byte streams")
    };
    routes.insert(Route {
        host: host.map(|host| host.parse().unwrap()),
        path: PathPrefix::new(path).unwrap(),
        prefix: Prefix::Kept,
        backend: name_of(app),
    });
}

#[async_trait]
impl Ground for Bed {
    async fn clear(&self) {
        self.balancer.shutdown().await.unwrap();
    }

    fn is_in_memory(&self) -> bool {
        self.setup.is_in_memory()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: BalancerSetup> BalancerSetup for Wrapped<S, dyn LoadBalancer> {
    async fn balancer(&self) -> Arc<dyn LoadBalancer> {
        self.wrap(self.setup.balancer().await)
    }

    fn address(&self) -> IpAddr {
        self.setup.address()
    }

    fn port(&self) -> u16 {
        self.setup.port()
    }

    async fn kill(&self) {
        self.setup.kill().await;
    }

    fn directory(&self) -> PathBuf {
        self.setup.directory()
    }

    async fn stall(&self) -> Stalled {
        self.setup.stall().await
    }

    fn is_in_memory(&self) -> bool {
        self.setup.is_in_memory()
    }
}
