//! Tests on a real container engine: a cluster of its own for each, and everything of it removed afterwards.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::net::Ipv4Addr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ipnet::Ipv4Net;
use lb_core::conformance::runtime::{Does, RuntimeSetup};
use lb_core::{
    Attachment, ClusterId, Container, ContainerName, ContainerRuntime, ContainerSpec, ImageRef,
    NetworkSpec, Role,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::variable;

/// Longer than anything here takes; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An engine of the testbed, and how its API says what tests do past the code under test.
pub trait RealEngine: Debug + Default + Send + Sync + 'static {
    /// The adapter under test.
    type Runtime: ContainerRuntime + 'static;
    /// What clusters of its tests begin with.
    const PREFIX: &'static str;
    /// The sixteen second octets of its tests' subnets.
    const OCTETS: u32;
    /// The variable that says where it listens.
    const ENDPOINT: &'static str;
    /// The variable that holds the command that restarts it.
    const RESTART: &'static str;
    /// What its paths begin with.
    const API: &'static str;

    /// The adapter for one cluster.
    fn runtime(cluster: &ClusterId, endpoint: &str) -> Self::Runtime;

    /// Path and body of a request that makes a container which sleeps and has no network.
    fn creation(name: &str, image: &str, labels: &Value) -> (String, Value);

    /// The query that makes a removal kill first.
    fn by_force() -> &'static str;
}

/// One test's cluster.
pub struct Bed<E: RealEngine> {
    pub cluster: ClusterId,
    pub runtime: E::Runtime,
    pub network: NetworkSpec,
    pub busybox: ImageRef,
}

impl<E: RealEngine> Default for Bed<E> {
    fn default() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let cluster = ClusterId::new(format!("{}{pid}-{count}", E::PREFIX)).unwrap();
        let subnet = subnet::<E>();
        let [first, second, third, _] = subnet.network().octets();
        let network = NetworkSpec {
            name: format!("{cluster}.net").parse().unwrap(),
            subnet,
            engine_range: format!("{first}.{second}.{third}.240/28").parse().unwrap(),
        };
        let busybox = variable("LB_TEST_BUSYBOX_IMAGE").parse().unwrap();
        Self { runtime: runtime::<E>(&cluster), cluster, network, busybox }
    }
}

impl<E: RealEngine> Bed<E> {
    pub fn name(&self, what: &str) -> ContainerName {
        format!("{}.{what}", self.cluster).parse().unwrap()
    }

    /// A container that sleeps until SIGKILL, its stop signal.
    pub fn sleeper(&self, what: &str) -> ContainerSpec {
        ContainerSpec {
            stop_signal: "SIGKILL".parse().unwrap(),
            ..self.shell(what, "exec sleep 600")
        }
    }

    /// A container that runs a line of shell.
    pub fn shell(&self, what: &str, line: &str) -> ContainerSpec {
        shell(self.name(what), line)
    }

    /// The n-th address of the network.
    pub fn address(&self, n: usize) -> Ipv4Addr {
        self.network.subnet.hosts().nth(n - 1).unwrap()
    }

    /// The container at the n-th address of the network.
    pub fn at(&self, n: usize, spec: ContainerSpec) -> ContainerSpec {
        let network =
            Attachment::Network { name: self.network.name.clone(), address: self.address(n) };
        ContainerSpec { network, ..spec }
    }

    pub async fn listed(&self, what: &str) -> Option<Container> {
        let name = self.name(what);
        self.runtime.list().await.unwrap().into_iter().find(|c| c.name == name)
    }

    async fn clear(&self) {
        for container in self.runtime.list().await.unwrap() {
            self.runtime.stop(&container.name, Duration::ZERO).await.unwrap();
        }
        self.runtime.remove_network(&self.network.name).await.unwrap();
    }
}

/// The adapter for a cluster on the testbed's engine.
pub fn runtime<E: RealEngine>(cluster: &ClusterId) -> E::Runtime {
    E::runtime(cluster, &variable(E::ENDPOINT))
}

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
    engine: PhantomData<E>,
}

#[async_trait]
impl<E: RealEngine> RuntimeSetup for Setup<E> {
    async fn runtime(&self, cluster: &ClusterId) -> Arc<dyn ContainerRuntime> {
        Arc::new(runtime::<E>(cluster))
    }

    fn container(&self, name: ContainerName, does: Does<'_>) -> ContainerSpec {
        match does {
            // As process 1 it would not hear SIGTERM.
            Does::Sleep => ContainerSpec {
                stop_signal: "SIGKILL".parse().unwrap(),
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

    async fn clear(&self) {
        let foreign = std::mem::take(&mut *self.foreign.lock().unwrap());
        for name in foreign {
            remove_foreign::<E>(name.as_str()).await;
        }
    }
}

/// Runs a test on a bed and clears the bed, also after a panic.
pub async fn on_bed<E: RealEngine>(test: impl for<'a> FnOnce(&'a Bed<E>) -> BoxFuture<'a, ()>) {
    let bed = Bed::default();
    let result = AssertUnwindSafe(test(&bed)).catch_unwind().await;
    bed.clear().await;
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
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
    let path = format!("/containers/{name}?{}", E::by_force());
    let (status, answer) = engine::<E>("DELETE", &path, &Value::Null).await;
    assert!((200..300).contains(&status), "{status} {answer}");
}
