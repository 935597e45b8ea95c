//! The testbed's Podman, as [`lb_test_support::engine`] needs to know it.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use std::sync::Arc;

use lb_core::{ClusterId, ContainerRuntime};
use lb_podman::{Deadlines, PodmanRuntime};
use lb_test_support::engine::{self, RealEngine, Setup};
use serde_json::{Value, json};

pub(crate) use lb_core::conformance::PATIENCE;
pub(crate) use lb_core::conformance::runtime::Bed;
pub(crate) use lb_test_support::variable;

/// What the suite of the contract needs to know.
pub(crate) type Podman = Setup<Real>;

#[derive(Debug, Default)]
pub(crate) struct Real;

impl RealEngine for Real {
    const OCTETS: u32 = 240;
    const ENDPOINT: &'static str = "LB_TEST_PODMAN";
    const RESTART: &'static str = "LB_TEST_PODMAN_RESTART";
    const API: &'static str = "/v4.0.0/libpod";
    const BY_FORCE: &'static str = "force=true&timeout=0";

    fn runtime(
        cluster: &ClusterId,
        endpoint: &str,
        deadlines: Deadlines,
    ) -> Arc<dyn ContainerRuntime> {
        let builder = PodmanRuntime::builder(cluster.clone()).endpoint(endpoint.parse().unwrap());
        Arc::new(builder.deadlines(deadlines).build().unwrap())
    }

    fn creation(name: &str, image: &str, labels: &Value) -> (String, Value) {
        let body = json!({
            "name": name, "image": image, "command": ["sleep", "600"], "labels": labels,
            "netns": {"nsmode": "none"},
        });
        ("/containers/create".to_owned(), body)
    }
}

/// A request to the engine past the code under test: status and body.
pub(crate) async fn engine(method: &str, path: &str, body: &Value) -> (u16, String) {
    engine::engine::<Real>(method, path, body).await
}
