//! What is slow or too much on a real HAProxy: times that end, retries and old workers that are bounded (F24, F28).
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod balancer_support;
mod common;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use balancer_support::Bench;
use common::Proxy;
use lb_core::{Backend, Change, LoadBalancer, Protocol::Http};
use lb_haproxy::HaproxyBalancer;
use lb_test_support::client::{Stream, get};
use lb_test_support::live::{App, Client, Manner::Echo, ask, free_ports};
use lb_test_support::{Apps, Instance, Routes, eventually, free_port};
use tokio::net::TcpListener;

/// Tries after the first one (`retries`).
const RETRIES: u64 = 3;
/// What a busy machine may add to a time.
const SLACK: Duration = Duration::from_secs(2);

/// What a server does with each connection.
#[derive(Clone, Copy)]
enum Manner {
    Hold,
    Close,
}

/// A server that answers nothing, and how many connections it saw.
async fn mute(manner: Manner) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::<AtomicU64>::default();
    let counter = seen.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            match manner {
                Manner::Hold => held.push(stream),
                Manner::Close => drop(stream),
            }
        }
    });
    (address, seen)
}

/// One server behind `/`, whose checks come too seldom to count.
async fn behind(server: SocketAddr, change: impl FnOnce(&mut Backend)) -> (u16, Proxy) {
    let [port] = free_ports();
    let table = Routes::new().backend_with("shop.web", Http, &[server], |backend| {
        backend.health.interval = Duration::from_secs(3_600);
        change(backend);
    });
    (port, Proxy::start(&table.route(port, "/", "shop.web").0).await)
}

#[tokio::test]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_server_that_is_silent_for_its_time_is_a_504_and_not_asked_again() {
    let time = Duration::from_millis(400);
    let (server, seen) = mute(Manner::Hold).await;
    let (port, _proxy) = behind(server, |b| b.timeouts.server = time).await;
    let before = seen.load(Ordering::Relaxed);
    let begun = Instant::now();
    assert_eq!(ask(port, "GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.status(), 504);
    let took = begun.elapsed();
    assert!((time..time + SLACK).contains(&took), "{took:?}");
    assert!(seen.load(Ordering::Relaxed) - before <= 1, "a slow server is not asked twice");
}

#[tokio::test]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_request_that_does_not_end_in_its_time_is_a_408() {
    let time = Duration::from_millis(400);
    let app = App::start("app", Echo).await;
    let (port, _proxy) = behind(app.address, |b| b.timeouts.request = time).await;
    let mut client = Client::connect(port).await;
    let begun = Instant::now();
    let answer = client.ask("GET / HTTP/1.1\r\nHost: h\r\n").await.unwrap();
    let took = begun.elapsed();
    assert_eq!((answer.status(), app.seen().len()), (408, 0));
    assert!((time..time + SLACK).contains(&took), "{took:?}");
}

#[tokio::test]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn retries_of_what_fails_at_once_are_bounded() {
    const ASKED: u64 = 20;
    let (server, seen) = mute(Manner::Close).await;
    let (port, _proxy) = behind(server, |_| {}).await;
    for (method, most) in [("GET", 1 + RETRIES), ("POST", 1)] {
        let before = seen.load(Ordering::Relaxed);
        let request = format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..ASKED {
            let request = request.clone();
            asked.spawn(async move { ask(port, request).await.status() });
        }
        while let Some(status) = asked.join_next().await {
            assert!([502, 503].contains(&status.unwrap()), "{method}");
        }
        let tries = seen.load(Ordering::Relaxed) - before;
        // A check may be among them.
        assert!((ASKED..=ASKED * most + 1).contains(&tries), "{method}: {tries} for {ASKED}");
    }
}

#[tokio::test]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn what_waits_longer_than_the_queue_allows_is_shed_with_503() {
    let queue = Duration::from_millis(400);
    let app = Instance::http("app").await;
    let limited = |b: &mut Backend| {
        b.limits.connections_per_instance = NonZeroU32::new(1);
        b.limits.queue = queue;
    };
    let (port, _proxy) = behind(app.address, limited).await;
    let first = tokio::spawn(async move { get(port, "/slow-4000").await });
    eventually("one is served", async || app.requests() == 1).await;
    let mut rest = tokio::task::JoinSet::new();
    for _ in 0..10 {
        rest.spawn(async move {
            let begun = Instant::now();
            (get(port, "/").await.unwrap().status, begun.elapsed())
        });
    }
    while let Some(shed) = rest.join_next().await {
        let (status, took) = shed.unwrap();
        assert_eq!(status, 503);
        assert!((queue..queue + SLACK).contains(&took), "{took:?}");
    }
    assert_eq!(app.requests(), 1, "what was shed never reached the instance");
    assert_eq!(first.await.unwrap().unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn old_workers_with_connections_are_no_more_than_their_bound() {
    let most = NonZeroU32::new(3).unwrap();
    let (mut bench, port) = (Bench::new(), free_port());
    bench.balancer = HaproxyBalancer::builder(bench.dir.path())
        .as_process(common::haproxy())
        .max_old_workers(most)
        .build()
        .unwrap();
    let a = Instance::http("a").await;
    let mut table = Apps::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&table.0).await;
    let mut held = Vec::new();
    for round in 0..most.get() + 2 {
        held.push(Stream::websocket(port, "/ws").await);
        table = table.http(free_port(), "/", &format!("late{round}"));
        bench.apply(&table.0).await;
        eventually("no more than the bound", async || {
            bench.traffic().await.old_workers <= most.get()
        })
        .await;
    }
    assert_eq!(bench.traffic().await.old_workers, most.get(), "they were held");
    assert_eq!(bench.balancer.describe().await.unwrap().cut, 2, "and it is said");
    for stream in &mut held[..2] {
        assert!(!stream.echoes("the oldest").await, "they had to go");
    }
    for stream in &mut held[2..] {
        assert!(stream.echoes("the latest").await);
    }
}

/// It was cut at the seventeenth, by a bound on the reloads a worker may see.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_stream_lives_through_any_number_of_reloads() {
    let (bench, port) = (Bench::new(), free_port());
    let a = Instance::http("a").await;
    let mut table = Apps::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&table.0).await;
    let mut stream = Stream::websocket(port, "/ws").await;
    for round in 0..20 {
        table = table.http(free_port(), "/", &format!("late{round}"));
        assert_eq!(bench.apply(&table.0).await, Change::Reload);
        assert!(stream.echoes("held").await, "cut at reload {round}");
    }
    assert_eq!(bench.traffic().await.old_workers, 1, "those without connections have ended");
    assert_eq!(bench.balancer.describe().await.unwrap().cut, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn an_old_worker_ends_with_its_time_whatever_it_holds() {
    let time = Duration::from_secs(2);
    let (bench, port) = (Bench::new(), free_port());
    let balancer = HaproxyBalancer::builder(bench.dir.path())
        .as_process(common::haproxy())
        .hard_stop_after(time)
        .build()
        .unwrap();
    let a = Instance::http("a").await;
    let table = Apps::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    balancer.apply(&table.0).await.unwrap();
    let mut stream = Stream::websocket(port, "/ws").await;
    balancer.apply(&table.http(port, "/b", "b").0).await.unwrap();
    let begun = Instant::now();
    assert_eq!(balancer.traffic().await.unwrap().old_workers, 1);
    assert!(stream.echoes("held").await);
    eventually("it ends", async || balancer.traffic().await.unwrap().old_workers == 0).await;
    let took = begun.elapsed();
    assert!((time / 2..time + SLACK).contains(&took), "{took:?}");
    assert!(!stream.echoes("cut").await);
}
