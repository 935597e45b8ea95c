//! The testbed's Docker, as [`lb_test_support::engine`] needs to know it.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use futures_util::future::BoxFuture;
use lb_core::ClusterId;
use lb_docker::DockerRuntime;
use lb_test_support::engine::{self, RealEngine, Setup};
use serde_json::{Value, json};

pub(crate) use lb_test_support::engine::PATIENCE;
pub(crate) use lb_test_support::variable;

/// One test's cluster.
pub(crate) type Bed = engine::Bed<Real>;
/// What the suite of the contract needs to know.
pub(crate) type Docker = Setup<Real>;

#[derive(Debug, Default)]
pub(crate) struct Real;

impl RealEngine for Real {
    type Runtime = DockerRuntime;
    const PREFIX: &'static str = "dk";
    const OCTETS: u32 = 224;
    const ENDPOINT: &'static str = "LB_TEST_DOCKER";
    const RESTART: &'static str = "LB_TEST_ENGINE_RESTART";
    const API: &'static str = "";

    fn runtime(cluster: &ClusterId, endpoint: &str) -> DockerRuntime {
        DockerRuntime::builder(cluster.clone()).endpoint(endpoint.parse().unwrap()).build().unwrap()
    }

    fn creation(name: &str, image: &str, labels: &Value) -> (String, Value) {
        let body = json!({
            "Image": image, "Cmd": ["sleep", "600"], "Labels": labels,
            "HostConfig": {"NetworkMode": "none"},
        });
        (format!("/containers/create?name={name}"), body)
    }

    fn by_force() -> &'static str {
        "force=1"
    }
}

/// Runs a test on a bed and clears the bed, also after a panic.
pub(crate) async fn on_bed(test: impl for<'a> FnOnce(&'a Bed) -> BoxFuture<'a, ()>) {
    engine::on_bed(test).await;
}

/// A request to the engine past the code under test: status and body.
pub(crate) async fn engine(method: &str, path: &str, body: &Value) -> (u16, String) {
    engine::engine::<Real>(method, path, body).await
}
