//! NGINX in a container on the host's network, run by a real Docker Engine. Run inside its namespace.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_core::{Change, ClusterId, ContainerName, ContainerRuntime, ImageRef, LoadBalancer};
use lb_docker::DockerRuntime;
use lb_nginx::{NginxBalancer, NginxBalancerBuilder};
use lb_test_support::client::{Load, Mode, get};
use lb_test_support::{
    Apps, Instance, backend_name, eventually, free_port, processes, server_name, variable,
};

fn runtime() -> Arc<DockerRuntime> {
    let cluster = ClusterId::new(format!("nctl{}", std::process::id())).unwrap();
    let endpoint = variable("LB_TEST_DOCKER").parse().unwrap();
    Arc::new(DockerRuntime::builder(cluster).endpoint(endpoint).build().unwrap())
}

fn name() -> ContainerName {
    ContainerName::new(format!("nctl{}.balancer", std::process::id())).unwrap()
}

fn builder(dir: &std::path::Path, runtime: Arc<DockerRuntime>) -> NginxBalancerBuilder {
    let image = ImageRef::new(variable("LB_TEST_NGINX_IMAGE")).unwrap();
    NginxBalancer::builder(dir).in_container(runtime, image, name())
}

/// The master that serves from this directory, as the host sees it.
fn master(dir: &std::path::Path) -> Option<u32> {
    let mut serving = processes::with(dir.join("nginx.conf").to_str().unwrap());
    serving.retain(|pid| processes::command_line(*pid).starts_with("nginx: master"));
    serving.first().copied()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_DOCKER (testbed/up)"]
async fn a_container_serves_changes_reloads_survives_a_kill_and_goes() {
    let dir = tempfile::Builder::new().prefix("lbn").tempdir_in("/tmp").unwrap();
    let (runtime, port, later, raw) = (runtime(), free_port(), free_port(), free_port());
    runtime.stop(&name(), Duration::ZERO).await.unwrap();
    let balancer = builder(dir.path(), runtime.clone()).build().unwrap();
    let (a, b, echo) =
        (Instance::http("a").await, Instance::http("b").await, Instance::echo("e").await);
    let table = Apps::new()
        .http(port, "/", "shop")
        .server("shop", "a", 1, a.address)
        .tcp(raw, "mail")
        .server("mail", "m", 1, echo.address);
    let begun = Instant::now();
    assert_eq!(balancer.apply(&table.0).await.unwrap().change, Change::Start);
    println!("started in {:?}", begun.elapsed());
    let mut stream = lb_test_support::client::Stream::tcp(raw).await;
    assert!(stream.echoes("through the container").await);
    let load = Load::start(port, "/", 4, &[Mode::Close]);
    load.more(50).await;
    let table = table.server("shop", "b", 2, b.address);
    assert_eq!(balancer.apply(&table.0).await.unwrap().change, Change::Reload);
    let begun = Instant::now();
    let table = table.http(later, "/", "late");
    assert_eq!(balancer.apply(&table.0).await.unwrap().change, Change::Reload);
    println!("reloaded in {:?} (its check is a container)", begun.elapsed());
    let table = table.draining("shop", "a");
    assert_eq!(balancer.apply(&table.0).await.unwrap().change, Change::Reload);
    load.more(200).await;
    load.finish().await;
    assert!(stream.echoes("still").await);
    let traffic = balancer.traffic().await.unwrap();
    assert!(traffic.old_workers > 0);
    assert_eq!(traffic.backends[&backend_name("mail")].servers[&server_name("m")].open, 1);
    // What is asked where another process namespace is in the way, as an agent's container may be.
    let order = |order: &str| std::fs::write(dir.path().join("private/orders"), order).unwrap();
    order("COUNT\n");
    let counted = dir.path().join("private/old");
    eventually("counted", async || {
        std::fs::read_to_string(&counted).is_ok_and(|text| text.trim() == "1")
    })
    .await;
    order("END 1\n");
    eventually("the oldest ends", async || !stream.echoes("cut?").await).await;
    eventually("old workers end", async || balancer.traffic().await.unwrap().old_workers == 0)
        .await;
    // A kill: the engine starts it again with the files.
    let before = master(dir.path()).unwrap();
    let begun = Instant::now();
    processes::signal("-9", &[before]);
    eventually("it serves again", async || {
        master(dir.path()).is_some_and(|now| now != before) && get(port, "/").await.is_ok()
    })
    .await;
    println!("back after {:?}", begun.elapsed());
    assert_eq!(get(port, "/").await.unwrap().body, "b", "the draining one stays so");
    eventually("it says so", async || {
        balancer.traffic().await.is_ok_and(|t| t.table == Some(table.0.hash()))
    })
    .await;
    assert_eq!(balancer.apply(&table.0).await.unwrap().change, Change::None);
    balancer.shutdown().await.unwrap();
    balancer.shutdown().await.unwrap();
    assert!(get(port, "/").await.is_err());
    assert!(runtime.list().await.unwrap().is_empty());
    assert!(!dir.path().exists());
}
