//! Settings of a runtime, with their defaults.

use lb_core::engine::{Bounds, Calls, DEFAULT_PIDS, Deadlines, EngineRuntime};
use lb_core::{ByteSize, ClusterId, Result};

use super::PodmanRuntime;
use crate::api::PodmanApi;
use crate::convert::Settings;
use crate::endpoint::Endpoint;
use crate::engine::Engine;

/// Where the engine keeps what containers print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Logs {
    /// In a file of the engine (`k8s-file`) of this size, whose beginning is dropped when it is full. Default
    /// 30 MiB a container.
    File(ByteSize),
    /// As the engine is set up. `logs` works if its driver can be read.
    Engine,
}

impl Default for Logs {
    fn default() -> Self {
        Self::File(ByteSize::mib(30))
    }
}

/// Makes a [`PodmanRuntime`].
#[derive(Debug, Clone)]
#[must_use]
pub struct PodmanRuntimeBuilder {
    cluster: ClusterId,
    endpoint: Option<Endpoint>,
    deadlines: Option<Deadlines>,
    bounds: Option<Bounds>,
    logs: Option<Logs>,
    pids: u32,
}

impl PodmanRuntimeBuilder {
    pub(super) const fn new(cluster: ClusterId) -> Self {
        let pids = DEFAULT_PIDS;
        Self { cluster, endpoint: None, deadlines: None, bounds: None, logs: None, pids }
    }

    /// Where the engine is. Default: [`Endpoint::from_env`].
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// How long calls may take.
    pub const fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = Some(deadlines);
        self
    }

    /// How much is asked at a time.
    pub const fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = Some(bounds);
        self
    }

    /// Where the engine keeps what containers print.
    pub const fn logs(mut self, logs: Logs) -> Self {
        self.logs = Some(logs);
        self
    }

    /// Processes and threads a container may have. Default [`DEFAULT_PIDS`].
    pub const fn pids(mut self, pids: u32) -> Self {
        self.pids = pids;
        self
    }

    /// Reads the environment where needed; connects to nothing.
    ///
    /// # Errors
    /// As [`PodmanRuntime::connect`].
    pub fn build(self) -> Result<PodmanRuntime> {
        let endpoint = self.endpoint.map_or_else(Endpoint::from_env, Ok)?;
        let api = PodmanApi {
            engine: Engine::new(&endpoint)?,
            endpoint,
            settings: Settings { logs: self.logs.unwrap_or_default(), pids: self.pids },
        };
        let calls = Calls::new(self.deadlines.unwrap_or_default(), self.bounds.unwrap_or_default());
        Ok(PodmanRuntime(EngineRuntime::new(self.cluster, api, calls)))
    }
}
