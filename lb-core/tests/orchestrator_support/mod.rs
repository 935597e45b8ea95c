//! A cluster in memory for the tests of the loop.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests, on a paused clock")]
#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use lb_core::{
    App, AppName, AppSpec, AppStatus, BackendName, Builder, ClusterSpec, ContainerRuntime,
    HostConnector, HostFacts, HostHandle, HostId, HostRegistry, LedgerStore, LoopSettings,
    MemoryAppStore, MemoryBalancer, MemoryConnector, MemoryLeadership, MemoryLedgerStore,
    MemoryRegistry, MemoryRuntime, Orchestrator, Port, Replicas, ServerState, Status,
};

/// Longer than anything takes in these tests; the clock is paused, so that it costs nothing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);
/// Leases of test hosts: they end only when a test withdraws them.
pub(crate) const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Hosts, stores and a seat for the leader; orchestrators come and go.
#[derive(Clone)]
pub(crate) struct Rig {
    pub(crate) cluster: ClusterSpec,
    pub(crate) registry: MemoryRegistry,
    pub(crate) connector: MemoryConnector,
    pub(crate) apps: MemoryAppStore,
    pub(crate) ledger: MemoryLedgerStore,
    pub(crate) leadership: MemoryLeadership,
    pub(crate) hosts: BTreeMap<HostId, Host>,
}

#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) facts: HostFacts,
    pub(crate) engine: MemoryRuntime,
    pub(crate) balancer: MemoryBalancer,
}

impl Rig {
    pub(crate) async fn new(hosts: u8) -> Self {
        let rig = Self {
            cluster: ClusterSpec::new("demo".parse().unwrap()),
            registry: MemoryRegistry::new(),
            connector: MemoryConnector::new(),
            apps: MemoryAppStore::new(),
            ledger: MemoryLedgerStore::new(),
            leadership: MemoryLeadership::new(),
            hosts: (1..=hosts).map(|n| (host_id(n), Host::new(n))).collect(),
        };
        for host in rig.hosts.values() {
            rig.connector.insert(host.facts.id.clone(), host.handle());
            rig.registry.announce(&host.facts, FOREVER).await.unwrap();
        }
        rig
    }

    pub(crate) fn host(&self, n: u8) -> &Host {
        &self.hosts[&host_id(n)]
    }

    pub(crate) fn builder(&self) -> Builder {
        self.builder_with(Arc::new(self.connector.clone()), Arc::new(self.ledger.clone()))
    }

    pub(crate) fn builder_with(
        &self,
        connector: Arc<dyn HostConnector>,
        ledger: Arc<dyn LedgerStore>,
    ) -> Builder {
        Orchestrator::builder(self.cluster.clone())
            .registry(Arc::new(self.registry.clone()))
            .connector(connector)
            .apps(Arc::new(self.apps.clone()))
            .ledger(ledger)
            .leadership(Arc::new(self.leadership.clone()))
            .settings(LoopSettings::default())
    }

    pub(crate) async fn start(&self) -> Orchestrator {
        self.builder().start().await.unwrap()
    }

    /// Names of all containers of all hosts, by host.
    pub(crate) async fn containers(&self) -> Vec<(HostId, String)> {
        let mut names = Vec::new();
        for (id, host) in &self.hosts {
            let list = host.engine.list().await.unwrap();
            names.extend(list.into_iter().map(|c| (id.clone(), c.name.to_string())));
        }
        names
    }

    /// What must hold once an app has settled with `count` instances: as many containers, no two with
    /// one address, and every balancer that has the backend serves exactly them.
    pub(crate) async fn assert_serves(&self, status: &Status, name: &AppName, count: usize) {
        let app = &status.apps[name];
        assert_eq!(app.instances.len(), count, "{app:?}");
        let addresses: BTreeSet<Ipv4Addr> = app.instances.iter().map(|i| i.address).collect();
        assert_eq!(addresses.len(), count, "addresses are unique");
        let prefix = format!("{}.{name}.", self.cluster.id);
        let containers = self.containers().await;
        let ours = containers.iter().filter(|(_, c)| c.starts_with(&prefix)).count();
        assert_eq!(ours, count, "no orphans: {containers:?}");
        let names: BTreeSet<String> = app
            .instances
            .iter()
            .map(|i| i.id.container_name(&self.cluster.id).to_string())
            .collect();
        for host in app.instances.iter().map(|i| &self.hosts[&i.host]) {
            assert_eq!(host.active(&backend(name)), names, "on {}", host.facts.id);
        }
    }
}

impl Host {
    fn new(n: u8) -> Self {
        Self {
            facts: HostFacts::new(host_id(n), Ipv4Addr::new(192, 0, 2, n)),
            engine: MemoryRuntime::new(),
            balancer: MemoryBalancer::new(),
        }
    }

    pub(crate) fn handle(&self) -> HostHandle {
        HostHandle {
            runtime: Arc::new(self.engine.clone()),
            balancer: Arc::new(self.balancer.clone()),
        }
    }

    /// Servers that take new connections.
    pub(crate) fn active(&self, backend: &BackendName) -> BTreeSet<String> {
        let Some(table) = self.balancer.table() else { return BTreeSet::new() };
        let servers = table.backends.get(backend).into_iter().flat_map(|b| &b.servers);
        servers
            .filter(|(_, s)| s.state == ServerState::Active)
            .map(|(name, _)| name.to_string())
            .collect()
    }
}

pub(crate) fn host_id(n: u8) -> HostId {
    format!("h{n}").parse().unwrap()
}

pub(crate) fn backend(app: &AppName) -> BackendName {
    BackendName::of(app, &"web".parse().unwrap())
}

pub(crate) fn name(app: &str) -> AppName {
    app.parse().unwrap()
}

/// An app with one HTTP port, `NAME.example.org` on port 80.
pub(crate) fn app(app: &str, image: &str, count: u32) -> App {
    app_with(app, image, count, |_| {})
}

pub(crate) fn app_with(
    app: &str,
    image: &str,
    count: u32,
    change: impl FnOnce(&mut AppSpec),
) -> App {
    let mut spec = AppSpec::new(name(app), image.parse().unwrap());
    let mut port = Port::http(NonZeroU16::new(8080).unwrap());
    port.outside = NonZeroU16::new(80);
    port.hosts.insert(format!("{app}.example.org").parse().unwrap());
    spec.ports.insert("web".parse().unwrap(), port);
    spec.replicas = Replicas::fixed(count);
    change(&mut spec);
    App::new(spec).unwrap()
}

/// The app has exactly its wanted instances, all ready, of the wanted revision.
pub(crate) fn settled(app: &str, count: u32) -> impl FnMut(&Status) -> bool {
    move |status| {
        let app = status.apps.get(&name(app));
        app.is_some_and(|a: &AppStatus| a.wanted == count && a.is_settled())
            && status.in_flight == 0
    }
}

/// Nothing of the app is left.
pub(crate) fn removed(app: &str) -> impl FnMut(&Status) -> bool {
    move |status| !status.apps.contains_key(&name(app)) && status.in_flight == 0
}
