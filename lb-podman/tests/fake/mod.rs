//! A libpod service that answers as it is told, and a runtime that speaks to it.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use std::path::Path;
use std::time::Duration;

use lb_core::ClusterId;
use lb_podman::{Bounds, Deadlines, Endpoint, PodmanRuntime};
use serde_json::json;

pub(crate) use lb_test_support::fake_engine::{Asked, Engine, Listening, Reply, Then, refuse};

pub(crate) type Fake = lb_test_support::fake_engine::Fake<PodmanRuntime>;

pub(crate) const DEADLINES: Deadlines = Deadlines {
    read: Duration::from_millis(600),
    change: Duration::from_millis(800),
    pull: Duration::from_millis(1000),
};

/// Listening.
pub(crate) fn up(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Fake {
    let mut fake = down(answer);
    fake.start();
    fake
}

/// Not listening yet.
pub(crate) fn down(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Fake {
    let runtime = |socket: &Path| {
        PodmanRuntime::builder(ClusterId::new("shop").unwrap())
            .endpoint(Endpoint::Unix(socket.to_owned()))
            .deadlines(DEADLINES)
            .bounds(Bounds { calls: 4, ..Bounds::default() })
            .build()
            .unwrap()
    };
    Fake::down(runtime, answer)
}

/// `GET /info` of a service that can do everything, or of a user's that cannot.
pub(crate) fn info(rootless: bool) -> Reply {
    let controllers = if rootless { json!([]) } else { json!(["cpu", "memory", "pids"]) };
    Reply::Json(
        200,
        json!({
            "host": {"security": {"rootless": rootless}, "cgroupControllers": controllers},
            "version": {"Version": "4.3.1"},
        }),
    )
}
