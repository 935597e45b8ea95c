//! Settings of a runtime, with their defaults.

use std::sync::Arc;
use std::time::Duration;

use lb_core::{ByteSize, ClusterId, Keyed, Result};
use tokio::sync::Semaphore;

use super::{DockerRuntime, Host};
use crate::convert::Settings;
use crate::endpoint::Endpoint;
use crate::engine::Engine;

/// Processes and threads a container may have, unless the builder says otherwise.
pub const DEFAULT_PIDS: u32 = 4096;

/// How long a call to the engine may take. A method may make several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Questions: inspect, list, logs, statistics. Default 10 s.
    pub read: Duration,
    /// Changes: create, start, remove; a stop's grace comes on top. Default 60 s.
    pub change: Duration,
    /// Fetching an image. Default 10 min.
    pub pull: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            read: Duration::from_secs(10),
            change: Duration::from_secs(60),
            pull: Duration::from_secs(600),
        }
    }
}

/// How much is asked of the engine at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Calls in flight; waits for a container's end and event streams are not counted. Default 16.
    pub calls: usize,
    /// Containers whose statistics are asked for at a time, beside those calls: the engine takes a
    /// second for each, and waits rather than works. Default 64.
    pub statistics: usize,
    /// Images fetched at a time. Default 3.
    pub pulls: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { calls: 16, statistics: 64, pulls: 3 }
    }
}

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
        let bounds = self.bounds.unwrap_or_default();
        let host = Host {
            cluster: self.cluster,
            engine: Engine::new(&endpoint, bounds.calls)?,
            pulls: Semaphore::new(bounds.pulls.max(1)),
            endpoint,
            settings: Settings { logs: self.logs.unwrap_or_default(), pids: self.pids },
            deadlines: self.deadlines.unwrap_or_default(),
            bounds,
        };
        Ok(DockerRuntime { host: Arc::new(host), keyed: Keyed::default() })
    }
}
