//! HAProxy in a container on the host's network, run by a real Docker Engine. Run inside its namespace.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod balancer_support;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lb_core::{Change, ClusterId, ContainerName, ContainerRuntime, ImageRef, LoadBalancer};
use lb_docker::DockerRuntime;
use lb_haproxy::HaproxyBalancer;
use lb_podman::PodmanRuntime;
use lb_test_support::client::{Load, Mode, get};
use lb_test_support::{
    Apps as Table, Instance, backend_name, eventually, free_port, processes, server_name, variable,
};

fn runtime() -> Arc<DockerRuntime> {
    let cluster = ClusterId::new(format!("hctl{}", std::process::id())).unwrap();
    let endpoint = variable("LB_TEST_DOCKER").parse().unwrap();
    Arc::new(DockerRuntime::builder(cluster).endpoint(endpoint).build().unwrap())
}

fn name() -> ContainerName {
    ContainerName::new(format!("hctl{}.balancer", std::process::id())).unwrap()
}

fn balancer(dir: &std::path::Path, runtime: Arc<DockerRuntime>) -> HaproxyBalancer {
    let image = ImageRef::new(variable("LB_TEST_HAPROXY_IMAGE")).unwrap();
    HaproxyBalancer::builder(dir).in_container(runtime, image, name()).build().unwrap()
}

/// Every HAProxy that serves from this directory, as the host sees them, lowest id first.
fn masters(dir: &std::path::Path) -> Vec<u32> {
    let mut serving = processes::with(dir.join("haproxy.cfg").to_str().unwrap());
    serving.retain(|pid| processes::command_line(*pid).contains("-W"));
    serving.sort_unstable();
    serving
}

/// Kills HAProxy; the engine starts it again.
async fn kill(dir: &std::path::Path, port: u16) {
    let before = masters(dir);
    processes::signal("-9", &before[..1]);
    eventually("it serves again", async || {
        masters(dir).first() != before.first() && get(port, "/").await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_DOCKER (testbed/up)"]
async fn a_container_serves_changes_reloads_survives_a_kill_and_goes() {
    let dir = tempfile::Builder::new().prefix("lbh").tempdir_in("/tmp").unwrap();
    let (runtime, port, later) = (runtime(), free_port(), free_port());
    runtime.stop(&name(), Duration::ZERO).await.unwrap();
    let balancer = balancer(dir.path(), runtime.clone());
    let (a, b) = (Instance::http("a").await, Instance::http("b").await);
    let table = Table::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    let begun = Instant::now();
    assert_eq!(balancer.apply(&table.0).await.unwrap().change, Change::Start);
    println!("started in {:?}", begun.elapsed());
    let load = Load::start(port, "/", 4, &[Mode::KeepAlive, Mode::Close]);
    load.more(50).await;
    let table = table.server("shop", "b", 2, b.address);
    assert_eq!(balancer.apply(&table.0).await.unwrap().change, Change::Live);
    let begun = Instant::now();
    let table = table.http(later, "/", "late");
    assert_eq!(balancer.apply(&table.0).await.unwrap().change, Change::Reload);
    println!("reloaded in {:?} (its check is a container)", begun.elapsed());
    let table = table.draining("shop", "a");
    assert_eq!(balancer.apply(&table.0).await.unwrap().change, Change::Live);
    load.more(200).await;
    load.finish().await;
    eventually("the old worker ends", async || balancer.traffic().await.unwrap().old_workers == 0)
        .await;
    // A kill: the engine starts it again with the file.
    kill(dir.path(), port).await;
    assert_eq!(get(port, "/").await.unwrap().body, "b", "the draining one stays so");
    eventually("it says so", async || {
        balancer.traffic().await.is_ok_and(|t| t.table == Some(table.0.hash()))
    })
    .await;
    let traffic = balancer.traffic().await.unwrap();
    assert!(traffic.backends[&backend_name("shop")].servers.contains_key(&server_name("a")));
    assert_eq!(balancer.apply(&table.0).await.unwrap().change, Change::None);
    // The next run's worker gets this one's process id, yet its counts go on from nothing.
    let requests =
        async || balancer.traffic().await.unwrap().backends[&backend_name("shop")].requests;
    // HAProxy tells its start in whole seconds, and two runs are told apart by them: this one ends in a later second.
    let began = second();
    while second() == began {
        get(port, "/").await.unwrap();
    }
    let first = requests().await;
    kill(dir.path(), port).await;
    let load = Load::start(port, "/", 4, &[Mode::KeepAlive]);
    load.more(first + 50).await;
    let second = load.finish().await;
    let sum = requests().await;
    assert!(sum >= first + second, "{first} and {second} are not {sum}");
    balancer.shutdown().await.unwrap();
    balancer.shutdown().await.unwrap();
    assert!(get(port, "/").await.is_err());
    assert!(runtime.list().await.unwrap().is_empty());
    assert!(!dir.path().exists());
}

/// The second it is, since 1970.
fn second() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The testbed's Podman allows fewer descriptors than are assumed. HAProxy says so at once: nobody waits for the
/// end of a start that cannot succeed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_PODMAN, LB_TEST_HAPROXY_IMAGE (testbed/up)"]
async fn on_podman_a_limit_of_the_engine_is_learnt_soon() {
    let dir = tempfile::Builder::new().prefix("lbh").tempdir_in("/tmp").unwrap();
    let cluster = ClusterId::new(format!("hctp{}", std::process::id())).unwrap();
    let name = ContainerName::new(format!("{cluster}.balancer")).unwrap();
    let endpoint = variable("LB_TEST_PODMAN").parse().unwrap();
    let podman = PodmanRuntime::builder(cluster).endpoint(endpoint).build().unwrap();
    let image = ImageRef::new(variable("LB_TEST_HAPROXY_IMAGE")).unwrap();
    let balancer = HaproxyBalancer::builder(dir.path())
        .in_container(Arc::new(podman), image, name)
        .build()
        .unwrap();
    let (a, port) = (Instance::http("a").await, free_port());
    let table = Table::new().http(port, "/", "shop").server("shop", "a", 1, a.address);
    let begun = Instant::now();
    assert_eq!(balancer.apply(&table.0).await.unwrap().change, Change::Start);
    assert!(begun.elapsed() < Duration::from_secs(25), "a start may take 30 s");
    assert_eq!(get(port, "/").await.unwrap().body, "a");
    balancer.shutdown().await.unwrap();
}
