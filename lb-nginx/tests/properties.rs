//! Any table renders to a configuration that holds exactly its routes and backends.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lb_core::{
    Balance, ByteSize, Check, ConfigRenderer, CookieName, Fragment, HeaderName, HealthPath,
    Listener, Prefix, Protocol, RateLimit, RenderedConfig, Route, RoutingTable, Sticky,
};
use lb_nginx::NginxRenderer;
use lb_test_support::Routes as Table;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

/// A directive: its words and, with a block, what is in it.
#[derive(Debug, Clone)]
struct Directive(Vec<String>, Option<Vec<Directive>>);

/// Reads a configuration strictly: one directive a line, blocks begun and ended at line ends, indented by four
/// for each block they are in.
fn read<'a>(lines: &mut impl Iterator<Item = &'a str>, depth: usize) -> Vec<Directive> {
    let mut all = Vec::new();
    while let Some(line) = lines.next() {
        assert!(line.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{line:?}");
        if line.trim() == "}" {
            assert_eq!(line.len(), 4 * (depth - 1) + 1, "{line:?}");
            return all;
        }
        if line.trim().starts_with('#') {
            continue;
        }
        let text = line.trim_start();
        assert_eq!(line.len() - text.len(), 4 * depth, "{line:?}");
        let words = |text: &str| words(text);
        match (text.strip_suffix(" {"), text.strip_suffix(';')) {
            (Some(head), _) => all.push(Directive(words(head), Some(read(lines, depth + 1)))),
            (_, Some(whole)) => all.push(Directive(words(whole), None)),
            _ => panic!("neither a directive nor a block: {line:?}"),
        }
    }
    assert_eq!(depth, 0, "a block is not ended");
    all
}

/// Words as they stand, quotes included, of which each must end.
fn words(text: &str) -> Vec<String> {
    let (mut all, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => all.push(std::mem::take(&mut word)),
            '{' | '}' | ';' if !quoted => panic!("{text:?}"),
            _ => {}
        }
        if c != ' ' || quoted {
            word.push(c);
        }
    }
    assert!(!quoted, "{text:?}");
    all.push(word);
    all
}

impl Directive {
    fn name(&self) -> &str {
        &self.0[0]
    }
    fn inside(&self, name: &str) -> Vec<&Directive> {
        self.1.iter().flatten().filter(|d| d.name() == name).collect()
    }
}

/// A route: host, path, backend, segments stripped.
type Leads = (String, String, String, Option<usize>);

/// What a configuration says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    /// By HTTP port.
    routes: BTreeMap<u16, BTreeSet<Leads>>,
    /// By TCP port, the backend.
    streams: BTreeMap<u16, String>,
    /// Ports that speak TLS.
    tls: BTreeSet<u16>,
    upstreams: BTreeSet<String>,
    /// Files that are read.
    files: BTreeSet<String>,
}

fn port_of(server: &Directive) -> u16 {
    let listen = server.inside("listen");
    assert_eq!(listen.len(), 1, "{server:?}");
    listen[0].0[1].rsplit(':').next().unwrap().parse().unwrap()
}

fn said(text: &str, config: &RenderedConfig) -> Read {
    let mut said = Read::default();
    let all = read(&mut text.lines(), 0);
    let names: Vec<&str> = all.iter().map(Directive::name).collect();
    assert!(names == ["http"] || names == ["http", "stream"], "{names:?}");
    for block in &all {
        for upstream in block.inside("upstream") {
            assert!(said.upstreams.insert(upstream.0[1].clone()), "twice: {upstream:?}");
        }
        for server in block.inside("server") {
            if server.inside("listen")[0].0.contains(&"ssl".to_owned()) {
                said.tls.insert(port_of(server));
            }
        }
    }
    for server in all.get(1).into_iter().flat_map(|stream| stream.inside("server")) {
        let backend = server.inside("proxy_pass")[0].0[1].clone();
        assert!(said.streams.insert(port_of(server), backend).is_none());
    }
    let http = &all[0];
    let maps: BTreeMap<&str, &Directive> =
        http.inside("map").into_iter().map(|m| (m.0[2].as_str(), m)).collect();
    assert_eq!(maps.len(), http.inside("map").len(), "a variable is mapped twice");
    for server in http.inside("server") {
        let port = port_of(server);
        let routes = said.routes.entry(port).or_default();
        let mut variable = format!("$lb_{port}_1");
        while let Some(last) = maps.get(variable.as_str()) {
            // A lookup with a path is two maps, the second of which compares the path.
            let map = match last.0[1].split_once("|$") {
                Some((_, found)) => maps[format!("${}", found.trim_end_matches('"')).as_str()],
                None => last,
            };
            let include = &map.inside("include")[0].0[1];
            said.files.insert(include.clone());
            let (_, lines) = config.files.iter().find(|(f, _)| f.as_str() == include).unwrap();
            let wildcard = map.0[1].starts_with("\"$lb_parent");
            for line in lines.lines() {
                let [key, value] =
                    line.strip_suffix(';').unwrap().split(' ').collect::<Vec<_>>()[..]
                else {
                    panic!("{line:?}");
                };
                let (host, path) = key.split_at(key.find('/').unwrap());
                let host = if wildcard { format!("*.{host}") } else { host.to_owned() };
                let value = match value.split_once('=') {
                    Some((exact, value)) => {
                        assert_eq!(exact, path, "{line}");
                        value
                    }
                    None => value,
                };
                let (backend, strip) = value.split_once('/').unwrap_or((value, ""));
                routes.insert((host, path.to_owned(), backend.to_owned(), strip.parse().ok()));
            }
            variable.clone_from(&last.inside("default")[0].0[1]);
        }
        let dangling = variable == format!("$lb_{port}_1");
        assert!(variable == "\"\"" || (dangling && routes.is_empty()), "{variable} is not mapped");
    }
    said
}

fn expected(route: &Route) -> (String, String, String, Option<usize>) {
    let host = route.host.as_ref().map_or_else(String::new, ToString::to_string);
    let segments = route.path.as_str().split('/').filter(|s| !s.is_empty()).count();
    let strip = (route.prefix == Prefix::Stripped && segments > 0).then_some(segments);
    (host, route.path.to_string(), route.backend.to_string(), strip)
}

fn text_of(config: &RenderedConfig) -> String {
    let text = config.fragments.iter().filter_map(|f| match f {
        Fragment::Text { text, .. } => Some(text.as_str()),
        Fragment::Servers(_) => None,
    });
    text.collect()
}

#[derive(Debug, Clone)]
struct Settings {
    balance: usize,
    sticky: bool,
    rate: Option<(u32, u64)>,
    body: Option<u64>,
    check: bool,
    times: [u64; 3],
    servers: u8,
}

fn settings() -> impl Strategy<Value = Settings> {
    (
        0..6_usize,
        any::<bool>(),
        option::of((1..1000_u32, prop_oneof![Just(1_u64), Just(60)])),
        option::of(0..u64::MAX),
        any::<bool>(),
        [10..100_000_u64, 10..100_000, 10..100_000],
        0..4_u8,
    )
        .prop_map(|(balance, sticky, rate, body, check, times, servers)| Settings {
            balance,
            sticky,
            rate,
            body,
            check,
            times,
            servers,
        })
}

fn set(backend: &mut lb_core::Backend, s: &Settings, http: bool) {
    let all = [
        Balance::RoundRobin,
        Balance::LeastConnections,
        Balance::RandomTwo,
        Balance::SourceHash,
        Balance::UriHash,
        Balance::HeaderHash(HeaderName::new("x-a-b-c").unwrap()),
    ];
    let known = if http { all.len() } else { 4 };
    backend.balance = all[s.balance % known].clone();
    let cookie = || CookieName::new("My_cookie-1").unwrap();
    backend.sticky = (http && s.sticky).then(|| Sticky { cookie: cookie() });
    backend.limits.rate = s.rate.filter(|_| http).map(|(requests, window)| RateLimit {
        requests: requests.try_into().unwrap(),
        window: Duration::from_secs(window),
    });
    backend.limits.body = s.body.filter(|_| http).map(ByteSize::new);
    if s.check {
        backend.health.check = Check::Http(HealthPath::new("/a/b_c~d?x=1&y=-").unwrap());
    }
    let [a, b, c] = s.times.map(Duration::from_millis);
    backend.timeouts.connect = a;
    backend.timeouts.request = b;
    backend.limits.queue = c;
}

/// Backends `h0.web...` (HTTP) and `t0.raw...` (TCP), and listeners on them.
fn table() -> impl Strategy<Value = RoutingTable> {
    let host = prop_oneof![
        Just(String::new()),
        "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\\.[a-z]{2,3}){0,2}",
        "\\*(\\.[a-z]{1,5}){1,3}",
    ];
    let path = prop_oneof![Just("/".to_owned()), "(/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,5}){1,4}",];
    let route = (0..3_u16, host, path, any::<bool>(), any::<prop::sample::Index>());
    (vec(settings(), 1..6), vec(settings(), 0..3), vec(route, 0..12), btree_set(0..3_u16, 0..3))
        .prop_map(|(http, tcp, routes, tls)| {
            let mut table = Table::new();
            let servers = |s: &Settings| -> Vec<_> {
                (1..=s.servers).map(|n| ([10, 0, 0, n], 80).into()).collect()
            };
            for (n, s) in http.iter().enumerate() {
                let name = format!("h{n}.web");
                table = table.backend_with(&name, Protocol::Http, &servers(s), |b| set(b, s, true));
            }
            for (n, s) in tcp.iter().enumerate() {
                let name = format!("t{n}.raw");
                table = table
                    .backend_with(&name, Protocol::Tcp, &servers(s), |b| set(b, s, false))
                    .tcp(9000 + n as u16, &name);
            }
            let mut claimed = BTreeSet::new();
            for (port, host, path, strip, backend) in routes {
                let at = format!("{host}{path}");
                let name = format!("h{}.web", backend.index(http.len()));
                if claimed.insert((port, at.clone())) {
                    table = match strip {
                        true => table.strip(8000 + port, &at, &name),
                        false => table.route(8000 + port, &at, &name),
                    };
                }
            }
            for port in tls.into_iter().map(|p| 8000 + p) {
                if table.0.listeners.contains_key(&port) {
                    table = table.tls(port, "h0.web");
                }
            }
            table.0
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_rendered_table_holds_its_routes_and_backends_and_nothing_else(table in table()) {
        table.check().unwrap();
        let config = NginxRenderer::new().render(&table).unwrap();
        let said = said(&text_of(&config), &config);
        let mut wanted = Read { files: said.files.clone(), ..Read::default() };
        for (port, listener) in &table.listeners {
            let tls = match listener {
                Listener::Http { routes, certificates } => {
                    wanted.routes.insert(*port, routes.iter().map(expected).collect());
                    !certificates.is_empty()
                }
                Listener::Tcp { backend, certificate } => {
                    wanted.streams.insert(*port, backend.to_string());
                    certificate.is_some()
                }
            };
            wanted.tls.extend(tls.then_some(*port));
        }
        wanted.upstreams = table.backends.keys().map(ToString::to_string).collect();
        prop_assert_eq!(&said, &wanted);
        let shared = ["lb_locations.conf".to_owned(), "locations.map".to_owned()];
        let written: BTreeSet<String> = config.files.keys().map(ToString::to_string).collect();
        prop_assert_eq!(written, said.files.into_iter().chain(shared).collect::<BTreeSet<_>>());
        let marks: BTreeSet<_> = config.fragments.iter().filter_map(|f| match f {
            Fragment::Servers(name) => Some(name),
            Fragment::Text { .. } => None,
        }).collect();
        prop_assert_eq!(marks, table.backends.keys().collect::<BTreeSet<_>>());
    }

    #[test]
    fn every_location_a_request_can_be_sent_to_is_there(table in table()) {
        let config = NginxRenderer::new().render(&table).unwrap();
        let file = |name: &str| config.files.iter().find(|(f, _)| f.as_str() == name).unwrap().1;
        let lines = file("lb_locations.conf").lines().map(|l| l.strip_prefix("        ").unwrap());
        let locations = read(&mut lines.into_iter(), 0);
        let of = |kind: &'static str| locations.iter().filter(move |l| l.0[0] == kind);
        let names: BTreeSet<String> = of("location").map(|l| l.0[1].clone()).collect();
        prop_assert_eq!(names.len(), of("location").count());
        let strips = text_of(&config).contains("$lb_form");
        let forms: &[&str] = if strips { &["", "_strip", "_cut"] } else { &[""] };
        let used = file("locations.map").lines().map(|l| l.split([' ', ';']).nth(1).unwrap());
        for location in used.chain([""]) {
            for form in forms {
                for ws in ["", "_ws"] {
                    let name = match format!("@lb{location}{form}{ws}") {
                        usual if usual == "@lb" => "/".to_owned(),
                        name => name,
                    };
                    prop_assert!(names.contains(&name));
                }
            }
        }
    }

    #[test]
    fn servers_change_nothing_the_renderer_writes(table in table()) {
        let renderer = NginxRenderer::new();
        prop_assert_eq!(renderer.render(&table).unwrap(), renderer.render(&table.shape()).unwrap());
    }
}
