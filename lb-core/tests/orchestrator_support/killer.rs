//! Cuts an orchestrator off at a chosen call: before it, or after it with the answer lost. From then on
//! nothing it does reaches anybody, as if its process had been killed; backends' own tasks go on.

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use lb_core::{
    Applied, BalancerInfo, Container, ContainerId, ContainerName, ContainerRuntime, ContainerSpec,
    EngineInfo, Exit, FileName, HostConnector, HostHandle, HostId, ImageDigest, ImageRef, Ledger,
    LedgerStore, ListenerProbe, LoadBalancer, NetworkName, NetworkSpec, ProbeAnswer, Progress,
    RegistryAuth, Result, RoutingTable, RuntimeEvent, Term, Traffic, Usage,
};

/// On which side of the call the cut is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    After,
}

/// Counts the calls that change anything, and cuts at one.
#[derive(Debug)]
pub(crate) struct Killer {
    at: u64,
    side: Side,
    calls: AtomicU64,
}

impl Killer {
    /// Cuts at the call of this number, from 1.
    pub(crate) fn new(at: u64, side: Side) -> Arc<Self> {
        Arc::new(Self { at, side, calls: AtomicU64::new(0) })
    }

    pub(crate) fn has_struck(&self) -> bool {
        self.calls.load(Ordering::SeqCst) >= self.at
    }

    /// A call that changes something.
    async fn change<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if number < self.at {
            return call.await;
        }
        if number == self.at && self.side == Side::After {
            drop(call.await);
        }
        pending().await
    }

    /// A call that only looks.
    async fn look<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        match self.has_struck() {
            true => pending().await,
            false => call.await,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Killing<T> {
    pub(crate) inner: T,
    pub(crate) killer: Arc<Killer>,
}

impl HostConnector for Killing<Arc<dyn HostConnector>> {
    fn connect(&self, host: &HostId, term: Term) -> HostHandle {
        let inner = self.inner.connect(host, term);
        let killing = Arc::new(Killing { inner, killer: self.killer.clone() });
        HostHandle { runtime: killing.clone(), balancer: killing }
    }
}

#[async_trait]
impl ContainerRuntime for Killing<HostHandle> {
    async fn describe(&self) -> Result<EngineInfo> {
        self.killer.look(self.inner.runtime.describe()).await
    }
    async fn ensure_image(
        &self,
        image: &ImageRef,
        auth: Option<&RegistryAuth>,
        progress: &dyn Progress,
    ) -> Result<ImageDigest> {
        self.killer.change(self.inner.runtime.ensure_image(image, auth, progress)).await
    }
    async fn ensure_network(&self, network: &NetworkSpec) -> Result<()> {
        self.killer.change(self.inner.runtime.ensure_network(network)).await
    }
    async fn remove_network(&self, name: &NetworkName) -> Result<()> {
        self.killer.change(self.inner.runtime.remove_network(name)).await
    }
    async fn run(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        self.killer.change(self.inner.runtime.run(spec)).await
    }
    async fn run_to_end(&self, spec: &ContainerSpec, deadline: Duration) -> Result<Exit> {
        self.killer.change(self.inner.runtime.run_to_end(spec, deadline)).await
    }
    async fn stop(&self, name: &ContainerName, grace: Duration) -> Result<()> {
        self.killer.change(self.inner.runtime.stop(name, grace)).await
    }
    async fn list(&self) -> Result<Vec<Container>> {
        self.killer.look(self.inner.runtime.list()).await
    }
    async fn usage(&self) -> Result<BTreeMap<ContainerName, Usage>> {
        self.killer.look(self.inner.runtime.usage()).await
    }
    fn events(&self) -> BoxStream<'static, Result<RuntimeEvent>> {
        self.inner.runtime.events()
    }
    async fn logs(&self, name: &ContainerName, tail: usize) -> Result<String> {
        self.killer.look(self.inner.runtime.logs(name, tail)).await
    }
}

#[async_trait]
impl LoadBalancer for Killing<HostHandle> {
    async fn describe(&self) -> Result<BalancerInfo> {
        self.killer.look(self.inner.balancer.describe()).await
    }
    async fn apply(&self, table: &RoutingTable) -> Result<Applied> {
        self.killer.change(self.inner.balancer.apply(table)).await
    }
    async fn traffic(&self) -> Result<Traffic> {
        self.killer.look(self.inner.balancer.traffic()).await
    }
    async fn probe(&self, listener: &ListenerProbe) -> Result<ProbeAnswer> {
        self.killer.look(self.inner.balancer.probe(listener)).await
    }
    async fn files(&self) -> Result<BTreeMap<FileName, String>> {
        self.killer.look(self.inner.balancer.files()).await
    }
    async fn shutdown(&self) -> Result<()> {
        self.killer.change(self.inner.balancer.shutdown()).await
    }
}

#[async_trait]
impl<T: LedgerStore> LedgerStore for Killing<T> {
    async fn load(&self) -> Result<Option<Ledger>> {
        self.killer.look(self.inner.load()).await
    }
    async fn save(&self, ledger: &Ledger, term: Term) -> Result<()> {
        self.killer.change(self.inner.save(ledger, term)).await
    }
}
