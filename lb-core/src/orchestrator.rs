//! The loop: observe, plan, act, again and again, level-triggered.
//!
//! ```text
//! registry, apps ----.                                       .---- ledger store
//! host observers -----> inbox -> pass: World -> plan -> actions, one task each, per host
//! load sampler ------'     ^                                 |
//!                          '------- what ended --------------'
//! ```
//!
//! There is no policy here: every decision is the planner's. The loop keeps what the planner sees fresh,
//! does what it asks in order and within bounds, and never lets one host wait for another.

mod act;
mod builder;
mod deployment;
mod events;
mod fetch;
mod inbox;
mod keeper;
mod link;
mod meter;
mod observe;
mod pass;
mod planner;
mod policy;
mod reign;
mod sampler;
mod stage;
mod status;
mod tell;
mod ticker;
mod trust;
mod watch;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::builder::Parts;
pub use self::builder::{Builder, Deadlines, LoopSettings};
pub use self::deployment::{Deployment, Removal, Served};
use self::events::Events;
pub use self::events::{Event, Happened};
use self::link::{bounded, bounded_store};
#[cfg(feature = "sim")]
pub(crate) use self::planner::Planner;
use self::status::Snapshot;
pub use self::status::{
    AppStatus, HostStatus, InstanceStatus, ListenerStatus, RoutingStatus, Status,
};
use self::ticker::Ticker;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{App, AppName, AppSpec, FileName, HostId, InstanceId, Replicas};
use crate::plan::{ClusterSpec, Plan, RegistryTrust, World};
use crate::store::{AppChange, Standing};

/// Requests to the loop that may wait; more wait at the caller.
const REQUESTS: usize = 16;

/// A handle to a running loop. Clones are cheap and share one loop.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// use lb_core::{App, ClusterSpec, HostFacts, HostHandle, MemoryBalancer, MemoryRuntime, Orchestrator};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> lb_core::Result<()> {
/// // A host in memory; lb-docker, lb-haproxy and lb-local have real ones.
/// let host = HostHandle {
///     runtime: Arc::new(MemoryRuntime::new()),
///     balancer: Arc::new(MemoryBalancer::new()),
/// };
/// let facts = HostFacts::new("h1".parse()?, [127, 0, 0, 1]);
/// let platform = Orchestrator::builder(ClusterSpec::new("demo".parse()?))
///     .host(facts, host)
///     .start()
///     .await?;
/// let shop = App::from_toml(r#"
///     name = "shop"
///     image = "registry.example.org/shop:1.2"
///     replicas = 2
///     [ports.web]
///     container = 8080
///     outside = 80
/// "#)?;
/// let change = platform.deploy(&shop).await?;
/// change.served(Duration::from_secs(30)).await?; // clients of port 80 are answered, or why they are not
/// platform.shutdown().await;
/// # Ok(())
/// # }
/// ```
///
/// # Guarantees
/// - The apps go on serving when the loop ends, however it ends; the next one adopts what runs.
/// - Dropping the last handle ends the loop as [`shutdown`](Self::shutdown) does, without waiting for it.
/// - It acts only while it leads (see [`Leadership`](crate::Leadership)); as a follower it takes apps and
///   answers, and knows of no hosts.
#[derive(Debug, Clone)]
pub struct Orchestrator {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

/// What the handle and the loop share.
#[derive(Debug)]
struct Shared {
    parts: Parts,
    time: Arc<Ticker>,
    events: Events,
    snapshot: tokio::sync::watch::Sender<Arc<Snapshot>>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Changes of apps are made one at a time: some read what they change.
    changes: tokio::sync::Mutex<()>,
    /// The apps this process was asked to deploy.
    deploys: Mutex<BTreeSet<AppName>>,
}

impl Shared {
    /// Waits for what a further pass leaves.
    async fn next_pass(
        &self,
        news: &mut tokio::sync::watch::Receiver<Arc<Snapshot>>,
    ) -> Result<()> {
        tokio::select! {
            biased;
            Ok(()) = news.changed() => Ok(()),
            () = self.tasks.wait() => Err(ended("wait")),
        }
    }
}

/// What a handle asks of the loop.
enum Request {
    Preview(oneshot::Sender<Result<Plan>>),
    ConfirmGone(BTreeSet<HostId>, oneshot::Sender<Result<()>>),
}

impl Orchestrator {
    /// Puts one together for a cluster.
    pub fn builder(cluster: ClusterSpec) -> Builder {
        Builder::new(cluster)
    }

    fn spawn(parts: Parts) -> Self {
        let time = Arc::new(Ticker::new(parts.clock.clone()));
        let snapshot = Snapshot::empty(&parts.cluster, &time);
        let shared = Arc::new(Shared {
            parts,
            time,
            events: Events::new(),
            snapshot: tokio::sync::watch::Sender::new(Arc::new(snapshot)),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            changes: tokio::sync::Mutex::default(),
            deploys: Mutex::default(),
        });
        let (requests, asked) = mpsc::channel(REQUESTS);
        shared.tasks.spawn(reign::run(shared.clone(), asked));
        shared.tasks.close();
        Self { inner: Arc::new(Inner { shared, requests }) }
    }

    fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// Adds or replaces an app. Returns once it is stored; [`Deployment::served`] waits until its clients are
    /// served by it. Also an app that is deployed just so is deployed again: what its image's tag means is looked
    /// up, and a version that failed is tried again.
    ///
    /// # Errors
    /// `Conflict` naming the owner of a claimed port or route; `Unavailable` if the store fails.
    pub async fn deploy(&self, app: &App) -> Result<Deployment> {
        let shared = self.shared();
        shared.deploys.lock().unwrap_or_else(PoisonError::into_inner).insert(app.name.clone());
        let put = shared.parts.apps.put(app, AppChange::Deploy);
        let generation = self.change("deploy", &app.name, put).await?;
        Ok(Deployment::new(self.clone(), app.name.clone(), generation))
    }

    /// Removes an app and, in time, everything made for it; [`Removal::gone`] waits for that. Absent is success.
    ///
    /// # Errors
    /// `Unavailable` if the store fails.
    pub async fn remove(&self, name: &AppName) -> Result<Removal> {
        let remove = self.shared().parts.apps.remove(name);
        self.change("remove", name, remove).await?;
        Ok(Removal::new(self.clone(), name.clone()))
    }

    /// Sets an app's count by hand: stores it with exactly so many replicas. Its scaling rests until it is
    /// deployed with a range again. It is read before; that a [`deploy`](Self::deploy) through another
    /// orchestrator at the same moment is not overwritten, nobody promises.
    ///
    /// # Errors
    /// `NotFound` for an unknown app; `Invalid` for more than [`MAX_INSTANCES`](crate::MAX_INSTANCES); as
    /// [`deploy`](Self::deploy).
    pub async fn scale(&self, name: &AppName, count: u32) -> Result<Deployment> {
        let store = &self.shared().parts.apps;
        let scale = async {
            let none = || Error::new(ErrorKind::Unavailable, "read", "apps", "the store is silent");
            let apps = store.watch().next().await.ok_or_else(none)??;
            let absent = || {
                let subject = format!("app \"{name}\"");
                Error::new(ErrorKind::NotFound, "scale", subject, "must be deployed first")
            };
            let app = apps.get(name).ok_or_else(absent)?;
            let replicas = Replicas::fixed(count);
            let spec = AppSpec { replicas, ..AppSpec::from(App::clone(&app.app)) };
            let app = App::new(spec).map_err(|e| e.during("scale"))?;
            store.put(&app, AppChange::Adjust).await
        };
        let generation = self.change("scale", name, scale).await?;
        Ok(Deployment::new(self.clone(), name.clone(), generation))
    }

    /// Changes an app in its turn.
    async fn change<T>(
        &self,
        operation: &'static str,
        name: &AppName,
        change: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let shared = self.shared();
        let in_turn = async {
            let _turn = shared.changes.lock().await;
            change.await
        };
        let deadline = shared.parts.settings.deadlines.store;
        bounded_store(operation, &format!("app \"{name}\""), deadline, in_turn).await
    }

    /// Everything as the last pass left it.
    pub fn status(&self) -> Arc<Status> {
        self.shared().snapshot.borrow().status()
    }

    /// Waits until the status is as asked, and gives it.
    ///
    /// # Errors
    /// `Timeout` at the deadline, with what stands in the way; `Unavailable` if the loop ends before.
    pub async fn wait_for(
        &self,
        mut until: impl FnMut(&Status) -> bool,
        deadline: Duration,
    ) -> Result<Arc<Status>> {
        let mut news = self.shared().snapshot.subscribe();
        let wait = async {
            loop {
                let status = news.borrow_and_update().status();
                if until(&status) {
                    return Ok(status);
                }
                self.shared().next_pass(&mut news).await?;
            }
        };
        match tokio::time::timeout(deadline, wait).await {
            Ok(result) => result,
            Err(_) => Err(self.still_waiting(deadline)),
        }
    }

    fn still_waiting(&self, deadline: Duration) -> Error {
        let status = self.status();
        let reasons: Vec<_> = status.reasons.iter().map(|r| r.text.as_str()).collect();
        let text = format!("not within {deadline:?}; reasons: [{}]", reasons.join("; "));
        Error::new(ErrorKind::Timeout, "wait", "status", text)
    }

    /// What happens from now on. A reader that falls more than 1,024 events behind is told how many it
    /// missed ([`Happened::Missed`]) and goes on with the oldest kept. Ends with the loop.
    pub fn events(&self) -> BoxStream<'static, Event> {
        let ended = self.shared().tasks.clone();
        self.shared().events.listen().take_until(async move { ended.wait().await }).boxed()
    }

    /// What the next pass would do and why, without doing it.
    ///
    /// # Errors
    /// `Unavailable` while this process does not lead or has not yet seen apps and hosts.
    pub async fn preview(&self) -> Result<Plan> {
        self.ask("preview", Request::Preview).await
    }

    /// An operator's word that hosts are gone for good, though the registry is not believed: their
    /// instances are replaced elsewhere. A host that registers again is a member again.
    ///
    /// # Errors
    /// `Unavailable` while this process does not lead.
    pub async fn confirm_hosts_gone(&self, hosts: BTreeSet<HostId>) -> Result<()> {
        self.ask("confirm", |reply| Request::ConfirmGone(hosts, reply)).await
    }

    async fn ask<T>(
        &self,
        operation: &'static str,
        request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let sent = self.inner.requests.send(request(reply)).await;
        sent.map_err(|_| ended(operation))?;
        answer.await.map_err(|_| ended(operation))?
    }

    /// The files a host's balancer has in force, by name, without private keys and secrets.
    ///
    /// # Errors
    /// `NotFound` for a host this process does not know; `Unavailable` when the balancer does not answer.
    pub async fn files(&self, host: &HostId) -> Result<BTreeMap<FileName, String>> {
        let link = self.link("read files of", host)?;
        let deadline = self.shared().parts.settings.deadlines.apply;
        bounded("read files", host, deadline, link.handle.balancer.files()).await
    }

    /// The last `tail` lines an instance wrote.
    ///
    /// # Errors
    /// `NotFound` for an instance that is not there; `Unavailable` when its host does not answer.
    pub async fn logs(&self, id: &InstanceId, tail: usize) -> Result<String> {
        let status = self.status();
        let instances = status.apps.get(&id.app).map(|app| app.instances.as_slice());
        let found = instances.unwrap_or_default().iter().find(|i| i.id == *id);
        let absent = || {
            let subject = format!("instance \"{id}\"");
            Error::new(ErrorKind::NotFound, "read logs of", subject, "must be one of the status")
        };
        let host = &found.ok_or_else(absent)?.host;
        let link = self.link("read logs on", host)?;
        let name = id.container_name(&status.cluster);
        let deadline = self.shared().parts.settings.deadlines.list;
        bounded("read logs", host, deadline, link.handle.runtime.logs(&name, tail)).await
    }

    fn link(&self, operation: &'static str, host: &HostId) -> Result<Arc<link::Link>> {
        let links = self.shared().snapshot.borrow().links.clone();
        links.get(host).cloned().ok_or_else(|| {
            let subject = format!("host \"{host}\"");
            Error::new(ErrorKind::NotFound, operation, subject, "must be registered")
        })
    }

    /// Ends the loop: nothing new begins, actions in flight end (at most
    /// [`LoopSettings::shutdown`] is waited), the ledger is saved. The apps go on serving.
    pub async fn shutdown(&self) {
        self.shared().stop.cancel();
        self.shared().tasks.wait().await;
    }
}

fn ended(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, operation, "orchestrator", "the loop has ended")
}

impl Snapshot {
    /// Before the first pass.
    fn empty(cluster: &Arc<ClusterSpec>, time: &Ticker) -> Self {
        Self {
            at: time.now(),
            standing: Standing::Follower,
            world: World {
                cluster: cluster.clone(),
                apps: BTreeMap::new(),
                hosts: BTreeMap::new(),
                registry: RegistryTrust::Answers,
            },
            ledgers: BTreeMap::new(),
            host_ledgers: BTreeMap::new(),
            links: Arc::default(),
            errors: BTreeMap::new(),
            doubted: BTreeSet::new(),
            reasons: Vec::new(),
            troubles: BTreeMap::new(),
            in_flight: 0,
            passes: 0,
            last_pass: Duration::ZERO,
            status: OnceLock::new(),
        }
    }
}
