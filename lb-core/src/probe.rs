//! Readiness checks, run beside the containers: a wrapper on any runtime.

mod check;
mod health;
mod ports;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_util::task::AbortOnDropHandle;

use self::check::{Asker, over_network};
use self::health::Origin;
use self::ports::{probing, targets};
use crate::error::Result;
use crate::memory::lock;
use crate::model::{ContainerName, ImageDigest, ImageRef, LabelKey, NetworkName, RegistryAuth};
use crate::runtime::{
    Container, ContainerId, ContainerRuntime, ContainerSpec, ContainerState, EngineInfo, Exit,
    NetworkSpec, Progress, Readiness, Role, RuntimeEvent, Usage,
};

/// Checks in flight at once, over all containers; more wait their turn.
pub const PROBES_AT_ONCE: usize = 1024;
/// Changes of readiness kept for a slow listener; beyond them it hears `Resync`.
const EVENTS_KEPT: usize = 256;
/// Time between two looks at the containers when no event tells of a change.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Longest `list` waits for the first answer of containers seen for the first time.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// A [`ContainerRuntime`] that finds out which containers are ready.
///
/// It reads the checks from the label [`label::HEALTH`](crate::label::HEALTH) and the address from [`label::ASSIGNMENT`](crate::label::ASSIGNMENT) of each
/// running instance, and asks every port of it: a TCP connection is accepted, or `GET` of a path answers
/// 200 to 399. All ports must pass. An instance without checks is ready as soon as it runs. Containers
/// whose readiness the runtime knows itself, and those that are no instances, are left alone.
///
/// Until it is ready a container is asked every 10 ms at first, then with pauses of 2 % of the time spent
/// waiting, up to the interval: it is ready at most that much later than it could be. `list` waits up to
/// a second for the first answers of containers it sees for the first time, so that a restarted platform
/// does not take serving instances for unready ones.
///
/// Checks end when their container goes or this value is dropped.
#[derive(Debug)]
pub struct Probed {
    shared: Arc<Shared>,
    _watcher: AbortOnDropHandle<()>,
}

/// Settings of a [`Probed`].
pub struct ProbedBuilder {
    inner: Arc<dyn ContainerRuntime>,
    reach: Reach,
    asker: Asker,
}

type Reach = Arc<dyn Fn(SocketAddr) -> SocketAddr + Send + Sync>;

impl fmt::Debug for ProbedBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbedBuilder").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl ProbedBuilder {
    /// Says where an instance's address is reached from here, for runtimes whose instances live elsewhere
    /// than their assignment says. Default: there.
    #[must_use]
    pub fn reach(self, reach: impl Fn(SocketAddr) -> SocketAddr + Send + Sync + 'static) -> Self {
        Self { reach: Arc::new(reach), ..self }
    }

    /// Somebody else asks: the simulation, where nobody listens.
    #[cfg(feature = "sim")]
    #[must_use]
    pub(crate) fn asker(self, asker: Asker) -> Self {
        Self { asker, ..self }
    }

    /// Starts to look at the containers. Must be called within a tokio runtime.
    pub fn build(self) -> Probed {
        let shared = Arc::new(Shared {
            inner: self.inner.clone(),
            asking: Asking {
                reach: self.reach,
                asker: self.asker,
                turns: Arc::new(Semaphore::new(PROBES_AT_ONCE)),
            },
            probes: Mutex::default(),
            changes: broadcast::channel(EVENTS_KEPT).0,
        });
        let watcher = tokio::spawn(follow(self.inner, Arc::downgrade(&shared)));
        Probed { shared, _watcher: AbortOnDropHandle::new(watcher) }
    }
}

impl Probed {
    /// Wraps a runtime.
    pub fn builder(inner: Arc<dyn ContainerRuntime>) -> ProbedBuilder {
        let asker: Asker = Arc::new(|address, check| over_network(address, check).boxed());
        ProbedBuilder { inner, reach: Arc::new(|address| address), asker }
    }
}

struct Shared {
    inner: Arc<dyn ContainerRuntime>,
    asking: Asking,
    probes: Mutex<Probes>,
    changes: broadcast::Sender<RuntimeEvent>,
}

/// How ports are asked.
#[derive(Clone)]
struct Asking {
    reach: Reach,
    asker: Asker,
    turns: Arc<Semaphore>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Probes {
    by_name: BTreeMap<ContainerName, Probe>,
    /// Counts lists and starts: a list that began before a probe knows nothing of its container.
    clock: u64,
}

#[derive(Debug)]
struct Probe {
    id: ContainerId,
    since: u64,
    /// `Unknown` until the first answer of every port.
    readiness: watch::Receiver<Readiness>,
    _task: AbortOnDropHandle<()>,
}

impl Shared {
    /// Asks a container from now on, unless it is asked already.
    fn probe(
        self: &Arc<Self>,
        name: &ContainerName,
        id: &ContainerId,
        labels: &BTreeMap<LabelKey, String>,
        origin: Origin,
    ) {
        let mut probes = lock(&self.probes);
        if probes.by_name.get(name).is_some_and(|probe| probe.id == *id) {
            return;
        }
        let (verdict, task) = match targets(labels) {
            Ok(targets) if targets.is_empty() => return,
            Ok(targets) => {
                let verdict = watch::Sender::new(Readiness::Unknown);
                let readiness = verdict.subscribe();
                let probing = probing(Arc::downgrade(self), name.clone(), targets, verdict, origin);
                (readiness, tokio::spawn(probing))
            }
            Err(e) => {
                let verdict = watch::Sender::new(Readiness::NotReady(e.to_string()));
                (verdict.subscribe(), tokio::spawn(async {}))
            }
        };
        probes.clock += 1;
        let since = probes.clock;
        let task = AbortOnDropHandle::new(task);
        probes
            .by_name
            .insert(name.clone(), Probe { id: id.clone(), since, readiness: verdict, _task: task });
    }

    /// The containers as they are, with the probes they need and no others.
    async fn look(self: &Arc<Self>) -> Result<Vec<Container>> {
        let began = {
            let mut probes = lock(&self.probes);
            probes.clock += 1;
            probes.clock
        };
        let containers = self.inner.list().await?;
        let wanted: BTreeMap<_, _> =
            containers.iter().filter(|c| is_probed(c)).map(|c| (&c.name, &c.id)).collect();
        lock(&self.probes).by_name.retain(|name, probe| {
            probe.since > began || wanted.get(name).is_some_and(|id| **id == probe.id)
        });
        for container in containers.iter().filter(|c| is_probed(c)) {
            self.probe(&container.name, &container.id, &container.labels, Origin::Adopted);
        }
        Ok(containers)
    }

    /// Waits until every probe has its first answer, or long enough.
    async fn first_answers(&self) {
        let pending: Vec<_> = lock(&self.probes)
            .by_name
            .values()
            .filter(|probe| *probe.readiness.borrow() == Readiness::Unknown)
            .map(|probe| probe.readiness.clone())
            .collect();
        let answers = pending.into_iter().map(|mut readiness| async move {
            drop(readiness.wait_for(|r| *r != Readiness::Unknown).await);
        });
        drop(tokio::time::timeout(FIRST_ANSWER, join_all(answers)).await);
    }

    fn fill(&self, container: &mut Container) {
        if !is_probed(container) {
            return;
        }
        let probes = lock(&self.probes);
        container.readiness = match probes.by_name.get(&container.name) {
            Some(probe) if probe.id == container.id => probe.readiness.borrow().clone(),
            // Only what has nothing to be asked is ready without an answer. Of what has, the probe may be gone by
            // now: another look saw the container's end, and what it was before that end nobody knows.
            None if targets(&container.labels).is_ok_and(|targets| targets.is_empty()) => {
                Readiness::Ready
            }
            Some(_) | None => Readiness::Unknown,
        };
    }
}

fn is_probed(container: &Container) -> bool {
    container.role == Role::Instance
        && container.state == ContainerState::Running
        && container.readiness == Readiness::Unknown
}

/// Looks at the containers after each event, and now and then without one.
async fn follow(inner: Arc<dyn ContainerRuntime>, shared: Weak<Shared>) {
    let mut events = inner.events();
    loop {
        let Some(shared) = shared.upgrade() else { return };
        if let Err(error) = shared.look().await {
            tracing::debug!(%error, "probe_list_failed");
        }
        drop(shared);
        let _ = tokio::time::timeout(LOOK_AGAIN, news(&mut events)).await;
        // One look serves all that is known by now.
        for _ in 0..EVENTS_KEPT {
            if events.next().now_or_never().is_none() {
                break;
            }
        }
    }
}

/// Waits for an event that can change which containers run.
async fn news(events: &mut BoxStream<'static, Result<RuntimeEvent>>) {
    loop {
        match events.next().await {
            Some(Ok(RuntimeEvent::ReadyChanged(_))) => {}
            Some(Ok(_)) => return,
            Some(Err(_)) => tokio::time::sleep(LOOK_AGAIN).await,
            None => std::future::pending().await,
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ContainerRuntime for Probed {
    async fn describe(&self) -> Result<EngineInfo> {
        self.shared.inner.describe().await
    }

    async fn ensure_image(
        &self,
        image: &ImageRef,
        auth: Option<&RegistryAuth>,
        progress: &dyn Progress,
    ) -> Result<ImageDigest> {
        self.shared.inner.ensure_image(image, auth, progress).await
    }

    async fn ensure_network(&self, network: &NetworkSpec) -> Result<()> {
        self.shared.inner.ensure_network(network).await
    }

    async fn remove_network(&self, name: &NetworkName) -> Result<()> {
        self.shared.inner.remove_network(name).await
    }

    /// The checks begin with the container, without waiting for an event.
    async fn run(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        let id = self.shared.inner.run(spec).await?;
        if spec.role == Role::Instance {
            self.shared.probe(&spec.name, &id, &spec.labels, Origin::Started);
        }
        Ok(id)
    }

    async fn run_to_end(&self, spec: &ContainerSpec, deadline: Duration) -> Result<Exit> {
        self.shared.inner.run_to_end(spec, deadline).await
    }

    async fn stop(&self, name: &ContainerName, grace: Duration) -> Result<()> {
        self.shared.inner.stop(name, grace).await
    }

    async fn list(&self) -> Result<Vec<Container>> {
        let mut containers = self.shared.look().await?;
        self.shared.first_answers().await;
        for container in &mut containers {
            self.shared.fill(container);
        }
        Ok(containers)
    }

    async fn usage(&self) -> Result<BTreeMap<ContainerName, Usage>> {
        self.shared.inner.usage().await
    }

    fn events(&self) -> BoxStream<'static, Result<RuntimeEvent>> {
        let changes = stream::unfold(self.shared.changes.subscribe(), |mut changes| async move {
            let event = match changes.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(_)) => RuntimeEvent::Resync,
                Err(RecvError::Closed) => std::future::pending().await,
            };
            Some((Ok(event), changes))
        });
        stream::select(self.shared.inner.events(), changes.boxed()).boxed()
    }

    async fn logs(&self, name: &ContainerName, tail: usize) -> Result<String> {
        self.shared.inner.logs(name, tail).await
    }
}
