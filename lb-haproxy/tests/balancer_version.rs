//! Which HAProxy it is, what that is taken for, and that it has nothing to say against how it is used.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod balancer_support;

use balancer_support::{Bench, haproxy, script};
use lb_core::{Ability, Change, ErrorKind, LoadBalancer};
use lb_haproxy::Version;
use lb_test_support::{Apps as Table, Instance, free_port};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn haproxy_starts_and_reloads_without_a_warning() {
    let programs = tempfile::tempdir().unwrap();
    let log = programs.path().join("log");
    let text = format!("exec {} \"$@\" 2>>{}", haproxy().display(), log.display());
    let (bench, port) = (Bench::of(script(programs.path(), "logged", &text)), free_port());
    let a = Instance::http("a").await;
    let table = Table::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    bench.apply(&table.0).await;
    assert_eq!(bench.apply(&table.http(port, "/b", "b").0).await, Change::Reload);
    let said = std::fs::read_to_string(log).unwrap();
    // Of processes that end, servers that come and go, listeners that are handed over.
    let usual = [") : Former worker", ") : Proxy ", ") : Server ", ") : CLI : "];
    let warned = said.lines().filter(|l| l.contains("[WARNING]"));
    let warned: Vec<_> = warned.filter(|l| !usual.iter().any(|u| l.contains(u))).collect();
    assert!(warned.is_empty(), "{warned:#?}");
    assert!(said.contains("New worker") || said.contains("Initializing new worker"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn the_version_is_told_before_the_start_and_after_it() {
    let (bench, port) = (Bench::new(), free_port());
    let before = bench.balancer.describe().await.unwrap();
    let version: Version = before.version.parse().unwrap();
    bench.apply(&Table::new().http(port, "/", "shop").0).await;
    let after = bench.balancer.describe().await.unwrap();
    assert_eq!((&after.version, &after.abilities), (&before.version, &before.abilities));
    let reports = after.abilities.contains(&Ability::ReloadReports);
    assert_eq!(reports, version.abilities().reload_reports);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn a_version_that_cannot_be_read_is_said_to_be_so() {
    let programs = tempfile::tempdir().unwrap();
    let text = format!(
        "[ \"$1\" != -v ] || {{ echo 'HAProxy version of-my-own 2026/11/30'; exit; }}\nexec {} \"$@\"",
        haproxy().display()
    );
    let bench = Bench::of(script(programs.path(), "unnamed", &text));
    assert_eq!(bench.balancer.describe().await.unwrap().version, "", "not known yet");
    let table = Table::new().http(free_port(), "/", "shop");
    let error = bench.balancer.apply(&table.0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let text = error.to_string();
    assert!(text.contains("of-my-own") && text.contains("two numbers"), "{text}");
}
