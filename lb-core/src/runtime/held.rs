//! Types that are runtimes by one they hold.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::{Container, ContainerId, ContainerRuntime, ContainerSpec, EngineInfo, Exit};
use super::{NetworkSpec, Progress, RuntimeEvent, Usage};
use crate::error::Result;
use crate::model::{ContainerName, ImageDigest, ImageRef, NetworkName, RegistryAuth};

/// A type that holds a runtime, and is a [`ContainerRuntime`] by that: every call goes to the one it holds.
pub trait AsRuntime: Debug + Send + Sync + 'static {
    /// What it holds.
    type Runtime: ContainerRuntime;

    /// The runtime it holds.
    fn as_runtime(&self) -> &Self::Runtime;
}

#[async_trait]
impl<T: AsRuntime> ContainerRuntime for T {
    async fn describe(&self) -> Result<EngineInfo> {
        self.as_runtime().describe().await
    }

    async fn ensure_image(
        &self,
        image: &ImageRef,
        auth: Option<&RegistryAuth>,
        progress: &dyn Progress,
    ) -> Result<ImageDigest> {
        self.as_runtime().ensure_image(image, auth, progress).await
    }

    async fn ensure_network(&self, network: &NetworkSpec) -> Result<()> {
        self.as_runtime().ensure_network(network).await
    }

    async fn remove_network(&self, name: &NetworkName) -> Result<()> {
        self.as_runtime().remove_network(name).await
    }

    async fn run(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        self.as_runtime().run(spec).await
    }

    async fn run_to_end(&self, spec: &ContainerSpec, deadline: Duration) -> Result<Exit> {
        self.as_runtime().run_to_end(spec, deadline).await
    }

    async fn stop(&self, name: &ContainerName, grace: Duration) -> Result<()> {
        self.as_runtime().stop(name, grace).await
    }

    async fn list(&self) -> Result<Vec<Container>> {
        self.as_runtime().list().await
    }

    async fn usage(&self) -> Result<BTreeMap<ContainerName, Usage>> {
        self.as_runtime().usage().await
    }

    fn events(&self) -> BoxStream<'static, Result<RuntimeEvent>> {
        self.as_runtime().events()
    }

    async fn logs(&self, name: &ContainerName, tail: usize) -> Result<String> {
        self.as_runtime().logs(name, tail).await
    }
}
