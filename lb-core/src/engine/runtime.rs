//! The runtime: which work each call is, under which key and deadline.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::calls::within;
use super::ended::Ended;
use super::{Calls, EngineApi, Failure, containers, events, images, networks, observe};
use crate::error::Result;
use crate::keyed::Keyed;
use crate::model::{ClusterId, ContainerName, ImageDigest, ImageRef, NetworkName, RegistryAuth};
use crate::runtime::{
    Container, ContainerId, ContainerRuntime, ContainerSpec, EngineInfo, Exit, NetworkSpec,
    Progress, RuntimeEvent, Usage,
};

/// A type that stands for an [`EngineRuntime`], and is a [`ContainerRuntime`] by that.
pub trait OnEngine: Debug + Send + Sync + 'static {
    /// The engine's API.
    type Api: EngineApi;

    /// The runtime it stands for.
    fn on_engine(&self) -> &EngineRuntime<Self::Api>;
}

/// The engine of one host, as one cluster sees it. Cheap to clone; clones share keys and bounds.
#[derive(Debug)]
pub struct EngineRuntime<A> {
    host: Arc<Host<A>>,
    keyed: Keyed<Key>,
}

impl<A> Clone for EngineRuntime<A> {
    fn clone(&self) -> Self {
        Self { host: self.host.clone(), keyed: self.keyed.clone() }
    }
}

/// What all work shares.
#[derive(Debug)]
pub(super) struct Host<A> {
    pub(super) cluster: ClusterId,
    pub(super) api: A,
    pub(super) calls: Calls,
    /// Told to have ended, and not yet seen so.
    pub(super) ended: Ended,
}

/// What mutating calls queue for. Its debug form names the thing in errors.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Container(ContainerName),
    Network(NetworkName),
    Image(ImageRef),
}

impl Debug for Key {
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

impl<A: EngineApi> EngineRuntime<A> {
    /// The engine behind `api`, for one cluster.
    pub fn new(cluster: ClusterId, api: A, calls: Calls) -> Self {
        Self {
            host: Arc::new(Host { cluster, api, calls, ended: Ended::default() }),
            keyed: Keyed::default(),
        }
    }

    /// The API it was made of.
    pub fn api(&self) -> &A {
        &self.host.api
    }
}

#[async_trait]
impl<T: OnEngine> ContainerRuntime for T {
    async fn describe(&self) -> Result<EngineInfo> {
        observe::describe(&self.on_engine().host).await
    }

    async fn ensure_image(
        &self,
        image: &ImageRef,
        auth: Option<&RegistryAuth>,
        progress: &dyn Progress,
    ) -> Result<ImageDigest> {
        let EngineRuntime { host, keyed } = self.on_engine().clone();
        let (steps, heard) = images::progress_queue();
        let deadline = host.calls.deadlines.pull + host.calls.deadlines.read * 3 + SLACK;
        let (wanted, auth) = (image.clone(), auth.cloned());
        let work = async move { images::ensure(&host, &wanted, auth.as_ref(), &steps).await };
        let done = keyed.run(Key::Image(image.clone()), "ensure", deadline, Box::pin(work));
        images::hear(done, heard, progress).await
    }

    async fn ensure_network(&self, network: &NetworkSpec) -> Result<()> {
        let EngineRuntime { host, keyed } = self.on_engine().clone();
        let (key, spec) = (Key::Network(network.name.clone()), network.clone());
        let deadline = host.calls.deadlines.change + host.calls.deadlines.read * 2 + SLACK;
        let work = async move { networks::ensure(&host, &spec).await };
        keyed.run(key, "ensure", deadline, work).await
    }

    async fn remove_network(&self, name: &NetworkName) -> Result<()> {
        let EngineRuntime { host, keyed } = self.on_engine().clone();
        let (key, name) = (Key::Network(name.clone()), name.clone());
        let deadline = host.calls.deadlines.change + host.calls.deadlines.read + SLACK;
        let work = async move { networks::remove(&host, &name).await };
        keyed.run(key, "remove", deadline, work).await
    }

    async fn run(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        let EngineRuntime { host, keyed } = self.on_engine().clone();
        let (key, deadline) = (Key::Container(spec.name.clone()), host.run_deadline());
        let spec = spec.clone();
        let work = async move { containers::run(&host, &spec).await };
        keyed.run(key, "run", deadline, work).await
    }

    async fn run_to_end(&self, spec: &ContainerSpec, deadline: Duration) -> Result<Exit> {
        let EngineRuntime { host, keyed } = self.on_engine().clone();
        let (key, in_all) = (Key::Container(spec.name.clone()), host.run_deadline() + deadline);
        let spec = spec.clone();
        let work = async move { containers::run_to_end(&host, &spec, deadline).await };
        keyed.run(key, "run", in_all, work).await
    }

    async fn stop(&self, name: &ContainerName, grace: Duration) -> Result<()> {
        let EngineRuntime { host, keyed } = self.on_engine().clone();
        let (key, deadline) = (Key::Container(name.clone()), host.run_deadline() + grace);
        let name = name.clone();
        let work = async move { containers::stop(&host, &name, grace).await };
        keyed.run(key, "stop", deadline, work).await
    }

    async fn list(&self) -> Result<Vec<Container>> {
        observe::list(&self.on_engine().host).await
    }

    async fn usage(&self) -> Result<BTreeMap<ContainerName, Usage>> {
        observe::usage(&self.on_engine().host).await
    }

    fn events(&self) -> BoxStream<'static, Result<RuntimeEvent>> {
        events::events(self.on_engine().host.clone())
    }

    async fn logs(&self, name: &ContainerName, tail: usize) -> Result<String> {
        observe::logs(&self.on_engine().host, name, tail).await
    }
}

impl<A: EngineApi> Host<A> {
    /// How errors name the engine.
    pub(super) fn subject(&self) -> String {
        format!("engine {}", self.api.endpoint())
    }

    /// A question.
    pub(super) async fn read<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.call(self.calls.deadlines.read, work).await
    }

    /// A change.
    pub(super) async fn change<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.call(self.calls.deadlines.change, work).await
    }

    /// Any call that is answered soon, in one of the places.
    pub(super) async fn call<T>(
        &self,
        deadline: Duration,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.heed(self.calls.call(deadline, work).await)
    }

    /// A call that lasts as long as what it waits for; it holds no place meanwhile.
    pub(super) async fn wait<T>(
        &self,
        deadline: Duration,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.heed(within(deadline, work).await)
    }

    fn heed<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        if matches!(result, Err(Failure::Unreachable(_))) {
            self.api.lost();
        }
        result
    }

    /// Enough for every call that making, starting and tidying up a container may need.
    fn run_deadline(&self) -> Duration {
        self.calls.deadlines.change * 4 + self.calls.deadlines.read * 4 + SLACK
    }
}
