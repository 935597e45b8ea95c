//! The runtime: Docker's API under the core's rules.

mod builder;

use lb_core::engine::{EngineRuntime, OnEngine};
use lb_core::{ClusterId, Result};

pub use self::builder::{DockerRuntimeBuilder, Logs};
use crate::api::DockerApi;
use crate::endpoint::Endpoint;

/// The Docker Engine of one host, as one cluster sees it. Cheap to clone; clones share keys and bounds.
#[derive(Debug, Clone)]
pub struct DockerRuntime(EngineRuntime<DockerApi>);

impl DockerRuntime {
    /// The engine named by `DOCKER_HOST`, `DOCKER_CERT_PATH` and `DOCKER_TLS_VERIFY`, else the one on
    /// `/var/run/docker.sock`. Connects to nothing yet.
    ///
    /// # Errors
    /// `Invalid` for a malformed variable or certificate; `Unsupported` for `ssh://` and the like.
    pub fn connect(cluster: ClusterId) -> Result<Self> {
        Self::builder(cluster).build()
    }

    /// The same with an endpoint, deadlines and bounds of your choice.
    pub const fn builder(cluster: ClusterId) -> DockerRuntimeBuilder {
        DockerRuntimeBuilder::new(cluster)
    }

    /// Where the engine is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.api().endpoint
    }
}

impl OnEngine for DockerRuntime {
    type Api = DockerApi;

    fn on_engine(&self) -> &EngineRuntime<DockerApi> {
        &self.0
    }
}
