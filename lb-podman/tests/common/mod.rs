//! A cluster of its own for each test on the shared engine, and everything of it removed afterwards.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use std::future::Future;
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
use lb_podman::PodmanRuntime;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Longer than anything here takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A variable of the testbed.
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} must be set: run testbed/up and source its env"))
}

/// One test's cluster.
pub(crate) struct Bed {
    pub(crate) cluster: ClusterId,
    pub(crate) runtime: PodmanRuntime,
    pub(crate) network: NetworkSpec,
    pub(crate) busybox: ImageRef,
}

impl Bed {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let cluster = ClusterId::new(format!("pm{pid}-{count}")).unwrap();
        let subnet = subnet();
        let [first, second, third, _] = subnet.network().octets();
        let network = NetworkSpec {
            name: format!("{cluster}.net").parse().unwrap(),
            subnet,
            engine_range: format!("{first}.{second}.{third}.240/28").parse().unwrap(),
        };
        let busybox = variable("LB_TEST_BUSYBOX_IMAGE").parse().unwrap();
        Self { runtime: runtime(&cluster), cluster, network, busybox }
    }

    pub(crate) fn name(&self, what: &str) -> ContainerName {
        format!("{}.{what}", self.cluster).parse().unwrap()
    }

    /// A container that sleeps until SIGKILL, its stop signal.
    pub(crate) fn sleeper(&self, what: &str) -> ContainerSpec {
        ContainerSpec {
            stop_signal: "SIGKILL".parse().unwrap(),
            ..self.shell(what, "exec sleep 600")
        }
    }

    /// A container that runs a line of shell.
    pub(crate) fn shell(&self, what: &str, line: &str) -> ContainerSpec {
        shell(self.name(what), line)
    }

    /// The n-th address of the network.
    pub(crate) fn address(&self, n: usize) -> Ipv4Addr {
        self.network.subnet.hosts().nth(n - 1).unwrap()
    }

    /// The container at the n-th address of the network.
    pub(crate) fn at(&self, n: usize, spec: ContainerSpec) -> ContainerSpec {
        let network =
            Attachment::Network { name: self.network.name.clone(), address: self.address(n) };
        ContainerSpec { network, ..spec }
    }

    pub(crate) async fn listed(&self, what: &str) -> Option<Container> {
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

pub(crate) fn runtime(cluster: &ClusterId) -> PodmanRuntime {
    PodmanRuntime::builder(cluster.clone())
        .endpoint(variable("LB_TEST_PODMAN").parse().unwrap())
        .build()
        .unwrap()
}

fn shell(name: ContainerName, line: &str) -> ContainerSpec {
    let image = variable("LB_TEST_BUSYBOX_IMAGE").parse().unwrap();
    ContainerSpec {
        command: Some(vec!["sh".into(), "-c".into(), line.into()]),
        ..ContainerSpec::new(name, Role::Instance, image)
    }
}

/// A /24 of this process's own.
fn subnet() -> Ipv4Net {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (pid, nth) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let (second, third) = (240 + pid / 7 % 15, (pid * 31 + nth) % 256);
    format!("10.{second}.{third}.0/24").parse().unwrap()
}

/// What the suite of the contract needs to know of Podman.
#[derive(Debug, Default)]
pub(crate) struct Podman {
    foreign: Mutex<Vec<ContainerName>>,
}

#[async_trait]
impl RuntimeSetup for Podman {
    async fn runtime(&self, cluster: &ClusterId) -> Arc<dyn ContainerRuntime> {
        Arc::new(runtime(cluster))
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
        subnet()
    }

    fn absent_image(&self) -> ImageRef {
        format!("{}/no-such-app:1", variable("LB_TEST_REGISTRY")).parse().unwrap()
    }

    async fn make_foreign(&self, name: &ContainerName) {
        self.foreign.lock().unwrap().push(name.clone());
        foreign(name.as_str(), &json!({}), &["start"]).await;
    }

    async fn foreign_runs(&self, name: &ContainerName) -> bool {
        let (status, answer) =
            engine("GET", &format!("/containers/{name}/json"), &Value::Null).await;
        status == 200 && answer.contains("\"Running\":true")
    }

    async fn make_only(&self, cluster: &ClusterId, spec: &ContainerSpec) {
        let labels = json!({"lb.cluster": cluster, "lb.spec": spec.hash(), "lb.role": "instance"});
        foreign(spec.name.as_str(), &labels, &[]).await;
    }

    async fn restart(&self) {
        let command = variable("LB_TEST_PODMAN_RESTART");
        let mut shell = tokio::process::Command::new("sh");
        let status = shell.args(["-c", &command]).status().await.unwrap();
        assert!(status.success(), "{command}");
    }

    async fn clear(&self) {
        let foreign = std::mem::take(&mut *self.foreign.lock().unwrap());
        for name in foreign {
            remove_foreign(name.as_str()).await;
        }
    }
}

/// Runs a test on a bed and clears the bed, also after a panic.
pub(crate) async fn on_bed(test: impl for<'a> FnOnce(&'a Bed) -> BoxFuture<'a, ()>) {
    let bed = Bed::new();
    let result = AssertUnwindSafe(test(&bed)).catch_unwind().await;
    bed.clear().await;
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// Asks until the answer is yes.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let asking = async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A request to the engine past the code under test: status and body.
pub(crate) async fn engine(method: &str, path: &str, body: &Value) -> (u16, String) {
    let socket = variable("LB_TEST_PODMAN");
    let mut stream = UnixStream::connect(socket.strip_prefix("unix://").unwrap()).await.unwrap();
    let body = body.to_string();
    let head = format!(
        "{method} /v4.0.0/libpod{path} HTTP/1.0\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// Makes a container past the code under test, and starts it if asked to.
pub(crate) async fn foreign(name: &str, labels: &Value, more: &[&str]) {
    let image = variable("LB_TEST_BUSYBOX_IMAGE");
    let body = json!({
        "name": name, "image": image, "command": ["sleep", "600"], "labels": labels,
        "netns": {"nsmode": "none"},
    });
    let (status, answer) = engine("POST", "/containers/create", &body).await;
    assert_eq!(status, 201, "{answer}");
    for step in more {
        let (status, answer) =
            engine("POST", &format!("/containers/{name}/{step}"), &Value::Null).await;
        assert_eq!(status, 204, "{answer}");
    }
}

pub(crate) async fn remove_foreign(name: &str) {
    let (status, answer) =
        engine("DELETE", &format!("/containers/{name}?force=true&timeout=0"), &Value::Null).await;
    assert_eq!(status, 200, "{answer}");
}
