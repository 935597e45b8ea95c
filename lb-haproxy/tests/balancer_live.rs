//! What a real HAProxy takes without a reload beside servers: routes, apps that leave and come back, and new ones where it
//! can be given backends.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod balancer_support;

use balancer_support::Bench;
use lb_core::balancer::ConfigDirectory;
use lb_core::{Ability, Change, Listener, LoadBalancer};
use lb_test_support::client::{Load, Mode, Stream, get};
use lb_test_support::{Apps as Table, Instance, backend_name, eventually, free_port, tls};

/// Leads the path to another app.
fn led(mut table: Table, port: u16, path: &str, app: &str) -> Table {
    let Some(Listener::Http { routes, .. }) = table.0.listeners.get_mut(&port) else {
        panic!("an HTTP listener at {port}");
    };
    let mut moved = routes.iter().find(|route| route.path.as_str() == path).unwrap().clone();
    routes.retain(|route| route.path.as_str() != path);
    moved.backend = backend_name(app);
    routes.insert(moved);
    table
}

/// Two apps, at `/` and `/b`, and the table that exchanges them.
async fn two_apps(port: u16) -> (Table, Table, [Instance; 2]) {
    let (a, b) = (Instance::http("a").await, Instance::http("b").await);
    let table = Table::new()
        .http(port, "/", "a")
        .server("a", "a", 1, a.address)
        .http(port, "/b", "b")
        .server("b", "b", 1, b.address);
    let exchanged = led(led(table.clone(), port, "/", "b"), port, "/b", "a");
    (table, exchanged, [a, b])
}

async fn adds_backends(bench: &Bench) -> bool {
    bench.balancer.describe().await.unwrap().abilities.contains(&Ability::BackendsAtRunTime)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn routes_change_under_load_without_a_reload() {
    let (bench, port) = (Bench::new(), free_port());
    let (table, exchanged, _instances) = two_apps(port).await;
    bench.apply(&table.0).await;
    let load = Load::start(port, "/b", 4, &[Mode::KeepAlive, Mode::Close]);
    let mut stream = Stream::websocket(port, "/ws").await;
    for _ in 0..10 {
        for (table, root, b) in [(&exchanged, "b", "a"), (&table, "a", "b")] {
            assert_eq!(bench.apply(&table.0).await, Change::Live);
            assert_eq!(get(port, "/").await.unwrap().body, root);
            assert_eq!(get(port, "/b").await.unwrap().body, b);
            assert_eq!(bench.traffic().await.table, Some(table.0.hash()));
            assert_eq!(bench.apply(&table.0).await, Change::None);
        }
        load.more(20).await;
    }
    load.finish().await;
    assert!(stream.echoes("of the first app").await);
    assert_eq!(bench.reloads().await, 0);
}

/// What requests went to takes no more by the same change that leads them elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn routes_change_before_what_they_led_to_closes() {
    let (bench, port) = (Bench::new(), free_port());
    let (table, exchanged, _instances) = two_apps(port).await;
    bench.apply(&table.0).await;
    let load = Load::start(port, "/b", 4, &[Mode::KeepAlive, Mode::Close]);
    for _ in 0..10 {
        for next in [led(exchanged.clone(), port, "/", "a").draining("b", "b"), table.clone()] {
            assert_eq!(bench.apply(&next.0).await, Change::Live);
            load.more(20).await;
        }
    }
    load.finish().await;
    assert_eq!(bench.reloads().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn an_app_leaves_and_comes_back_without_a_reload() {
    let (bench, port) = (Bench::new(), free_port());
    let (both, _, instances) = two_apps(port).await;
    let alone = Table::new()
        .http(port, "/", "a")
        .server("a", "a", 1, instances[0].address)
        // So that there is a route with a path in either.
        .http(port, "/a", "a");
    let both = both.http(port, "/a", "a");
    bench.apply(&both.0).await;
    for _ in 0..3 {
        assert_eq!(bench.apply(&alone.0).await, Change::Live);
        assert_eq!(get(port, "/b").await.unwrap().body, "a");
        assert_eq!(bench.traffic().await.table, Some(alone.0.hash()));
        let shown = bench.runtime("show servers state");
        assert!(!shown.contains("b.web b "), "it has no server: {shown}");
        assert_eq!(bench.runtime("show backend").contains("b.web"), !adds_backends(&bench).await);
        assert_eq!(bench.apply(&both.0).await, Change::Live);
        assert_eq!(get(port, "/b").await.unwrap().body, "b");
        assert_eq!(bench.traffic().await.table, Some(both.0.hash()));
    }
    assert_eq!(bench.reloads().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn new_apps_take_a_reload_each_where_backends_cannot_be_added() {
    const APPS: u64 = 5;
    let (bench, port) = (Bench::new(), free_port());
    let (table, _, instances) = two_apps(port).await;
    bench.apply(&table.0).await;
    let load = Load::start(port, "/", 2, &[Mode::KeepAlive, Mode::Close]);
    let mut stream = Stream::websocket(port, "/ws").await;
    let expected = if adds_backends(&bench).await { Change::Live } else { Change::Reload };
    for n in 0..APPS {
        let (app, path) = (format!("late{n}"), format!("/late{n}"));
        let more = table.clone().http(port, &path, &app).server(&app, "s", 1, instances[1].address);
        assert_eq!(bench.apply(&more.0).await, expected);
        assert_eq!(get(port, &path).await.unwrap().body, "b");
        assert_eq!(bench.traffic().await.table, Some(more.0.hash()));
        assert_eq!(bench.apply(&table.0).await, Change::Live, "it goes again");
        assert_eq!(get(port, &path).await.unwrap().body, "a");
        assert!(stream.echoes("held").await, "cut after {n}");
        load.more(10).await;
    }
    load.finish().await;
    let reloads = if expected == Change::Live { 0 } else { APPS };
    assert_eq!(bench.reloads().await, reloads);
}

/// The first certificate of a listener is for clients that name no host: it takes a reload to change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn certificates_come_and_go_without_a_reload() {
    let (bench, port) = (Bench::new(), free_port());
    let (table, _, _instances) = two_apps(port).await;
    let shown = async |name| tls::certificate_for(port, name).await;
    let one = table.certified(port, "a", tls::SHOP);
    let two = one.clone().certified(port, "b", tls::B);
    bench.apply(&one.0).await;
    let file = bench.dir.path().join(format!("{port}.b.web.pem"));
    for _ in 0..3 {
        assert!(shown("b.test.example").await.contains("shop.example.org"), "the first");
        assert!(!file.exists());
        assert_eq!(bench.apply(&two.0).await, Change::Live);
        assert!(shown("b.test.example").await.contains("b.test.example"));
        assert!(shown("shop.example.org").await.contains("shop.example.org"));
        assert_eq!(bench.traffic().await.table, Some(two.0.hash()));
        assert!(file.exists());
        assert_eq!(bench.apply(&two.0).await, Change::None);
        assert_eq!(bench.apply(&one.0).await, Change::Live);
    }
    let next = bench.again();
    assert_eq!(next.apply(&two.0).await.unwrap().change, Change::Live, "by what HAProxy lists");
    assert!(shown("b.test.example").await.contains("b.test.example"));
    assert_eq!(bench.reloads().await, 0);
}

/// Of one port, what only a reload changes: the balancer says how it came in force, and both are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_backend_that_says_something_else_takes_a_reload() {
    let (bench, port) = (Bench::new(), free_port());
    let (table, _, _instances) = two_apps(port).await;
    bench.apply(&table.0).await;
    let slower = table.clone().with("b", |backend| {
        backend.timeouts.server = std::time::Duration::from_secs(7);
    });
    assert_eq!(bench.apply(&slower.0).await, Change::Reload);
    assert_eq!(bench.apply(&table.0).await, Change::Reload);
    assert_eq!(get(port, "/b").await.unwrap().body, "b");
}

/// A platform that ends in the middle of a change has written a file that is ahead of what runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_change_that_did_not_end_is_not_told_to_be_in_force_and_ends_with_the_next() {
    let (bench, port) = (Bench::new(), free_port());
    let (table, exchanged, _instances) = two_apps(port).await;
    bench.apply(&table.0).await;
    bench.apply(&exchanged.0).await;
    // As it stood before the routes changed, written by the process that ended.
    let directory = ConfigDirectory::new(bench.dir.path().into(), "haproxy.cfg").unwrap();
    let maps: Vec<_> = std::fs::read_dir(bench.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "map"))
        .collect();
    assert_eq!(maps.len(), 1);
    let name = maps[0].file_name().unwrap().to_str().unwrap();
    directory.replace(name, b"/ a.web\n/b/ b.web\n").unwrap();
    bench.runtime(&format!("set map {name} / a.web"));
    bench.runtime(&format!("set map {name} /b/ b.web"));
    let unfinished = bench.config().replacen("# lb table", "# lb unfinished\n# lb table", 1);
    directory.replace("haproxy.cfg", unfinished.as_bytes()).unwrap();
    let next = bench.again();
    assert_eq!(next.traffic().await.unwrap().table, None);
    assert_eq!(next.apply(&exchanged.0).await.unwrap().change, Change::Live);
    assert_eq!(next.traffic().await.unwrap().table, Some(exchanged.0.hash()));
    assert_eq!(get(port, "/").await.unwrap().body, "b");
    assert!(!bench.config().contains("# lb unfinished"));
}

/// Routes cannot be seen as servers can: whoever takes a HAProxy over gives them to it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn routes_taken_away_by_somebody_else_are_back_with_the_next_process() {
    let (bench, port) = (Bench::new(), free_port());
    let (table, _, _instances) = two_apps(port).await;
    bench.apply(&table.0).await;
    let shown = bench.runtime("show map");
    let name =
        shown.split(['(', ')']).find(|word| word.starts_with("listener-")).unwrap().to_owned();
    bench.runtime(&format!("clear map {name}"));
    assert_eq!(get(port, "/b").await.unwrap().status, 404);
    let next = bench.again();
    assert_eq!(next.traffic().await.unwrap().table, Some(table.0.hash()));
    eventually("routed again", async || get(port, "/b").await.unwrap().body == "b").await;
    assert_eq!(next.apply(&table.0).await.unwrap().change, Change::None);
}

/// More routes than one command carries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn thousands_of_routes_change_at_once() {
    const ROUTES: u32 = 3_000;
    let (bench, port) = (Bench::new(), free_port());
    let (table, _, _instances) = two_apps(port).await;
    bench.apply(&table.0).await;
    let many = (0..ROUTES).fold(table.clone(), |table, n| {
        let app = if n % 2 == 0 { "a" } else { "b" };
        table.http(port, &format!("/some/path/of/its/own/{n}"), app)
    });
    assert_eq!(bench.apply(&many.0).await, Change::Live);
    for n in [0, 1, ROUTES / 2, ROUTES - 1] {
        let body = get(port, &format!("/some/path/of/its/own/{n}/x")).await.unwrap().body;
        assert_eq!(body, if n % 2 == 0 { "a" } else { "b" });
    }
    assert_eq!(bench.apply(&table.0).await, Change::Live);
    assert_eq!(get(port, "/some/path/of/its/own/1").await.unwrap().body, "a");
}
