//! Servers: as the lines of an `upstream`, and as the record of what was put in force.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use lb_core::{
    Backend, BackendName, Balance, HostId, Protocol, RoutingTable, Server, ServerName, ServerState,
};

use crate::layout;

/// Bytes of an upstream's shared memory for itself and for each server (1.22: some 700 on 64 bits).
const ZONE_BYTES: usize = 64 * 1024;
const SERVER_BYTES: usize = 2 * 1024;

/// The servers of a table by backend, with their addresses as seen from its host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Record(BTreeMap<BackendName, Servers>);

/// The servers of a backend.
pub(crate) type Servers = BTreeMap<ServerName, SocketAddr>;

impl Record {
    /// The servers of a table.
    pub(crate) fn of(table: &RoutingTable) -> Self {
        let host = table.host.as_ref();
        let servers = |b: &Backend| -> Servers {
            b.servers.iter().map(|(name, s)| (name.clone(), s.address_from(host))).collect()
        };
        Self(table.backends.iter().map(|(name, b)| (name.clone(), servers(b))).collect())
    }

    /// A line for each backend, and one for each of its servers after it.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (name, servers) in &self.0 {
            let _ = writeln!(text, "backend {name}");
            for (server, address) in servers {
                let _ = writeln!(text, "{server} {address}");
            }
        }
        text
    }

    /// The inverse of [`text`](Self::text); `None` for any other.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut record = Self::default();
        let mut open: Option<&mut Servers> = None;
        for line in text.lines() {
            match line.split_once(' ')? {
                ("backend", name) if BackendName::new(name).is_ok() => {
                    open = Some(record.0.entry(BackendName::new(name).ok()?).or_default());
                }
                (name, address) => {
                    let server = (ServerName::new(name).ok()?, address.parse().ok()?);
                    open.as_mut()?.insert(server.0, server.1);
                }
            }
        }
        Some(record)
    }

    /// The backends.
    pub(crate) fn backends(&self) -> impl Iterator<Item = (&BackendName, &Servers)> {
        self.0.iter()
    }

    /// The servers of the backend of this name.
    pub(crate) fn get(&self, name: &BackendName) -> Option<&Servers> {
        self.0.get(name)
    }
}

/// What an `upstream` holds. `hashed` is the number of the backend's map, where it hashes what needs one; `none`
/// answers 503 for a backend without a server, and where all have as many connections as they may.
pub(crate) fn upstream_lines(
    name: &BackendName,
    backend: &Backend,
    host: Option<&HostId>,
    hashed: Option<usize>,
    none: &Path,
) -> String {
    let bytes = (ZONE_BYTES + SERVER_BYTES * backend.servers.len()).next_power_of_two() / 1024;
    let mut text = format!("        zone {name} {bytes}k;\n");
    let method = method(backend, hashed);
    text.push_str(&method);
    for server in backend.servers.values() {
        text.push_str(&server_line(backend, server, host));
    }
    let active = backend.servers.values().any(|s| s.state == ServerState::Active);
    let limited = backend.limits.connections_per_instance.is_some();
    match (backend.protocol, active) {
        (Protocol::Tcp, _) if backend.servers.is_empty() => {
            text.push_str("        server 0.0.0.1:1 down;\n");
        }
        (Protocol::Tcp, _) => {}
        (Protocol::Http, false) => {
            let _ = writeln!(text, "        server unix:{};", none.display());
        }
        // A method that draws or hashes has no place for a backup.
        (Protocol::Http, true) if method.contains("hash ") || method.contains("random ") => {}
        (Protocol::Http, true) if !limited => {}
        (Protocol::Http, true) => {
            let _ = writeln!(text, "        server unix:{} backup;", none.display());
        }
    }
    text
}

fn method(backend: &Backend, hashed: Option<usize>) -> String {
    let line = match (&backend.balance, hashed) {
        (_, Some(number)) => format!("hash $lb_hash_{number} consistent"),
        (Balance::RoundRobin | Balance::HeaderHash(_), None) => return String::new(),
        (Balance::LeastConnections, None) => "least_conn".to_owned(),
        (Balance::RandomTwo, None) => "random two least_conn".to_owned(),
        (Balance::SourceHash, None) => "hash $remote_addr consistent".to_owned(),
        (Balance::UriHash, None) => format!("hash ${} consistent", layout::PATH_VARIABLE),
    };
    format!("        {line};\n")
}

/// A server that failed is not left out (`max_fails=0`): what NGINX takes for a failure may be the request's, and
/// would take the app from everybody.
fn server_line(backend: &Backend, server: &Server, host: Option<&HostId>) -> String {
    let (address, weight) = (server.address_from(host), server.weight);
    let mut line = format!("        server {address} weight={weight} max_fails=0");
    if let Some(most) = backend.limits.connections_per_instance {
        let _ = write!(line, " max_conns={most}");
    }
    if server.state == ServerState::Draining {
        line.push_str(" down");
    }
    line.push_str(";\n");
    line
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use lb_core::AppName;

    use super::*;

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let mut table = RoutingTable::default();
        // A server may be called as the lines of backends begin.
        for (app, server) in [("shop", "backend"), ("db", "s2")] {
            let mut backend = Backend::new(AppName::new(app).unwrap(), Protocol::Http);
            let address = "[fd00::2]:80".parse().unwrap();
            let new = Server::new(NonZeroU32::MIN, address);
            backend.servers.insert(ServerName::new(server).unwrap(), new);
            table.backends.insert(BackendName::new(app).unwrap(), Arc::new(backend));
        }
        let empty = Backend::new(AppName::new("none").unwrap(), Protocol::Tcp);
        table.backends.insert(BackendName::new("none").unwrap(), Arc::new(empty));
        let record = Record::of(&table);
        assert_eq!(Record::parse(&record.text()), Some(record.clone()));
        let servers = record.get(&BackendName::new("shop").unwrap()).unwrap();
        assert_eq!(servers[&ServerName::new("backend").unwrap()], "[fd00::2]:80".parse().unwrap());
        for wrong in ["something else\n", "s1 10.0.0.1:80\n", "backend\n", "backend a\ns1 x\n"] {
            assert_eq!(Record::parse(wrong), None, "{wrong:?}");
        }
    }
}
