//! What a configuration must hold of its table: all of it and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use lb_core::balancer::CLAIMED_FIELDS;
use lb_core::{
    Backend, BackendName, Balance, CertificatePem, HostId, Listener, Prefix, Protocol, Route,
    RoutingTable, Server, ServerState,
};
use lb_nginx::{Version, layout};

use super::grammar::{Whole, whole};
use super::{Directive, Files, read};

/// The record of servers.
const RECORD: &str = "lb_servers.txt";
/// Headers by which the app is told who asks.
const SAID: [&str; 4] = ["x-forwarded-for", "x-forwarded-prefix", "x-forwarded-proto", "x-real-ip"];
/// The locations of all listeners.
const LOCATIONS: &str = "lb_locations.conf";

/// Whether these files are accepted and hold exactly `table`, for an NGINX of this version.
///
/// # Errors
/// What is not accepted, or what differs.
pub fn holds(files: &Files, table: &RoutingTable, version: Version) -> Result<(), String> {
    let Whole { main, included } = whole(files)?;
    let sides = |name: &str| main.iter().filter(|d| d.name() == name).collect::<Vec<_>>();
    let [http] = sides("http")[..] else { return Err("not one http".into()) };
    let stream = sides("stream");
    let streams = table.backends.values().any(|b| b.protocol == Protocol::Tcp);
    same("stream blocks", &stream.len(), &usize::from(streams))?;
    let config = Config { http, stream: stream.first().copied(), files, table, version };
    config.http_listeners()?;
    config.stream_listeners()?;
    for protocol in [Protocol::Http, Protocol::Tcp] {
        config.upstreams(protocol)?;
    }
    let gentle = http.inside("keepalive_min_timeout").count();
    same("gentle reloads", &gentle, &usize::from(version >= Version::new(1, 27, 4)))?;
    config.record()?;
    config.locations()?;
    let mut wanted: BTreeSet<String> = included;
    // With no HTTP listener nobody includes the locations.
    wanted.extend([RECORD, LOCATIONS].map(str::to_owned));
    wanted.extend(certificates(table));
    same("files", &files.keys().cloned().collect(), &wanted)
}

fn same<T: PartialEq + Debug>(what: &str, found: &T, wanted: &T) -> Result<(), String> {
    match found == wanted {
        true => Ok(()),
        false => Err(format!("{what}: {found:?} instead of {wanted:?}")),
    }
}

fn certificates(table: &RoutingTable) -> impl Iterator<Item = String> {
    table.listeners.iter().flat_map(|(port, listener)| {
        let owners: Vec<&BackendName> = match listener {
            Listener::Http { certificates, .. } => certificates.keys().collect(),
            Listener::Tcp { backend, certificate } => certificate.iter().map(|_| backend).collect(),
        };
        owners.into_iter().map(|backend| layout::pem_file(*port, backend).to_string())
    })
}

struct Config<'a> {
    http: &'a Directive,
    stream: Option<&'a Directive>,
    files: &'a Files,
    table: &'a RoutingTable,
    version: Version,
}

/// Host name (`*.` and its base for a wildcard, empty for any), path, backend, segments stripped.
type RouteLine = (String, String, String, Option<usize>);

impl<'a> Config<'a> {
    fn http_listeners(&self) -> Result<(), String> {
        let mut by_address: BTreeMap<&str, Vec<&Directive>> = BTreeMap::new();
        for server in self.http.inside("server") {
            by_address.entry(server.only("listen")?[0]).or_default().push(server);
        }
        let ours = by_address.iter().filter(|(address, _)| address.starts_with("unix:"));
        same("the balancer's own servers", &ours.map(|(_, s)| s.len()).collect(), &vec![1, 1])?;
        by_address.retain(|address, _| !address.starts_with("unix:"));
        for (port, listener) in &self.table.listeners {
            let Listener::Http { routes, certificates } = listener else { continue };
            let servers = by_address.remove(format!("0.0.0.0:{port}").as_str()).unwrap_or_default();
            same(&format!("servers of {port}"), &servers.len(), &certificates.len().max(1))?;
            self.servers(*port, &servers, certificates).map_err(|e| format!("{port}: {e}"))?;
            // Where no route has a path, paths are passed on as they came.
            let paths = routes.iter().any(|route| !route.path.is_root());
            for server in &servers {
                let found = server.inside("if").any(|d| d.words[1] == "($lb_canonical");
                same(&format!("canonical paths of {port}"), &found, &paths)?;
            }
            let found = self.routes_of(*port, servers[0]).map_err(|e| format!("{port}: {e}"))?;
            same(&format!("routes of {port}"), &found, &routes.iter().map(expected).collect())?;
        }
        same("further listeners", &by_address.keys().collect(), &Vec::<&&str>::new())
    }

    /// The servers of one port differ in their certificates only, and the first owns the socket.
    fn servers(
        &self,
        port: u16,
        servers: &[&Directive],
        certificates: &BTreeMap<BackendName, CertificatePem>,
    ) -> Result<(), String> {
        let mut owners = certificates.keys();
        for (n, server) in servers.iter().enumerate() {
            let listen = server.only("listen")?;
            same("reuseport", &listen.contains(&"reuseport"), &(n == 0))?;
            let tls = !certificates.is_empty();
            same("TLS", &listen.contains(&"ssl"), &tls)?;
            let modern = self.version >= Version::new(1, 25, 1);
            same("HTTP/2 by its listener", &listen.contains(&"http2"), &(tls && !modern))?;
            same("HTTP/2", &server.inside("http2").count(), &usize::from(tls && modern))?;
            // The first takes requests without a name, and so would one whose certificate has none.
            let names = server.only("server_name")?;
            same("requests without a name", &names[0].is_empty(), &(n == 0 || names.len() == 1))?;
            let file = owners.next().map(|owner| layout::pem_file(port, owner).to_string());
            for name in ["ssl_certificate", "ssl_certificate_key"] {
                let found = server.inside(name).next().map(|d| d.words[1].clone());
                same(name, &found, &file)?;
            }
            let places = server.inside("location").filter(|l| l.words[1].starts_with('@'));
            same("locations", &(places.count() > 0), &true)?;
            same("variables", &sets(server)?, &sets(servers[0])?)?;
        }
        Ok(())
    }

    /// Follows the lookups from the first on.
    fn routes_of(&self, port: u16, server: &Directive) -> Result<BTreeSet<RouteLine>, String> {
        let (backend, strip) = sets(server)?;
        let first = match self.map(backend) {
            // A look-up that may find `backend/segments` is taken apart.
            Some(map) if backend == format!("$lb_{port}_backend") => {
                let take_apart = self.map(strip).ok_or("nothing to strip by")?;
                same("taken apart", &take_apart.words[1], &map.words[1])?;
                map.words[1].as_str()
            }
            _ => {
                same("strip", &strip, &"")?;
                backend
            }
        };
        let (mut routes, mut next, mut last) = (BTreeSet::new(), first, None);
        while !next.is_empty() {
            let map = self.map(next).ok_or(format!("{next} is not mapped"))?;
            let (lookup, exact) = match map.words[1].split_once("|$") {
                Some((path, found)) => (self.map(&format!("${found}")).ok_or("no look-up")?, path),
                None => (map, ""),
            };
            let kind = key_kind(&lookup.words[1], exact)?;
            if last.is_some_and(|before| before >= kind) {
                return Err(format!("{next} is asked after what it goes before"));
            }
            for line in lookup.block.iter().flatten().filter(|d| d.name() != "default") {
                let route = route(line, kind).ok_or(format!("no route: {:?}", line.words))?;
                if !routes.insert(route) {
                    return Err(format!("twice: {:?}", line.words));
                }
            }
            last = Some(kind);
            next = map.only("default")?[0];
        }
        Ok(routes)
    }

    fn map(&self, variable: &str) -> Option<&'a Directive> {
        self.http.inside("map").find(|map| map.words[2] == variable)
    }

    fn stream_listeners(&self) -> Result<(), String> {
        let mut found = BTreeMap::new();
        for server in self.stream.into_iter().flat_map(|s| s.inside("server")) {
            let listen = server.only("listen")?;
            let certificate = server.inside("ssl_certificate").next().map(|d| d.words[1].clone());
            same("TLS", &listen.contains(&"ssl"), &certificate.is_some())?;
            let backend = server.only("proxy_pass")?[0].to_owned();
            found.insert(listen[0].to_owned(), (backend, certificate));
        }
        let wanted = self.table.listeners.iter().filter_map(|(port, listener)| {
            let Listener::Tcp { backend, certificate } = listener else { return None };
            let file = certificate.as_ref().map(|_| layout::pem_file(*port, backend).to_string());
            Some((format!("0.0.0.0:{port}"), (backend.to_string(), file)))
        });
        same("streams", &found, &wanted.collect())
    }

    fn upstreams(&self, protocol: Protocol) -> Result<(), String> {
        let side = if protocol == Protocol::Http { Some(self.http) } else { self.stream };
        let found: BTreeMap<&str, &Directive> = side
            .into_iter()
            .flat_map(|side| side.inside("upstream"))
            .map(|upstream| (upstream.words[1].as_str(), upstream))
            .collect();
        let wanted: BTreeMap<&str, &Backend> = self
            .table
            .backends
            .iter()
            .filter(|(_, b)| b.protocol == protocol)
            .map(|(name, b)| (name.as_str(), &**b))
            .collect();
        same("upstreams", &found.keys().collect(), &wanted.keys().collect::<Vec<_>>())?;
        for (name, backend) in wanted {
            let upstream = found[name];
            let keeps = upstream.inside("keepalive").count();
            same("keepalive", &keeps, &usize::from(protocol == Protocol::Http))?;
            self.servers_of(upstream, backend).map_err(|e| format!("upstream {name}: {e}"))?;
        }
        Ok(())
    }

    fn servers_of(&self, upstream: &Directive, backend: &Backend) -> Result<(), String> {
        let lines = |d: &Directive| d.parameters().join(" ");
        let mut found: Vec<String> = upstream.inside("server").map(lines).collect();
        same("zone", &upstream.only("zone")?[0], &upstream.words[1].as_str())?;
        let picks = ["hash", "least_conn", "random"];
        let method = upstream.block.iter().flatten().find(|d| picks.contains(&d.name()));
        let method = method.map(|d| d.words.join(" "));
        self.method(method.as_deref(), backend)?;
        // Who answers where there is no server: last, and for HTTP only.
        let none = found.pop_if(|line| line.starts_with("unix:") || line == "0.0.0.1:1 down");
        let active = backend.servers.values().any(|s| s.state == ServerState::Active);
        let backup = backend.limits.connections_per_instance.is_some()
            && method.is_none_or(|m| m == "least_conn");
        let ending = none.as_deref().and_then(|line| line.split_once(' ')).map(|(_, end)| end);
        match (backend.protocol, active) {
            (Protocol::Http, true) => {
                same("none", &(none.is_some(), ending), &(backup, backup.then_some("backup")))?;
            }
            (Protocol::Http, false) => same("none", &(none.is_some(), ending), &(true, None))?,
            (Protocol::Tcp, _) => same("none", &none.is_some(), &backend.servers.is_empty())?,
        }
        let host = self.table.host.as_ref();
        let wanted: Vec<String> =
            backend.servers.values().map(|s| server_line(s, backend, host)).collect();
        same("servers", &found, &wanted)
    }

    fn method(&self, found: Option<&str>, backend: &Backend) -> Result<(), String> {
        let hashed = || {
            let variable = found.and_then(|m| m.strip_prefix("hash ")?.strip_suffix(" consistent"));
            let map = variable.and_then(|v| self.map(v)).ok_or(format!("{found:?}"))?;
            Ok::<_, String>(map.words[1].as_str())
        };
        let wanted = match (&backend.sticky, &backend.balance) {
            (Some(sticky), _) => {
                same("hashed", &hashed()?, &"$http_cookie")?;
                let of = format!("{}=", sticky.cookie);
                let map = self.map(found.unwrap_or_default().split(' ').nth(1).unwrap_or_default());
                let cookies = map.into_iter().flat_map(|m| m.block.iter().flatten());
                let own = cookies.filter(|line| line.name().contains(&of)).count();
                return same("the cookie", &own, &1);
            }
            (None, Balance::HeaderHash(header)) => {
                let variable = format!("$http_{}", header.as_str().replace('-', "_"));
                return same("hashed", &hashed()?, &variable.as_str());
            }
            (None, Balance::RoundRobin) => None,
            (None, Balance::LeastConnections) => Some("least_conn"),
            (None, Balance::RandomTwo) => Some("random two least_conn"),
            (None, Balance::SourceHash) => Some("hash $remote_addr consistent"),
            (None, Balance::UriHash) => Some("hash $lb_path consistent"),
        };
        same("method", &found, &wanted)
    }

    /// The record: each backend, and its servers after it.
    fn record(&self) -> Result<(), String> {
        let text = self.files.get(RECORD).ok_or("no record")?;
        let host = self.table.host.as_ref();
        let mut wanted = Vec::new();
        for (name, backend) in &self.table.backends {
            wanted.push(format!("backend {name}"));
            let line = |(name, s): (_, &Server)| format!("{name} {}", s.address_from(host));
            wanted.extend(backend.servers.iter().map(line));
        }
        same("record", &text.lines().map(str::to_owned).collect(), &wanted)
    }

    /// Each backend has a location of each form, with what it asks for.
    fn locations(&self) -> Result<(), String> {
        let all = read(self.files.get(LOCATIONS).ok_or("no locations")?)?;
        let strips = self.map("$lb_form").is_some();
        let forms: &[&str] = if strips { &["", "_strip", "_cut"] } else { &[""] };
        let chosen = self.map("$lb_location").ok_or("no location is chosen")?;
        let mut used = BTreeSet::from([""]);
        for (name, backend) in self.table.backends.iter().filter(|(_, b)| is_http(b)) {
            let escaped = format!("\\{name}");
            let own = |d: &&Directive| d.name() == name.as_str() || d.name() == escaped;
            let lines = || chosen.block.iter().flatten();
            let place = lines().find(own).map_or("", |line| line.words[1].as_str());
            used.insert(place);
            for (form, ws) in forms.iter().flat_map(|form| [(form, ""), (form, "_ws")]) {
                let at = match (place, *form, ws) {
                    ("", "", "") => "/".to_owned(),
                    _ => format!("@lb{place}{form}{ws}"),
                };
                let location = all.iter().find(|l| l.words[1..] == [at.as_str()]);
                location
                    .ok_or("it is not there".to_owned())
                    .and_then(|l| self.location(l, backend, !ws.is_empty()))
                    .map_err(|e| format!("location {at} of {name}: {e}"))?;
            }
        }
        let locations = all.iter().filter(|d| d.name() == "location").count();
        // And one for what is too large.
        same("locations", &locations, &(used.len() * forms.len() * 2 + 1))?;
        // What is not passed on by `location /` is sent where the same variables name.
        let own = (used.len() > 1).then_some("$lb_location");
        let detours = own.into_iter().chain(strips.then_some("$lb_form")).chain(["$lb_ws"]);
        let detours: Vec<&str> = detours.collect();
        let wanted = detours.iter().map(|d| format!("({d})"));
        let wanted: Vec<String> =
            ["($lb_backend =  )".to_owned()].into_iter().chain(wanted).collect();
        let found = all.iter().filter(|d| d.name() == "if").map(|d| d.words[1..].join(" "));
        same("detours", &found.collect(), &wanted)?;
        let to =
            all.iter().find(|d| d.words[..2] == ["error_page", "418"]).map(|d| d.words[3].clone());
        same("where to", &to, &Some(format!("@lb{}", detours.concat())))
    }

    fn location(&self, at: &Directive, backend: &Backend, tunnel: bool) -> Result<(), String> {
        let one = |name: &str, n: usize| at.inside(name).next().map(|d| d.words[n].clone());
        let body = backend.limits.body.map(|b| b.get().clamp(1, i64::MAX as u64).to_string());
        same("body", &one("client_max_body_size", 1), &body)?;
        let burst = backend.limits.rate.as_ref().map(|r| format!("burst={}", r.requests.get() - 1));
        same("rate", &one("limit_req", 2), &burst)?;
        if let Some(zone) = one("limit_req", 1) {
            let zone = format!("{zone}:10m");
            let zones = self.http.inside("limit_req_zone").filter(|d| d.words[2] == zone);
            same("zone", &zones.count(), &1)?;
        }
        let times = &backend.timeouts;
        let silence = if tunnel { times.tunnel } else { times.server };
        let wanted = [
            ("proxy_connect_timeout", times.connect),
            ("proxy_next_upstream_timeout", times.connect * 5),
            ("proxy_send_timeout", silence),
            ("proxy_read_timeout", silence),
        ];
        for (name, time) in wanted {
            let usual = self.http.only(name)?[0].to_owned();
            same(name, &one(name, 1).unwrap_or(usual), &format!("{}ms", time.as_millis()))?;
        }
        let header = |name: &str| {
            at.inside("proxy_set_header").any(|d| d.words[1].eq_ignore_ascii_case(name))
        };
        same("cookies", &header("Cookie"), &backend.sticky.is_some())?;
        let claimed = CLAIMED_FIELDS.into_iter().filter(|name| !SAID.contains(name));
        same("claims", &claimed.filter(|name| !header(name)).collect(), &Vec::<&str>::new())?;
        same("truths", &SAID.map(header), &[true; 4])?;
        same("passed on", &at.inside("proxy_pass").count(), &1)
    }
}

fn is_http(backend: &Backend) -> bool {
    backend.protocol == Protocol::Http
}

/// What `$lb_backend` and `$lb_strip` are set to.
fn sets(server: &Directive) -> Result<(&str, &str), String> {
    let set = |variable: &str| {
        let of = server.inside("set").find(|d| d.words[1] == variable);
        of.map(|d| d.words[2].as_str()).ok_or(format!("{variable} is not set"))
    };
    Ok((set("$lb_backend")?, set("$lb_strip")?))
}

/// How precise a look-up is: 0 exact host names, 1 wildcards, 2 any; then depths of path, the deepest first.
type Kind = (u8, std::cmp::Reverse<usize>);

fn key_kind(key: &str, exact: &str) -> Result<Kind, String> {
    let wrong = || format!("looks up {key:?}");
    let hosts = [(0, "$host"), (1, "$lb_parent"), (2, "")];
    let (kind, path) = hosts
        .into_iter()
        .find_map(|(kind, host)| Some((kind, key.strip_prefix(host)?)))
        .ok_or_else(wrong)?;
    let depth = match path.strip_prefix("$lb_cut_") {
        Some(depth) => depth.parse().map_err(|_| wrong())?,
        None => 0,
    };
    match (depth, path) {
        (0, "/") if exact.is_empty() => Ok((kind, std::cmp::Reverse(0))),
        // A map takes either case: the path must have been found to the letter.
        (1.., _) if exact == path => Ok((kind, std::cmp::Reverse(depth))),
        _ => Err(wrong()),
    }
}

/// `KEY [PATH=]BACKEND[/SEGMENTS]`.
fn route(line: &Directive, (kind, depth): Kind) -> Option<RouteLine> {
    let [key, value] = &line.words[..] else { return None };
    let key = match key.strip_prefix("~^") {
        Some(expression) => expression.strip_suffix('$')?.replace("\\.", "."),
        None => key.clone(),
    };
    let (host, path) = key.split_at(key.find('/')?);
    let value = match depth.0 {
        0 => value.as_str(),
        _ => value.strip_prefix(path)?.strip_prefix('=')?,
    };
    let (backend, strip) = match value.split_once('/') {
        Some((backend, segments)) => (backend, Some(segments.parse().ok()?)),
        None => (value, None),
    };
    let segments = if path == "/" { 0 } else { path.matches('/').count() };
    let host = match (kind, host) {
        (0, host) if !host.is_empty() => host.to_owned(),
        (1, base) if !base.is_empty() => format!("*.{base}"),
        (2, "") => String::new(),
        _ => return None,
    };
    (segments == depth.0).then(|| (host, path.to_owned(), backend.to_owned(), strip))
}

fn expected(route: &Route) -> RouteLine {
    let host = route.host.as_ref().map_or_else(String::new, ToString::to_string);
    let segments = route.path.as_str().split('/').filter(|s| !s.is_empty()).count();
    let strip = (route.prefix == Prefix::Stripped && segments > 0).then_some(segments);
    (host, route.path.to_string(), route.backend.to_string(), strip)
}

fn server_line(server: &Server, backend: &Backend, host: Option<&HostId>) -> String {
    let most = backend.limits.connections_per_instance.map(|n| format!(" max_conns={n}"));
    let down = if server.state == ServerState::Draining { " down" } else { "" };
    format!(
        "{} weight={} max_fails=0{}{down}",
        server.address_from(host),
        server.weight,
        most.unwrap_or_default(),
    )
}
