//! Tables written shortly, and configurations put together as a balancer would.
#![allow(dead_code, unreachable_pub)] // each test program uses its part

pub mod live;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use lb_core::{
    AppName, Backend, BackendName, CertificatePem, DomainName, Fragment, Listener, PathPrefix,
    Prefix, Protocol, RenderedConfig, Route, RoutingTable, Server, ServerName,
};
use lb_haproxy::{layout, server_lines};

/// A self-signed certificate for `shop.example.org` and `*.shop.example.org`.
pub const CERTIFICATE: &str = include_str!("../data/shop.pem");

pub fn backend_name(text: &str) -> BackendName {
    BackendName::new(text).unwrap()
}

/// A routing table in the making.
#[derive(Debug, Clone, Default)]
pub struct Table(pub RoutingTable);

impl Table {
    pub fn new() -> Self {
        Self::default()
    }

    /// A backend `app.port` with servers at these addresses.
    pub fn backend(self, name: &str, protocol: Protocol, servers: &[SocketAddr]) -> Self {
        self.backend_with(name, protocol, servers, |_| {})
    }

    pub fn backend_with(
        mut self,
        name: &str,
        protocol: Protocol,
        servers: &[SocketAddr],
        change: impl FnOnce(&mut Backend),
    ) -> Self {
        let app = AppName::new(name.split('.').next().unwrap()).unwrap();
        let mut backend = Backend::new(app, protocol);
        for (id, address) in (1..).zip(servers) {
            let server = Server::new(NonZeroU32::new(id).unwrap(), *address);
            backend.servers.insert(ServerName::new(format!("s{id}")).unwrap(), server);
        }
        change(&mut backend);
        self.0.backends.insert(backend_name(name), Arc::new(backend));
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
        let route = Route { host, path, prefix, backend: backend_name(backend) };
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
        let pem = CertificatePem::new(CERTIFICATE).unwrap();
        match self.0.listeners.get_mut(&port).unwrap() {
            Listener::Http { certificates, .. } => {
                certificates.insert(backend_name(owner), pem);
            }
            Listener::Tcp { certificate, .. } => *certificate = Some(pem),
        }
        self
    }

    pub fn tcp(mut self, port: u16, backend: &str) -> Self {
        let listener = Listener::Tcp { backend: backend_name(backend), certificate: None };
        self.0.listeners.insert(port, listener);
        self
    }
}

/// The renderer's text with server lines, as golden files hold it.
pub fn text_of(table: &RoutingTable, config: &RenderedConfig) -> String {
    let mut text = String::new();
    for fragment in &config.fragments {
        match fragment {
            Fragment::Text { text: lines, .. } => text.push_str(lines),
            Fragment::Servers(name) => {
                text.push_str(&server_lines(&table.backends[name], table.host.as_ref()));
            }
        }
    }
    text
}

/// Writes everything HAProxy needs below `directory`; the path of the configuration.
pub fn write_all(directory: &Path, table: &RoutingTable, config: &RenderedConfig) -> PathBuf {
    let at = |name: &str| directory.join(name);
    for (name, text) in &config.files {
        std::fs::write(at(name.as_str()), text).unwrap();
    }
    std::fs::write(at("shop.pem"), CERTIFICATE).unwrap();
    for (port, listener) in &table.listeners {
        let tls = match listener {
            Listener::Http { certificates, .. } => !certificates.is_empty(),
            Listener::Tcp { certificate, .. } => certificate.is_some(),
        };
        if tls {
            std::fs::write(at(layout::crt_list_file(*port).as_str()), "shop.pem\n").unwrap();
        }
    }
    let socket = |name: &str| at(name).to_str().unwrap().to_owned();
    let mut text = "global\n    nbthread 1\n    maxconn 1000\n".to_owned();
    for line in layout::GLOBAL_LINES {
        writeln!(text, "    {line}").unwrap();
    }
    writeln!(text, "    stats socket {} mode 600 level admin", socket("admin.sock")).unwrap();
    text.push_str(&layout::peers_section(&socket("peers.sock")));
    text.push_str(&text_of(table, config));
    let path = at("haproxy.cfg");
    std::fs::write(&path, text).unwrap();
    path
}

/// The HAProxy to test with.
pub fn haproxy() -> PathBuf {
    std::env::var_os("LB_TEST_HAPROXY").expect("LB_TEST_HAPROXY: set by testbed/up").into()
}

/// `haproxy -c`, with warnings counted as failures.
pub fn check(path: &Path) -> Result<(), String> {
    let output = Command::new(haproxy()).arg("-c").arg("-f").arg(path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.success() && !said.contains("[WARNING]") && !said.contains("[ALERT]") {
        true => Ok(()),
        false => Err(said),
    }
}
