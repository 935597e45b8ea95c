//! What a real NGINX counts: in flight, waiting and so far, while servers leave and return.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::num::NonZeroU32;
use std::time::Duration;

use common::{Bench, WAYS};
use lb_core::{Backend, BackendTraffic, Change, ServerTraffic};
use lb_test_support::client::{Stream, get};
use lb_test_support::{Apps, Instance, backend_name, eventually, free_port, server_name};

async fn of(bench: &Bench, app: &str) -> BackendTraffic {
    bench.traffic().await.backends.remove(&backend_name(app)).unwrap_or_default()
}

async fn server(bench: &Bench, app: &str, name: &str) -> Option<ServerTraffic> {
    of(bench, app).await.servers.get(&server_name(name)).copied()
}

/// Limits of one request at a time and instance, and a queue.
fn queues(backend: &mut Backend) {
    backend.limits.connections_per_instance = NonZeroU32::new(1);
    backend.limits.queue = Duration::from_secs(30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_server_that_returns_while_a_request_is_in_flight_is_counted_once() {
    let bench = Bench::of_one_worker();
    let (port, a) = (free_port(), Instance::http("a").await);
    // Another app has the same address: what is open to it is not shut when the server leaves.
    let with = Apps::new()
        .http(port, "/", "shop")
        .server("shop", "a", 1, a.address)
        .http(port, "/other", "other")
        .server("other", "o", 1, a.address);
    let without = with.clone().without("shop", "a");
    bench.apply(&with.0).await;
    let slow = |ms: u32| tokio::spawn(async move { get(port, &format!("/slow-{ms}")).await });
    for round in 1..=3_u64 {
        let first = slow(1_000);
        eventually("one is in flight", async || of(&bench, "shop").await.in_flight == 1).await;
        assert_eq!(bench.apply(&without.0).await, Change::Servers);
        let gone = server(&bench, "shop", "a").await.unwrap();
        assert_eq!((gone.open, gone.up), (1, false), "round {round}: until it has ended");
        assert_eq!(bench.apply(&with.0).await, Change::Servers);
        let second = slow(2_000);
        eventually("both are", async || of(&bench, "shop").await.in_flight == 2).await;
        let back = server(&bench, "shop", "a").await.unwrap();
        assert_eq!((back.open, back.up), (2, true), "round {round}");
        assert_eq!(first.await.unwrap().unwrap().body, "a");
        let shop = of(&bench, "shop").await;
        assert_eq!((shop.in_flight, shop.servers.len()), (1, 1), "round {round}: {shop:?}");
        assert_eq!(second.await.unwrap().unwrap().body, "a");
        eventually("none is", async || of(&bench, "shop").await.in_flight == 0).await;
        assert_eq!(bench.apply(&without.0).await, Change::Servers);
        assert_eq!(server(&bench, "shop", "a").await, None, "round {round}");
        assert_eq!(bench.apply(&with.0).await, Change::Servers);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_server_that_moves_keeps_what_is_in_flight_and_its_limit() {
    let bench = Bench::of_one_worker();
    let (port, a, b) = (free_port(), Instance::http("a").await, Instance::http("b").await);
    let at = |address| {
        Apps::new()
            .http(port, "/", "shop")
            .server("shop", "s", 1, address)
            .with("shop", queues)
            .http(port, "/other", "other")
            .server("other", "o", 1, a.address)
    };
    bench.apply(&at(a.address).0).await;
    let first = tokio::spawn(async move { get(port, "/slow-1500").await });
    eventually("one is in flight", async || of(&bench, "shop").await.in_flight == 1).await;
    assert_eq!(bench.apply(&at(b.address).0).await, Change::Servers);
    let second = tokio::spawn(async move { get(port, "/").await });
    eventually("the next waits", async || of(&bench, "shop").await.queued == 1).await;
    assert_eq!(of(&bench, "shop").await.in_flight, 1);
    assert_eq!(first.await.unwrap().unwrap().body, "a");
    assert_eq!(second.await.unwrap().unwrap().body, "b");
    eventually("none is", async || {
        let shop = of(&bench, "shop").await;
        (shop.in_flight, shop.queued) == (0, 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn what_returns_or_takes_anothers_place_begins_at_0_and_the_backend_goes_on() {
    for way in WAYS {
        let (bench, port, raw) = (Bench::new(way), free_port(), free_port());
        let (a, echo) = (Instance::http("a").await, Instance::echo("e").await);
        let web =
            |name: &str| Apps::new().http(port, "/", "shop").server("shop", name, 1, a.address);
        let mut sum = 0;
        for (name, requests) in [("a", 20), ("b", 5), ("a", 3)] {
            bench.apply(&web(name).0).await;
            // With the same address as the one before, which is forgotten once it was seen gone.
            assert_eq!(server(&bench, "shop", name).await.unwrap().requests, 0, "{way:?} {name}");
            for _ in 0..requests {
                get(port, "/").await.unwrap();
            }
            sum += requests;
            eventually("they are counted", async || {
                let shop = of(&bench, "shop").await;
                (shop.requests, shop.servers[&server_name(name)].requests) == (sum, requests)
            })
            .await;
        }
        for (app, connections) in [("mail", 2), ("news", 1)] {
            let table = web("a").tcp(raw, app).server(app, "e", 1, echo.address);
            bench.apply(&table.0).await;
            assert_eq!(of(&bench, app).await.requests, 0, "{way:?} {app}: at the other's port");
            for _ in 0..connections {
                assert!(Stream::tcp(raw).await.echoes("hello").await);
            }
            let counted = async || of(&bench, app).await.requests == connections;
            eventually("connections are counted", counted).await;
        }
        let none = Apps::new().tcp(raw, "news").server("news", "e", 1, echo.address);
        bench.apply(&none.0).await;
        assert_eq!(of(&bench, "shop").await, BackendTraffic::default());
        bench.apply(&web("a").0).await;
        assert_eq!(of(&bench, "shop").await.requests, 0, "{way:?}: a backend that returns");
    }
}
