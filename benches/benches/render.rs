//! The cost of a configuration's text against plain `write!`, on one core.
//!
//! `cargo bench -p lb-benches --bench render`. Names read `BACKENDSxSERVERS/what`:
//! - `write`: the same bytes, every line by `write!` from the table, nothing checked: the floor;
//! - `render`: the renderer's fragments and the server lines, joined as the balancer joins them.
//!
//! Backends differ in name, host name and servers, and every tenth in its settings too.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lb_core::{
    AppName, Backend, BackendName, ConfigRenderer, Fragment, Listener, Prefix, Protocol, Route,
    RoutingTable, Server, ServerName,
};
use lb_haproxy::{HaproxyRenderer, server_lines};

const SIZES: [(u32, u32); 2] = [(1000, 10), (1000, 100)];

fn table(backends: u32, servers: u32) -> RoutingTable {
    let mut table = RoutingTable::default();
    let mut routes = BTreeSet::new();
    for n in 0..backends {
        let app = AppName::new(format!("app-{n}")).unwrap();
        let name = BackendName::new(format!("{app}.web")).unwrap();
        let mut backend = Backend::new(app, Protocol::Http);
        backend.timeouts.server = Duration::from_secs(u64::from(60 + n % 10));
        for id in 1..=servers {
            let address = (Ipv4Addr::from(0x0a00_0000 + n * 256 + id), 8080).into();
            let server = Server::new(NonZeroU32::new(id).unwrap(), address);
            let label = ServerName::new(format!("demo.app-{n}.0123456789.s{id}.i0")).unwrap();
            backend.servers.insert(label, server);
        }
        routes.insert(Route {
            host: Some(format!("app-{n}.example.org").parse().unwrap()),
            path: "/".parse().unwrap(),
            prefix: Prefix::Kept,
            backend: name.clone(),
        });
        table.backends.insert(name, Arc::new(backend));
    }
    table.listeners.insert(80, Listener::Http { routes, certificates: BTreeMap::new() });
    table
}

fn rendered(renderer: &HaproxyRenderer, table: &RoutingTable) -> (String, String) {
    let config = renderer.render(table).unwrap();
    let mut text = String::new();
    for fragment in &config.fragments {
        match fragment {
            Fragment::Text { text: lines, .. } => text.push_str(lines),
            Fragment::Servers(name) => text.push_str(&server_lines(&table.backends[name], None)),
        }
    }
    (text, config.files.into_values().collect())
}

/// The same by hand. `head` is what does not depend on the backends.
fn written(head: &str, table: &RoutingTable) -> (String, String) {
    let mut text = String::from(head);
    for (name, backend) in &table.backends {
        let millis = backend.timeouts.server.as_millis();
        write!(text, "backend {name} from lb_http\n    balance leastconn\n").unwrap();
        if millis != 60_000 {
            writeln!(text, "    timeout server {millis}ms").unwrap();
        }
        let health = &backend.health;
        for (server, Server { address, id, weight, .. }) in &backend.servers {
            writeln!(
                text,
                "    server {server} {address} id {id} weight {weight} check inter {}ms rise {} fall {} \
                 pool-max-conn -1 pool-purge-delay 100ms",
                health.interval.as_millis(),
                health.rise,
                health.fall
            )
            .unwrap();
        }
    }
    let mut map = String::new();
    for listener in table.listeners.values() {
        let Listener::Http { routes, .. } = listener else { continue };
        for Route { host, path, backend, .. } in routes {
            let host = host.as_ref().unwrap();
            writeln!(map, "{host}{path} {backend}").unwrap();
        }
    }
    (text, map)
}

fn renders(criterion: &mut Criterion) {
    let renderer = HaproxyRenderer::new();
    for (backends, servers) in SIZES {
        let table = table(backends, servers);
        let (text, map) = rendered(&renderer, &table);
        let head = &text[..text.find("backend app-").unwrap()];
        assert_eq!(written(head, &table), (text.clone(), map), "both write the same");
        let mut group = criterion.benchmark_group(format!("{backends}x{servers}"));
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function("write", |b| b.iter(|| written(head, black_box(&table))));
        group.bench_function("render", |b| b.iter(|| rendered(&renderer, black_box(&table))));
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = renders
}
criterion_main!(benches);
