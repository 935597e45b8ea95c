//! Reloads and starts on a real HAProxy that fail, take long, or meet limits: what is said, and what goes on serving.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod balancer_support;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use balancer_support::{Bench, Spoiling, TOO_MANY, haproxy, script};
use lb_core::{Change, ErrorKind, LoadBalancer};
use lb_test_support::client::{Load, Mode, Stream, get};
use lb_test_support::{
    Apps as Table, Instance, backend_name, eventually, free_port, processes, server_name,
};

/// A HAProxy that serves `good`, and a renderer that spoils what comes next.
struct Serving {
    renderer: Arc<Spoiling>,
    bench: Bench,
    port: u16,
    good: Table,
    _a: Instance,
}

impl Serving {
    async fn start() -> Self {
        let renderer = Arc::new(Spoiling::default());
        let (bench, port) = (Bench::rendered_by(renderer.clone()), free_port());
        let a = Instance::http("a").await;
        let good = Table::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
        bench.apply(&good.0).await;
        Self { renderer, bench, port, good, _a: a }
    }

    /// A new shape whose worker does not come up: when that must be known, what must then be there, and what the
    /// error must say.
    async fn does_not_take(&self, fatal: &str, said: &str, within: Duration) {
        let (bench, file, pids) = (&self.bench, self.bench.config(), self.bench.pids());
        let mut stream = Stream::websocket(self.port, "/ws").await;
        self.renderer.with(fatal);
        let more = self.good.clone().http(self.port, "/b", "b");
        let applying = async {
            let error = bench.balancer.apply(&more.0).await.unwrap_err();
            (error, Instant::now())
        };
        // The reload follows the new file at once.
        let reload = async {
            eventually("a new file", async || bench.config() != file).await;
            Instant::now()
        };
        let (begun, (error, noticed)) = tokio::join!(reload, applying);
        let took = noticed - begun;
        assert!(took < within + ROLLED_BACK_WITHIN, "noticed after {took:?}: {error}");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(bench.config(), file);
        eventually("the old worker serves", async || bench.pids() == pids).await;
        assert_eq!(get(self.port, "/").await.unwrap().body, "a");
        assert!(stream.echoes("not cut").await);
        assert_eq!(bench.traffic().await.table, Some(self.good.0.hash()));
        eventually("what serves is no old worker, and what it holds counts once", async || {
            let traffic = bench.traffic().await;
            let open = traffic.backends[&backend_name("shop")].servers[&server_name("a")].open;
            (traffic.old_workers, open) == (0, 1)
        })
        .await;
        drop(stream);
        self.renderer.with("");
        assert_eq!(bench.apply(&more.0).await, Change::Reload);
    }
}

/// When it must be known that a worker does not come up, and time for the files to be put back on a busy machine.
const SEEN_WITHIN: Duration = Duration::from_secs(2);
const ROLLED_BACK_WITHIN: Duration = Duration::from_secs(1);
/// The same where HAProxy itself tries for some seconds.
const BOUND_WITHIN: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_worker_that_does_not_come_up_is_noticed_and_the_files_are_put_back() {
    let serving = Serving::start().await;
    serving.does_not_take(TOO_MANY, "limit is", SEEN_WITHIN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn reloads_that_fail_lose_no_request() {
    let serving = Serving::start().await;
    let load = Load::start(serving.port, "/", 4, &[Mode::KeepAlive, Mode::Close]);
    serving.renderer.with(TOO_MANY);
    let more = serving.good.clone().http(serving.port, "/b", "b");
    for _ in 0..2 {
        serving.bench.balancer.apply(&more.0).await.unwrap_err();
        load.more(50).await;
    }
    serving.renderer.with("");
    assert_eq!(serving.bench.apply(&more.0).await, Change::Reload);
    load.more(50).await;
    load.finish().await;
}

/// HAProxy has the old worker close its listeners while it tries such a port again, for some two seconds, and only
/// then says why: the ports of a table are therefore held beforehand. This one is no listener of the table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_worker_that_cannot_bind_a_port_is_noticed_as_well() {
    let holder = TcpListener::bind("0.0.0.0:0").unwrap();
    let address = holder.local_addr().unwrap();
    let fatal = format!("frontend stray\n    mode tcp\n    bind {address}\n");
    let serving = Serving::start().await;
    serving.does_not_take(&fatal, "cannot bind socket", BOUND_WITHIN).await;
}

/// A HAProxy that takes so long for its next start or reload once there is this file. It executes itself by the name
/// it was given.
fn slow_haproxy(dir: &Path, seconds: u32) -> (PathBuf, PathBuf) {
    let slow = dir.join("slow");
    let text = format!(
        "if [[ $1 != -c && $1 != -v && -e {slow} ]]; then rm {slow}; sleep {seconds}; fi\n\
         exec -a \"$0\" {} \"$@\"",
        haproxy().display(),
        slow = slow.display(),
    );
    (script(dir, "haproxy", &text), slow)
}

/// Longer than any other command may take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_reload_that_takes_its_time_is_waited_for() {
    let programs = tempfile::tempdir().unwrap();
    let (program, slow) = slow_haproxy(programs.path(), 6);
    let (bench, port) = (Bench::of(program), free_port());
    let a = Instance::http("a").await;
    let table = Table::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    assert_eq!(bench.apply(&table.0).await, Change::Start);
    std::fs::write(&slow, "").unwrap();
    let more = table.http(port, "/b", "b");
    assert_eq!(bench.apply(&more.0).await, Change::Reload);
    assert!(!slow.exists(), "it was slow");
    assert_eq!(bench.traffic().await.table, Some(more.0.hash()));
    assert_eq!(get(port, "/").await.unwrap().body, "a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_limit_of_descriptors_below_our_own_is_learnt_at_once() {
    let programs = tempfile::tempdir().unwrap();
    let text = format!("ulimit -n 3000; exec {} \"$@\"", haproxy().display());
    let (bench, port) = (Bench::of(script(programs.path(), "limited", &text)), free_port());
    let a = Instance::http("a").await;
    let table = Table::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    let begun = Instant::now();
    assert_eq!(bench.apply(&table.0).await, Change::Start);
    println!("up after {:?}", begun.elapsed());
    let config = bench.config();
    let connections = config.lines().find_map(|l| l.trim().strip_prefix("maxconn "));
    let connections: u32 = connections.unwrap().parse().unwrap();
    assert!(connections < 1_500, "{connections} connections fit 3000 descriptors");
    assert_eq!(get(port, "/").await.unwrap().body, "a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_new_shape_that_fails_while_haproxy_is_down_leaves_the_last_good_one_running() {
    let renderer = Arc::new(Spoiling::default());
    let (bench, port) = (Bench::rendered_by(renderer.clone()), free_port());
    let a = Instance::http("a").await;
    let good = Table::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply_and_end(&good.0).await;
    let file = bench.config();
    processes::signal("-9", &bench.pids());
    eventually("it is down", async || bench.pids().is_empty()).await;
    renderer.with(TOO_MANY);
    let error = bench.balancer.apply(&good.clone().http(port, "/b", "b").0).await.unwrap_err();
    assert!(error.to_string().contains("limit is"), "{error}");
    assert_eq!(bench.config(), file);
    eventually("the last good one serves", async || get(port, "/").await.is_ok()).await;
    assert_eq!(bench.traffic().await.table, Some(good.0.hash()));
}
