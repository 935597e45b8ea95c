//! What goes wrong around a real NGINX, and what must happen then.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::fmt::Write as _;
use std::net::TcpListener;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Bench, loopback, nginx, script};
use lb_core::{
    Change, ConfigRenderer, Error, ErrorKind, Fragment, LoadBalancer, RateLimit, RenderedConfig,
    Result, RoutingTable, SetAside,
};
use lb_nginx::{NginxBalancer, NginxRenderer};
use lb_test_support::client::{Load, Mode, get};
use lb_test_support::{
    Apps, Instance, backend_name, eventually, free_port, processes, server_name,
};

/// Writes a line NGINX refuses in the upstreams of apps named `bad...`, and fails on those named `worse...`.
#[derive(Debug)]
struct Spoiling {
    inner: NginxRenderer,
    /// Asks for a port that nobody probes, which somebody holds.
    listens_elsewhere: AtomicBool,
    taken: u16,
}

impl Spoiling {
    fn new(taken: u16) -> Self {
        Self { inner: loopback(), listens_elsewhere: AtomicBool::new(false), taken }
    }
}

impl ConfigRenderer for Spoiling {
    fn render(&self, table: &RoutingTable) -> Result<RenderedConfig> {
        if let Some(name) = table.backends.keys().find(|b| b.as_str().starts_with("worse")) {
            return Err(Error::invalid(format!("backend \"{name}\""), "cannot be expressed"));
        }
        let mut config = self.inner.render(table)?;
        for fragment in &mut config.fragments {
            if let Fragment::Text { backend: Some(name), text } = fragment
                && name.as_str().starts_with("bad")
                && text.starts_with("    upstream")
            {
                text.push_str("        no_such_directive at all;\n");
            }
        }
        if self.listens_elsewhere.load(Ordering::Relaxed) {
            let port = self.taken;
            let head = config.fragments.iter_mut().find_map(|f| match f {
                Fragment::Text { text, .. } if text.starts_with("http {") => Some(text),
                _ => None,
            });
            writeln!(head.unwrap(), "    server {{ listen 127.0.0.1:{port}; }}").unwrap();
        }
        Ok(config)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_backend_nginx_refuses_is_set_aside_and_all_others_go_on() {
    let (bench, port) = (Bench::rendered_by(Arc::new(Spoiling::new(1))), free_port());
    let a = Instance::http("a").await;
    let good = Apps::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&good.0).await;
    let spoilt = good.clone().http(port, "/bad", "bad").http(port, "/worse", "worse");
    let applied = bench.balancer.apply(&spoilt.0).await.unwrap();
    let aside = |app| SetAside::Backend(backend_name(app));
    let reason = &applied.set_aside[&aside("bad")];
    assert!(reason.contains("nginx.conf:") && reason.contains("no_such_directive"), "{reason}");
    let reason = &applied.set_aside[&aside("worse")];
    assert!(reason.contains("cannot be expressed"), "{reason}");
    assert_eq!(applied.set_aside.len(), 2);
    assert_eq!(get(port, "/").await.unwrap().body, "a");
    assert_eq!(bench.traffic().await.table, Some(spoilt.0.hash()));
    // What is set aside does not cost the others a check at each change.
    let b = Instance::http("b").await;
    let more = spoilt.server("shop", "b", 2, b.address);
    let applied = bench.balancer.apply(&more.0).await.unwrap();
    assert_eq!((applied.change, applied.set_aside.len()), (Change::Reload, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn what_nginx_cannot_express_is_refused_by_backend_and_field() {
    let (bench, port, raw) = (Bench::new(), free_port(), free_port());
    let (a, db) = (Instance::http("a").await, Instance::echo("db").await);
    let rate = |requests, seconds| {
        let requests = NonZeroU32::new(requests).unwrap();
        Some(RateLimit { requests, window: Duration::from_secs(seconds) })
    };
    let table = Apps::new()
        .http(port, "/", "shop")
        .server("shop", "a", 1, a.address)
        .http(port, "/odd", "odd")
        .with("odd", |b| b.limits.rate = rate(100, 3600))
        .tcp(raw, "db")
        .server("db", "d", 1, db.address)
        .with("db", |b| b.limits.rate = rate(10, 10));
    let applied = bench.balancer.apply(&table.0).await.unwrap();
    for app in ["odd", "db"] {
        let reason = &applied.set_aside[&SetAside::Backend(backend_name(app))];
        assert!(
            reason.contains(&format!("{app}.web")) && reason.contains("limits.rate"),
            "{reason}"
        );
    }
    assert_eq!(applied.set_aside.len(), 2);
    assert_eq!(get(port, "/").await.unwrap().body, "a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_configuration_refused_as_a_whole_leaves_the_last_good_one() {
    let (bench, port) = (Bench::rendered_by(Arc::new(Spoiling::new(1))), free_port());
    let bad = Apps::new().http(port, "/", "bad");
    let error = bench.balancer.apply(&bad.0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let text = error.to_string();
    assert!(text.contains("bad.web") && text.contains("nginx.conf:"), "{text}");
    assert!(!bench.dir.path().join("nginx.conf").exists(), "nothing half-made");
    let a = Instance::http("a").await;
    let good = Apps::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    assert_eq!(bench.apply(&good.0).await, Change::Start);
    let file = bench.config();
    bench.balancer.apply(&bad.0).await.unwrap_err();
    assert_eq!(bench.config(), file);
    assert_eq!(get(port, "/").await.unwrap().body, "a");
    assert_eq!(bench.traffic().await.table, Some(good.0.hash()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_missing_or_hanging_checker_leaves_the_last_good_one() {
    let (bench, port) = (Bench::new(), free_port());
    let a = Instance::http("a").await;
    let good = Apps::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&good.0).await;
    let file = bench.config();
    let programs = tempfile::tempdir().unwrap();
    // Says what it is and can do, and hangs when it is to check what matters.
    let text = format!(
        "case \"$*\" in *-V*) exec {0} -V;; esac\n[ -s \"$5/lb_http.conf\" ] && exec sleep 60\nexec {0} \"$@\"",
        nginx().display()
    );
    let hanging = script(programs.path(), "hangs", &text);
    for program in [programs.path().join("absent"), hanging] {
        let balancer = NginxBalancer::builder(bench.dir.path())
            .renderer(Arc::new(loopback()))
            .as_process(&program)
            .workers(2.try_into().unwrap())
            .hard_stop_after(Duration::from_secs(20))
            .build()
            .unwrap();
        let begun = Instant::now();
        let error = balancer.apply(&good.clone().http(port, "/b", "b").0).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert_eq!(bench.config(), file);
        assert_eq!(get(port, "/").await.unwrap().body, "a");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_port_somebody_holds_is_set_aside_and_served_once_it_is_free() {
    let (bench, port, taken) = (Bench::new(), free_port(), free_port());
    let a = Instance::http("a").await;
    let good = Apps::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    let both = good.clone().http(taken, "/", "shop").server("shop", "a", 1, a.address);
    let holder = TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let applied = bench.balancer.apply(&both.0).await.unwrap();
    assert_eq!(applied.set_aside.keys().collect::<Vec<_>>(), [&SetAside::Listener(taken)]);
    assert_eq!(get(port, "/").await.unwrap().body, "a");
    let load = Load::start(port, "/", 4, &[Mode::Close]);
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
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_reload_that_does_not_come_up_is_noticed_and_the_files_are_put_back() {
    let (port, taken) = (free_port(), free_port());
    let renderer = Arc::new(Spoiling::new(taken));
    let bench = Bench::rendered_by(renderer.clone());
    let a = Instance::http("a").await;
    let good = Apps::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&good.0).await;
    let (file, workers) = (bench.config(), processes::children(bench.master().unwrap()));
    // The check does not mind a port that is taken.
    let holder = TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let load = Load::start(port, "/", 4, &[Mode::KeepAlive, Mode::Close]);
    renderer.listens_elsewhere.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let error = bench.balancer.apply(&good.clone().http(port, "/b", "b").0).await.unwrap_err();
    println!("noticed after {:?}: {error}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(8));
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
    assert_eq!(bench.config(), file);
    assert_eq!(processes::children(bench.master().unwrap()), workers, "they serve on");
    assert_eq!(bench.traffic().await.table, Some(good.0.hash()));
    load.finish().await;
    drop(holder);
    renderer.listens_elsewhere.store(false, Ordering::Relaxed);
    assert_eq!(bench.apply(&good.http(port, "/b", "b").0).await, Change::Reload);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_killed_nginx_comes_back_with_all_servers() {
    let (bench, port) = (Bench::new(), free_port());
    let (a, b) = (Instance::http("a").await, Instance::http("b").await);
    let table = Apps::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&table.0).await;
    let table = table.server("shop", "b", 2, b.address).draining("shop", "a");
    bench.apply(&table.0).await;
    get(port, "/").await.unwrap();
    let counted = async || bench.traffic().await.backends[&backend_name("shop")].requests;
    eventually("it is counted", async || counted().await > 0).await;
    let before = counted().await;
    for victim in ["master", "worker"] {
        let master = bench.master().unwrap();
        let workers = processes::children(master);
        let begun = Instant::now();
        processes::signal("-9", &[if victim == "master" { master } else { workers[0] }]);
        eventually("others run", async || {
            let Some(now) = bench.master() else { return false };
            let fresh = processes::children(now);
            (victim == "worker" || now != master)
                && fresh.len() == 2
                && fresh != workers
                && get(port, "/").await.is_ok()
        })
        .await;
        println!("{victim} killed: back after {:?}", begun.elapsed());
        for _ in 0..10 {
            assert_eq!(get(port, "/").await.unwrap().body, "b", "the draining one stays so");
        }
        let traffic = bench.traffic().await;
        assert_eq!(traffic.table, Some(table.0.hash()));
        let shop = &traffic.backends[&backend_name("shop")];
        assert!(shop.requests >= before, "counters never go back: {} < {before}", shop.requests);
        assert_eq!(shop.servers[&server_name("a")].open, 0);
        assert_eq!(bench.apply(&table.0).await, Change::None);
    }
    assert_eq!(processes::children(bench.master().unwrap()).len(), 2, "no orphan");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_directory_that_cannot_be_written_leaves_all_as_it_was() {
    let (bench, port) = (Bench::new(), free_port());
    let a = Instance::http("a").await;
    let table = Apps::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&table.0).await;
    let file = bench.config();
    // Root writes to read-only directories: something that cannot be replaced stands in the way instead.
    let blocks =
        [".nginx.conf.new", ".lb_servers.txt.new", "next"].map(|n| bench.dir.path().join(n));
    std::fs::remove_dir_all(&blocks[2]).unwrap();
    std::fs::write(&blocks[2], "").unwrap();
    for block in &blocks[..2] {
        std::fs::create_dir(block).unwrap();
    }
    let b = Instance::http("b").await;
    let more = table.clone().server("shop", "b", 2, b.address);
    let error = bench.balancer.apply(&more.0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(bench.config(), file);
    assert_eq!(bench.traffic().await.table, Some(table.0.hash()), "the file comes first");
    assert_eq!(get(port, "/").await.unwrap().body, "a");
    for block in &blocks[..2] {
        std::fs::remove_dir(block).unwrap();
    }
    std::fs::remove_file(&blocks[2]).unwrap();
    assert_eq!(bench.apply(&more.0).await, Change::Reload);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
async fn a_new_process_takes_over_what_runs() {
    let (bench, port) = (Bench::new(), free_port());
    let (a, b) = (Instance::http("a").await, Instance::http("b").await);
    let table = Apps::new()
        .http(port, "/", "shop")
        .server("shop", "a", 1, a.address)
        .server("shop", "b", 2, b.address)
        .draining("shop", "b");
    bench.apply(&table.0).await;
    let master = bench.master();
    let load = Load::start(port, "/", 4, &[Mode::Close]);
    let second = bench.again();
    // Before it is told anything it knows which table is in force.
    let traffic = second.traffic().await.unwrap();
    assert_eq!(traffic.table, Some(table.0.hash()));
    assert!(traffic.backends[&backend_name("shop")].servers.contains_key(&server_name("b")));
    assert_eq!(second.apply(&table.0).await.unwrap().change, Change::None);
    let less = table.without("shop", "b");
    let third = bench.again();
    assert_eq!(third.apply(&less.0).await.unwrap().change, Change::Reload);
    assert_eq!(bench.master(), master, "nothing was started");
    load.more(20).await;
    load.finish().await;
    third.shutdown().await.unwrap();
    third.shutdown().await.unwrap();
    assert_eq!(bench.master(), None);
    assert!(!bench.dir.path().exists());
}
