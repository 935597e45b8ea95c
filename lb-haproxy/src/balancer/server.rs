//! Server lines. One function makes the line in the file and the command at run time: a reload must find
//! exactly what the runtime API made.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_core::{Backend, BackendName, HostId, Server, ServerName, ServerState};

/// Servers by backend, as a file or a running HAProxy holds them.
pub(crate) type Servers = BTreeMap<BackendName, BackendServers>;

/// The servers of one backend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BackendServers {
    /// Whether new servers need the cookie key.
    pub sticky: bool,
    /// By name.
    pub servers: BTreeMap<ServerName, ServerEntry>,
}

/// One server, as its line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerEntry {
    pub address: SocketAddr,
    pub id: u32,
    pub weight: u16,
    pub draining: bool,
    /// What the line says behind these: equal for all servers of a backend.
    pub settings: Arc<str>,
}

/// Address and keywords, as both the line and `add server` take them. Everything is written out:
/// `add server` inherits nothing from `default-server`.
impl fmt::Display for ServerEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, id, weight, settings, .. } = self;
        write!(f, "{address} id {id} weight {weight} {settings}")
    }
}

impl ServerEntry {
    /// Adds the line in the file. A draining server is `disabled` there: after a reload or a restart it takes
    /// no request, and its open ones are in an old worker.
    pub(crate) fn write(&self, name: &ServerName, text: &mut String) {
        let disabled = if self.draining { " disabled" } else { "" };
        // A String takes all.
        let _ = writeln!(text, "    server {name} {self}{disabled}");
    }

    /// The inverse of [`write`](Self::write).
    pub(crate) fn parse(line: &str) -> Option<(ServerName, Self)> {
        let rest = line.trim().strip_prefix("server ")?;
        let (rest, draining) = match rest.strip_suffix(" disabled") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let mut words = rest.splitn(7, ' ');
        let name = ServerName::new(words.next()?).ok()?;
        let address = words.next()?.parse().ok()?;
        let id = (words.next()? == "id").then(|| words.next()?.parse().ok())??;
        let weight = (words.next()? == "weight").then(|| words.next()?.parse().ok())??;
        let settings = words.next()?.into();
        Some((name, Self { address, id, weight, draining, settings }))
    }
}

impl BackendServers {
    /// Adds the lines in the file.
    pub(crate) fn write(&self, text: &mut String) {
        for (server, entry) in &self.servers {
            entry.write(server, text);
        }
    }
}

/// The lines of a backend's servers as the balancer of `host` (`None`: of a host that reaches all inside)
/// writes them where the renderer left a place for them ([`Fragment::Servers`](lb_core::Fragment)).
pub fn server_lines(backend: &Backend, host: Option<&HostId>) -> String {
    let settings: Arc<str> = settings(backend).into();
    let mut text = String::new();
    for (name, server) in &backend.servers {
        entry(server, host, &settings).write(name, &mut text);
    }
    text
}

/// The entries of a backend, as seen from `host`.
pub(crate) fn entries(backend: &Backend, host: Option<&HostId>) -> BackendServers {
    let settings: Arc<str> = settings(backend).into();
    let entry = |(name, server): (&ServerName, _)| (name.clone(), entry(server, host, &settings));
    BackendServers {
        sticky: backend.sticky.is_some(),
        servers: backend.servers.iter().map(entry).collect(),
    }
}

fn entry(server: &Server, host: Option<&HostId>, settings: &Arc<str>) -> ServerEntry {
    ServerEntry {
        address: server.address_from(host),
        id: server.id.get(),
        weight: server.weight,
        draining: server.state == ServerState::Draining,
        settings: settings.clone(),
    }
}

/// What all servers of a backend have in common: a change here is a change of shape.
///
/// The pool keywords are the defaults of a server in the file. One added at run time without them keeps no
/// idle connection (2.6: `show servers conn` says `idle_lim 0`), which costs a connection a request.
///
/// Each 100 ms HAProxy closes half of the idle connections that were not needed: of a thousand the last after little
/// more than a second. Apps close theirs, gunicorn's after 2 s: a POST that is on its way then is lost.
pub(crate) fn settings(backend: &Backend) -> String {
    let health = &backend.health;
    let mut text = format!(
        "check inter {} rise {} fall {} pool-max-conn -1 pool-purge-delay 100ms",
        millis(health.interval),
        health.rise,
        health.fall
    );
    if let Some(most) = backend.limits.connections_per_instance {
        let _ = write!(text, " maxconn {most}");
    }
    if let Some(time) = backend.limits.slow_start {
        let _ = write!(text, " slowstart {}", millis(time));
    }
    text
}

fn millis(time: Duration) -> String {
    format!("{}ms", time.as_millis().max(1))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use lb_core::{AppName, Protocol};

    use super::*;

    fn backend() -> Backend {
        let mut backend = Backend::new(AppName::new("shop").unwrap(), Protocol::Http);
        backend.limits.connections_per_instance = NonZeroU32::new(64);
        backend.limits.slow_start = Some(Duration::from_secs(10));
        let mut server = Server::new(NonZeroU32::new(7).unwrap(), "[fd00::7]:80".parse().unwrap());
        server.state = ServerState::Draining;
        server.weight = 25;
        backend.servers.insert(ServerName::new("c.shop.s0.i0").unwrap(), server);
        backend
    }

    #[test]
    fn a_line_is_read_back_as_it_was_written() {
        let entries = entries(&backend(), None);
        let (name, entry) = entries.servers.first_key_value().unwrap();
        let mut line = String::new();
        entry.write(name, &mut line);
        assert_eq!(
            line,
            "    server c.shop.s0.i0 [fd00::7]:80 id 7 weight 25 check inter 1000ms rise 1 fall 3 \
             pool-max-conn -1 pool-purge-delay 100ms maxconn 64 slowstart 10000ms disabled\n"
        );
        assert_eq!(ServerEntry::parse(&line), Some((name.clone(), entry.clone())));
    }

    #[test]
    fn a_foreign_line_is_not_ours() {
        for line in
            ["server s 127.0.0.1:80", "server s 127.0.0.1:80 weight 1 id 2 check", "use-server s"]
        {
            assert_eq!(ServerEntry::parse(line), None, "{line}");
        }
    }
}
