//! A faulty container engine.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::Faulty;
use crate::error::Result;
use crate::memory::Op;
use crate::model::{ContainerName, ImageDigest, ImageRef, NetworkName, RegistryAuth};
use crate::runtime::{
    Container, ContainerId, ContainerRuntime, ContainerSpec, EngineInfo, Exit, NetworkSpec,
    Progress, RuntimeEvent, Usage,
};

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ContainerRuntime for Faulty<dyn ContainerRuntime> {
    async fn describe(&self) -> Result<EngineInfo> {
        self.faults.around(Op::Describe, "engine", self.inner.describe()).await
    }

    async fn ensure_image(
        &self,
        image: &ImageRef,
        auth: Option<&RegistryAuth>,
        progress: &dyn Progress,
    ) -> Result<ImageDigest> {
        let call = self.inner.ensure_image(image, auth, progress);
        self.faults.around(Op::EnsureImage, image.repository(), call).await
    }

    async fn ensure_network(&self, network: &NetworkSpec) -> Result<()> {
        let call = self.inner.ensure_network(network);
        self.faults.around(Op::EnsureNetwork, network.name.as_str(), call).await
    }

    async fn remove_network(&self, name: &NetworkName) -> Result<()> {
        let call = self.inner.remove_network(name);
        self.faults.around(Op::RemoveNetwork, name.as_str(), call).await
    }

    async fn run(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        self.faults.around(Op::Run, spec.name.as_str(), self.inner.run(spec)).await
    }

    async fn run_to_end(&self, spec: &ContainerSpec, deadline: Duration) -> Result<Exit> {
        let call = self.inner.run_to_end(spec, deadline);
        self.faults.around(Op::RunToEnd, spec.name.as_str(), call).await
    }

    async fn stop(&self, name: &ContainerName, grace: Duration) -> Result<()> {
        self.faults.around(Op::Stop, name.as_str(), self.inner.stop(name, grace)).await
    }

    async fn list(&self) -> Result<Vec<Container>> {
        self.faults.around(Op::List, "containers", self.inner.list()).await
    }

    async fn usage(&self) -> Result<BTreeMap<ContainerName, Usage>> {
        self.faults.around(Op::Usage, "containers", self.inner.usage()).await
    }

    fn events(&self) -> BoxStream<'static, Result<RuntimeEvent>> {
        self.inner.events()
    }

    async fn logs(&self, name: &ContainerName, tail: usize) -> Result<String> {
        self.faults.around(Op::Logs, name.as_str(), self.inner.logs(name, tail)).await
    }
}
