//! An engine that misbehaves in ways the in-memory one does not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{BoxStream, StreamExt, pending};
use lb_core::{
    Container, ContainerId, ContainerName, ContainerRuntime, ContainerSpec, EngineInfo, Exit,
    ImageDigest, ImageRef, MemoryRuntime, NetworkName, NetworkSpec, Progress, RegistryAuth, Result,
    RuntimeEvent, Usage,
};

/// A [`MemoryRuntime`] whose events or listings misbehave on request.
#[derive(Debug)]
pub(crate) struct Odd {
    pub(crate) inner: MemoryRuntime,
    /// No event is ever heard.
    pub(crate) deaf: AtomicBool,
    /// So many listings panic.
    pub(crate) panics: AtomicU64,
    /// So many runs make the container, do not start it, and do not answer.
    pub(crate) half_runs: AtomicU64,
}

impl Odd {
    pub(crate) fn new(inner: MemoryRuntime) -> Self {
        Self {
            inner,
            deaf: AtomicBool::new(false),
            panics: AtomicU64::new(0),
            half_runs: AtomicU64::new(0),
        }
    }
}

fn take(counter: &AtomicU64) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

#[async_trait]
impl ContainerRuntime for Odd {
    async fn describe(&self) -> Result<EngineInfo> {
        self.inner.describe().await
    }
    async fn ensure_image(
        &self,
        image: &ImageRef,
        auth: Option<&RegistryAuth>,
        progress: &dyn Progress,
    ) -> Result<ImageDigest> {
        self.inner.ensure_image(image, auth, progress).await
    }
    async fn ensure_network(&self, network: &NetworkSpec) -> Result<()> {
        self.inner.ensure_network(network).await
    }
    async fn remove_network(&self, name: &NetworkName) -> Result<()> {
        self.inner.remove_network(name).await
    }
    async fn run(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        if take(&self.half_runs) {
            self.inner.make_only(spec)?;
            return std::future::pending().await;
        }
        self.inner.run(spec).await
    }
    async fn run_to_end(&self, spec: &ContainerSpec, deadline: Duration) -> Result<Exit> {
        self.inner.run_to_end(spec, deadline).await
    }
    async fn stop(&self, name: &ContainerName, grace: Duration) -> Result<()> {
        self.inner.stop(name, grace).await
    }
    async fn list(&self) -> Result<Vec<Container>> {
        assert!(!take(&self.panics), "the test asked for a panic");
        self.inner.list().await
    }
    async fn usage(&self) -> Result<BTreeMap<ContainerName, Usage>> {
        self.inner.usage().await
    }
    fn events(&self) -> BoxStream<'static, Result<RuntimeEvent>> {
        match self.deaf.load(Ordering::SeqCst) {
            true => pending().boxed(),
            false => self.inner.events(),
        }
    }
    async fn logs(&self, name: &ContainerName, tail: usize) -> Result<String> {
        self.inner.logs(name, tail).await
    }
}
