//! The simulated cluster: hosts, stores, and the processes that lead it, all of them the real ones in memory.

mod process;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::process::Process;
use super::clock::SimClock;
use super::deploy::Deployment;
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
use crate::plan::ClusterSpec;
use crate::registry::HostRegistry as _;
use crate::store::{AppChange, AppStore as _};

/// How long a host's lease lasts.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// Time between two renewals.
const BEAT: Duration = Duration::from_secs(5);
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
    pub(super) excuses: Excuses,
    pub(super) trace: Trace,
    /// For each thing the loop said, whether no cluster should hear it, and why.
    pub(super) heard: Vec<Option<String>>,
    /// How containers of an image behave, for engines to come.
    behaviours: BTreeMap<String, (ImageRef, Behaviour)>,
    processes: Vec<Process>,
    started: u32,
    mutant: Option<Mutant>,
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
    pub(super) fn new(hosts: u8, mutant: Option<Mutant>) -> Self {
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
            excuses: Excuses::default(),
            trace: Trace::default(),
            heard: Vec::new(),
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
        let host = Host::new(self.hosts.len() as u8 + 1);
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
        let Deployment { app, staged, behaviour } = &deployment;
        let (name, image, behaviour) = (app.name.clone(), app.image.clone(), *behaviour);
        let text = format!(
            "deploy version {} ({behaviour:?}) of {}, surge {:?}, unavailable {}, drain {:?}{}",
            staged.version,
            staged.count,
            app.rollout_bounds().0,
            staged.unavailable,
            staged.drain,
            if staged.everywhere { ", everywhere" } else { "" }
        );
        self.say(&name, text);
        self.behaviours.insert(image.to_string(), (image.clone(), behaviour));
        for host in self.hosts.values() {
            host.engine.behave_as(&image, behaviour);
        }
        valid(self.apps.put(app, AppChange::Deploy).await);
        let drain = (self.now(), staged.drain);
        self.drains.entry(name.clone()).or_default().push(drain);
        self.wanted.insert(name, deployment);
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
        self.hear();
    }

    /// An instance meets a fault: its app may be weaker for it.
    pub(super) fn disturb(&mut self, name: &ContainerName) {
        if let Some(id) = InstanceId::from_container_name(&self.spec.id, name) {
            self.disturbed.insert(id.app, self.clock.elapsed());
        }
    }

    fn disturb_all(&mut self, id: &HostId) {
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
