//! What users expect of a balancer beside not losing requests: stickiness, hashing, limits, slow start, TLS.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod balancer_support;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use balancer_support::Bench;
use lb_core::{Balance, Change, CookieName, LoadBalancer, Sticky};
use lb_test_support::client::{Client, Load, Mode, get, get_with};
use lb_test_support::tls::{self, certificate_for};
use lb_test_support::{Apps as Table, Instance, backend_name, eventually, free_port, server_name};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn sticky_clients_stay_and_move_when_their_server_drains() {
    let (bench, port) = (Bench::new(), free_port());
    let (a, b, c) =
        (Instance::http("a").await, Instance::http("b").await, Instance::http("c").await);
    let table = Table::new()
        .http(port, "/", "shop")
        .with("shop", |s| s.sticky = Some(Sticky { cookie: CookieName::new("LB").unwrap() }))
        .server("shop", "a", 1, a.address);
    bench.apply(&table.0).await;
    let table = table.server("shop", "b", 2, b.address).server("shop", "c", 3, c.address);
    assert_eq!(bench.apply(&table.0).await, Change::Live);
    // Clients of each server, those added at run time included.
    let mut clients = BTreeMap::new();
    while clients.len() < 3 {
        let answer = get(port, "/").await.unwrap();
        clients.insert(answer.body, answer.cookie.expect("a cookie for a new client"));
    }
    let headers = |cookie: &str| format!("Cookie: {cookie}\r\n");
    for _ in 0..10 {
        for (server, cookie) in &clients {
            assert_eq!(get_with(port, "/", &headers(cookie)).await.unwrap().body, *server);
        }
    }
    // A reload forgets nothing: the cookie is a hash of the address.
    let later = free_port();
    let table = table.http(later, "/", "late");
    assert_eq!(bench.apply(&table.0).await, Change::Reload);
    for (server, cookie) in &clients {
        assert_eq!(get_with(port, "/", &headers(cookie)).await.unwrap().body, *server);
    }
    bench.apply(&table.clone().draining("shop", "b").0).await;
    let moved = get_with(port, "/", &headers(&clients["b"])).await.unwrap();
    assert_ne!(moved.body, "b");
    assert!(moved.cookie.is_some_and(|c| clients.values().any(|known| *known == c)));
    let table = table.without("shop", "b");
    bench.apply(&table.0).await;
    for (server, cookie) in &clients {
        let body = get_with(port, "/", &headers(cookie)).await.unwrap().body;
        assert_eq!(body == *server, server != "b");
    }
}

/// Which server each of a hundred paths goes to.
async fn spread(port: u16) -> BTreeMap<String, String> {
    let mut spread = BTreeMap::new();
    let mut client = Client::open(port).await.unwrap();
    for key in 0..100 {
        let path = format!("/{key}");
        let answer = client.ask(&format!("GET {path} HTTP/1.1\r\n"), "").await.unwrap();
        spread.insert(path, answer.body);
    }
    spread
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_consistent_hash_keeps_its_keys_over_changes_and_reloads() {
    let (bench, port) = (Bench::new(), free_port());
    let mut instances = Vec::new();
    let mut table =
        Table::new().http(port, "/", "shop").with("shop", |s| s.balance = Balance::UriHash);
    for id in 1..=4 {
        let instance = Instance::http(&format!("s{id}")).await;
        table = table.server("shop", &format!("s{id}"), id, instance.address);
        instances.push(instance);
        bench.apply(&table.0).await;
    }
    let before = spread(port).await;
    let extra = Instance::http("s5").await;
    let more = table.clone().server("shop", "s5", 5, extra.address);
    bench.apply(&more.0).await;
    let during = spread(port).await;
    let elsewhere = before.iter().filter(|(key, server)| during[*key] != **server).count();
    assert!((1..60).contains(&elsewhere), "{elsewhere} of 100 keys moved for one server of five");
    assert!(before.iter().all(|(key, server)| during[key] == *server || during[key] == "s5"));
    assert_eq!(bench.apply(&more.clone().http(free_port(), "/", "late").0).await, Change::Reload);
    assert_eq!(spread(port).await, during, "servers of the file hash as those added at run time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn an_instance_gets_no_more_than_its_limit_and_the_rest_waits_in_bounds() {
    let (bench, port) = (Bench::new(), free_port());
    let a = Instance::http("a").await;
    let table = Table::new().http(port, "/", "shop").with("shop", |s| {
        s.limits.connections_per_instance = NonZeroU32::new(2);
        s.limits.queue = Duration::from_millis(1_500);
    });
    bench.apply(&table.0).await;
    bench.apply(&table.server("shop", "a", 1, a.address).0).await;
    let asked: Vec<_> =
        (0..6).map(|_| tokio::spawn(async move { get(port, "/slow-1000").await })).collect();
    eventually("four wait", async || {
        let shop = bench.traffic().await.backends[&backend_name("shop")].clone();
        shop.queued == 4 && shop.servers[&server_name("a")].open == 2
    })
    .await;
    let mut statuses = Vec::new();
    for answer in asked {
        statuses.push(answer.await.unwrap().unwrap().status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 503, 503], "two at a time for one second each");
    let shop = bench.traffic().await.backends[&backend_name("shop")].clone();
    assert_eq!((shop.requests, shop.failures), (6, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_new_server_starts_slowly_and_weights_share() {
    let (bench, port) = (Bench::new(), free_port());
    let (a, b) = (Instance::http("a").await, Instance::http("b").await);
    let table = Table::new()
        .http(port, "/", "shop")
        .with("shop", |s| {
            s.balance = Balance::RoundRobin;
            s.limits.slow_start = Some(Duration::from_secs(20));
        })
        .server("shop", "a", 1, a.address);
    bench.apply(&table.0).await;
    let table = table.server("shop", "b", 2, b.address);
    bench.apply(&table.0).await;
    let load = Load::start(port, "/", 2, &[Mode::KeepAlive]);
    load.more(300).await;
    let shares = load.by_server.lock().unwrap().clone();
    load.finish().await;
    let (old, new) = (shares["a"], shares.get("b").copied().unwrap_or_default());
    assert!(new * 3 < old, "a new server begins with a small share: {new} against {old}");
    let weighted = table
        .with("shop", |s| s.limits.slow_start = None)
        .with("shop", |s| s.servers.get_mut(&server_name("b")).unwrap().weight = 25);
    assert_eq!(bench.apply(&weighted.0).await, Change::Reload);
    let load = Load::start(port, "/", 2, &[Mode::KeepAlive]);
    load.more(500).await;
    let shares = load.by_server.lock().unwrap().clone();
    load.finish().await;
    let ratio = shares["a"] as f64 / shares["b"] as f64;
    assert!((3.5..4.5).contains(&ratio), "100 to 25: {ratio}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_dead_server_loses_no_idempotent_request() {
    let (bench, port) = (Bench::new(), free_port());
    let (a, b) = (Instance::http("a").await, Instance::http("b").await);
    let table = Table::new()
        .http(port, "/", "shop")
        .server("shop", "a", 1, a.address)
        .server("shop", "b", 2, b.address);
    bench.apply(&table.0).await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let stop = stop.clone();
            tokio::spawn(async move {
                let mut failures = Vec::new();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
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
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for task in asking {
        assert_eq!(task.await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn certificates_are_chosen_by_name_and_renewed_without_a_reload() {
    let (bench, port) = (Bench::new(), free_port());
    let a = Instance::http("a").await;
    let plain = Table::new()
        .http(port, "/", "shop")
        .http(port, "/other", "other")
        .server("shop", "a", 1, a.address);
    let table = plain.certified(port, "shop", tls::A).certified(port, "other", tls::B);
    bench.apply(&table.0).await;
    assert!(certificate_for(port, "a.test.example").await.contains("a.test.example"));
    assert!(certificate_for(port, "b.test.example").await.contains("b.test.example"));
    let files = bench.balancer.files().await.unwrap();
    assert!(files.values().all(|text| !text.contains("PRIVATE")), "no key is shown");
    let renewed = table.clone().certified(port, "shop", tls::A_RENEWED);
    assert_eq!(bench.apply(&renewed.0).await, Change::Live);
    assert!(certificate_for(port, "a.test.example").await.contains("renewed.a.test"));
    assert_eq!(bench.reloads().await, 0);
    // By a new process, which cannot know what the worker has loaded.
    let second = bench.again();
    assert_eq!(second.apply(&table.0).await.unwrap().change, Change::Live);
    let shown = certificate_for(port, "a.test.example").await;
    assert!(!shown.contains("renewed"));
    // A broken certificate is its app's affair.
    let spoilt = table.certified(port, "other", &tls::A.replace("MI", "IM"));
    let applied = second.apply(&spoilt.0).await.unwrap();
    assert_eq!(applied.set_aside.len(), 1, "{:?}", applied.set_aside);
    assert!(certificate_for(port, "a.test.example").await.contains("a.test.example"));
    assert_eq!(second.describe().await.unwrap().reloads, 1, "the other one left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn reloads_under_load_lose_nothing() {
    let (bench, port) = (Bench::new(), free_port());
    let (a, b) = (Instance::http("a").await, Instance::http("b").await);
    let mut table = Table::new()
        .http(port, "/", "shop")
        .server("shop", "a", 1, a.address)
        .server("shop", "b", 2, b.address);
    bench.apply(&table.0).await;
    let load = Load::start(port, "/", 8, &[Mode::KeepAlive, Mode::Close]);
    load.more(200).await;
    let begun = Instant::now();
    for round in 0..10 {
        table = table.http(free_port(), "/", &format!("late{round}"));
        let change = bench.balancer.apply(&table.0).await.unwrap().change;
        assert_eq!(change, Change::Reload);
        load.more(200).await;
    }
    println!("10 reloads in {:?}, {} requests, 0 failed", begun.elapsed(), load.finish().await);
    eventually("old workers end", async || bench.traffic().await.old_workers == 0).await;
}
