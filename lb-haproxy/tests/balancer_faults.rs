//! What goes wrong around a real HAProxy, and what must happen then (F4, F5, F6, F13, F21 of the fault list).
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod balancer_support;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use balancer_support::{Bench, Spoiling, haproxy, script};
use lb_core::{Change, ErrorKind, LoadBalancer, SetAside, Traffic};
use lb_haproxy::HaproxyBalancer;
use lb_test_support::client::{Load, Mode, Stream, get};
use lb_test_support::{
    Apps as Table, Instance, backend_name, eventually, free_port, processes, server_name,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_backend_haproxy_refuses_is_set_aside_and_all_others_go_on() {
    let (bench, port) = (Bench::rendered_by(Arc::new(Spoiling::default())), free_port());
    let a = Instance::http("a").await;
    let good = Table::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&good.0).await;
    let spoilt = good.clone().http(port, "/bad", "bad").http(port, "/worse", "worse");
    let applied = bench.balancer.apply(&spoilt.0).await.unwrap();
    let aside = |app| SetAside::Backend(backend_name(app));
    let reason = &applied.set_aside[&aside("bad")];
    assert!(reason.contains("haproxy.cfg:") && reason.contains("no-such-keyword"), "{reason}");
    let reason = &applied.set_aside[&aside("worse")];
    assert!(reason.contains("cannot be expressed"), "{reason}");
    assert_eq!(applied.set_aside.len(), 2);
    assert_eq!(get(port, "/").await.unwrap().body, "a");
    assert_eq!(bench.traffic().await.table, Some(spoilt.0.hash()));
    // A later change of the good one is neither a reload nor another check.
    let b = Instance::http("b").await;
    let reloads = bench.reloads().await;
    let more = spoilt.server("shop", "b", 2, b.address);
    let applied = bench.balancer.apply(&more.0).await.unwrap();
    assert_eq!((applied.change, applied.set_aside.len()), (Change::Live, 2));
    assert_eq!(bench.reloads().await, reloads);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_configuration_refused_as_a_whole_leaves_the_last_good_one() {
    let (bench, port) = (Bench::rendered_by(Arc::new(Spoiling::default())), free_port());
    let bad = Table::new().http(port, "/", "bad");
    let error = bench.balancer.apply(&bad.0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let text = error.to_string();
    assert!(text.contains("bad.web") && text.contains("haproxy.cfg:"), "{text}");
    assert!(!bench.dir.path().join("haproxy.cfg").exists(), "nothing half-made");
    let a = Instance::http("a").await;
    let good = Table::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    assert_eq!(bench.apply(&good.0).await, Change::Start);
    let file = bench.config();
    bench.balancer.apply(&bad.0).await.unwrap_err();
    assert_eq!(bench.config(), file);
    assert_eq!(get(port, "/").await.unwrap().body, "a");
    assert_eq!(bench.traffic().await.table, Some(good.0.hash()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_missing_or_hanging_checker_leaves_the_last_good_one() {
    let (bench, port) = (Bench::new(), free_port());
    let a = Instance::http("a").await;
    let good = Table::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&good.0).await;
    let file = bench.config();
    let programs = tempfile::tempdir().unwrap();
    let hanging = script(programs.path(), "hangs", "exec sleep 60");
    for (program, kind) in [
        (programs.path().join("absent"), ErrorKind::Unavailable),
        (hanging, ErrorKind::Unavailable),
    ] {
        let balancer =
            HaproxyBalancer::builder(bench.dir.path()).as_process(&program).build().unwrap();
        let begun = Instant::now();
        let error = balancer.apply(&good.clone().http(port, "/b", "b").0).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert_eq!(bench.config(), file);
        assert_eq!(get(port, "/").await.unwrap().body, "a");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_port_somebody_holds_is_set_aside_and_served_once_it_is_free() {
    let (bench, port, taken) = (Bench::new(), free_port(), free_port());
    let a = Instance::http("a").await;
    let good = Table::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    let both = good.clone().http(taken, "/", "shop").server("shop", "a", 1, a.address);
    let holder = TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let applied = bench.balancer.apply(&both.0).await.unwrap();
    assert_eq!(applied.set_aside.keys().collect::<Vec<_>>(), [&SetAside::Listener(taken)]);
    assert_eq!(get(port, "/").await.unwrap().body, "a");
    let load = Load::start(port, "/", 4, &[Mode::KeepAlive, Mode::Close]);
    load.more(50).await;
    let applied = bench.balancer.apply(&both.0).await.unwrap();
    assert_eq!((applied.change, applied.set_aside.len()), (Change::None, 1));
    drop(holder);
    assert_eq!(bench.apply(&both.0).await, Change::Reload);
    assert_eq!(get(taken, "/").await.unwrap().body, "a");
    load.more(50).await;
    load.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_port_cannot_be_taken_between_check_and_reload() {
    let (port, later) = (free_port(), free_port());
    let bench = Bench::new();
    let a = Instance::http("a").await;
    let good = Table::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&good.0).await;
    // A checker that gives a thief time: it tries to take the port while the check runs.
    let programs = tempfile::tempdir().unwrap();
    let text = format!("sleep 0.5; exec {} \"$@\"", haproxy().display());
    let slow = HaproxyBalancer::builder(bench.dir.path())
        .as_process(script(programs.path(), "slow", &text))
        .build()
        .unwrap();
    let load = Load::start(port, "/", 4, &[Mode::KeepAlive, Mode::Close]);
    let table = good.http(later, "/", "late");
    let asked = table.0.clone();
    let applying = tokio::spawn(async move { slow.apply(&asked).await });
    let mut stolen = 0;
    while !applying.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        stolen += u32::from(stolen == 0 && TcpListener::bind(("0.0.0.0", later)).is_ok());
    }
    let applied = applying.await.unwrap().unwrap();
    assert_eq!((applied.change, applied.set_aside.len()), (Change::Reload, 0));
    load.more(50).await;
    load.finish().await;
    println!("bound {stolen} times before it was held");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn an_old_worker_that_does_not_say_what_it_holds_is_not_idle() {
    let (bench, port) = (Bench::new(), free_port());
    let a = Instance::http("a").await;
    let table = Table::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&table.0).await;
    let old = bench.pids()[1];
    let mut stream = Stream::websocket(port, "/ws").await;
    assert_eq!(bench.apply(&table.http(port, "/b", "b").0).await, Change::Reload);
    let open = |t: &Traffic| t.backends[&backend_name("shop")].servers[&server_name("a")].open;
    processes::signal("-STOP", &[old]);
    let error = bench.balancer.traffic().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    processes::signal("-CONT", &[old]);
    let traffic = bench.traffic().await;
    assert_eq!((traffic.old_workers, open(&traffic)), (1, 1));
    assert!(stream.echoes("still here").await);
    // One that has ended holds nothing, however it ended.
    processes::signal("-9", &[old]);
    let traffic = bench.traffic().await;
    assert_eq!((traffic.old_workers, open(&traffic)), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_killed_haproxy_comes_back_with_all_servers() {
    let (bench, port) = (Bench::new(), free_port());
    let (a, b) = (Instance::http("a").await, Instance::http("b").await);
    let table = Table::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&table.0).await;
    let table = table.server("shop", "b", 2, b.address).draining("shop", "a");
    assert_eq!(bench.apply(&table.0).await, Change::Live);
    let before = {
        get(port, "/").await.unwrap();
        bench.traffic().await.backends[&backend_name("shop")].requests
    };
    for victim in [0, 1] {
        let pids = bench.pids();
        let begun = Instant::now();
        processes::signal("-9", &[pids[victim]]);
        eventually("another master runs", async || {
            let now = bench.pids();
            now.len() == 2 && now[0] != pids[0] && get(port, "/").await.is_ok()
        })
        .await;
        println!("victim {victim}: back after {:?}", begun.elapsed());
        for _ in 0..5 {
            assert_eq!(get(port, "/").await.unwrap().body, "b", "the draining one stays so");
        }
        let traffic = bench.traffic().await;
        assert_eq!(traffic.table, Some(table.0.hash()));
        let requests = traffic.backends[&backend_name("shop")].requests;
        assert!(requests >= before, "counters never go back: {requests} < {before}");
        assert_eq!(bench.apply(&table.0).await, Change::None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_directory_that_cannot_be_written_leaves_all_as_it_was() {
    let (bench, port) = (Bench::new(), free_port());
    let a = Instance::http("a").await;
    let table = Table::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&table.0).await;
    let file = bench.config();
    // Root writes to read-only directories: something that cannot be replaced stands in the way instead.
    let blocks = bench.dir.path().join(".haproxy.cfg.new");
    std::fs::create_dir(&blocks).unwrap();
    let b = Instance::http("b").await;
    let more = table.clone().server("shop", "b", 2, b.address);
    let error = bench.balancer.apply(&more.0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(bench.config(), file);
    assert_eq!(bench.traffic().await.table, Some(table.0.hash()), "the file comes first");
    assert_eq!(get(port, "/").await.unwrap().body, "a");
    std::fs::remove_dir(&blocks).unwrap();
    assert_eq!(bench.apply(&more.0).await, Change::Live);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_new_process_takes_over_what_runs() {
    let (bench, port) = (Bench::new(), free_port());
    let (a, b) = (Instance::http("a").await, Instance::http("b").await);
    let table = Table::new()
        .http(port, "/", "shop")
        .server("shop", "a", 1, a.address)
        .server("shop", "b", 2, b.address)
        .draining("shop", "b");
    bench.apply(&table.0).await;
    let pids = bench.pids();
    let load = Load::start(port, "/", 4, &[Mode::KeepAlive, Mode::Close]);
    let second = bench.again();
    // Before it is told anything it knows which table is in force, and puts right what differs.
    bench.runtime("set server shop.web/b state maint; del server shop.web/b");
    let traffic = second.traffic().await.unwrap();
    assert_eq!(traffic.table, Some(table.0.hash()));
    assert!(traffic.backends[&backend_name("shop")].servers.contains_key(&server_name("b")));
    assert_eq!(second.apply(&table.0).await.unwrap().change, Change::None);
    let less = table.without("shop", "b");
    let third = bench.again();
    assert_eq!(third.apply(&less.0).await.unwrap().change, Change::Live);
    assert_eq!(third.describe().await.unwrap().reloads, 0);
    assert_eq!(bench.pids(), pids, "nothing was started");
    load.more(20).await;
    load.finish().await;
    third.shutdown().await.unwrap();
    third.shutdown().await.unwrap();
    assert!(bench.pids().is_empty());
    assert!(!bench.dir.path().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_haproxy_of_the_platform_is_used_as_it_is() {
    let bench = Bench::new();
    let (port, dir) = (free_port(), bench.dir.path());
    let master = dir.join("master.sock");
    let attached = HaproxyBalancer::builder(dir).attached(&master, haproxy()).build().unwrap();
    let a = Instance::http("a").await;
    let table = Table::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    let error = attached.apply(&table.0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("haproxy.cfg"), "{error}");
    let mut platform = std::process::Command::new(haproxy())
        .args(["-W", "-db", "-S", &format!("{},mode,600", master.display()), "-f"])
        .arg(dir.join("haproxy.cfg"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("it serves", async || get(port, "/").await.is_ok()).await;
    assert_eq!(attached.traffic().await.unwrap().table, Some(table.0.hash()));
    let b = Instance::http("b").await;
    let more = table.server("shop", "b", 2, b.address).http(port, "/b", "b");
    assert_eq!(attached.apply(&more.0).await.unwrap().change, Change::Reload);
    attached.shutdown().await.unwrap();
    assert!(get(port, "/").await.is_err(), "nothing of ours listens");
    assert_eq!(platform.try_wait().unwrap(), None, "the platform's process lives");
    platform.kill().unwrap();
    platform.wait().unwrap();
}
