//! Tests on a real container engine: a cluster of its own for each, and everything of it removed afterwards.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use ipnet::Ipv4Net;
use lb_core::conformance::runtime::{Bed, Does, RuntimeSetup};
use lb_core::conformance::{PATIENCE, Stalled, check};
use lb_core::engine::Deadlines;
use lb_core::{
    ClusterId, ContainerName, ContainerRuntime, ContainerSpec, ImageRef, NetworkName, Role,
    RuntimeEvent,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::gate::Gate;
use crate::variable;

/// An engine of the testbed, and how its API says what tests do past the code under test.
pub trait RealEngine: Debug + Default + Send + Sync + 'static {
    /// The first of fifteen second octets of its tests' subnets.
    const OCTETS: u32;
    /// The variable that says where it listens.
    const ENDPOINT: &'static str;
    /// The variable that holds the command that restarts it.
    const RESTART: &'static str;
    /// What its paths begin with.
    const API: &'static str;
    /// The query that makes a removal kill first.
    const BY_FORCE: &'static str;

    /// The adapter under test, for one cluster.
    fn runtime(
        cluster: &ClusterId,
        endpoint: &str,
        deadlines: Deadlines,
    ) -> Arc<dyn ContainerRuntime>;

    /// Path and body of a request that makes a container which sleeps and has no network.
    fn creation(name: &str, image: &str, labels: &Value) -> (String, Value);
}

/// Runs a test on a cluster of its own on the engine, and clears it, also after a panic.
pub fn on<E: RealEngine>(case: impl for<'a> FnOnce(&'a Bed) -> LocalBoxFuture<'a, ()>) {
    check(Bed::new(Setup::<E>::default()), case);
}

/// One test for each function of `cases`, which takes a runtime and the bed.
#[macro_export]
macro_rules! engine_cases {
    ($engine:ty, $needs:literal: $($name:ident)*) => {$(
        #[test]
        #[ignore = $needs]
        fn $name() {
            $crate::engine::on::<$engine>(|bed| Box::pin(cases::$name(&*bed.runtime, bed)));
        }
    )*};
}

/// Of a runtime whose engine is stalled: long enough for an engine that works, short enough to be waited for.
const SHORT: Deadlines = Deadlines {
    read: Duration::from_secs(3),
    change: Duration::from_secs(10),
    pull: Duration::from_secs(5),
};

fn shell(name: ContainerName, line: &str) -> ContainerSpec {
    let image = variable("LB_TEST_BUSYBOX_IMAGE").parse().unwrap();
    ContainerSpec {
        command: Some(vec!["sh".into(), "-c".into(), line.into()]),
        ..ContainerSpec::new(name, Role::Instance, image)
    }
}

/// A /24 of this process's own.
fn subnet<E: RealEngine>() -> Ipv4Net {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (pid, nth) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let (second, third) = (E::OCTETS + pid / 7 % 15, (pid * 31 + nth) % 256);
    format!("10.{second}.{third}.0/24").parse().unwrap()
}

/// What the suite of the contract needs to know of an engine.
#[derive(Debug, Default)]
pub struct Setup<E> {
    foreign: Mutex<Vec<ContainerName>>,
    gate: Gate,
    engine: PhantomData<E>,
}

#[async_trait]
impl<E: RealEngine> RuntimeSetup for Setup<E> {
    async fn runtime(&self, cluster: &ClusterId) -> Arc<dyn ContainerRuntime> {
        E::runtime(cluster, &variable(E::ENDPOINT), Deadlines::default())
    }

    fn container(&self, name: ContainerName, does: Does<'_>) -> ContainerSpec {
        match does {
            // As process 1 it would not hear SIGTERM.
            Does::Sleep => ContainerSpec {
                stop_signal: Some("SIGKILL".parse().unwrap()),
                ..shell(name, "exec sleep 600")
            },
            Does::Fail => shell(name, "exit 1"),
            Does::Shell(lines) => shell(name, lines),
        }
    }

    fn subnet(&self) -> Ipv4Net {
        subnet::<E>()
    }

    fn absent_image(&self) -> ImageRef {
        format!("{}/no-such-app:1", variable("LB_TEST_REGISTRY")).parse().unwrap()
    }

    async fn make_foreign(&self, name: &ContainerName) {
        self.foreign.lock().unwrap().push(name.clone());
        foreign::<E>(name.as_str(), &json!({}), &["start"]).await;
    }

    async fn foreign_runs(&self, name: &ContainerName) -> bool {
        let (status, answer) =
            engine::<E>("GET", &format!("/containers/{name}/json"), &Value::Null).await;
        status == 200 && answer.contains("\"Running\":true")
    }

    async fn make_only(&self, cluster: &ClusterId, spec: &ContainerSpec) {
        let labels = json!({"lb.cluster": cluster, "lb.spec": spec.hash(), "lb.role": "instance"});
        foreign::<E>(spec.name.as_str(), &labels, &[]).await;
    }

    async fn restart(&self) {
        let command = variable(E::RESTART);
        let mut shell = tokio::process::Command::new("sh");
        let status = shell.args(["-c", &command]).status().await.unwrap();
        assert!(status.success(), "{command}");
    }

    async fn stallable(&self, cluster: &ClusterId) -> Arc<dyn ContainerRuntime> {
        let engine = variable(E::ENDPOINT);
        let before = self.gate.before(Path::new(engine.strip_prefix("unix://").unwrap()));
        E::runtime(cluster, &format!("unix://{}", before.display()), SHORT)
    }

    async fn stall(&self) -> Stalled {
        self.gate.shut()
    }

    async fn clear(&self) {
        let foreign = std::mem::take(&mut *self.foreign.lock().unwrap());
        for name in foreign {
            remove_foreign::<E>(name.as_str()).await;
        }
    }
}

/// A request to the engine past the code under test: status and body.
pub async fn engine<E: RealEngine>(method: &str, path: &str, body: &Value) -> (u16, String) {
    let socket = variable(E::ENDPOINT);
    let mut stream = UnixStream::connect(socket.strip_prefix("unix://").unwrap()).await.unwrap();
    let body = body.to_string();
    let head = format!(
        "{method} {}{path} HTTP/1.0\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        E::API,
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// Makes a container past the code under test, and starts it if asked to.
pub async fn foreign<E: RealEngine>(name: &str, labels: &Value, more: &[&str]) {
    let (path, body) = E::creation(name, &variable("LB_TEST_BUSYBOX_IMAGE"), labels);
    let (status, answer) = engine::<E>("POST", &path, &body).await;
    assert_eq!(status, 201, "{answer}");
    for step in more {
        let path = format!("/containers/{name}/{step}");
        let (status, answer) = engine::<E>("POST", &path, &Value::Null).await;
        assert_eq!(status, 204, "{answer}");
    }
}

/// Removes it, past the code under test too.
pub async fn remove_foreign<E: RealEngine>(name: &str) {
    let path = format!("/containers/{name}?{}", E::BY_FORCE);
    let (status, answer) = engine::<E>("DELETE", &path, &Value::Null).await;
    assert!((200..300).contains(&status), "{status} {answer}");
}

/// Starts a container made past the code under test, and removes it: its address in the network.
pub async fn address_of_foreign<E: RealEngine>(name: &str, network: &NetworkName) -> Ipv4Addr {
    let path = format!("/containers/{name}/start");
    let (status, answer) = engine::<E>("POST", &path, &Value::Null).await;
    assert_eq!(status, 204, "{answer}");
    let path = format!("/containers/{name}/json");
    let (_, inspected) = engine::<E>("GET", &path, &Value::Null).await;
    remove_foreign::<E>(name).await;
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    let address = &inspected["NetworkSettings"]["Networks"][network.as_str()]["IPAddress"];
    address.as_str().unwrap().parse().unwrap()
}

pub async fn events_begin_with_resync_and_tell_of_ours_only<E: RealEngine>(bed: &Bed) {
    let runtime = &bed.runtime;
    let mut events = runtime.events();
    let mut next = async || timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(next().await, RuntimeEvent::Resync);
    let other = bed.name("other");
    foreign::<E>(other.as_str(), &json!({"lb.cluster": "else"}), &["start"]).await;
    remove_foreign::<E>(other.as_str()).await;
    let (long, short) = (bed.sleeper("long"), bed.shell("short", "true"));
    runtime.run(&long).await.unwrap();
    assert_eq!(next().await, RuntimeEvent::Started(long.name.clone()));
    runtime.run(&short).await.unwrap();
    assert_eq!(next().await, RuntimeEvent::Started(short.name.clone()));
    assert_eq!(next().await, RuntimeEvent::Exited(short.name));
    runtime.stop(&long.name, Duration::ZERO).await.unwrap();
    assert_eq!(next().await, RuntimeEvent::Exited(long.name.clone()));
    assert_eq!(next().await, RuntimeEvent::Removed(long.name));
}
