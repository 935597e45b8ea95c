//! A cluster of its own for each test on the shared engine, and everything of it removed afterwards.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use std::future::Future;
use std::net::Ipv4Addr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lb_core::{
    Attachment, ClusterId, Container, ContainerName, ContainerRuntime, ContainerSpec, ImageRef,
    NetworkSpec, Role,
};
use lb_docker::DockerRuntime;
use serde_json::Value;
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
    pub(crate) runtime: DockerRuntime,
    pub(crate) network: NetworkSpec,
    pub(crate) busybox: ImageRef,
}

impl Bed {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let cluster = ClusterId::new(format!("dk{pid}-{count}")).unwrap();
        let (second, third) = (224 + pid / 7 % 16, (pid * 31 + count) % 256);
        let network = NetworkSpec {
            name: format!("{cluster}.net").parse().unwrap(),
            subnet: format!("10.{second}.{third}.0/24").parse().unwrap(),
            engine_range: format!("10.{second}.{third}.240/28").parse().unwrap(),
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
        ContainerSpec {
            command: Some(vec!["sh".into(), "-c".into(), line.into()]),
            ..ContainerSpec::new(self.name(what), Role::Instance, self.busybox.clone())
        }
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

pub(crate) fn runtime(cluster: &ClusterId) -> DockerRuntime {
    DockerRuntime::builder(cluster.clone())
        .endpoint(variable("LB_TEST_DOCKER").parse().unwrap())
        .build()
        .unwrap()
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
    let socket = variable("LB_TEST_DOCKER");
    let mut stream = UnixStream::connect(socket.strip_prefix("unix://").unwrap()).await.unwrap();
    let body = body.to_string();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
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
    let body = serde_json::json!({
        "Image": image, "Cmd": ["sleep", "600"], "Labels": labels,
        "HostConfig": {"NetworkMode": "none"},
    });
    let (status, answer) = engine("POST", &format!("/containers/create?name={name}"), &body).await;
    assert_eq!(status, 201, "{answer}");
    for step in more {
        let (status, answer) =
            engine("POST", &format!("/containers/{name}/{step}"), &Value::Null).await;
        assert_eq!(status, 204, "{answer}");
    }
}

pub(crate) async fn remove_foreign(name: &str) {
    let (status, answer) =
        engine("DELETE", &format!("/containers/{name}?force=1"), &Value::Null).await;
    assert_eq!(status, 204, "{answer}");
}
