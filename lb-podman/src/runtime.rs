//! The runtime: Podman's API under the core's rules.

mod builder;

use lb_core::engine::{EngineRuntime, OnEngine};
use lb_core::{ClusterId, Result};

pub use self::builder::{Logs, PodmanRuntimeBuilder};
use crate::api::PodmanApi;
use crate::endpoint::Endpoint;

/// The Podman of one host, as one cluster sees it. Cheap to clone; clones share keys and bounds.
#[derive(Debug, Clone)]
pub struct PodmanRuntime(EngineRuntime<PodmanApi>);

impl PodmanRuntime {
    /// The engine named by `CONTAINER_HOST`, else the one on the user's usual socket
    /// ([`Endpoint::from_env`]). Connects to nothing yet.
    ///
    /// # Errors
    /// `Invalid` for a malformed variable; `Unsupported` for `ssh://` and the like.
    pub fn connect(cluster: ClusterId) -> Result<Self> {
        Self::builder(cluster).build()
    }

    /// The same with an endpoint, deadlines and bounds of your choice.
    pub const fn builder(cluster: ClusterId) -> PodmanRuntimeBuilder {
        PodmanRuntimeBuilder::new(cluster)
    }

    /// Where the engine is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.api().endpoint
    }
}

impl OnEngine for PodmanRuntime {
    type Api = PodmanApi;

    fn on_engine(&self) -> &EngineRuntime<PodmanApi> {
        &self.0
    }
}
