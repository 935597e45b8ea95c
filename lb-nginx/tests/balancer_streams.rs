//! Streams on a real NGINX, which live in the worker that took them while others take its place.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::num::NonZeroU32;

use common::Bench;
use lb_core::{Change, LoadBalancer};
use lb_nginx::HARD_STOP_AFTER;
use lb_test_support::client::Stream;
use lb_test_support::{Apps, Instance, eventually, free_port};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_stream_lives_through_any_number_of_reloads() {
    let (mut bench, port) = (Bench::new(), free_port());
    bench.balancer = bench.builder().hard_stop_after(HARD_STOP_AFTER).build().unwrap();
    let a = Instance::http("a").await;
    let mut table = Apps::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&table.0).await;
    let mut stream = Stream::websocket(port, "/ws").await;
    for round in 0..12 {
        table = table.http(port, &format!("/{round}"), &format!("late{round}"));
        assert_eq!(bench.apply(&table.0).await, Change::Reload);
        assert!(stream.echoes("held").await, "cut at reload {round}");
    }
    eventually("those without connections have ended", async || {
        bench.traffic().await.old_workers == 1
    })
    .await;
    assert_eq!(bench.balancer.describe().await.unwrap().cut, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn old_workers_with_connections_are_no_more_than_their_bound() {
    const MOST: u32 = 3;
    let (mut bench, port) = (Bench::new(), free_port());
    bench.balancer = bench
        .builder()
        .workers(NonZeroU32::MIN)
        .max_old_workers(NonZeroU32::new(MOST).unwrap())
        .build()
        .unwrap();
    let a = Instance::http("a").await;
    let mut table = Apps::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&table.0).await;
    let mut held = Vec::new();
    for round in 0..MOST + 2 {
        held.push(Stream::websocket(port, "/ws").await);
        table = table.http(port, &format!("/{round}"), &format!("late{round}"));
        assert_eq!(bench.apply(&table.0).await, Change::Reload);
        eventually("no more than the bound", async || bench.traffic().await.old_workers <= MOST)
            .await;
    }
    assert_eq!(bench.traffic().await.old_workers, MOST, "they were held");
    assert_eq!(bench.balancer.describe().await.unwrap().cut, 2, "and it is said");
    for stream in &mut held[..2] {
        assert!(!stream.echoes("the oldest").await, "they had to go");
    }
    for stream in &mut held[2..] {
        assert!(stream.echoes("the latest").await);
    }
}
