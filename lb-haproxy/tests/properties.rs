//! Any table renders to a configuration that holds exactly its routes and backends.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::text_of;
use lb_core::{
    Balance, ByteSize, Check, ConfigRenderer, CookieName, Fragment, HeaderName, HealthPath,
    Listener, Prefix, Protocol, RateLimit, RenderedConfig, Route, RoutingTable, Sticky,
};
use lb_haproxy::{HaproxyRenderer, layout};
use lb_test_support::Routes as Table;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

/// What a configuration says, read strictly: every line must be one this reader knows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    /// By port: where requests or connections go when no map says otherwise.
    defaults: BTreeMap<u16, String>,
    /// By port: the maps looked up, in order.
    lookups: BTreeMap<u16, Vec<String>>,
    /// By port, whether TLS is spoken.
    tls: BTreeMap<u16, bool>,
    /// By backend: how many server lines, all at its end.
    servers: BTreeMap<String, usize>,
}

const SECTIONS: [&str; 3] = ["defaults", "frontend", "backend"];
const DIRECTIVES: [&str; 20] = [
    "mode",
    "option",
    "retries",
    "retry-on",
    "http-reuse",
    "timeout",
    "bind",
    "http-request",
    "acl",
    "use_backend",
    "default_backend",
    "balance",
    "hash-type",
    "cookie",
    "stick-table",
    "dynamic-cookie-key",
    "http-check",
    "tcp-request",
    "server",
    "#",
];

fn read(text: &str) -> Read {
    let (mut read, mut section, mut ended) =
        (Read::default(), (String::new(), String::new()), false);
    assert!(text.starts_with("defaults ") && text.ends_with('\n'));
    for line in text.lines() {
        assert!(line.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{line:?}");
        let words: Vec<&str> = line.split(' ').filter(|w| !w.is_empty()).collect();
        if !line.starts_with(' ') {
            assert!(SECTIONS.contains(&words[0]), "{line}");
            section = (words[0].to_owned(), words[1].to_owned());
            ended = false;
            if words[0] == "backend" {
                assert!(read.servers.insert(words[1].to_owned(), 0).is_none(), "twice: {line}");
            }
            continue;
        }
        assert!(DIRECTIVES.contains(&words[0]), "{line}");
        assert!(!ended || words[0] == "server", "after the servers: {line}");
        let port = || layout::listener_port(&section.1).expect("a frontend's line");
        match words[0] {
            "server" => {
                ended = true;
                *read.servers.get_mut(&section.1).expect("a backend's line") += 1;
            }
            "default_backend" => {
                assert!(read.defaults.insert(port(), words[1].to_owned()).is_none());
            }
            "bind" => {
                assert!(words[1].ends_with(&format!(":{}", port())));
                read.tls.insert(port(), words.contains(&"ssl"));
            }
            _ => {
                if let Some((_, rest)) = line.split_once("map_beg(") {
                    let map = rest.split(')').next().unwrap().to_owned();
                    read.lookups.entry(port()).or_default().push(map);
                }
            }
        }
    }
    read
}

/// The routes the maps hold.
fn routes_of(
    read: &Read,
    config: &RenderedConfig,
    port: u16,
) -> BTreeSet<(String, String, Option<usize>)> {
    let mut routes = BTreeSet::new();
    for name in read.lookups.get(&port).into_iter().flatten() {
        let (file, text) = config.files.iter().find(|(file, _)| file.as_str() == name).unwrap();
        for line in text.lines() {
            let (key, value) = line.split_once(' ').unwrap();
            let host = match file {
                f if *f == layout::exact_map_file(port) => "",
                f if *f == layout::wildcard_map_file(port) => "*.",
                f if *f == layout::any_map_file(port) => "any",
                f => panic!("{f}"),
            };
            let (backend, strip) = value.split_once('/').unwrap_or((value, ""));
            let added =
                routes.insert((format!("{host}{key}"), backend.to_owned(), strip.parse().ok()));
            assert!(added, "twice: {line}");
        }
    }
    routes
}

fn expected(route: &Route) -> (String, String, Option<usize>) {
    let host = route.host.as_ref().map_or("any", |host| host.as_str());
    let path = route.path.as_str();
    let segments = path.split('/').filter(|s| !s.is_empty()).count();
    let strip = (route.prefix == Prefix::Stripped && segments > 0).then_some(segments);
    let slash = if path == "/" { "" } else { "/" };
    (format!("{host}{path}{slash}"), route.backend.to_string(), strip)
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
        option::of((1..100_000_u32, 1..3600_u64)),
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
        Balance::HeaderHash(HeaderName::new("x_a.b-c").unwrap()),
    ];
    let known = if http { all.len() } else { 4 };
    backend.balance = all[s.balance % known].clone();
    let cookie = || CookieName::new("My_cookie-1").unwrap();
    backend.sticky = (http && s.sticky).then(|| Sticky { cookie: cookie() });
    backend.limits.rate = s.rate.map(|(requests, window)| RateLimit {
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
        let config = HaproxyRenderer::new().render(&table).unwrap();
        let read = read(&text_of(&table, &config));
        for (port, listener) in &table.listeners {
            match listener {
                Listener::Http { routes, certificates } => {
                    let routes: BTreeSet<_> = routes.iter().map(expected).collect();
                    prop_assert_eq!(routes_of(&read, &config, *port), routes);
                    prop_assert_eq!(&read.defaults[port], layout::NO_ROUTE);
                    prop_assert_eq!(read.tls[port], !certificates.is_empty());
                }
                Listener::Tcp { backend, certificate } => {
                    prop_assert_eq!(&read.defaults[port], backend.as_str());
                    prop_assert_eq!(read.tls[port], certificate.is_some());
                    prop_assert!(!read.lookups.contains_key(port));
                }
            }
        }
        prop_assert_eq!(read.defaults.len(), table.listeners.len());
        let looked_up: BTreeSet<_> = read.lookups.values().flatten().map(String::as_str).collect();
        let written: BTreeSet<_> = config.files.keys().map(lb_core::FileName::as_str).collect();
        prop_assert_eq!(looked_up, written);
        let mut servers: BTreeMap<String, usize> =
            table.backends.iter().map(|(n, b)| (n.to_string(), b.servers.len())).collect();
        servers.insert(layout::NO_ROUTE.to_owned(), 0);
        prop_assert_eq!(read.servers, servers);
        let marks: Vec<_> = config.fragments.iter().filter_map(|f| match f {
            Fragment::Servers(name) => Some(name),
            Fragment::Text { .. } => None,
        }).collect();
        prop_assert_eq!(marks, table.backends.keys().collect::<Vec<_>>());
    }

    #[test]
    fn servers_change_nothing_a_reload_would_be_needed_for(table in table()) {
        let renderer = HaproxyRenderer::new();
        prop_assert_eq!(renderer.render(&table).unwrap(), renderer.render(&table.shape()).unwrap());
    }
}

#[test]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
fn haproxy_takes_any_rendered_table_without_a_warning() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(40)
    });
    let result = runner.run(&table(), |table| {
        let directory = tempfile::tempdir().unwrap();
        let config = HaproxyRenderer::new().render(&table).unwrap();
        let path = common::write_all(directory.path(), &table, &config);
        common::check(&path).map_err(TestCaseError::fail)
    });
    result.unwrap();
}
