//! A whole local host: a real program behind the balancer, ready before it serves.

#![cfg(target_os = "linux")]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use lb_core::*;
use lb_local::{LocalHost, Program};
use support::*;

/// Not a test but the program the tests run: this executable, told its place by the runtime.
#[test]
#[ignore = "the program the other tests start"]
fn program() {
    let (Ok(host), Ok(port)) = (std::env::var("HOST"), std::env::var("PORT")) else { return };
    let version = std::env::var("VERSION").unwrap_or_default();
    let listener = std::net::TcpListener::bind(format!("{host}:{port}")).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let (host, version) = (host.clone(), version.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(1..) = stream.read(&mut buffer) {
                let text = format!("{host} {version}");
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", text.len());
                if stream.write_all((head + &text).as_bytes()).is_err() {
                    return;
                }
            }
        });
    }
}

fn me(version: &str) -> Program {
    Program::new(std::env::current_exe().unwrap())
        .args(["program", "--exact", "--ignored", "--nocapture"])
        .env(EnvName::new("VERSION").unwrap(), version)
}

fn instance(
    cluster: &ClusterSpec,
    slot: u32,
    network: &NetworkSpec,
    digest: &ImageDigest,
) -> ContainerSpec {
    let address = Ipv4Addr::from(u32::from(network.subnet.network()) + 2 + slot);
    let port = PortName::new("web").unwrap();
    let id = InstanceId {
        app: AppName::new("shop").unwrap(),
        revision: Revision::from_hash(&[1, 2, 3, 4, 5]),
        slot,
        incarnation: 0,
    };
    let image = ImageRef::new("shop:1").unwrap().with_digest(digest.clone());
    let mut spec = ContainerSpec::new(id.container_name(&cluster.id), Role::Instance, image);
    spec.network = Attachment::Network { name: network.name.clone(), address };
    let assignment = Assignment {
        host: HostId::new("local").unwrap(),
        address,
        ports: BTreeMap::from([(port, 8080)]),
        published: BTreeMap::new(),
    };
    let health = BTreeMap::from([(
        8080u16,
        Health { check: Check::Http(HealthPath::new("/").unwrap()), ..Health::default() },
    )]);
    let labels = [
        (label::ASSIGNMENT, serde_json::to_string(&assignment).unwrap()),
        (label::HEALTH, serde_json::to_string(&health).unwrap()),
    ];
    spec.labels = labels.into_iter().map(|(k, v)| (LabelKey::new(k).unwrap(), v)).collect();
    spec
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_becomes_ready_serves_survives_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::new();
    let id = ClusterId::new(format!("t{}", std::process::id())).unwrap();
    let cluster = lb_local::cluster(id);
    let start = || {
        let host =
            LocalHost::builder(&cluster, dir.path()).image("shop:1", me("one")).listen(net.ip(1));
        host.build().unwrap()
    };
    let host = start();
    assert_eq!((host.facts().id.as_str(), host.facts().address), ("local", net.ip(1)));
    let HostHandle { runtime, balancer } = host.handle().clone();
    let image = ImageRef::new("shop:1").unwrap();
    let digest = runtime.ensure_image(&image, None, &Quiet).await.unwrap();
    let network = NetworkSpec {
        name: NetworkName::new("shop").unwrap(),
        subnet: cluster.range.subnets(cluster.subnet_prefix).unwrap().next().unwrap(),
        engine_range: cluster.range.subnets(28).unwrap().next().unwrap(),
    };
    runtime.ensure_network(&network).await.unwrap();
    let specs: Vec<_> = (0..2).map(|slot| instance(&cluster, slot, &network, &digest)).collect();
    for spec in &specs {
        runtime.run(spec).await.unwrap();
    }
    let all_ready = async |runtime: &Arc<dyn ContainerRuntime>| {
        until("ready", async || {
            let list = runtime.list().await.unwrap();
            (list.len() == 2 && list.iter().all(|c| c.readiness == Readiness::Ready)).then_some(())
        })
        .await;
    };
    all_ready(&runtime).await;
    let mut shop = Backend::new(AppName::new("shop").unwrap(), Protocol::Http);
    for (spec, n) in specs.iter().zip(1..) {
        let Attachment::Network { address, .. } = spec.network else { unreachable!() };
        let server = Server::new(NonZeroU32::new(n).unwrap(), (address, 8080).into());
        shop.servers.insert(ServerName::from(&spec.name), server);
    }
    let table = http_table(shop);
    apply(&*balancer, &table).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let answer = get(net.listener(), "/").await;
        assert_eq!(answer.status, 200);
        assert!(answer.text().ends_with(" one"), "{}", answer.text());
        seen.insert(answer.text().to_owned());
    }
    assert_eq!(seen.len(), 2);
    // The orchestrator goes and another comes: the processes have gone on.
    let before: Vec<_> = runtime.list().await.unwrap().into_iter().map(|c| c.id).collect();
    drop((host, runtime, balancer));
    let host = start();
    let HostHandle { runtime, balancer } = host.handle().clone();
    all_ready(&runtime).await;
    let after: Vec<_> = runtime.list().await.unwrap().into_iter().map(|c| c.id).collect();
    assert_eq!(before, after);
    until("the port is free", async || {
        balancer.apply(&table).await.unwrap().set_aside.is_empty().then_some(())
    })
    .await;
    assert_eq!(get(net.listener(), "/").await.status, 200);
    for spec in &specs {
        runtime.stop(&spec.name, Duration::from_secs(5)).await.unwrap();
    }
    runtime.remove_network(&network.name).await.unwrap();
    balancer.shutdown().await.unwrap();
}
