//! Handles to hosts in memory, over links that tests cut.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::lock;
use crate::balancer::{Applied, BalancerInfo, ListenerProbe, LoadBalancer, ProbeAnswer, Traffic};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{HostConnector, HostHandle};
use crate::model::{
    ContainerName, FileName, HostId, ImageDigest, ImageRef, NetworkName, RegistryAuth,
};
use crate::routing::RoutingTable;
use crate::runtime::{
    Container, ContainerId, ContainerRuntime, ContainerSpec, EngineInfo, Exit, NetworkSpec,
    Progress, RuntimeEvent, Usage,
};
use crate::store::Term;
use crate::watched::Watched;

/// A [`HostConnector`] over handles of this process. Each host fences: once a call of a term has come
/// through, calls of lower ones fail with `Fenced`. Clones share one map.
#[derive(Debug, Clone, Default)]
pub struct MemoryConnector {
    hosts: Arc<Mutex<BTreeMap<HostId, Host>>>,
    /// Changes of links, for those who listen over them.
    changes: Arc<Watched<()>>,
}

#[derive(Debug)]
struct Host {
    /// `None`: unknown; its term is remembered.
    handle: Option<HostHandle>,
    cut: bool,
    term: Term,
}

impl MemoryConnector {
    /// No hosts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a host; its link is whole.
    pub fn insert(&self, id: HostId, handle: HostHandle) {
        let mut hosts = lock(&self.hosts);
        let term = hosts.get(&id).map_or(Term::default(), |host| host.term);
        hosts.insert(id, Host { handle: Some(handle), cut: false, term });
        self.changes.put(());
    }

    /// Forgets a host: handles to it fail from now on, those already given included.
    pub fn remove(&self, id: &HostId) {
        self.change(id, |host| host.handle = None);
    }

    /// Cuts the link to a host: calls fail with `Unavailable`, and what runs there goes on.
    pub fn cut(&self, id: &HostId) {
        self.change(id, |host| host.cut = true);
    }

    /// Mends the link to a host.
    pub fn mend(&self, id: &HostId) {
        self.change(id, |host| host.cut = false);
    }

    fn change(&self, id: &HostId, change: impl FnOnce(&mut Host)) {
        if let Some(host) = lock(&self.hosts).get_mut(id) {
            change(host);
        }
        self.changes.put(());
    }
}

impl HostConnector for MemoryConnector {
    fn connect(&self, host: &HostId, term: Term) -> HostHandle {
        let link = Arc::new(Link { connector: self.clone(), host: host.clone(), term });
        HostHandle { runtime: link.clone(), balancer: link }
    }
}

/// A host as one leader's term reaches it.
#[derive(Debug, Clone)]
struct Link {
    connector: MemoryConnector,
    host: HostId,
    term: Term,
}

impl Link {
    fn reach(&self) -> Result<HostHandle> {
        let mut hosts = lock(&self.connector.hosts);
        let fail = |kind, why: String| {
            Err(Error::new(kind, "reach", format!("host \"{}\"", self.host), why))
        };
        let known = hosts.get_mut(&self.host);
        let Some((host, handle)) = known.and_then(|h| h.handle.clone().map(|handle| (h, handle)))
        else {
            return fail(ErrorKind::Unavailable, "must be connected first".into());
        };
        if host.cut {
            return fail(ErrorKind::Unavailable, "the link is cut".into());
        }
        if self.term < host.term {
            let why = format!("term {} is over, {} has begun", self.term.0, host.term.0);
            return fail(ErrorKind::Fenced, why);
        }
        host.term = self.term;
        Ok(handle)
    }

    fn runtime(&self) -> Result<Arc<dyn ContainerRuntime>> {
        self.reach().map(|handle| handle.runtime)
    }

    fn balancer(&self) -> Result<Arc<dyn LoadBalancer>> {
        self.reach().map(|handle| handle.balancer)
    }
}

/// Hears a host's events as long as the link holds.
struct Listener {
    link: Link,
    /// Changes of links heard of.
    heard: u64,
    events: Option<BoxStream<'static, Result<RuntimeEvent>>>,
}

impl Listener {
    async fn next(&mut self) -> Result<RuntimeEvent> {
        loop {
            let changes = &self.link.connector.changes;
            let Some(events) = &mut self.events else {
                self.heard = changes.changed_since(self.heard).await;
                self.events = self.link.runtime().ok().map(|runtime| runtime.events());
                if self.events.is_some() {
                    return Ok(RuntimeEvent::Resync);
                }
                continue;
            };
            tokio::select! {
                biased;
                heard = changes.changed_since(self.heard) => {
                    self.heard = heard;
                    if self.link.runtime().is_err() {
                        self.events = None;
                    }
                }
                Some(event) = events.next() => return event,
            }
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ContainerRuntime for Link {
    async fn describe(&self) -> Result<EngineInfo> {
        self.runtime()?.describe().await
    }

    async fn ensure_image(
        &self,
        image: &ImageRef,
        auth: Option<&RegistryAuth>,
        progress: &dyn Progress,
    ) -> Result<ImageDigest> {
        self.runtime()?.ensure_image(image, auth, progress).await
    }

    async fn ensure_network(&self, network: &NetworkSpec) -> Result<()> {
        self.runtime()?.ensure_network(network).await
    }

    async fn remove_network(&self, name: &NetworkName) -> Result<()> {
        self.runtime()?.remove_network(name).await
    }

    async fn run(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        self.runtime()?.run(spec).await
    }

    async fn run_to_end(&self, spec: &ContainerSpec, deadline: Duration) -> Result<Exit> {
        self.runtime()?.run_to_end(spec, deadline).await
    }

    async fn stop(&self, name: &ContainerName, grace: Duration) -> Result<()> {
        self.runtime()?.stop(name, grace).await
    }

    async fn list(&self) -> Result<Vec<Container>> {
        self.runtime()?.list().await
    }

    async fn usage(&self) -> Result<BTreeMap<ContainerName, Usage>> {
        self.runtime()?.usage().await
    }

    /// Silent while the host cannot be reached; `Resync` when it can again.
    fn events(&self) -> BoxStream<'static, Result<RuntimeEvent>> {
        let listener = Listener {
            heard: self.connector.changes.changes(),
            link: self.clone(),
            events: self.runtime().ok().map(|runtime| runtime.events()),
        };
        stream::unfold(listener, |mut listener| async move {
            let event = listener.next().await;
            Some((event, listener))
        })
        .boxed()
    }

    async fn logs(&self, name: &ContainerName, tail: usize) -> Result<String> {
        self.runtime()?.logs(name, tail).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LoadBalancer for Link {
    async fn describe(&self) -> Result<BalancerInfo> {
        self.balancer()?.describe().await
    }

    async fn apply(&self, table: &RoutingTable) -> Result<Applied> {
        self.balancer()?.apply(table).await
    }

    async fn traffic(&self) -> Result<Traffic> {
        self.balancer()?.traffic().await
    }

    async fn probe(&self, listener: &ListenerProbe) -> Result<ProbeAnswer> {
        self.balancer()?.probe(listener).await
    }

    async fn files(&self) -> Result<BTreeMap<FileName, String>> {
        self.balancer()?.files().await
    }

    async fn shutdown(&self) -> Result<()> {
        self.balancer()?.shutdown().await
    }
}
