//! A container engine across the wire.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::{Wire, answer, answers, sent};
use crate::error::Result;
use crate::model::{ContainerName, ImageDigest, ImageRef, NetworkName, RegistryAuth};
use crate::runtime::{
    Container, ContainerId, ContainerRuntime, ContainerSpec, EngineInfo, Exit, NetworkSpec,
    Progress, ProgressStep, RuntimeEvent, Usage,
};

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ContainerRuntime for Wire<dyn ContainerRuntime> {
    async fn describe(&self) -> Result<EngineInfo> {
        answer(self.0.describe().await)
    }

    async fn ensure_image(
        &self,
        image: &ImageRef,
        auth: Option<&RegistryAuth>,
        progress: &dyn Progress,
    ) -> Result<ImageDigest> {
        let auth = auth.map(sent);
        answer(self.0.ensure_image(&sent(image), auth.as_ref(), &Steps(progress)).await)
    }

    async fn ensure_network(&self, network: &NetworkSpec) -> Result<()> {
        answer(self.0.ensure_network(&sent(network)).await)
    }

    async fn remove_network(&self, name: &NetworkName) -> Result<()> {
        answer(self.0.remove_network(&sent(name)).await)
    }

    async fn run(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        let arrived = sent(spec);
        assert_eq!(arrived.hash(), spec.hash(), "the same spec on both sides");
        answer(self.0.run(&arrived).await)
    }

    async fn run_to_end(&self, spec: &ContainerSpec, deadline: Duration) -> Result<Exit> {
        answer(self.0.run_to_end(&sent(spec), sent(&deadline)).await)
    }

    async fn stop(&self, name: &ContainerName, grace: Duration) -> Result<()> {
        answer(self.0.stop(&sent(name), sent(&grace)).await)
    }

    async fn list(&self) -> Result<Vec<Container>> {
        answer(self.0.list().await)
    }

    async fn usage(&self) -> Result<BTreeMap<ContainerName, Usage>> {
        answer(self.0.usage().await)
    }

    fn events(&self) -> BoxStream<'static, Result<RuntimeEvent>> {
        answers(self.0.events())
    }

    async fn logs(&self, name: &ContainerName, tail: usize) -> Result<String> {
        answer(self.0.logs(&sent(name), sent(&tail)).await)
    }
}

struct Steps<'a>(&'a dyn Progress);

impl Progress for Steps<'_> {
    fn step(&self, step: &ProgressStep) {
        self.0.step(&sent(step));
    }
}
