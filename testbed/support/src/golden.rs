//! Golden configurations: the tables, and how files are compared.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use lb_core::{
    Balance, ByteSize, Check, CookieName, HeaderName, HealthPath,
    Protocol::{Http, Tcp},
    RateLimit, RoutingTable, Sticky, Timeouts,
};

use crate::Routes as Table;

fn servers(network: u8, count: u8) -> Vec<SocketAddr> {
    (1..=count).map(|host| SocketAddr::from(([10, 0, network, host], 8080))).collect()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn count(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

/// The apps, each with what makes it worth a file. Every balancer can express them.
pub fn tables() -> Vec<(&'static str, RoutingTable)> {
    let one = |change: fn(&mut lb_core::Backend)| {
        Table::new()
            .backend_with("shop.web", Http, &servers(1, 2), change)
            .route(80, "/", "shop.web")
            .0
    };
    vec![
        ("empty", Table::new().0),
        ("http-any", one(|_| {})),
        ("http-no-route", Table::new().backend("job.web", Http, &servers(1, 1)).0),
        ("hosts-and-paths", hosts_and_paths()),
        ("strip", strip()),
        ("wildcard", wildcard()),
        ("tcp", Table::new().backend("db.sql", Tcp, &servers(2, 3)).tcp(5432, "db.sql").0),
        (
            "tls",
            Table::new()
                .backend("shop.web", Http, &servers(1, 1))
                .backend("mqtt.raw", Tcp, &servers(2, 1))
                .route(443, "shop.example.org/", "shop.web")
                .tls(443, "shop.web")
                .tcp(8883, "mqtt.raw")
                .tls(8883, "mqtt.raw")
                .0,
        ),
        (
            "sticky",
            one(|b| {
                let cookie = CookieName::new("LB").unwrap();
                b.sticky = Some(Sticky { cookie });
                b.balance = Balance::RoundRobin;
            }),
        ),
        (
            "rate-limits",
            one(|b| b.limits.rate = Some(RateLimit { requests: count(100), window: secs(1) })),
        ),
        (
            "body-limits",
            Table::new()
                .backend_with("form.web", Http, &servers(1, 1), |b| {
                    b.limits.body = Some(ByteSize::new(1000));
                })
                .backend_with("upload.web", Http, &servers(2, 1), |b| {
                    b.limits.body = Some(ByteSize::mib(8));
                })
                .route(80, "/form", "form.web")
                .route(80, "/upload", "upload.web")
                .0,
        ),
        ("balances", balances()),
        (
            "slow-start-and-queue",
            one(|b| {
                b.limits.connections_per_instance = Some(count(64));
                b.limits.queue = secs(1);
                b.limits.slow_start = Some(secs(20));
            }),
        ),
        ("timeouts", timeouts()),
        (
            "http-check",
            one(|b| {
                b.health.check = Check::Http(HealthPath::new("/healthz?deep=1").unwrap());
                b.health.timeout = Duration::from_millis(700);
            }),
        ),
        (
            "websocket",
            Table::new()
                .backend_with("chat.ws", Http, &servers(1, 2), |b| b.timeouts.tunnel = secs(86_400))
                .route(80, "chat.example.org/", "chat.ws")
                .0,
        ),
        ("many", many()),
    ]
}

fn hosts_and_paths() -> RoutingTable {
    Table::new()
        .backend("shop.web", Http, &servers(1, 2))
        .backend("cart.web", Http, &servers(2, 2))
        .backend("cart-v2.web", Http, &servers(3, 1))
        .backend("blog.web", Http, &servers(4, 1))
        .route(80, "shop.example.org/", "shop.web")
        .route(80, "shop.example.org/cart", "cart.web")
        .route(80, "shop.example.org/cart/v2", "cart-v2.web")
        .route(80, "blog.example.org/", "blog.web")
        .route(8080, "blog.example.org/", "blog.web")
        .0
}

fn strip() -> RoutingTable {
    Table::new()
        .backend("shop.web", Http, &servers(1, 1))
        .backend("cart.web", Http, &servers(2, 1))
        .backend("api.web", Http, &servers(3, 1))
        .route(80, "shop.example.org/", "shop.web")
        .strip(80, "shop.example.org/cart", "cart.web")
        .strip(80, "/api/v1/items", "api.web")
        .0
}

fn wildcard() -> RoutingTable {
    Table::new()
        .backend("front.web", Http, &servers(1, 1))
        .backend("tenant.web", Http, &servers(2, 1))
        .backend("else.web", Http, &servers(3, 1))
        .route(80, "www.example.org/", "front.web")
        .route(80, "*.example.org/", "tenant.web")
        .route(80, "*.example.org/status", "front.web")
        .route(80, "/", "else.web")
        .0
}

fn balances() -> RoutingTable {
    let header = Balance::HeaderHash(HeaderName::new("x-tenant").unwrap());
    let all = [
        ("a.web", Balance::RoundRobin),
        ("b.web", Balance::LeastConnections),
        ("c.web", Balance::RandomTwo),
        ("d.web", Balance::SourceHash),
        ("e.web", Balance::UriHash),
        ("f.web", header),
    ];
    let table = all.into_iter().fold(Table::new(), |table, (name, balance)| {
        table.backend_with(name, Http, &servers(1, 2), |b| b.balance = balance).route(
            80,
            &format!("/{}", &name[..1]),
            name,
        )
    });
    table
        .backend_with("g.raw", Tcp, &servers(2, 2), |b| b.balance = Balance::SourceHash)
        .tcp(7000, "g.raw")
        .0
}

fn timeouts() -> RoutingTable {
    let times = |n| Timeouts {
        connect: Duration::from_millis(250),
        client: secs(n),
        server: secs(n + 1),
        request: secs(n + 2),
        keep_alive: secs(n + 3),
        tunnel: secs(n + 4),
    };
    Table::new()
        .backend_with("slow.web", Http, &servers(1, 1), |b| b.timeouts = times(300))
        .backend_with("fast.web", Http, &servers(2, 1), |b| b.timeouts = times(5))
        .backend_with("db.sql", Tcp, &servers(3, 1), |b| b.timeouts = times(30))
        .route(80, "/slow", "slow.web")
        .route(80, "/fast", "fast.web")
        .route(81, "/", "fast.web")
        .tcp(5432, "db.sql")
        .0
}

fn many() -> RoutingTable {
    (0..40)
        .fold(Table::new(), |table, n| {
            let name = format!("app-{n}.web");
            table.backend(&name, Http, &servers(n, 2)).route(
                80,
                &format!("app-{n}.example.org/"),
                &name,
            )
        })
        .0
}

/// The directory holds these files, byte for byte, and no others. `UPDATE_GOLDEN=1` writes them.
pub fn compare(directory: &Path, files: &BTreeMap<String, String>) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let _ = std::fs::remove_dir_all(directory);
        std::fs::create_dir_all(directory).unwrap();
        for (name, text) in files {
            std::fs::write(directory.join(name), text).unwrap();
        }
    }
    let entries = std::fs::read_dir(directory)
        .unwrap_or_else(|e| panic!("{}: {e}; UPDATE_GOLDEN=1 writes it", directory.display()));
    let kept: BTreeMap<String, String> = entries
        .map(|entry| entry.unwrap())
        .map(|e| (e.file_name().into_string().unwrap(), std::fs::read_to_string(e.path()).unwrap()))
        .collect();
    assert_eq!(kept.keys().collect::<Vec<_>>(), files.keys().collect::<Vec<_>>());
    for (name, text) in files {
        assert_eq!(&kept[name], text, "{}/{name}", directory.display());
    }
}
