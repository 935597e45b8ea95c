//! An engine that answers as it is told, and a runtime that speaks to it.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lb_core::ClusterId;
use lb_docker::{Bounds, Deadlines, DockerRuntime, Endpoint};
use serde_json::json;

pub(crate) use lb_test_support::fake_engine::{Asked, Engine, Listening, Reply, Then, refuse};

/// The engine on a socket of its own, and a runtime that speaks to it.
pub(crate) struct Fake {
    pub(crate) engine: Arc<Engine>,
    pub(crate) runtime: DockerRuntime,
    pub(crate) socket: PathBuf,
    listening: Listening,
}

pub(crate) const DEADLINES: Deadlines = Deadlines {
    read: Duration::from_millis(400),
    change: Duration::from_millis(600),
    pull: Duration::from_millis(800),
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
        let runtime = DockerRuntime::builder(ClusterId::new("shop").unwrap())
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

    /// Ends every connection, as the death of an engine does.
    pub(crate) async fn stop(&mut self) {
        self.listening.stop().await;
    }
}

pub(crate) fn version() -> Reply {
    Reply::Json(200, json!({"ApiVersion": "1.41", "Version": "20.10.24"}))
}
