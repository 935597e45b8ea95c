//! A libpod service that answers as it is told, and a runtime that speaks to it.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lb_core::ClusterId;
use lb_podman::{Bounds, Deadlines, Endpoint, PodmanRuntime};
use serde_json::json;

pub(crate) use lb_test_support::fake_engine::{Asked, Engine, Listening, Reply, Then, refuse};

/// The service on a socket of its own, and a runtime that speaks to it.
pub(crate) struct Fake {
    pub(crate) engine: Arc<Engine>,
    pub(crate) runtime: PodmanRuntime,
    pub(crate) socket: PathBuf,
    listening: Listening,
}

pub(crate) const DEADLINES: Deadlines = Deadlines {
    read: Duration::from_millis(600),
    change: Duration::from_millis(800),
    pull: Duration::from_millis(1000),
};

impl Fake {
    pub(crate) fn new(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let mut fake = Self::down(answer);
        fake.start();
        fake
    }

    /// Not listening yet.
    pub(crate) fn down(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let (engine, listening) = (Engine::new(answer), Listening::silent());
        let socket = listening.socket();
        let runtime = PodmanRuntime::builder(ClusterId::new("shop").unwrap())
            .endpoint(Endpoint::Unix(socket.clone()))
            .deadlines(DEADLINES)
            .bounds(Bounds { calls: 4, ..Bounds::default() })
            .build()
            .unwrap();
        Self { engine, runtime, socket, listening }
    }

    pub(crate) fn start(&mut self) {
        self.listening.start(&self.engine);
    }

    /// Ends every connection, as the death of a service does.
    pub(crate) async fn stop(&mut self) {
        self.listening.stop().await;
    }
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
