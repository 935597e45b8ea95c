//! The simulated cluster: hosts, stores, and the processes that lead it, all of them the real ones in memory.

mod process;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::process::Process;
pub(super) use self::process::Waited;
use super::clock::SimClock;
use super::deploy::{Deployment, UNREADY_KNOWN};
use super::dice::Dice;
use super::host::{Ailment, Host};
use super::mutant::Mutant;
use super::trace::Trace;
use crate::error::{ErrorKind, valid};
use crate::memory::{
    Behaviour, MemoryAppStore, MemoryConnector, MemoryLeadership, MemoryLedgerStore,
    MemoryRegistry, Op,
};
use crate::model::{AppName, ClusterId, ContainerName, HostId, ImageRef, InstanceId};
use crate::orchestrator::Happened;
use crate::plan::ClusterSpec;
use crate::registry::HostRegistry as _;
use crate::runtime::Readiness;
use crate::store::AppStore as _;

/// How long a host's lease lasts.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// Time between two renewals.
const BEAT: Duration = Duration::from_secs(5);
/// Longest time until what happens on a host that is well is known and decided upon.
const DETECTION: Duration = Duration::from_secs(2);
/// Most hosts.
pub(super) const MOST_HOSTS: usize = 5;

#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) clock: Arc<SimClock>,
    pub(super) spec: ClusterSpec,
    pub(super) registry: MemoryRegistry,
    pub(super) connector: MemoryConnector,
    pub(super) apps: MemoryAppStore,
    pub(super) ledger: MemoryLedgerStore,
    pub(super) leadership: MemoryLeadership,
    pub(super) hosts: BTreeMap<HostId, Host>,
    /// The apps as they were deployed last.
    pub(super) wanted: BTreeMap<AppName, Deployment>,
    /// The drain times of each app since ever, and when they were deployed.
    pub(super) drains: BTreeMap<AppName, Vec<(Duration, Duration)>>,
    /// When an instance of each app last met a fault.
    pub(super) disturbed: BTreeMap<AppName, Duration>,
    /// Until when each app may have fewer ready instances for checks that were made to fail.
    pub(super) unready: BTreeMap<AppName, Duration>,
    pub(super) excuses: Excuses,
    pub(super) trace: Trace,
    /// What the loop said since it was judged last.
    pub(super) heard: Vec<Happened>,
    /// Instances that ended by themselves, when last: an event may tell of them later.
    pub(super) died: BTreeMap<(HostId, InstanceId), Duration>,
    /// What was deployed since the last step, in order.
    pub(super) deployed: Vec<Deployment>,
    /// What came of waiting for deployments since the last step.
    pub(super) waited: Vec<Waited>,
    /// Instances that ended by themselves, or hang, since the last step.
    pub(super) lost: Vec<Lost>,
    /// How long balancers take over a table.
    pub(super) apply: Duration,
    /// The newest version of each app since ever: a tag is one version for good.
    newest: BTreeMap<AppName, u32>,
    /// How containers of an image behave, for engines to come.
    behaviours: BTreeMap<String, (ImageRef, Behaviour)>,
    processes: Vec<Process>,
    started: u32,
    mutant: Option<Mutant>,
}

/// An instance that is not what it should be any more.
#[derive(Debug, Clone)]
pub(super) struct Lost {
    pub(super) id: InstanceId,
    pub(super) how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Died,
    Hangs,
    /// It hangs, and was not ready yet.
    NeverReady,
}

/// What the platform leans on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Registry,
    Apps,
    Ledger,
}

/// Until when something beside the hosts may be to blame.
#[derive(Debug, Default)]
pub(super) struct Excuses {
    /// The platform itself: no leader, no ledger, no registry.
    pub(super) platform: Duration,
    /// The registry failed, so that lost hosts were not believed to be.
    pub(super) registry: Duration,
    /// The apps cannot be read: whoever begins to lead waits for them.
    pub(super) apps: Duration,
    /// What was known of addresses was lost while not all hosts could be asked.
    pub(super) addresses: Duration,
    /// Whether the ledger that is saved may be older than what was done.
    pub(super) unsaved: Duration,
}

impl Cluster {
    /// So many hosts, and nothing on them yet.
    pub(super) fn new(hosts: u8, apply: Duration, mutant: Option<Mutant>) -> Self {
        let mut cluster = Self {
            clock: Arc::new(SimClock::new()),
            spec: ClusterSpec::new(valid(ClusterId::new("sim"))),
            registry: MemoryRegistry::new(),
            connector: MemoryConnector::new(),
            apps: MemoryAppStore::new(),
            ledger: MemoryLedgerStore::new(),
            leadership: MemoryLeadership::new(),
            hosts: BTreeMap::new(),
            wanted: BTreeMap::new(),
            drains: BTreeMap::new(),
            disturbed: BTreeMap::new(),
            unready: BTreeMap::new(),
            excuses: Excuses::default(),
            trace: Trace::default(),
            heard: Vec::new(),
            died: BTreeMap::new(),
            lost: Vec::new(),
            deployed: Vec::new(),
            waited: Vec::new(),
            apply,
            newest: BTreeMap::new(),
            behaviours: BTreeMap::new(),
            processes: Vec::new(),
            started: 0,
            mutant,
        };
        (0..hosts).for_each(|_| cluster.add_host());
        cluster
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    pub(super) fn say(&mut self, who: impl std::fmt::Display, what: impl std::fmt::Display) {
        self.trace.say(self.clock.elapsed(), who, what);
    }

    /// Another host, which registers with its first heartbeat.
    pub(super) fn add_host(&mut self) {
        let mut host = Host::new(self.hosts.len() as u8 + 1, self.apply);
        // Until it has registered, and is known.
        host.excuse(self.now() + BEAT + self.known_within());
        self.connector.insert(host.id().clone(), host.handle());
        let id = host.id().clone();
        self.hosts.insert(id.clone(), host);
        self.teach(&id);
    }

    /// Tells a new engine how images behave.
    fn teach(&self, id: &HostId) {
        let Some(host) = self.hosts.get(id) else { return };
        for (image, behaviour) in self.behaviours.values() {
            host.engine.behave_as(image, *behaviour);
        }
    }

    pub(super) async fn deploy(&mut self, deployment: Deployment) {
        let Deployment { app, staged, behaviour, elsewhere } = &deployment;
        let (name, image, behaviour) = (app.name.clone(), app.image.clone(), *behaviour);
        let text = format!(
            "deploy version {} ({behaviour:?}) of {}, surge {:?}, unavailable {}, drain {:?}{}",
            staged.version,
            staged.count,
            app.rollout_bounds().0,
            staged.unavailable,
            staged.drain,
            match (staged.everywhere, *elsewhere) {
                (true, true) => ", everywhere, at another path",
                (true, false) => ", everywhere",
                (false, true) => ", at another path",
                (false, false) => "",
            }
        );
        self.say(&name, text);
        self.behaviours.insert(image.to_string(), (image.clone(), behaviour));
        for host in self.hosts.values() {
            host.engine.behave_as(&image, behaviour);
        }
        self.deploy_by_platform(&name, app).await;
        let drain = (self.now(), staged.drain);
        self.drains.entry(name.clone()).or_default().push(drain);
        let newest = self.newest.entry(name.clone()).or_default();
        *newest = staged.version.max(*newest);
        self.deployed.push(deployment.clone());
        self.wanted.insert(name, deployment);
    }

    /// The next version of an app.
    pub(super) fn next_version(&self, name: &AppName) -> u32 {
        self.newest.get(name).map_or(1, |newest| newest + 1)
    }

    pub(super) async fn remove(&mut self, name: &AppName) {
        self.say(name, "remove");
        valid(self.apps.remove(name).await);
        self.wanted.remove(name);
    }

    /// What was known of addresses may be lost: while a host cannot be asked nobody can tell what runs there.
    pub(super) fn doubt_addresses(&mut self) {
        let now = self.now();
        self.excuses.platform = self.excuses.platform.max(now + Duration::from_secs(150));
        if self.hosts.values().any(|h| h.excused > now) {
            self.excuses.addresses = Duration::MAX;
        }
    }

    /// A host begins to ail.
    pub(super) fn ail(&mut self, id: &HostId, ailment: Ailment, until: Duration, dice: &mut Dice) {
        self.say(id, format!("{ailment:?} until {:.1}", until.as_secs_f64()));
        if ailment.is_down() {
            self.disturb_all(id);
        }
        let (now, links) = (self.now(), self.connector.clone());
        if let Some(host) = self.hosts.get_mut(id) {
            host.ail(ailment, until, dice, &links);
            host.suffer(now);
        }
    }

    pub(super) fn recover(&mut self, id: &HostId) {
        self.say(id, "is well");
        self.bury();
        let links = self.connector.clone();
        if let Some(host) = self.hosts.get_mut(id) {
            host.recover(&links);
        }
        self.teach(id);
    }

    /// What happens by itself: leases are renewed, ailments end, and their marks are noted.
    pub(super) async fn beat(&mut self) {
        let now = self.now();
        for host in self.hosts.values_mut() {
            host.suffer(now);
        }
        let over = |h: &&Host| h.ailment.is_some_and(|(_, until)| until <= now);
        let over: Vec<HostId> = self.hosts.values().filter(over).map(|h| h.id().clone()).collect();
        for id in over {
            self.recover(&id);
        }
        for host in self.hosts.values_mut() {
            if host.beat <= now && !host.is(Ailment::is_silent) {
                host.beat = now + BEAT;
                // A registry that fails is told again.
                drop(self.registry.announce(&host.facts, LEASE).await);
            }
        }
        self.bury();
        self.hear();
    }

    /// Notes who ended by themselves.
    fn bury(&mut self) {
        let now = self.clock.elapsed();
        for (host, h) in &self.hosts {
            for name in h.engine.take_died() {
                let Some(id) = InstanceId::from_container_name(&self.spec.id, &name) else {
                    continue;
                };
                self.died.insert((host.clone(), id.clone()), now);
                self.lost.push(Lost { id, how: How::Died });
            }
        }
    }

    /// Checks of an instance fail until then.
    pub(super) fn unready(&mut self, host: &HostId, name: &ContainerName, until: Duration) {
        self.disturb(name);
        self.hosts[host].engine.set_ready(name, Readiness::NotReady("it is busy".into()));
        if let Some(id) = InstanceId::from_container_name(&self.spec.id, name) {
            let known = self.unready.entry(id.app).or_default();
            *known = (*known).max(until + UNREADY_KNOWN + DETECTION + 2 * self.apply);
        }
    }

    /// An instance runs on and answers nobody.
    pub(super) fn hang(&mut self, host: &HostId, name: &ContainerName) {
        self.disturb(name);
        let mut how = How::NeverReady;
        self.hosts[host].engine.each(|held| {
            if held.name == name && held.ready {
                how = How::Hangs;
            }
        });
        self.hosts[host].engine.pause(name);
        let id = InstanceId::from_container_name(&self.spec.id, name);
        self.lost.extend(id.map(|id| Lost { id, how }));
    }

    /// An instance meets a fault: its app may be weaker for it.
    pub(super) fn disturb(&mut self, name: &ContainerName) {
        if let Some(id) = InstanceId::from_container_name(&self.spec.id, name) {
            self.disturbed.insert(id.app, self.clock.elapsed());
        }
    }

    /// Longest time between something happening on hosts that are well and all balancers acting upon it: half a
    /// second between two looks of a busy observer, a pass, and a balancer that ends with the table before and
    /// then puts this one in force.
    pub(super) fn known_within(&self) -> Duration {
        DETECTION + 2 * self.apply
    }

    /// Until when a fault of single instances of the app may be felt that is no loss of them.
    pub(super) fn disturbed_until(&self, app: &AppName) -> Duration {
        self.unready.get(app).copied().unwrap_or_default()
    }

    pub(super) fn disturb_all(&mut self, id: &HostId) {
        let mut names = Vec::new();
        if let Some(host) = self.hosts.get(id) {
            host.engine.each(|held| names.push(held.name.clone()));
        }
        for name in &names {
            self.disturb(name);
        }
    }

    /// Stores that fail from now on, and until when.
    pub(super) fn fail_ledger(&mut self, delay: Option<Duration>) {
        let faults = self.ledger.faults();
        match delay {
            Some(delay) => faults.delay(Op::Save, delay),
            None => faults.fail(Op::Save, ErrorKind::Unavailable),
        }
    }

    /// It is well again.
    pub(super) fn mend(&mut self, part: Part) {
        match part {
            Part::Registry => {
                self.registry.faults().clear();
                self.registry.heal();
            }
            Part::Apps => self.apps.heal(),
            Part::Ledger => self.ledger.faults().clear(),
        }
    }
}
