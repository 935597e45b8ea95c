//! The testbed's Podman, as [`lb_test_support::engine`] needs to know it.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use futures_util::future::BoxFuture;
use lb_core::ClusterId;
use lb_podman::PodmanRuntime;
use lb_test_support::engine::{self, RealEngine, Setup};
use serde_json::{Value, json};

pub(crate) use lb_test_support::engine::PATIENCE;
pub(crate) use lb_test_support::variable;

/// One test's cluster.
pub(crate) type Bed = engine::Bed<Real>;
/// What the suite of the contract needs to know.
pub(crate) type Podman = Setup<Real>;

#[derive(Debug, Default)]
pub(crate) struct Real;

impl RealEngine for Real {
    type Runtime = PodmanRuntime;
    const PREFIX: &'static str = "pm";
    const OCTETS: u32 = 240;
    const ENDPOINT: &'static str = "LB_TEST_PODMAN";
    const RESTART: &'static str = "LB_TEST_PODMAN_RESTART";
    const API: &'static str = "/v4.0.0/libpod";

    fn runtime(cluster: &ClusterId, endpoint: &str) -> PodmanRuntime {
        PodmanRuntime::builder(cluster.clone()).endpoint(endpoint.parse().unwrap()).build().unwrap()
    }

    fn creation(name: &str, image: &str, labels: &Value) -> (String, Value) {
        let body = json!({
            "name": name, "image": image, "command": ["sleep", "600"], "labels": labels,
            "netns": {"nsmode": "none"},
        });
        ("/containers/create".to_owned(), body)
    }

    fn by_force() -> &'static str {
        "force=true&timeout=0"
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
