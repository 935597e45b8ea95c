//! Golden configurations: what a table of each kind renders to, byte for byte, and that NGINX takes it.
//!
//! `UPDATE_GOLDEN=1 cargo test -p lb-nginx --test golden` writes them anew; read the difference.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lb_core::{
    Balance, ByteSize, Check, ConfigRenderer, CookieName, Fragment, HeaderName, HealthPath,
    Listener,
    Protocol::{Http, Tcp},
    RateLimit, RenderedConfig, RoutingTable, Sticky, Timeouts,
};
use lb_nginx::{NginxRenderer, layout};
use lb_test_support::{Routes as Table, tls, variable};

fn servers(network: u8, count: u8) -> Vec<SocketAddr> {
    (1..=count).map(|host| SocketAddr::from(([10, 0, network, host], 8080))).collect()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn count(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

/// The renderer's text as golden files hold it: a comment stands where the balancer's servers go.
fn text_of(config: &RenderedConfig) -> String {
    let piece = |fragment: &Fragment| match fragment {
        Fragment::Text { text, .. } => text.clone(),
        Fragment::Servers(name) => format!("        # servers of {name}\n"),
    };
    config.fragments.iter().map(piece).collect()
}

/// The apps, each with what makes it worth a file.
fn cases() -> Vec<(&'static str, RoutingTable)> {
    let one = |change: fn(&mut lb_core::Backend)| {
        Table::new()
            .backend_with("shop.web", Http, &servers(1, 2), change)
            .route(80, "/", "shop.web")
            .0
    };
    let rate = || Some(RateLimit { requests: count(100), window: secs(10) });
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
            Table::new()
                .backend_with("shop.web", Http, &servers(1, 1), |b| b.limits.rate = rate())
                .route(80, "/", "shop.web")
                .0,
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

#[test]
fn tables_render_to_their_golden_files() {
    let renderer = NginxRenderer::new();
    for (name, table) in cases() {
        let config = renderer.render(&table).unwrap();
        assert_eq!(config, renderer.render(&table).unwrap(), "{name}: rendered twice");
        let mut files: BTreeMap<String, String> =
            config.files.iter().map(|(file, text)| (file.to_string(), text.clone())).collect();
        files.insert("nginx.conf".to_owned(), text_of(&config));
        compare(&golden(name), &files);
    }
}

/// Writes everything NGINX needs below `directory`, as a balancer would; the path of the configuration.
fn write_all(directory: &Path, table: &RoutingTable, config: &RenderedConfig) -> PathBuf {
    let at = |name: &str| directory.join(name);
    for (name, text) in &config.files {
        std::fs::write(at(name.as_str()), text).unwrap();
    }
    for (port, listener) in &table.listeners {
        let owners: Vec<_> = match listener {
            Listener::Http { certificates, .. } => certificates.keys().collect(),
            Listener::Tcp { backend, .. } => vec![backend],
        };
        for owner in owners {
            std::fs::write(at(layout::pem_file(*port, owner).as_str()), tls::SHOP).unwrap();
        }
    }
    let variables = "server { listen unix:none.sock; set $lb_backend \"\"; set $lb_strip \"\"; }\n";
    std::fs::write(at(layout::HTTP_INCLUDE), variables).unwrap();
    std::fs::write(at(layout::STREAM_INCLUDE), "").unwrap();
    let mut text = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\npid nginx.pid;\n\
                    error_log stderr warn;\nevents { }\n"
        .to_owned();
    for fragment in &config.fragments {
        match fragment {
            Fragment::Text { text: lines, .. } => text.push_str(lines),
            Fragment::Servers(name) => {
                let zone = format!("zone {name} 64k; server 10.0.0.1:80;\n");
                text.push_str(&zone);
            }
        }
    }
    std::fs::write(at("nginx.conf"), text).unwrap();
    at("nginx.conf")
}

#[test]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
fn nginx_takes_every_golden_configuration_without_a_warning() {
    let renderer = NginxRenderer::new();
    for (name, table) in cases() {
        let directory = tempfile::tempdir().unwrap();
        let path = write_all(directory.path(), &table, &renderer.render(&table).unwrap());
        let prefix = format!("{}/", directory.path().display());
        let output = Command::new(variable("LB_TEST_NGINX"))
            .args(["-t", "-e", "stderr", "-p", &prefix, "-c"])
            .arg(path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("[warn]"), "{name}: {said}");
    }
}

fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case)
}

fn compare(directory: &Path, files: &BTreeMap<String, String>) {
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
