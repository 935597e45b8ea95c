//! What a real NGINX counts, while servers leave and return.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use common::Bench;
use lb_core::{BackendTraffic, ServerTraffic};
use lb_test_support::client::{Stream, get};
use lb_test_support::{Apps, Instance, backend_name, eventually, free_port, server_name};

async fn of(bench: &Bench, app: &str) -> BackendTraffic {
    bench.traffic().await.backends.remove(&backend_name(app)).unwrap_or_default()
}

async fn server(bench: &Bench, app: &str, name: &str) -> Option<ServerTraffic> {
    of(bench, app).await.servers.get(&server_name(name)).copied()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn what_returns_or_takes_anothers_place_begins_at_0_and_the_backend_goes_on() {
    let (bench, port, raw) = (Bench::new(), free_port(), free_port());
    let (a, echo) = (Instance::http("a").await, Instance::echo("e").await);
    let web = |name: &str| Apps::new().http(port, "/", "shop").server("shop", name, 1, a.address);
    let mut sum = 0;
    for (name, requests) in [("a", 20), ("b", 5), ("a", 3)] {
        bench.apply(&web(name).0).await;
        // With the same address as the one before, which is forgotten once it was seen gone.
        assert_eq!(server(&bench, "shop", name).await.unwrap().requests, 0, "{name}");
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
        assert_eq!(of(&bench, app).await.requests, 0, "{app}: at the other's port");
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
    assert_eq!(of(&bench, "shop").await.requests, 0, "a backend that returns");
}
