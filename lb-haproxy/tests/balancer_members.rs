//! Servers that come and go on a real HAProxy: no reload, and no lost request.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod balancer_support;

use std::time::{Duration, Instant};

use balancer_support::Bench;
use lb_core::{Balance, Change, LoadBalancer};
use lb_test_support::client::{Client, Load, Mode, Stream, get};
use lb_test_support::{
    Apps as Table, Instance, Unreachable, backend_name, eventually, free_port, server_name,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_hundred_changes_under_load_lose_nothing_and_never_reload() {
    let (bench, port) = (Bench::new(), free_port());
    let stays = [Instance::http("a").await, Instance::http("b").await];
    let base = Table::new()
        .http(port, "/", "shop")
        .server("shop", "a", 1, stays[0].address)
        .server("shop", "b", 2, stays[1].address);
    assert_eq!(bench.apply(&base.0).await, Change::Start);
    let load = Load::start(port, "/x", 8, &[Mode::KeepAlive, Mode::Close]);
    load.more(200).await;
    for round in 0..100 {
        let name = format!("c{round}");
        let instance = Instance::http(&name).await;
        let more = base.clone().server("shop", &name, 3 + round % 50, instance.address);
        assert_eq!(bench.apply(&more.0).await, Change::Live, "round {round}");
        eventually("the new server is used", async || instance.requests() > 0).await;
        let less = more.clone().draining("shop", &name);
        assert_eq!(bench.apply(&less.0).await, Change::Live, "round {round}");
        eventually("it drains", async || {
            let traffic = bench.traffic().await;
            assert_eq!(traffic.table, Some(less.0.hash()));
            traffic.backends[&backend_name("shop")].servers[&server_name(&name)].open == 0
        })
        .await;
        assert_eq!(bench.apply(&base.0).await, Change::Live, "round {round}");
        eventually("it is forgotten", async || {
            assert_eq!(bench.traffic().await.table, Some(base.0.hash()));
            !bench.runtime("show servers state shop.web").contains(&format!(" {name} "))
        })
        .await;
    }
    let sent = load.finish().await;
    assert_eq!(bench.reloads().await, 0);
    println!("{sent} requests, 300 changes, 0 failed");
    bench.balancer.shutdown().await.unwrap();
    assert!(!bench.dir.path().exists(), "everything made is removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn streams_of_one_app_stay_up_through_fifty_changes_of_another_and_a_reload() {
    let (bench, port, raw, later) = (Bench::new(), free_port(), free_port(), free_port());
    let (web, echo) = (Instance::http("web").await, Instance::echo("echo").await);
    let mut table = Table::new()
        .http(port, "/chat", "chat")
        .server("chat", "w", 1, web.address)
        .tcp(raw, "mail")
        .server("mail", "m", 1, echo.address)
        .http(port, "/shop", "shop");
    bench.apply(&table.0).await;
    let mut streams = [Stream::tcp(raw).await, Stream::websocket(port, "/chat").await];
    for round in 0..50 {
        let instance = Instance::http("s").await;
        let with = table.clone().server("shop", &format!("s{round}"), 1 + round, instance.address);
        assert_eq!(bench.apply(&with.0).await, Change::Live);
        for stream in &mut streams {
            assert!(stream.echoes(&format!("round {round}")).await, "round {round}");
        }
        assert_eq!(bench.apply(&table.0).await, Change::Live);
    }
    assert_eq!(bench.reloads().await, 0);
    table = table.http(later, "/", "late");
    assert_eq!(bench.apply(&table.0).await, Change::Reload);
    for stream in &mut streams {
        assert!(stream.echoes("after the reload").await);
    }
    let traffic = bench.traffic().await;
    assert_eq!((traffic.table, traffic.old_workers), (Some(table.0.hash()), 1));
    for (app, server) in [("mail", "m"), ("chat", "w")] {
        let open = traffic.backends[&backend_name(app)].servers[&server_name(server)].open;
        assert_eq!(open, 1, "{app}: held by the old worker");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_scale_in_right_after_a_reload_cuts_nothing_an_old_worker_holds() {
    let (bench, port, later) = (Bench::new(), free_port(), free_port());
    let (a, b) = (Instance::http("a").await, Instance::http("b").await);
    let table = Table::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&table.0).await;
    let slow = tokio::spawn(async move { get(port, "/slow-4000").await });
    let mut stream = Stream::websocket(port, "/ws").await;
    eventually("both arrived", async || a.requests() == 2).await;
    let table = table.http(later, "/", "late").server("shop", "b", 2, b.address);
    assert_eq!(bench.apply(&table.0).await, Change::Reload);
    let draining = table.clone().draining("shop", "a");
    assert_eq!(bench.apply(&draining.0).await, Change::Live);
    let server = |t: &lb_core::Traffic| {
        t.backends[&backend_name("shop")].servers.get(&server_name("a")).copied()
    };
    assert_eq!(server(&bench.traffic().await).unwrap().open, 2, "both in the old worker");
    let mut keep = Client::open(port).await.unwrap();
    for _ in 0..20 {
        let answer = keep.ask("GET / HTTP/1.1\r\n", "").await.unwrap();
        assert_eq!(answer.body, "b", "a draining server takes nothing new");
    }
    assert_eq!(slow.await.unwrap().unwrap().body, "a");
    assert!(stream.echoes("still here").await);
    // Removed while the old worker still holds one: it is shown until it is gone.
    bench.apply(&draining.clone().without("shop", "a").0).await;
    eventually("its connections are shut", async || !stream.echoes("cut?").await).await;
    eventually("nothing is left", async || server(&bench.traffic().await).is_none()).await;
    assert_eq!(bench.reloads().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_server_changed_by_somebody_else_is_put_right() {
    let (bench, port) = (Bench::new(), free_port());
    let (a, b) = (Instance::http("a").await, Instance::http("b").await);
    let table = Table::new()
        .http(port, "/", "shop")
        .server("shop", "a", 1, a.address)
        .server("shop", "b", 2, b.address);
    bench.apply(&table.0).await;
    let hash = Some(table.0.hash());
    for spoil in [
        "set server shop.web/b state maint; del server shop.web/b",
        "set server shop.web/a state drain",
        "set server shop.web/a weight 3",
        "add server shop.web/c 127.0.0.1:1 id 9; enable server shop.web/c",
        "set server shop.web/a addr 127.0.0.9 port 9",
    ] {
        bench.runtime(spoil);
        assert_eq!(bench.traffic().await.table, hash, "{spoil}");
        eventually("what is not of the table is forgotten", async || {
            assert_eq!(bench.traffic().await.table, hash, "{spoil}");
            bench.runtime("show servers state shop.web").matches(" shop.web ").count() == 2
        })
        .await;
        let state = bench.runtime("show servers state shop.web");
        assert!(!state.contains("127.0.0.9"), "{spoil}: {state}");
    }
    // By the next change as well, which only then finds out.
    bench.runtime("set server shop.web/b state maint; del server shop.web/b");
    let less = table.draining("shop", "b");
    assert_eq!(bench.apply(&less.0).await, Change::Live);
    assert_eq!(bench.traffic().await.table, Some(less.0.hash()));
    assert_eq!(bench.reloads().await, 0);
    for _ in 0..10 {
        assert_eq!(get(port, "/").await.unwrap().body, "a");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_server_that_moves_or_takes_anothers_id_is_replaced_without_a_reload() {
    let (bench, port) = (Bench::new(), free_port());
    let (a, b) = (Instance::http("a").await, Instance::http("b").await);
    let table = Table::new().http(port, "/", "shop").server("shop", "x", 1, a.address);
    bench.apply(&table.0).await;
    assert_eq!(get(port, "/").await.unwrap().body, "a");
    let moved = Table::new().http(port, "/", "shop").server("shop", "x", 1, b.address);
    assert_eq!(bench.apply(&moved.0).await, Change::Live);
    assert_eq!(get(port, "/").await.unwrap().body, "b");
    let renamed = Table::new().http(port, "/", "shop").server("shop", "y", 1, a.address);
    assert_eq!(bench.apply(&renamed.0).await, Change::Live);
    assert_eq!(get(port, "/").await.unwrap().body, "a");
    assert_eq!(bench.apply(&renamed.0).await, Change::None);
    assert_eq!(bench.reloads().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_server_added_at_run_time_keeps_its_connections_for_the_next_requests() {
    let (bench, port) = (Bench::new(), free_port());
    let table = Table::new().http(port, "/", "shop");
    bench.apply(&table.0).await;
    let a = Instance::http("a").await;
    bench.apply(&table.server("shop", "a", 1, a.address).0).await;
    let mut client = Client::open(port).await.unwrap();
    for _ in 0..50 {
        assert_eq!(client.ask("GET / HTTP/1.1\r\n", "").await.unwrap().status, 200);
    }
    let opened = a.connections.load(std::sync::atomic::Ordering::Relaxed);
    assert!(opened < 25, "{opened} connections (checks included) for 50 requests");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_thousand_tables_in_a_second_become_few_reloads_and_end_with_the_last() {
    let (bench, port) = (Bench::new(), free_port());
    let a = Instance::http("a").await;
    let table = Table::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&table.0).await;
    let begun = Instant::now();
    let mut waits = Vec::new();
    let mut last = table.clone();
    for round in 0..1_000u64 {
        // Every table is another shape: another timeout of no effect.
        last = table.clone().with("shop", |b| {
            b.health.interval = Duration::from_millis(500 + round);
        });
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_request_that_tries_to_reach_a_removed_server_is_answered_by_another() {
    let bench = Bench::new();
    let (port, gone, lives) = (free_port(), Unreachable::new().await, Instance::http("a").await);
    let backend = |b: &mut lb_core::Backend| {
        b.balance = Balance::RoundRobin;
        b.health.interval = Duration::from_secs(60);
    };
    let base = Table::new().http(port, "/", "shop").with("shop", backend).server(
        "shop",
        "a",
        1,
        lives.address,
    );
    bench.apply(&base.clone().server("shop", "b", 2, gone.address).0).await;
    let asked: Vec<_> = (0..8).map(|_| tokio::spawn(async move { get(port, "/").await })).collect();
    let trying = || bench.runtime("show sess").matches(" srv=b ").count();
    eventually("half of them try the one that is gone", async || trying() == 4).await;
    assert_eq!(bench.apply(&base.0).await, Change::Live);
    // Another one takes its place, and its id, while they still try.
    let replaced = base.clone().server("shop", "c", 2, lives.address);
    assert_eq!(bench.apply(&replaced.0).await, Change::Live);
    for answer in asked {
        assert_eq!(answer.await.unwrap().unwrap().body, "a");
    }
    assert_eq!(bench.reloads().await, 0);
}
