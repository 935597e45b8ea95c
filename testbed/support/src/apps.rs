//! Tables with HTTP apps by path and TCP apps by port.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use lb_core::{
    AppName, Backend, CertificatePem, Listener, PathPrefix, Prefix, Protocol, Route, RoutingTable,
    Server, ServerState,
};

use super::{backend_name, server_name};

/// A table with HTTP apps by path and TCP apps by port.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Apps(pub RoutingTable);

impl Apps {
    pub fn new() -> Self {
        Self::default()
    }

    /// An HTTP app below a path, or one more path of it.
    pub fn http(mut self, port: u16, path: &str, app: &str) -> Self {
        let name = backend_name(app);
        let listener = self
            .0
            .listeners
            .entry(port)
            .or_insert_with(|| Listener::Http { routes: [].into(), certificates: [].into() });
        let Listener::Http { routes, .. } = listener else { panic!("{port} is a TCP port") };
        routes.insert(Route {
            host: None,
            path: PathPrefix::new(path).unwrap(),
            prefix: Prefix::Kept,
            backend: name.clone(),
        });
        self.0.backends.entry(name).or_insert_with(|| {
            let mut backend = Backend::new(AppName::new(app).unwrap(), Protocol::Http);
            backend.health.interval = Duration::from_millis(500);
            Arc::new(backend)
        });
        self
    }

    pub fn tcp(mut self, port: u16, app: &str) -> Self {
        let backend = backend_name(app);
        let listener = Listener::Tcp { backend: backend.clone(), certificate: None };
        self.0.listeners.insert(port, listener);
        let new = Backend::new(AppName::new(app).unwrap(), Protocol::Tcp);
        self.0.backends.insert(backend, Arc::new(new));
        self
    }

    pub fn server(mut self, app: &str, name: &str, id: u32, address: SocketAddr) -> Self {
        self.change(app, |b| {
            b.servers.insert(server_name(name), Server::new(NonZeroU32::new(id).unwrap(), address));
        });
        self
    }

    pub fn change(&mut self, app: &str, change: impl FnOnce(&mut Backend)) {
        change(Arc::make_mut(self.0.backends.get_mut(&backend_name(app)).unwrap()));
    }

    pub fn with(mut self, app: &str, change: impl FnOnce(&mut Backend)) -> Self {
        self.change(app, change);
        self
    }

    pub fn without(mut self, app: &str, server: &str) -> Self {
        self.change(app, |b| drop(b.servers.remove(&server_name(server))));
        self
    }

    pub fn draining(mut self, app: &str, server: &str) -> Self {
        self.change(app, |b| {
            b.servers.get_mut(&server_name(server)).unwrap().state = ServerState::Draining;
        });
        self
    }

    /// Has an app's certificate at a listener: TLS, of an HTTP one chosen by name.
    pub fn certified(mut self, port: u16, app: &str, pem: &str) -> Self {
        let pem = CertificatePem::new(pem).unwrap();
        match self.0.listeners.get_mut(&port).expect("a listener") {
            Listener::Http { certificates, .. } => {
                certificates.insert(backend_name(app), pem);
            }
            Listener::Tcp { certificate, .. } => *certificate = Some(pem),
        }
        self
    }
}
