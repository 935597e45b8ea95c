//! An engine that answers as it is told, and a runtime that speaks to it.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use std::path::Path;
use std::time::Duration;

use lb_core::ClusterId;
use lb_docker::{Bounds, Deadlines, DockerRuntime, Endpoint};
use serde_json::json;

pub(crate) use lb_test_support::fake_engine::{Asked, Engine, Listening, Reply, Then, refuse};

pub(crate) type Fake = lb_test_support::fake_engine::Fake<DockerRuntime>;

pub(crate) const DEADLINES: Deadlines = Deadlines {
    read: Duration::from_millis(400),
    change: Duration::from_millis(600),
    pull: Duration::from_millis(800),
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
        DockerRuntime::builder(ClusterId::new("shop").unwrap())
            .endpoint(Endpoint::Unix(socket.to_owned()))
            .deadlines(DEADLINES)
            .bounds(Bounds { calls: 4, ..Bounds::default() })
            .build()
            .unwrap()
    };
    Fake::down(runtime, answer)
}

pub(crate) fn version() -> Reply {
    Reply::Json(200, json!({"ApiVersion": "1.41", "Version": "20.10.24"}))
}
