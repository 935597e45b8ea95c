//! A container engine in memory for one cluster on one host.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use ipnet::Ipv4Net;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::engine::{Behaviour, Engine, News, Owner, Started, Work, tagged};
use super::lies::Lies;
use super::{Faults, Op, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::keyed::Keyed;
use crate::model::{ByteSize, ContainerName, ImageDigest, ImageRef, NetworkName, RegistryAuth};
use crate::runtime::{
    Container, ContainerId, ContainerRuntime, ContainerSpec, EngineInfo, Exit, NetworkSpec,
    Progress, Readiness, RuntimeEvent, Usage,
};
use crate::time::{Clock, Now, SystemClock};

/// Events kept for a slow listener; beyond them it hears `Resync`.
pub const EVENTS_KEPT: usize = 256;
/// Longest a mutating call may take, delays asked for included.
const CALL_DEADLINE: Duration = Duration::from_secs(60);

/// A [`ContainerRuntime`] in memory. Clones are the same cluster on the same engine.
///
/// Any image exists, and a container is ready as soon as it runs, unless a test says otherwise.
#[derive(Debug, Clone)]
pub struct MemoryRuntime {
    pub(super) shared: Arc<Shared>,
    pub(super) owner: Owner,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) engine: Mutex<Engine>,
    pub(super) lies: Mutex<Lies>,
    behaviours: Mutex<Behaviours>,
    exits: Mutex<VecDeque<Exit>>,
    events: broadcast::Sender<News>,
    keyed: Keyed<String>,
    faults: Faults,
    /// How long a container that was stopped is there before it is removed.
    pub(super) removal: Mutex<Duration>,
    clock: SystemClock,
    began: Now,
}

#[derive(Debug)]
struct Behaviours {
    of_all: Behaviour,
    of_images: BTreeMap<String, Behaviour>,
}

impl Default for MemoryRuntime {
    fn default() -> Self {
        Self::new()
    }
}

/// What a test asks of the engine.
impl MemoryRuntime {
    /// An empty engine.
    pub fn new() -> Self {
        let clock = SystemClock::new();
        let shared = Shared {
            engine: Mutex::default(),
            lies: Mutex::default(),
            behaviours: Mutex::new(Behaviours {
                of_all: Behaviour::ReadyAfter(Duration::ZERO),
                of_images: BTreeMap::new(),
            }),
            exits: Mutex::default(),
            events: broadcast::channel(EVENTS_KEPT).0,
            keyed: Keyed::default(),
            faults: Faults::default(),
            removal: Mutex::default(),
            began: clock.now(),
            clock,
        };
        Self { shared: Arc::new(shared), owner: 0 }
    }

    /// A runtime of another cluster on the same engine.
    #[must_use]
    pub fn beside(&self) -> Self {
        let owner = self.shared.with(|engine| {
            engine.owners += 1;
            engine.owners
        });
        Self { shared: self.shared.clone(), owner }
    }

    /// The faults of its calls.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// What containers started from now on do.
    pub fn behave(&self, behaviour: Behaviour) {
        lock(&self.shared.behaviours).of_all = behaviour;
    }

    /// The same for containers of one image: of its digest where it has one, else of its tag.
    pub fn behave_as(&self, image: &ImageRef, behaviour: Behaviour) {
        lock(&self.shared.behaviours).of_images.insert(behaviour_key(image), behaviour);
    }

    /// From now on only published images exist; this tag leads to this digest.
    pub fn publish_image(&self, image: &ImageRef, digest: ImageDigest) {
        let mut engine = lock(&self.shared.engine);
        engine.registry.get_or_insert_default().insert(tagged(image), digest);
    }

    /// Pins a container's readiness, whatever it does.
    pub fn set_ready(&self, name: &ContainerName, readiness: Readiness) {
        self.shared.with(|engine| engine.pin(name, readiness));
    }

    /// Ends [`set_ready`](Self::set_ready): the container's readiness is its own again.
    pub fn unset_ready(&self, name: &ContainerName) {
        self.shared.with(|engine| engine.unpin(name));
    }

    /// Ends a running container as SIGKILL does. One that restarts always runs again at once.
    ///
    /// # Errors
    /// `NotFound` when no container of this name runs.
    pub fn kill(&self, name: &ContainerName) -> Result<()> {
        self.end(name, &ended(137))
    }

    /// Ends a running container with this exit.
    ///
    /// # Errors
    /// `NotFound` when no container of this name runs.
    pub fn end(&self, name: &ContainerName, exit: &Exit) -> Result<()> {
        match self.shared.with(|engine| engine.end(name, exit)) {
            true => Ok(()),
            false => Err(absent("end", name)),
        }
    }

    /// The engine restarts without live restore: running containers end, those that restart always run
    /// again, and listeners hear `Resync`.
    pub fn restart(&self) {
        self.shared.with(|engine| {
            for name in engine.names() {
                engine.end(&name, &ended(137));
            }
            engine.news = vec![News { to: None, event: RuntimeEvent::Resync }];
        });
    }

    /// Makes a container and does not start it, as a caller that died between the two would.
    ///
    /// # Errors
    /// As [`run`](ContainerRuntime::run).
    pub fn make_only(&self, spec: &ContainerSpec) -> Result<()> {
        self.shared.with(|engine| engine.make(self.owner, spec))
    }

    /// Listeners hear this event, true or not.
    pub fn emit(&self, event: RuntimeEvent) {
        let _ = self.shared.events.send(News { to: Some(self.owner), event });
    }

    /// The next `run_to_end` ends so instead of with code 0.
    pub fn next_exit(&self, exit: Exit) {
        lock(&self.shared.exits).push_back(exit);
    }

    /// A container of somebody else bears this name.
    pub fn hold_name(&self, name: ContainerName) {
        lock(&self.shared.engine).foreign_names.insert(name);
    }

    /// A network or route of somebody else covers this subnet.
    pub fn hold_subnet(&self, subnet: Ipv4Net) {
        lock(&self.shared.engine).foreign_subnets.push(subnet);
    }

    /// A process of somebody else is bound to this port of the host, on every address.
    pub fn hold_port(&self, port: u16) {
        lock(&self.shared.engine).foreign_ports.insert(port);
    }

    /// From now on a container uses so many CPUs and so much memory.
    pub fn set_usage(&self, name: &ContainerName, cpus: f64, memory: ByteSize) {
        let now = self.shared.clock.now().monotonic;
        if let Some(work) = lock(&self.shared.engine).work_of(name) {
            work.cpu = work.cpu_at(now);
            (work.since, work.rate, work.memory) = (now, cpus.max(0.0), memory);
        }
    }
}

fn ended(code: i64) -> Exit {
    Exit { code, out_of_memory: false, output: String::new() }
}

fn behaviour_key(image: &ImageRef) -> String {
    image.digest().map_or_else(|| tagged(image), ToString::to_string)
}

fn absent(operation: &'static str, name: &ContainerName) -> Error {
    let subject = format!("container \"{name}\"");
    Error::new(ErrorKind::NotFound, operation, subject, "must exist and run")
}

impl Behaviours {
    fn of(&self, image: &ImageRef) -> Behaviour {
        let by_digest = self.of_images.get(&behaviour_key(image));
        let by_tag = || self.of_images.get(&tagged(image));
        by_digest.or_else(by_tag).copied().unwrap_or(self.of_all)
    }
}

impl Shared {
    /// Changes the engine and tells listeners what came of it, in order.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Engine) -> T) -> T {
        let mut engine = lock(&self.engine);
        let result = change(&mut engine);
        #[cfg(feature = "sim")]
        {
            engine.changes += 1;
        }
        let deaf = lock(&self.lies).loses_events;
        for news in std::mem::take(&mut engine.news).into_iter().filter(|_| !deaf) {
            let _ = self.events.send(news);
        }
        result
    }

    fn run(self: &Arc<Self>, owner: Owner, spec: &ContainerSpec) -> Result<ContainerId> {
        let (id, started) = self.with(|engine| engine.run(owner, spec))?;
        if started == Started::Now {
            self.follow(spec, &id);
        }
        Ok(id)
    }

    /// Does what the behaviour says, now or later.
    fn follow(self: &Arc<Self>, spec: &ContainerSpec, id: &ContainerId) {
        let behaviour = lock(&self.behaviours).of(&spec.image);
        let (after, exits) = match behaviour {
            Behaviour::NeverReady => return,
            Behaviour::Unasked => {
                return self.with(|engine| engine.settle(&spec.name, Readiness::Unknown));
            }
            Behaviour::ReadyAfter(after) => (after, false),
            Behaviour::ExitsAfter(after) => (after, true),
        };
        let (name, id, shared) = (spec.name.clone(), id.clone(), Arc::downgrade(self));
        if after.is_zero() && !exits {
            return self.with(|engine| engine.settle(&name, Readiness::Ready));
        }
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            mature(&shared, &name, &id, exits);
        });
    }

    fn wall(&self, now: Now) -> jiff::Timestamp {
        self.began.wall + now.since(self.began.monotonic)
    }

    fn usage(&self, owner: Owner) -> BTreeMap<ContainerName, Usage> {
        let now = self.clock.now();
        let at = self.wall(now);
        let engine = lock(&self.engine);
        let usage = |work: Work| Usage { at, cpu: work.cpu_at(now.monotonic), memory: work.memory };
        engine.running(owner).map(|(name, work)| (name.clone(), usage(work))).collect()
    }

    /// One mutating call: on a task of its own, one per key at a time, bounded.
    async fn mutate<T: Send + 'static>(
        self: &Arc<Self>,
        op: Op,
        operation: &'static str,
        key: String,
        work: impl FnOnce(&Arc<Self>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (shared, subject) = (self.clone(), key.clone());
        let call = async move { shared.faults.call(op, &subject, || work(&shared)).await };
        self.keyed.run(key, operation, CALL_DEADLINE, call).await
    }
}

/// The time a behaviour set has come; nothing if the container is another by now.
fn mature(shared: &Weak<Shared>, name: &ContainerName, id: &ContainerId, exits: bool) {
    let Some(shared) = shared.upgrade() else { return };
    shared.with(|engine| {
        if !engine.still_runs(name, id) {
            return;
        }
        match exits {
            true => {
                engine.end(name, &ended(1));
            }
            false => engine.settle(name, Readiness::Ready),
        }
    });
}

#[async_trait]
impl ContainerRuntime for MemoryRuntime {
    async fn describe(&self) -> Result<EngineInfo> {
        let info = EngineInfo {
            name: "memory".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            addresses: true,
            limits: false,
        };
        self.shared.faults.call(Op::Describe, "engine", || Ok(info)).await
    }

    async fn ensure_image(
        &self,
        image: &ImageRef,
        _auth: Option<&RegistryAuth>,
        _progress: &dyn Progress,
    ) -> Result<ImageDigest> {
        let wanted = image.clone();
        let work = move |s: &Arc<Shared>| s.with(|engine| engine.ensure_image(&wanted));
        self.shared.mutate(Op::EnsureImage, "pull", format!("image {image}"), work).await
    }

    async fn ensure_network(&self, network: &NetworkSpec) -> Result<()> {
        let (owner, spec) = (self.owner, network.clone());
        let key = format!("network \"{}\"", network.name);
        let work = move |s: &Arc<Shared>| s.with(|engine| engine.ensure_network(owner, &spec));
        self.shared.mutate(Op::EnsureNetwork, "make", key, work).await
    }

    async fn remove_network(&self, name: &NetworkName) -> Result<()> {
        let (key, name, owner) = (format!("network \"{name}\""), name.clone(), self.owner);
        let work = move |s: &Arc<Shared>| s.with(|engine| engine.remove_network(owner, &name));
        self.shared.mutate(Op::RemoveNetwork, "remove", key, work).await
    }

    async fn run(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        let (key, spec, owner) = (container_key(&spec.name), spec.clone(), self.owner);
        self.shared.mutate(Op::Run, "run", key, move |s| s.run(owner, &spec)).await
    }

    async fn run_to_end(&self, spec: &ContainerSpec, _deadline: Duration) -> Result<Exit> {
        let (key, spec, owner) = (container_key(&spec.name), spec.clone(), self.owner);
        let work = move |s: &Arc<Shared>| {
            s.with(|engine| engine.admit_checker(owner, &spec))?;
            Ok(lock(&s.exits).pop_front().unwrap_or_else(|| ended(0)))
        };
        self.shared.mutate(Op::RunToEnd, "run", key, work).await
    }

    async fn stop(&self, name: &ContainerName, _grace: Duration) -> Result<()> {
        let (key, name, owner) = (container_key(name), name.clone(), self.owner);
        let (shared, subject) = (self.shared.clone(), key.clone());
        let call = async move {
            let work = async {
                let removal = *lock(&shared.removal);
                if !removal.is_zero() {
                    shared.with(|engine| engine.end_to_stop(owner, &name));
                    tokio::time::sleep(removal).await;
                }
                shared.with(|engine| engine.stop(owner, &name))
            };
            shared.faults.around(Op::Stop, &subject, work).await
        };
        self.shared.keyed.run(key, "stop", CALL_DEADLINE, call).await
    }

    async fn list(&self) -> Result<Vec<Container>> {
        let list = || {
            let stale = lock(&self.shared.lies).listing.clone();
            Ok(stale.unwrap_or_else(|| lock(&self.shared.engine).list(self.owner)))
        };
        self.shared.faults.call(Op::List, "containers", list).await
    }

    async fn usage(&self) -> Result<BTreeMap<ContainerName, Usage>> {
        self.shared.faults.call(Op::Usage, "containers", || Ok(self.shared.usage(self.owner))).await
    }

    fn events(&self) -> BoxStream<'static, Result<RuntimeEvent>> {
        let hearer = (self.shared.events.subscribe(), self.owner);
        stream::unfold(hearer, |(mut receiver, owner)| async move {
            let event = loop {
                match receiver.recv().await {
                    Ok(News { to, event }) if to.is_none_or(|to| to == owner) => break event,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => break RuntimeEvent::Resync,
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            };
            Some((Ok(event), (receiver, owner)))
        })
        .boxed()
    }

    async fn logs(&self, name: &ContainerName, tail: usize) -> Result<String> {
        let logs = || {
            let written = lock(&self.shared.engine).written(self.owner, name, tail);
            written.ok_or_else(|| absent("read logs of", name))
        };
        self.shared.faults.call(Op::Logs, &container_key(name), logs).await
    }
}

fn container_key(name: &ContainerName) -> String {
    format!("container \"{name}\"")
}
