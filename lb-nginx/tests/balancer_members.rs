//! Servers that come and go on a real NGINX, by reloads: with what is promised there.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::time::{Duration, Instant};

use common::Bench;
use lb_core::{Change, LoadBalancer, Membership, ServerTraffic, Traffic};
use lb_test_support::client::{Client, Load, Mode, Stream, get};
use lb_test_support::{Apps, Instance, backend_name, eventually, free_port, server_name};

fn server(traffic: &Traffic, app: &str, name: &str) -> Option<ServerTraffic> {
    traffic.backends[&backend_name(app)].servers.get(&server_name(name)).copied()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn no_new_connection_fails_and_kept_ones_as_promised() {
    const KEPT: usize = 16;
    let (bench, port) = (Bench::new(), free_port());
    let (a, b) = (Instance::http("a").await, Instance::http("b").await);
    let one = Apps::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    let two = one.clone().server("shop", "b", 2, b.address);
    bench.apply(&one.0).await;
    let short = Load::start(port, "/x", 8, &[Mode::Close]);
    let kept = Load::start(port, "/x", KEPT, &[Mode::KeepAlive]);
    for round in 0..10 {
        let table = if round % 2 == 0 { &two } else { &one };
        assert_eq!(bench.apply(&table.0).await, Change::Reload, "round {round}");
        short.more(100).await;
    }
    let sent = short.finish().await;
    let (kept_sent, closed) = kept.end().await;
    let reloads = bench.reloads().await;
    assert_eq!(reloads, 10);
    assert!(
        closed.iter().all(|what| !what.contains("connect")),
        "{:?}",
        &closed[..closed.len().min(5)]
    );
    let most = match bench.balancer.describe().await.unwrap().membership {
        Membership::GentleReload => 0,
        _ => KEPT * reloads as usize,
    };
    assert!(closed.len() <= most, "{} closed: at most {most} are promised", closed.len());
    println!(
        "{reloads} reloads: 0 of {sent} short and {} of {kept_sent} kept failed",
        closed.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn streams_of_one_app_stay_up_through_changes_of_another_and_a_reload() {
    let (bench, port, raw, later) = (Bench::new(), free_port(), free_port(), free_port());
    let (web, echo) = (Instance::http("web").await, Instance::echo("echo").await);
    let mut table = Apps::new()
        .http(port, "/chat", "chat")
        .server("chat", "w", 1, web.address)
        .tcp(raw, "mail")
        .server("mail", "m", 1, echo.address)
        .http(port, "/shop", "shop");
    bench.apply(&table.0).await;
    let mut streams = [Stream::tcp(raw).await, Stream::websocket(port, "/chat").await];
    for round in 0..4 {
        let instance = Instance::http("s").await;
        let with = table.clone().server("shop", &format!("s{round}"), 1 + round, instance.address);
        assert_eq!(bench.apply(&with.0).await, Change::Reload);
        for stream in &mut streams {
            assert!(stream.echoes(&format!("round {round}")).await, "round {round}");
        }
        assert_eq!(bench.apply(&table.0).await, Change::Reload);
    }
    table = table.http(later, "/", "late");
    assert_eq!(bench.apply(&table.0).await, Change::Reload);
    for stream in &mut streams {
        assert!(stream.echoes("after the reload").await);
    }
    let traffic = bench.traffic().await;
    assert_eq!(traffic.table, Some(table.0.hash()));
    assert!(traffic.old_workers >= 1, "{}", traffic.old_workers);
    for (app, name) in [("mail", "m"), ("chat", "w")] {
        assert_eq!(server(&traffic, app, name).unwrap().open, 1, "{app}: held by an old worker");
    }
    drop(streams);
    eventually("old workers end with their streams", async || {
        let traffic = bench.traffic().await;
        traffic.old_workers == 0 && server(&traffic, "mail", "m").unwrap().open == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_scale_in_right_after_a_reload_cuts_nothing_an_old_worker_holds() {
    let (bench, port, later) = (Bench::new(), free_port(), free_port());
    let (a, b) = (Instance::http("a").await, Instance::http("b").await);
    let table = Apps::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&table.0).await;
    let slow = tokio::spawn(async move { get(port, "/slow-4000").await });
    let mut stream = Stream::websocket(port, "/ws").await;
    eventually("both arrived", async || a.requests() == 2).await;
    let table = table.http(later, "/", "late").server("shop", "b", 2, b.address);
    assert_eq!(bench.apply(&table.0).await, Change::Reload);
    let draining = table.clone().draining("shop", "a");
    assert_eq!(bench.apply(&draining.0).await, Change::Reload);
    assert_eq!(server(&bench.traffic().await, "shop", "a").unwrap().open, 2, "in old workers");
    let mut keep = Client::open(port).await.unwrap();
    for _ in 0..20 {
        let answer = keep.ask("GET / HTTP/1.1\r\n", "").await.unwrap();
        assert_eq!(answer.body, "b", "a draining server takes nothing new");
    }
    assert_eq!(slow.await.unwrap().unwrap().body, "a");
    assert!(stream.echoes("still here").await);
    // Removed while an old worker still holds one: it is shut.
    bench.apply(&draining.clone().without("shop", "a").0).await;
    eventually("its connections are shut", async || !stream.echoes("cut?").await).await;
    eventually("nothing is left", async || server(&bench.traffic().await, "shop", "a").is_none())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_server_that_moves_or_takes_anothers_id_is_replaced() {
    let (bench, port) = (Bench::new(), free_port());
    let (a, b) = (Instance::http("a").await, Instance::http("b").await);
    let with = |name, address| Apps::new().http(port, "/", "shop").server("shop", name, 1, address);
    bench.apply(&with("x", a.address).0).await;
    for (table, body) in [(with("x", b.address), "b"), (with("y", a.address), "a")] {
        assert_eq!(bench.apply(&table.0).await, Change::Reload);
        for _ in 0..5 {
            assert_eq!(get(port, "/").await.unwrap().body, body);
        }
        assert_eq!(bench.apply(&table.0).await, Change::None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn connections_to_servers_are_kept_for_the_next_requests() {
    let (bench, port) = (Bench::new(), free_port());
    let a = Instance::http("a").await;
    bench.apply(&Apps::new().http(port, "/", "shop").server("shop", "a", 1, a.address).0).await;
    let mut client = Client::open(port).await.unwrap();
    for _ in 0..50 {
        assert_eq!(client.ask("GET / HTTP/1.1\r\n", "").await.unwrap().status, 200);
    }
    let opened = a.connections.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(opened, 1, "for 50 requests of one client");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_thousand_tables_in_a_second_become_few_reloads_and_end_with_the_last() {
    let (bench, port) = (Bench::new(), free_port());
    let a = Instance::http("a").await;
    let table = Apps::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&table.0).await;
    let begun = Instant::now();
    let mut waits = Vec::new();
    let mut last = table.clone();
    for round in 0..1_000u64 {
        last = table
            .clone()
            .with("shop", |b| b.timeouts.server = Duration::from_millis(50_000 + round));
        let (balancer, asked) = (bench.balancer.clone(), last.0.clone());
        waits.push(tokio::spawn(async move { balancer.apply(&asked).await }));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for wait in waits {
        wait.await.unwrap().unwrap();
    }
    assert_eq!(bench.apply(&last.0).await, Change::None);
    assert_eq!(bench.traffic().await.table, Some(last.0.hash()));
    let (reloads, seconds) = (bench.reloads().await, begun.elapsed().as_secs());
    assert!(reloads <= seconds + 2, "{reloads} reloads in {seconds} s");
    assert_eq!(get(port, "/").await.unwrap().status, 200);
}
