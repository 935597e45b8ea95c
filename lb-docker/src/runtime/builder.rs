//! Settings of a runtime, with their defaults.

use lb_core::engine::{Bounds, Calls, DEFAULT_PIDS, Deadlines, EngineRuntime};
use lb_core::{ByteSize, ClusterId, Result};

use super::DockerRuntime;
use crate::api::DockerApi;
use crate::convert::Settings;
use crate::endpoint::Endpoint;
use crate::engine::Engine;

/// Where the engine keeps what containers print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Logs {
    /// In files of the engine (`json-file`), the oldest dropped. Default 3 of 10 MiB a container.
    Files {
        /// Largest file.
        size: ByteSize,
        /// So many, the current one included.
        files: u32,
    },
    /// As the engine is set up. `logs` works if its driver can be read.
    Engine,
}

impl Default for Logs {
    fn default() -> Self {
        Self::Files { size: ByteSize::mib(10), files: 3 }
    }
}

/// Makes a [`DockerRuntime`].
#[derive(Debug, Clone)]
#[must_use]
pub struct DockerRuntimeBuilder {
    cluster: ClusterId,
    endpoint: Option<Endpoint>,
    deadlines: Option<Deadlines>,
    bounds: Option<Bounds>,
    logs: Option<Logs>,
    pids: u32,
}

impl DockerRuntimeBuilder {
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

    /// Reads the environment and certificates where needed; connects to nothing.
    ///
    /// # Errors
    /// As [`DockerRuntime::connect`].
    pub fn build(self) -> Result<DockerRuntime> {
        let endpoint = self.endpoint.map_or_else(Endpoint::from_env, Ok)?;
        let api = DockerApi {
            engine: Engine::new(&endpoint)?,
            endpoint,
            settings: Settings { logs: self.logs.unwrap_or_default(), pids: self.pids },
        };
        let calls = Calls::new(self.deadlines.unwrap_or_default(), self.bounds.unwrap_or_default());
        Ok(DockerRuntime(EngineRuntime::new(self.cluster, api, calls)))
    }
}
