//! The runtime: which work each call is, under which key and deadline.

mod builder;
mod containers;
mod events;
mod images;
mod networks;
mod observe;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use lb_core::{
    ClusterId, Container, ContainerId, ContainerName, ContainerRuntime, ContainerSpec, EngineInfo,
    Exit, ImageDigest, ImageRef, Keyed, NetworkName, NetworkSpec, Progress, RegistryAuth, Result,
    RuntimeEvent, Usage,
};
use tokio::sync::Semaphore;

pub use self::builder::{Bounds, DEFAULT_PIDS, Deadlines, DockerRuntimeBuilder, Logs};
use crate::convert::Settings;
use crate::endpoint::Endpoint;
use crate::engine::Engine;

/// The Docker Engine of one host, as one cluster sees it. Cheap to clone; clones share keys and bounds.
#[derive(Debug, Clone)]
pub struct DockerRuntime {
    host: Arc<Host>,
    keyed: Keyed<Key>,
}

/// What all work shares.
#[derive(Debug)]
struct Host {
    cluster: ClusterId,
    endpoint: Endpoint,
    engine: Engine,
    settings: Settings,
    deadlines: Deadlines,
    bounds: Bounds,
    pulls: Semaphore,
}

/// What mutating calls queue for. Its debug form names the thing in errors.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Container(ContainerName),
    Network(NetworkName),
    Image(ImageRef),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(name) => write!(f, "container {name:?}"),
            Self::Network(name) => write!(f, "network {name:?}"),
            Self::Image(image) => write!(f, "image {image:?}"),
        }
    }
}

/// How much longer than its own calls a piece of work may take before it is abandoned: each of its calls
/// has a deadline already, and tidying up after the last must still fit in.
const SLACK: Duration = Duration::from_secs(5);

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
        &self.host.endpoint
    }
}

#[async_trait]
impl ContainerRuntime for DockerRuntime {
    async fn describe(&self) -> Result<EngineInfo> {
        observe::describe(&self.host).await
    }

    async fn ensure_image(
        &self,
        image: &ImageRef,
        auth: Option<&RegistryAuth>,
        progress: &dyn Progress,
    ) -> Result<ImageDigest> {
        let (steps, heard) = images::progress_queue();
        let (host, wanted, auth) = (self.host.clone(), image.clone(), auth.cloned());
        let work = async move { images::ensure(&host, &wanted, auth.as_ref(), &steps).await };
        let deadline = self.host.deadlines.pull + self.host.deadlines.read * 3 + SLACK;
        let done = self.keyed.run(Key::Image(image.clone()), "ensure", deadline, Box::pin(work));
        images::hear(done, heard, progress).await
    }

    async fn ensure_network(&self, network: &NetworkSpec) -> Result<()> {
        let (host, spec) = (self.host.clone(), network.clone());
        let work = async move { networks::ensure(&host, &spec).await };
        let deadline = self.host.deadlines.change + self.host.deadlines.read * 2 + SLACK;
        self.keyed.run(Key::Network(network.name.clone()), "ensure", deadline, work).await
    }

    async fn remove_network(&self, name: &NetworkName) -> Result<()> {
        let (host, key) = (self.host.clone(), Key::Network(name.clone()));
        let name = name.clone();
        let work = async move { networks::remove(&host, &name).await };
        let deadline = self.host.deadlines.change + self.host.deadlines.read + SLACK;
        self.keyed.run(key, "remove", deadline, work).await
    }

    async fn run(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        let (host, key) = (self.host.clone(), Key::Container(spec.name.clone()));
        let spec = spec.clone();
        let work = async move { containers::run(&host, &spec).await };
        self.keyed.run(key, "run", self.host.run_deadline(), work).await
    }

    async fn run_to_end(&self, spec: &ContainerSpec, deadline: Duration) -> Result<Exit> {
        let (host, key) = (self.host.clone(), Key::Container(spec.name.clone()));
        let spec = spec.clone();
        let work = async move { containers::run_to_end(&host, &spec, deadline).await };
        self.keyed.run(key, "run", self.host.run_deadline() + deadline, work).await
    }

    async fn stop(&self, name: &ContainerName, grace: Duration) -> Result<()> {
        let (host, key) = (self.host.clone(), Key::Container(name.clone()));
        let name = name.clone();
        let work = async move { containers::stop(&host, &name, grace).await };
        self.keyed.run(key, "stop", self.host.run_deadline() + grace, work).await
    }

    async fn list(&self) -> Result<Vec<Container>> {
        observe::list(&self.host).await
    }

    async fn usage(&self) -> Result<BTreeMap<ContainerName, Usage>> {
        observe::usage(&self.host).await
    }

    fn events(&self) -> BoxStream<'static, Result<RuntimeEvent>> {
        events::events(self.host.clone())
    }

    async fn logs(&self, name: &ContainerName, tail: usize) -> Result<String> {
        observe::logs(&self.host, name, tail).await
    }
}

impl Host {
    /// Enough for every call that making, starting and tidying up a container may need.
    fn run_deadline(&self) -> Duration {
        self.deadlines.change * 4 + self.deadlines.read * 4 + SLACK
    }
}
