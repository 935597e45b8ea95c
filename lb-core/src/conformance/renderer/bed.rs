//! A renderer, and tables that use all of the model.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::super::certificate::certificate;
use super::super::{Ground, Wrapped};
use crate::config::{ConfigRenderer, Fragment, RenderedConfig};
use crate::model::{
    AppName, BackendName, Balance, ByteSize, Check, PathPrefix, Prefix, Protocol, RateLimit,
    ServerName, Sticky,
};
use crate::routing::{Backend, Listener, Route, RoutingTable, Server};

/// What a renderer's tests give the suite.
pub trait RendererSetup: Debug + Send + Sync + 'static {
    /// The renderer; asked again, another value that renders alike.
    fn renderer(&self) -> Arc<dyn ConfigRenderer>;
}

/// A renderer under test.
#[derive(Debug)]
pub struct Bed {
    /// The setup.
    pub setup: Arc<dyn RendererSetup>,
    /// Its renderer.
    pub renderer: Arc<dyn ConfigRenderer>,
}

impl Bed {
    /// A bed for the renderer.
    pub async fn new(setup: impl RendererSetup) -> Self {
        Self { renderer: setup.renderer(), setup: Arc::new(setup) }
    }

    /// Renders a table that must be expressible.
    pub fn render(&self, table: &RoutingTable) -> RenderedConfig {
        self.renderer.render(table).unwrap_or_else(|e| panic!("{e} in {table:?}"))
    }
}

/// All text of a configuration.
pub(super) fn text(config: &RenderedConfig) -> impl Iterator<Item = &str> {
    let fragments = config.fragments.iter().filter_map(|fragment| match fragment {
        Fragment::Text { text, .. } => Some(text.as_str()),
        Fragment::Servers(_) => None,
    });
    fragments.chain(config.files.values().map(String::as_str))
}

pub(super) fn name_of(app: &str) -> BackendName {
    BackendName::new(format!("{app}.web")).unwrap()
}

fn backend(app: &str, protocol: Protocol) -> Backend {
    let mut backend = Backend::new(AppName::new(app).unwrap(), protocol);
    for id in 1..=3u8 {
        let address = SocketAddr::from(([10, 0, 0, id], 8080));
        let server = Server::new(NonZeroU32::MIN.saturating_add(id.into()), address);
        backend.servers.insert(ServerName::new(format!("s{id}")).unwrap(), server);
    }
    backend
}

/// A table of one HTTP app on one port.
pub(super) fn plain(app: &str) -> RoutingTable {
    let mut table = RoutingTable::default();
    http(&mut table, 80, None, "/", app);
    table.backends.insert(name_of(app), Arc::new(backend(app, Protocol::Http)));
    table
}

fn http(table: &mut RoutingTable, port: u16, host: Option<&str>, path: &str, app: &str) {
    let none = || Listener::Http { routes: BTreeSet::new(), certificates: BTreeMap::new() };
    if let Listener::Http { routes, .. } = table.listeners.entry(port).or_insert_with(none) {
        routes.insert(Route {
            host: host.map(|host| host.parse().unwrap()),
            path: PathPrefix::new(path).unwrap(),
            prefix: Prefix::Kept,
            backend: name_of(app),
        });
    }
}

fn with(app: &str, change: impl FnOnce(&mut Backend)) -> RoutingTable {
    let mut table = plain(app);
    change(Arc::make_mut(table.backends.get_mut(&name_of(app)).unwrap()));
    table
}

/// One table for each feature of the model, by what it is.
pub(super) fn features() -> Vec<(&'static str, RoutingTable)> {
    let mut routes = plain("shop");
    for (host, path) in [
        (Some("shop.example.org"), "/"),
        (Some("shop.example.org"), "/cart"),
        (Some("*.shop.example.org"), "/a-b_c~d.e"),
        (None, "/api/v1"),
    ] {
        http(&mut routes, 8080, host, path, "shop");
    }
    let mut stripped = plain("shop");
    if let Some(Listener::Http { routes, .. }) = stripped.listeners.get_mut(&80) {
        *routes = routes
            .iter()
            .map(|r| Route { prefix: Prefix::Stripped, path: "/x".parse().unwrap(), ..r.clone() })
            .collect();
    }
    let mut tcp = plain("shop");
    let listener = Listener::Tcp { backend: name_of("db"), certificate: None };
    tcp.listeners.insert(5432, listener);
    tcp.backends.insert(name_of("db"), Arc::new(backend("db", Protocol::Tcp)));
    let mut all = vec![
        ("plain", plain("shop")),
        ("routes", routes),
        ("stripped", stripped),
        ("tcp", tcp),
        ("tls", tls()),
        ("no servers", with("shop", |b| b.servers.clear())),
        ("sticky", with("shop", |b| b.sticky = Some(Sticky { cookie: "LB".parse().unwrap() }))),
        ("body limit", with("shop", |b| b.limits.body = Some(ByteSize::mib(1)))),
        (
            "rate limit",
            with("shop", |b| {
                let requests = NonZeroU32::MIN.saturating_add(9);
                b.limits.rate = Some(RateLimit { requests, window: Duration::from_secs(10) });
            }),
        ),
        ("slow start", with("shop", |b| b.limits.slow_start = Some(Duration::from_secs(20)))),
        (
            "connection limit",
            with("shop", |b| {
                b.limits.connections_per_instance = Some(NonZeroU32::MIN.saturating_add(63));
            }),
        ),
        (
            "http check",
            with("shop", |b| {
                b.health.check = Check::Http("/healthz?deep=1".parse().unwrap());
            }),
        ),
    ];
    for (what, balance) in [
        ("balance: round robin", Balance::RoundRobin),
        ("balance: least connections", Balance::LeastConnections),
        ("balance: random of two", Balance::RandomTwo),
        ("balance: source hash", Balance::SourceHash),
        ("balance: uri hash", Balance::UriHash),
        ("balance: header hash", Balance::HeaderHash("x-user".parse().unwrap())),
    ] {
        all.push((what, with("shop", |b| b.balance = balance)));
    }
    all
}

/// TLS for HTTP and for byte streams.
pub(super) fn tls() -> RoutingTable {
    let mut table = plain("shop");
    http(&mut table, 443, None, "/", "shop");
    if let Some(Listener::Http { certificates, .. }) = table.listeners.get_mut(&443) {
        certificates.insert(name_of("shop"), certificate());
    }
    let listener = Listener::Tcp { backend: name_of("db"), certificate: Some(certificate()) };
    table.listeners.insert(8883, listener);
    table.backends.insert(name_of("db"), Arc::new(backend("db", Protocol::Tcp)));
    table
}

impl Ground for Bed {}

#[deny(clippy::missing_trait_methods)]
impl<S: RendererSetup> RendererSetup for Wrapped<S, dyn ConfigRenderer> {
    fn renderer(&self) -> Arc<dyn ConfigRenderer> {
        self.wrap(self.setup.renderer())
    }
}
