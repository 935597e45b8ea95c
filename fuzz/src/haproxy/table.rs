//! What a configuration must hold of its table: all of it and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use lb_core::{
    Backend, BackendName, Balance, Check, HostId, Listener, Prefix, Protocol, RenderedConfig,
    Route, RoutingTable, ServerState,
};
use lb_haproxy::layout;

use super::{Config, Frontend, Mode, read};

/// Whether `text`, put together from `config` and server lines, is accepted and holds exactly `table`.
///
/// # Errors
/// What is not accepted, or what differs.
pub fn holds(text: &str, config: &RenderedConfig, table: &RoutingTable) -> Result<(), String> {
    let read = read(text)?;
    let mut maps = BTreeSet::new();
    for (port, listener) in &table.listeners {
        let name = layout::frontend(*port);
        let frontend = read.frontends.get(&name).ok_or(format!("no {name}"))?;
        same("bind", &frontend.binds, &[format!("*:{port}")].into())?;
        match listener {
            Listener::Http { routes, certificates } => {
                same("mode", &frontend.mode, &Mode::Http)?;
                same("TLS", &frontend.crt_list, &crt_list(*port, !certificates.is_empty()))?;
                same("default", &frontend.default_backend.as_deref(), &Some(layout::NO_ROUTE))?;
                same("choice", &frontend.chooses, &!routes.is_empty())?;
                let found = routes_of(&read, config, *port, frontend)?;
                same("routes", &found, &routes.iter().map(expected).collect())?;
                maps.extend(frontend.lookups.iter().cloned());
            }
            Listener::Tcp { backend, certificate } => {
                same("mode", &frontend.mode, &Mode::Tcp)?;
                same("TLS", &frontend.crt_list, &crt_list(*port, certificate.is_some()))?;
                let wanted = Some(backend.as_str());
                same("default", &frontend.default_backend.as_deref(), &wanted)?;
                same("lookups", &frontend.lookups, &Vec::new())?;
            }
        }
    }
    same("listeners", &read.frontends.len(), &table.listeners.len())?;
    same("maps", &maps, &config.files.keys().map(ToString::to_string).collect())?;
    backends(&read, table)
}

fn same<T: PartialEq + Debug>(what: &str, found: &T, wanted: &T) -> Result<(), String> {
    match found == wanted {
        true => Ok(()),
        false => Err(format!("{what}: {found:?} instead of {wanted:?}")),
    }
}

fn crt_list(port: u16, tls: bool) -> Option<String> {
    tls.then(|| layout::crt_list_file(port).to_string())
}

/// Host name and path, backend, segments stripped.
type RouteLine = (String, String, Option<usize>);

/// The routes the maps hold.
fn routes_of(
    read: &Config,
    config: &RenderedConfig,
    port: u16,
    frontend: &Frontend,
) -> Result<BTreeSet<RouteLine>, String> {
    let mut routes = BTreeSet::new();
    let order = [
        (layout::exact_map_file(port), ""),
        (layout::wildcard_map_file(port), "*."),
        (layout::any_map_file(port), "any"),
    ];
    let mut left = order.iter();
    for name in &frontend.lookups {
        // Exact host names before wildcards before any: the first that finds a route wins.
        let (file, host) = left.find(|(f, _)| f.as_str() == name).ok_or(format!("{name} here"))?;
        let text = config.files.get(file).ok_or(format!("no {name}"))?;
        let lines = text.strip_suffix('\n').ok_or("a map without a last line end")?;
        for line in lines.split('\n') {
            let route = map_line(line, host).ok_or(format!("{name}: {line:?}"))?;
            if read.backends.get(&route.1).is_none_or(|b| b.mode != Mode::Http) {
                return Err(format!("{name}: no backend {}", route.1));
            }
            if !routes.insert(route) {
                return Err(format!("{name}: twice: {line}"));
            }
        }
    }
    Ok(routes)
}

/// `key value`, the key ending in `/`, both without blanks or marks of a comment.
fn map_line(line: &str, host: &str) -> Option<RouteLine> {
    let plain = line.bytes().all(|b| b == b' ' || b.is_ascii_graphic() && b != b'#');
    let (key, value) =
        line.split_once(' ').filter(|(k, v)| plain && k.ends_with('/') && !v.contains(' '))?;
    let (backend, strip) = match value.split_once('/') {
        Some((backend, depth)) => (backend, Some(depth.parse().ok().filter(|n| *n > 0)?)),
        None => (value, None),
    };
    Some((format!("{host}{key}"), backend.to_owned(), strip))
}

fn expected(route: &Route) -> RouteLine {
    let host = route.host.as_ref().map_or("any", |host| host.as_str());
    let path = route.path.as_str();
    let segments = path.split('/').filter(|s| !s.is_empty()).count();
    let strip = (route.prefix == Prefix::Stripped && segments > 0).then_some(segments);
    let slash = if path == "/" { "" } else { "/" };
    (format!("{host}{path}{slash}"), route.backend.to_string(), strip)
}

fn backends(read: &Config, table: &RoutingTable) -> Result<(), String> {
    let no_route = read.backends.get(layout::NO_ROUTE).ok_or("no backend for what has no route")?;
    same("no route", &no_route.rules, &vec!["http-request return status 404".to_owned()])?;
    same("no route", &no_route.servers.len(), &0)?;
    same("backends", &read.backends.len(), &(table.backends.len() + 1))?;
    for (name, wanted) in &table.backends {
        let found = read.backends.get(name.as_str()).ok_or(format!("no backend {name}"))?;
        let secure = only_over_tls(table, name);
        backend(found, (name, wanted), secure, table.host.as_ref())
            .map_err(|e| format!("backend {name}: {e}"))?;
    }
    Ok(())
}

/// Whether requests reach a backend over TLS and no other way.
fn only_over_tls(table: &RoutingTable, name: &BackendName) -> bool {
    let leads = table.listeners.values().filter_map(|listener| match listener {
        Listener::Http { routes, certificates } => {
            routes.iter().any(|r| r.backend == *name).then_some(!certificates.is_empty())
        }
        Listener::Tcp { .. } => None,
    });
    let leads: Vec<bool> = leads.collect();
    !leads.is_empty() && leads.iter().all(|tls| *tls)
}

fn backend(
    found: &super::Backend,
    (name, wanted): (&BackendName, &Backend),
    secure: bool,
    host: Option<&HostId>,
) -> Result<(), String> {
    let mode = if wanted.protocol == Protocol::Tcp { Mode::Tcp } else { Mode::Http };
    same("mode", &found.mode, &mode)?;
    same("balance", &found.balance, &Some(balance(&wanted.balance)))?;
    let cookie = wanted.sticky.as_ref().map(|s| s.cookie_of(name));
    same("cookie", &found.cookie, &cookie)?;
    same("secure", &found.secure, &(cookie.is_some() && secure))?;
    let has = |start: &str| found.rules.iter().any(|rule| rule.starts_with(start));
    let hashes = !matches!(
        wanted.balance,
        Balance::RoundRobin | Balance::LeastConnections | Balance::RandomTwo
    );
    same("hash", &has("hash-type"), &hashes)?;
    same("rate limit", &has("stick-table"), &wanted.limits.rate.is_some())?;
    same("body limit", &has("http-request deny deny_status 413"), &wanted.limits.body.is_some())?;
    let of_check =
        |rule: &&String| rule.starts_with("option httpchk") || rule.starts_with("http-check ");
    let asked: Vec<_> = found.rules.iter().filter(of_check).cloned().collect();
    same("check", &asked, &check(&wanted.health.check))?;
    servers(found, wanted, host)
}

/// The request `lb-core`'s probe makes, with the server's own address as host.
fn check(check: &Check) -> Vec<String> {
    let Check::Http(path) = check else { return Vec::new() };
    let bracket = |name: &str, which: char| {
        let choice = "bc_dst,field(2,:,0),length";
        format!("http-check set-var(check.{name}) {choice},iif({which},-),rtrim(-)")
    };
    let host = "%[var(check.lb_open)]%[bc_dst]%[var(check.lb_close)]:%[bc_dst_port]";
    let headers = format!("hdr Host {host} hdr User-Agent lb-probe hdr Accept */*");
    vec![
        "option httpchk".to_owned(),
        bracket("lb_open", '['),
        bracket("lb_close", ']'),
        format!("http-check send meth GET uri {path} ver HTTP/1.1 {headers}"),
        "http-check expect status 200-399".to_owned(),
    ]
}

fn balance(balance: &Balance) -> String {
    match balance {
        Balance::RoundRobin => "roundrobin".into(),
        Balance::LeastConnections => "leastconn".into(),
        Balance::RandomTwo => "random(2)".into(),
        Balance::SourceHash => "source".into(),
        Balance::UriHash => "uri path-only".into(),
        Balance::HeaderHash(name) => format!("hdr({name})"),
    }
}

fn servers(found: &super::Backend, wanted: &Backend, host: Option<&HostId>) -> Result<(), String> {
    let (health, limits) = (&wanted.health, &wanted.limits);
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let server = |server: &lb_core::Server| super::Server {
        address: server.address_from(host),
        id: server.id.get(),
        weight: server.weight,
        disabled: server.state == ServerState::Draining,
        check: (millis(health.interval), health.rise.get(), health.fall.get()),
        maxconn: limits.connections_per_instance.map(Into::into),
        slowstart: limits.slow_start.map(millis),
    };
    let wanted: BTreeMap<_, _> =
        wanted.servers.iter().map(|(name, s)| (name.to_string(), server(s))).collect();
    same("servers", &found.servers, &wanted)
}
