//! How an orchestrator is put together, and its settings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Orchestrator;
use super::planner::Planner;
use crate::error::{Error, Result};
use crate::host::{HostConnector, HostHandle};
use crate::memory::{
    MemoryAppStore, MemoryConnector, MemoryLeadership, MemoryLedgerStore, MemoryLoadStore,
    MemoryRegistry,
};
use crate::model::{HostFacts, PolicyName};
use crate::plan::ClusterSpec;
use crate::registry::HostRegistry;
use crate::scale::ScalePolicy;
use crate::store::{AppStore, Generation, Leadership, LedgerStore, LoadStore};
use crate::time::{Clock, SystemClock};

/// What an interval or a deadline may be.
const TIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
/// Most actions of a kind going on at once on one host.
const MOST_AT_ONCE: usize = 4096;

/// Bounds and intervals of the loop. The defaults suit production.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopSettings {
    /// Longest time between two looks at a quiet host; each wait is 70 to 100 % of it. Default 10 s.
    pub resync: Duration,
    /// Time between two looks at a host the planner waits for, such as for a drain's end. Default 150 ms.
    pub drain_poll: Duration,
    /// Time between two load samples. Default 5 s.
    pub sample: Duration,
    /// How long a host's lease lasts: the window in which many lost hosts are not believed, and the lease
    /// of static hosts. Default 15 s.
    pub lease: Duration,
    /// Starts (and image fetches) going on at once on one host. Default 8.
    pub starts_per_host: usize,
    /// Stops going on at once on one host. Default 16.
    pub stops_per_host: usize,
    /// Longest wait for actions in flight when the orchestrator stops. Default 30 s.
    pub shutdown: Duration,
    /// How long calls may take.
    pub deadlines: Deadlines,
}

/// How long the loop waits for a call before it counts as failed. Backends have deadlines of their own;
/// these only keep the loop from waiting for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlines {
    /// Listing containers. Default 5 s.
    pub list: Duration,
    /// Asking a balancer for its traffic. Default 2 s.
    pub traffic: Duration,
    /// Reading usage counters. Default 20 s.
    pub usage: Duration,
    /// Fetching an image. Default 10 min.
    pub image: Duration,
    /// Making or removing a network. Default 30 s.
    pub network: Duration,
    /// Making and starting a container. Default 1 min.
    pub run: Duration,
    /// Stopping a container, beyond its grace. Default 30 s.
    pub stop: Duration,
    /// Putting a table in force, or ending a balancer. Default 30 s.
    pub apply: Duration,
    /// Reading or writing a store. Default 5 s.
    pub store: Duration,
}

impl Default for LoopSettings {
    fn default() -> Self {
        Self {
            resync: Duration::from_secs(10),
            drain_poll: Duration::from_millis(150),
            sample: Duration::from_secs(5),
            lease: Duration::from_secs(15),
            starts_per_host: 8,
            stops_per_host: 16,
            shutdown: Duration::from_secs(30),
            deadlines: Deadlines::default(),
        }
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            list: Duration::from_secs(5),
            traffic: Duration::from_secs(2),
            usage: Duration::from_secs(20),
            image: Duration::from_secs(600),
            network: Duration::from_secs(30),
            run: Duration::from_secs(60),
            stop: Duration::from_secs(30),
            apply: Duration::from_secs(30),
            store: Duration::from_secs(5),
        }
    }
}

impl LoopSettings {
    /// Rules of the fields.
    ///
    /// # Errors
    /// `Invalid` naming the field.
    pub fn check(&self) -> Result<()> {
        let wrong =
            |field: &str, rule: &str| Err(Error::invalid(format!("settings: {field}"), rule));
        let times = [
            ("resync", self.resync),
            ("drain_poll", self.drain_poll),
            ("sample", self.sample),
            ("lease", self.lease),
        ];
        let mut times = times.into_iter().chain(self.deadlines.all());
        if let Some((field, _)) = times.find(|(_, time)| !TIMES.contains(time)) {
            return wrong(field, "must be 1ms to 24h");
        }
        if self.shutdown > *TIMES.end() {
            return wrong("shutdown", "must be at most 24h");
        }
        let each =
            [("starts_per_host", self.starts_per_host), ("stops_per_host", self.stops_per_host)];
        match each.iter().find(|(_, most)| !(1..=MOST_AT_ONCE).contains(most)) {
            Some((field, _)) => wrong(field, &format!("must be 1 to {MOST_AT_ONCE}")),
            None => Ok(()),
        }
    }
}

impl Deadlines {
    const fn all(&self) -> [(&'static str, Duration); 9] {
        [
            ("deadlines.list", self.list),
            ("deadlines.traffic", self.traffic),
            ("deadlines.usage", self.usage),
            ("deadlines.image", self.image),
            ("deadlines.network", self.network),
            ("deadlines.run", self.run),
            ("deadlines.stop", self.stop),
            ("deadlines.apply", self.apply),
            ("deadlines.store", self.store),
        ]
    }
}

/// Puts an [`Orchestrator`] together. Everything has a default in memory; without hosts nothing runs.
#[derive(Debug)]
pub struct Builder {
    pub(super) cluster: ClusterSpec,
    pub(super) settings: LoopSettings,
    pub(super) statics: Vec<StaticHost>,
    pub(super) registry: Option<Arc<dyn HostRegistry>>,
    pub(super) connector: Option<Arc<dyn HostConnector>>,
    pub(super) apps: Option<Arc<dyn AppStore>>,
    pub(super) ledger: Option<Arc<dyn LedgerStore>>,
    pub(super) load: Option<Arc<dyn LoadStore>>,
    pub(super) leadership: Option<Arc<dyn Leadership>>,
    pub(super) policies: BTreeMap<PolicyName, Arc<dyn ScalePolicy>>,
    pub(super) clock: Option<Arc<dyn Clock>>,
    pub(super) planner: Planner,
}

/// A host that is given rather than found.
#[derive(Debug, Clone)]
pub(super) struct StaticHost {
    pub(super) facts: HostFacts,
    pub(super) handle: HostHandle,
}

/// Everything an orchestrator works with.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) cluster: Arc<ClusterSpec>,
    pub(super) settings: Arc<LoopSettings>,
    pub(super) statics: Vec<HostFacts>,
    pub(super) registry: Arc<dyn HostRegistry>,
    pub(super) connector: Arc<dyn HostConnector>,
    pub(super) apps: Arc<dyn AppStore>,
    pub(super) ledger: Arc<dyn LedgerStore>,
    pub(super) load: Arc<dyn LoadStore>,
    pub(super) leadership: Arc<dyn Leadership>,
    pub(super) policies: BTreeMap<PolicyName, Arc<dyn ScalePolicy>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) planner: Planner,
}

impl Builder {
    pub(super) fn new(cluster: ClusterSpec) -> Self {
        Self {
            cluster,
            settings: LoopSettings::default(),
            statics: Vec::new(),
            registry: None,
            connector: None,
            apps: None,
            ledger: None,
            load: None,
            leadership: None,
            policies: BTreeMap::new(),
            clock: None,
            planner: Planner::default(),
        }
    }

    /// Adds a host that needs no discovery: it is announced in the registry for as long as the
    /// orchestrator runs and reached by `handle`. Not together with [`connector`](Self::connector).
    #[must_use]
    pub fn host(mut self, facts: HostFacts, handle: HostHandle) -> Self {
        self.statics.push(StaticHost { facts, handle });
        self
    }

    /// Where hosts register. Default: in memory, with the given hosts.
    #[must_use]
    pub fn registry(mut self, registry: Arc<dyn HostRegistry>) -> Self {
        self.registry = Some(registry);
        self
    }

    /// How registered hosts are reached. Default: the given hosts only.
    #[must_use]
    pub fn connector(mut self, connector: Arc<dyn HostConnector>) -> Self {
        self.connector = Some(connector);
        self
    }

    /// Where the desired apps are kept. Default: in memory.
    #[must_use]
    pub fn apps(mut self, apps: Arc<dyn AppStore>) -> Self {
        self.apps = Some(apps);
        self
    }

    /// Where the planner's ledger is kept. Default: in memory.
    #[must_use]
    pub fn ledger(mut self, ledger: Arc<dyn LedgerStore>) -> Self {
        self.ledger = Some(ledger);
        self
    }

    /// Where measurements are kept. Default: in memory.
    #[must_use]
    pub fn load(mut self, load: Arc<dyn LoadStore>) -> Self {
        self.load = Some(load);
        self
    }

    /// Who leads, where several processes run the same cluster. Default: this one.
    #[must_use]
    pub fn leadership(mut self, leadership: Arc<dyn Leadership>) -> Self {
        self.leadership = Some(leadership);
        self
    }

    /// Registers a policy that apps name in `scaling.policy`.
    #[must_use]
    pub fn policy(mut self, name: PolicyName, policy: Arc<dyn ScalePolicy>) -> Self {
        self.policies.insert(name, policy);
        self
    }

    /// Where the time comes from. Default: the machine's clocks.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Plans otherwise than [`plan`](crate::plan) does: the simulation shows with this that it notices.
    #[cfg(feature = "sim")]
    #[must_use]
    pub(crate) fn planner(mut self, planner: Planner) -> Self {
        self.planner = planner;
        self
    }

    /// Bounds and intervals.
    #[must_use]
    pub fn settings(mut self, settings: LoopSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Starts the loop on the current tokio runtime. It runs until [`Orchestrator::shutdown`] or until the
    /// last handle is dropped; apps go on serving after that.
    ///
    /// # Errors
    /// `Invalid` for settings that cannot hold; whatever the registry says to the given hosts.
    pub async fn start(self) -> Result<Orchestrator> {
        let parts = self.finish()?;
        for facts in &parts.statics {
            parts.registry.announce(facts, parts.settings.lease).await?;
        }
        Ok(Orchestrator::spawn(parts))
    }

    fn finish(self) -> Result<Parts> {
        self.cluster.check()?;
        self.settings.check()?;
        if self.connector.is_some() && !self.statics.is_empty() {
            return Err(Error::invalid("host", "must not be given together with a connector"));
        }
        let statics: Vec<HostFacts> = self.statics.iter().map(|s| s.facts.clone()).collect();
        check_hosts(&statics)?;
        let connector = self.connector.unwrap_or_else(|| {
            let connector = MemoryConnector::new();
            for StaticHost { facts, handle } in self.statics {
                connector.insert(facts.id, handle);
            }
            Arc::new(connector)
        });
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        Ok(Parts {
            cluster: Arc::new(self.cluster),
            settings: Arc::new(self.settings),
            statics,
            registry: self.registry.unwrap_or_else(|| Arc::new(MemoryRegistry::new())),
            connector,
            apps: self.apps.unwrap_or_else(|| Arc::new(apps_of_this_process(&*clock))),
            ledger: self.ledger.unwrap_or_else(|| Arc::new(MemoryLedgerStore::new())),
            load: self.load.unwrap_or_else(|| Arc::new(MemoryLoadStore::new())),
            leadership: self.leadership.unwrap_or_else(|| Arc::new(MemoryLeadership::new())),
            policies: self.policies,
            clock,
            planner: self.planner,
        })
    }
}

fn check_hosts(hosts: &[HostFacts]) -> Result<()> {
    hosts.iter().try_for_each(HostFacts::check)?;
    let mut known = BTreeSet::new();
    match hosts.iter().find(|host| !known.insert(&host.id)) {
        Some(twice) => Err(Error::invalid(format!("host \"{}\"", twice.id), "must be given once")),
        None => Ok(()),
    }
}

/// A ledger that outlives the process knows generations of the one before: these are higher.
fn apps_of_this_process(clock: &dyn Clock) -> MemoryAppStore {
    let now = u64::try_from(clock.now().wall.as_millisecond());
    MemoryAppStore::after(Generation(now.unwrap_or_default()))
}
