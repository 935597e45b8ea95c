//! Servers: as the lines of an `upstream`, and as the text Lua picks from. The text is also the record of what
//! was put in force, whichever way servers are picked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use lb_core::{
    Backend, BackendName, Balance, HostId, Protocol, RoutingTable, Server, ServerName, ServerState,
};
use xxhash_rust::xxh3::xxh3_128;

use crate::layout;

/// Bytes of an upstream's shared memory for itself and for each server (1.22: some 700 on 64 bits).
const ZONE_BYTES: usize = 64 * 1024;
const SERVER_BYTES: usize = 2 * 1024;

/// Who picks the servers of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Picker {
    /// Lua: its servers change without a reload.
    Lua,
    /// NGINX itself, by what the configuration says.
    Nginx,
}

/// The servers of a table by backend, as the record holds them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Record(BTreeMap<BackendName, Entry>);

/// A backend in the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub picker: Picker,
    /// Settings and servers, a line each.
    pub lines: String,
}

impl Record {
    /// The servers of a table, as seen from its host.
    pub(crate) fn of(table: &RoutingTable, picker: impl Fn(&Backend) -> Picker) -> Self {
        let host = table.host.as_ref();
        let entry = |b: &Backend| Entry { picker: picker(b), lines: lines(b, host) };
        Self(table.backends.iter().map(|(name, b)| (name.clone(), entry(b))).collect())
    }

    /// The whole text: Lua's backends are all there are.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("all {}\n", self.state());
        for (name, entry) in &self.0 {
            entry.write(name, &mut text);
        }
        text
    }

    /// The text that brings Lua from an earlier record to this one; `None` where it says nothing new.
    pub(crate) fn changes(&self, before: &Self) -> Option<String> {
        if self.state() == before.state() {
            return None;
        }
        let mut text = format!("state {}\n", self.state());
        let by_lua =
            |record: &Self, name| record.0.get(name).is_some_and(|e| e.picker == Picker::Lua);
        for name in before.0.keys().filter(|n| by_lua(before, n) && !by_lua(self, n)) {
            let _ = writeln!(text, "remove {name}");
        }
        for (name, entry) in self.0.iter().filter(|(_, e)| e.picker == Picker::Lua) {
            if before.0.get(name) != Some(entry) {
                entry.write(name, &mut text);
            }
        }
        Some(text)
    }

    /// Names what Lua picks from.
    pub(crate) fn state(&self) -> String {
        let mut text = String::new();
        for (name, entry) in self.0.iter().filter(|(_, e)| e.picker == Picker::Lua) {
            entry.write(name, &mut text);
        }
        format!("{:032x}", xxh3_128(text.as_bytes()))
    }

    /// The inverse of [`text`](Self::text); `None` for any other.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (first, rest) = text.split_once('\n')?;
        first.strip_prefix("all ")?;
        let mut record = Self::default();
        let mut open: Option<&mut Entry> = None;
        // Not `lines()`, which takes a carriage return off as well.
        for line in rest.split_terminator('\n') {
            let picker = match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["backend", _] => Some(Picker::Lua),
                ["static", _] => Some(Picker::Nginx),
                _ => None,
            };
            if let (Some(picker), Some((_, name))) = (picker, line.split_once(' ')) {
                let name = BackendName::new(name).ok()?;
                open = Some(record.0.entry(name).or_insert(Entry { picker, lines: String::new() }));
                continue;
            }
            let _ = writeln!(open.as_mut()?.lines, "{line}");
        }
        Some(record)
    }

    /// The backends.
    pub(crate) fn backends(&self) -> impl Iterator<Item = (&BackendName, &Entry)> {
        self.0.iter()
    }

    /// The backend of this name.
    pub(crate) fn get(&self, name: &BackendName) -> Option<&Entry> {
        self.0.get(name)
    }
}

impl Entry {
    fn write(&self, name: &BackendName, text: &mut String) {
        let verb = match self.picker {
            Picker::Lua => "backend",
            Picker::Nginx => "static",
        };
        let _ = write!(text, "{verb} {name}\n{}", self.lines);
    }

    /// The servers by name, with their addresses.
    pub(crate) fn servers(&self) -> BTreeMap<ServerName, SocketAddr> {
        let server = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let [name, host, port, ..] = words.as_slice() else { return None };
            Some((ServerName::new(name).ok()?, format!("{host}:{port}").parse().ok()?))
        };
        self.lines.lines().skip(1).filter_map(server).collect()
    }
}

/// `METHOD QUEUE_MS LIMIT FALL EJECT_MS SLOW_MS COOKIE HEADER`, then for each server
/// `NAME HOST PORT WEIGHT ID active|draining`.
fn lines(backend: &Backend, host: Option<&HostId>) -> String {
    let (limits, health) = (&backend.limits, &backend.health);
    let (method, header) = match &backend.balance {
        Balance::RoundRobin => ("turn", None),
        Balance::LeastConnections => ("least", None),
        Balance::RandomTwo => ("random", None),
        Balance::SourceHash => ("source", None),
        Balance::UriHash => ("uri", None),
        Balance::HeaderHash(header) => ("header", Some(header.as_str())),
    };
    let cookie = backend.sticky.as_ref().map(|s| s.cookie.as_str());
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{method} {} {} {} {} {} {} {}",
        limits.queue.as_millis(),
        limits.connections_per_instance.map_or(0, Into::into),
        health.fall,
        (health.interval * health.fall.get()).as_millis(),
        limits.slow_start.unwrap_or_default().as_millis(),
        cookie.unwrap_or("-"),
        header.unwrap_or("-"),
    );
    for (name, server) in &backend.servers {
        let address = server.address_from(host);
        let shown = match address {
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        };
        let state = match server.state {
            ServerState::Active => "active",
            ServerState::Draining => "draining",
        };
        let (port, weight, id) = (address.port(), server.weight, server.id);
        let _ = writeln!(text, "{name} {shown} {port} {weight} {id} {state}");
    }
    text
}

/// What an `upstream` holds where Lua picks: NGINX wants a server, and asks Lua for another.
pub(crate) const LUA_LINES: &str =
    "        server 0.0.0.1:1;\n        balancer_by_lua_block { lb.balance() }\n";

/// What it holds where NGINX picks. `hashed` is the number of the backend's map, where it hashes what needs
/// one; `none` answers 503 for a backend without a server.
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

fn server_line(backend: &Backend, server: &Server, host: Option<&HostId>) -> String {
    let (health, fall) = (&backend.health, backend.health.fall);
    // Whole seconds: NGINX cuts the rest.
    let eject = (health.interval * fall.get()).as_millis().div_ceil(1000).max(1);
    let mut line = format!(
        "        server {} weight={} max_fails={fall} fail_timeout={eject}s",
        server.address_from(host),
        server.weight
    );
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

    fn table(ids: &[u32]) -> RoutingTable {
        let mut table = RoutingTable::default();
        for (name, protocol) in [("shop.web", Protocol::Http), ("db.sql", Protocol::Tcp)] {
            let mut backend = Backend::new(AppName::new("shop").unwrap(), protocol);
            for id in ids {
                let address = format!("[fd00::{id}]:80").parse().unwrap();
                let server = Server::new(NonZeroU32::new(*id).unwrap(), address);
                backend.servers.insert(ServerName::new(format!("s{id}")).unwrap(), server);
            }
            table.backends.insert(BackendName::new(name).unwrap(), Arc::new(backend));
        }
        table
    }

    fn record(ids: &[u32]) -> Record {
        Record::of(&table(ids), |b| match b.protocol {
            Protocol::Http => Picker::Lua,
            Protocol::Tcp => Picker::Nginx,
        })
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let record = record(&[1, 2]);
        assert_eq!(Record::parse(&record.text()), Some(record.clone()));
        let servers = record.get(&BackendName::new("db.sql").unwrap()).unwrap().servers();
        assert_eq!(servers[&ServerName::new("s2").unwrap()], "[fd00::2]:80".parse().unwrap());
        assert_eq!(Record::parse("something else\n"), None);
        let odd = Record::parse("all 1\nbackend shop.web\nleast\r\r\n").unwrap();
        assert_eq!(Record::parse(&odd.text()), Some(odd));
    }

    #[test]
    fn lua_is_told_what_is_its_own_and_changed() {
        let (one, two) = (record(&[1]), record(&[1, 2]));
        assert_eq!(one.changes(&one), None);
        let changes = two.changes(&one).unwrap();
        assert!(
            changes.starts_with(&format!("state {}\nbackend shop.web\n", two.state())),
            "{changes}"
        );
        assert!(changes.contains("s2 [fd00::2] 80 100 2 active\n") && !changes.contains("db.sql"));
        let none = Record::default();
        assert!(none.changes(&one).unwrap().ends_with("remove shop.web\n"));
    }
}
