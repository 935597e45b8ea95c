//! Tables with host names and paths: `host/path` to a backend.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use lb_core::{
    AppName, Backend, BackendName, CertificatePem, DomainName, Listener, PathPrefix, Prefix,
    Protocol, Route, RoutingTable, Server, ServerName,
};

use super::tls;

fn name(text: &str) -> BackendName {
    BackendName::new(text).unwrap()
}

/// A routing table in the making.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Routes(pub RoutingTable);

impl Routes {
    pub fn new() -> Self {
        Self::default()
    }

    /// A backend `app.port` with servers at these addresses.
    pub fn backend(self, name: &str, protocol: Protocol, servers: &[SocketAddr]) -> Self {
        self.backend_with(name, protocol, servers, |_| {})
    }

    pub fn backend_with(
        mut self,
        at: &str,
        protocol: Protocol,
        servers: &[SocketAddr],
        change: impl FnOnce(&mut Backend),
    ) -> Self {
        let app = AppName::new(at.split('.').next().unwrap()).unwrap();
        let mut backend = Backend::new(app, protocol);
        for (id, address) in (1..).zip(servers) {
            let server = Server::new(NonZeroU32::new(id).unwrap(), *address);
            backend.servers.insert(ServerName::new(format!("s{id}")).unwrap(), server);
        }
        change(&mut backend);
        self.0.backends.insert(name(at), Arc::new(backend));
        self
    }

    /// A route: `host/path` (host empty: any) with the prefix kept.
    pub fn route(self, port: u16, at: &str, backend: &str) -> Self {
        self.route_with(port, at, Prefix::Kept, backend)
    }

    pub fn strip(self, port: u16, at: &str, backend: &str) -> Self {
        self.route_with(port, at, Prefix::Stripped, backend)
    }

    fn route_with(mut self, port: u16, at: &str, prefix: Prefix, backend: &str) -> Self {
        let cut = at.find('/').unwrap();
        let host = (cut > 0).then(|| DomainName::new(&at[..cut]).unwrap());
        let path = PathPrefix::new(&at[cut..]).unwrap();
        let route = Route { host, path, prefix, backend: name(backend) };
        self.routes(port).insert(route);
        self
    }

    fn routes(&mut self, port: u16) -> &mut BTreeSet<Route> {
        let empty = || Listener::Http { routes: BTreeSet::new(), certificates: BTreeMap::new() };
        match self.0.listeners.entry(port).or_insert_with(empty) {
            Listener::Http { routes, .. } => routes,
            Listener::Tcp { .. } => panic!("port {port} carries a byte stream"),
        }
    }

    /// TLS on an HTTP or TCP listener that is there already.
    pub fn tls(mut self, port: u16, owner: &str) -> Self {
        let pem = CertificatePem::new(tls::SHOP).unwrap();
        match self.0.listeners.get_mut(&port).unwrap() {
            Listener::Http { certificates, .. } => {
                certificates.insert(name(owner), pem);
            }
            Listener::Tcp { certificate, .. } => *certificate = Some(pem),
        }
        self
    }

    pub fn tcp(mut self, port: u16, backend: &str) -> Self {
        let listener = Listener::Tcp { backend: name(backend), certificate: None };
        self.0.listeners.insert(port, listener);
        self
    }
}
