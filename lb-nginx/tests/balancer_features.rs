//! What users expect of a balancer beside not losing requests.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::Bench;
use lb_core::{Balance, Change, CookieName, HeaderName, LoadBalancer, SetAside, Sticky};
use lb_test_support::client::{Client, Load, Mode, get, get_with};
use lb_test_support::tls::{self, certificate_for};
use lb_test_support::{Apps, Instance, backend_name, eventually, free_port, server_name};

fn sticky() -> Sticky {
    Sticky { cookie: CookieName::new("LB-1").unwrap() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn sticky_clients_stay_and_move_when_their_server_drains() {
    let (bench, port) = (Bench::new(), free_port());
    let instances =
        [Instance::http("a").await, Instance::http("b").await, Instance::http("c").await];
    let mut table = Apps::new().http(port, "/", "shop").with("shop", |s| s.sticky = Some(sticky()));
    for (id, instance) in (1..).zip(&instances) {
        table = table.server("shop", ["a", "b", "c"][id as usize - 1], id, instance.address);
    }
    bench.apply(&table.0).await;
    let mut clients = BTreeMap::new();
    while clients.len() < 3 {
        let answer = get(port, "/").await.unwrap();
        clients.insert(answer.body, answer.cookie.expect("a cookie for a new client"));
    }
    let headers = |cookie: &str| format!("Cookie: own=1; {cookie}\r\n");
    let stay = async |but: &str| {
        for _ in 0..5 {
            for (server, cookie) in clients.iter().filter(|(s, _)| *s != but) {
                assert_eq!(get_with(port, "/", &headers(cookie)).await.unwrap().body, *server);
            }
        }
    };
    stay("").await;
    // A reload forgets nothing.
    let table = table.http(free_port(), "/", "late");
    assert_eq!(bench.apply(&table.0).await, Change::Reload);
    stay("").await;
    bench.apply(&table.clone().draining("shop", "b").0).await;
    let moved = get_with(port, "/", &headers(&clients["b"])).await.unwrap();
    assert_ne!(moved.body, "b");
    stay("b").await;
    bench.apply(&table.without("shop", "b").0).await;
    assert_ne!(get_with(port, "/", &headers(&clients["b"])).await.unwrap().body, "b");
}

/// Which server each of a hundred keys goes to, a key being a path or a header.
async fn spread(port: u16, key: impl Fn(u32) -> String) -> BTreeMap<u32, String> {
    let mut spread = BTreeMap::new();
    let mut client = Client::open(port).await.unwrap();
    for number in 0..100 {
        let answer = client.ask(&key(number), "").await.unwrap();
        spread.insert(number, answer.body);
    }
    spread
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_consistent_hash_keeps_its_keys_over_changes_and_reloads() {
    let by_path = |n: u32| format!("GET /{n} HTTP/1.1\r\n");
    let by_header = |n: u32| format!("GET / HTTP/1.1\r\nX-Tenant: t{n}\r\n");
    let header = Balance::HeaderHash(HeaderName::new("x-tenant").unwrap());
    let cases: [(Balance, &dyn Fn(u32) -> String); 2] =
        [(Balance::UriHash, &by_path), (header, &by_header)];
    for (balance, key) in &cases {
        let (bench, port) = (Bench::new(), free_port());
        let mut instances = Vec::new();
        let mut table =
            Apps::new().http(port, "/", "shop").with("shop", |s| s.balance = balance.clone());
        for id in 1..=4 {
            let instance = Instance::http(&format!("s{id}")).await;
            table = table.server("shop", &format!("s{id}"), id, instance.address);
            instances.push(instance);
        }
        bench.apply(&table.0).await;
        let before = spread(port, key).await;
        let used: std::collections::BTreeSet<_> = before.values().collect();
        assert_eq!(used.len(), 4, "all servers get keys");
        let extra = Instance::http("s5").await;
        let more = table.clone().server("shop", "s5", 5, extra.address);
        bench.apply(&more.0).await;
        let during = spread(port, key).await;
        let moved = before.iter().filter(|(key, server)| during[*key] != **server).count();
        assert!((1..60).contains(&moved), "{moved} of 100 keys moved for one server of five");
        assert!(before.iter().all(|(key, server)| during[key] == *server || during[key] == "s5"));
        let late = more.clone().http(free_port(), "/", "late");
        assert_eq!(bench.apply(&late.0).await, Change::Reload);
        assert_eq!(spread(port, key).await, during, "a reload moves no key");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn every_way_of_spreading_uses_all_servers_by_their_weights() {
    let header = Balance::HeaderHash(HeaderName::new("x-tenant").unwrap());
    for balance in
        [Balance::RoundRobin, Balance::LeastConnections, Balance::RandomTwo, header.clone()]
    {
        let (bench, port) = (Bench::new(), free_port());
        let (a, b) = (Instance::http("a").await, Instance::http("b").await);
        let table = Apps::new()
            .http(port, "/", "shop")
            .with("shop", |s| s.balance = balance.clone())
            .server("shop", "a", 1, a.address)
            .server("shop", "b", 2, b.address)
            .with("shop", |s| s.servers.get_mut(&server_name("b")).unwrap().weight = 50);
        bench.apply(&table.0).await;
        let load = Load::start(port, "/", 8, &[Mode::KeepAlive]);
        load.more(2_000).await;
        let shares = load.by_server.lock().unwrap().clone();
        load.finish().await;
        let ratio = shares["a"] as f64 / shares["b"] as f64;
        println!("{balance:?}: {ratio:.2} to 1");
        assert!(ratio > 0.8, "{balance:?}: {ratio}");
        if matches!(balance, Balance::RoundRobin) {
            assert!((1.7..2.3).contains(&ratio), "100 to 50: {ratio}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn an_instance_gets_no_more_than_its_limit_and_the_rest_is_refused() {
    let (bench, port) = (Bench::new(), free_port());
    let a = Instance::http("a").await;
    let table = Apps::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    let table = table.with("shop", |s| {
        s.limits.connections_per_instance = NonZeroU32::new(2);
        s.limits.queue = Duration::from_millis(1_500);
    });
    bench.apply(&table.0).await;
    let asked: Vec<_> =
        (0..6).map(|_| tokio::spawn(async move { get(port, "/slow-1000").await })).collect();
    let mut statuses = Vec::new();
    for answer in asked {
        statuses.push(answer.await.unwrap().unwrap().status);
    }
    statuses.sort_unstable();
    // Open NGINX has no queue.
    assert_eq!(statuses, [200, 200, 503, 503, 503, 503]);
    let refused = statuses.iter().filter(|s| **s == 503).count() as u64;
    eventually("all are counted", async || {
        let shop = bench.traffic().await.backends[&backend_name("shop")].clone();
        (shop.requests, shop.failures) == (6, refused)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_dead_server_loses_no_idempotent_request() {
    let (bench, port) = (Bench::new(), free_port());
    let (a, b) = (Instance::http("a").await, Instance::http("b").await);
    let table = Apps::new()
        .http(port, "/", "shop")
        .server("shop", "a", 1, a.address)
        .server("shop", "b", 2, b.address)
        .with("shop", |s| s.health.interval = Duration::from_secs(5));
    bench.apply(&table.0).await;
    let stop = Arc::new(AtomicBool::new(false));
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let stop = stop.clone();
            tokio::spawn(async move {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match get(port, "/").await {
                        Ok(answer) if answer.status == 200 => {}
                        other => failures.push(format!("{other:?}")),
                    }
                }
                failures
            })
        })
        .collect();
    eventually("both serve", async || a.requests() > 20 && b.requests() > 20).await;
    drop(a);
    let before = b.requests();
    eventually("the other goes on", async || b.requests() > before + 200).await;
    bench.apply(&table.without("shop", "a").0).await;
    stop.store(true, Ordering::Relaxed);
    for task in asking {
        assert_eq!(task.await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn certificates_are_chosen_by_name_and_renewed() {
    let (bench, port) = (Bench::new(), free_port());
    let a = Instance::http("a").await;
    let table = Apps::new()
        .http(port, "/", "shop")
        .http(port, "/other", "other")
        .server("shop", "a", 1, a.address)
        .certified(port, "shop", tls::A)
        .certified(port, "other", tls::B);
    bench.apply(&table.0).await;
    assert!(certificate_for(port, "a.test.example").await.contains("a.test.example"));
    assert!(certificate_for(port, "b.test.example").await.contains("b.test.example"));
    let files = bench.balancer.files().await.unwrap();
    assert!(files.values().all(|text| !text.contains("PRIVATE")), "no key is shown");
    let renewed = table.clone().certified(port, "shop", tls::A_RENEWED);
    assert_eq!(bench.apply(&renewed.0).await, Change::Reload);
    assert!(certificate_for(port, "a.test.example").await.contains("renewed.a.test"));
    // A broken certificate is its app's affair.
    let spoilt = table.certified(port, "other", &tls::B.replace("MI", "IM"));
    let applied = bench.balancer.apply(&spoilt.0).await.unwrap();
    let other = SetAside::Backend(backend_name("other"));
    assert_eq!(applied.set_aside.keys().collect::<Vec<_>>(), [&other]);
    assert!(certificate_for(port, "a.test.example").await.contains("a.test.example"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn traffic_is_counted_by_backend_and_server() {
    let (bench, port, raw) = (Bench::new(), free_port(), free_port());
    let (a, echo) = (Instance::http("a").await, Instance::echo("echo").await);
    let table = Apps::new()
        .http(port, "/", "shop")
        .server("shop", "a", 1, a.address)
        .http(port, "/empty", "empty")
        .tcp(raw, "mail")
        .server("mail", "m", 1, echo.address);
    bench.apply(&table.0).await;
    let mut client = Client::open(port).await.unwrap();
    for _ in 0..30 {
        assert_eq!(client.ask("GET /slow-10 HTTP/1.1\r\n", "").await.unwrap().status, 200);
    }
    for _ in 0..3 {
        assert_eq!(get(port, "/empty").await.unwrap().status, 503);
    }
    let held = tokio::net::TcpStream::connect(("127.0.0.1", raw)).await.unwrap();
    drop(tokio::net::TcpStream::connect(("127.0.0.1", raw)).await.unwrap());
    eventually("all are counted", async || {
        let traffic = bench.traffic().await;
        let of = |app: &str| traffic.backends[&backend_name(app)].clone();
        let (shop, empty, mail) = (of("shop"), of("empty"), of("mail"));
        (shop.requests, shop.failures, shop.servers[&server_name("a")].requests) == (30, 0, 30)
            && (empty.requests, empty.failures) == (3, 3)
            && (mail.requests, mail.servers[&server_name("m")].open) == (1, 1)
            && shop.response_time.is_some_and(|t| (0.008..0.2).contains(&t))
    })
    .await;
    drop(held);
    eventually("the second ended", async || {
        bench.traffic().await.backends[&backend_name("mail")].requests == 2
    })
    .await;
}
