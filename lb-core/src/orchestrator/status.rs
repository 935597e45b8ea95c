//! What people see of the loop: built when somebody looks, from what the last pass left.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;

use super::link::Link;
use crate::balancer::{BalancerInfo, SetAside};
use crate::error::Error;
use crate::ledger::{AppLedger, HostLedger, LastEnd};
use crate::model::{
    AppName, BackendName, ClusterId, HostFacts, HostId, InstanceId, PortName, Revision, ServerName,
};
use crate::plan::{
    AppView, HostView, InstanceState, ObservedInstance, Reason, RegistryTrust, World,
};
use crate::routing::{Backend, Listener, Route, ServerState, TableHash};
use crate::runtime::Readiness;
use crate::scale::LoadSample;
use crate::store::Generation;
use crate::store::Standing;
use crate::time::Now;

/// Everything as the last pass left it. It holds no secret: certificates are named, not shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Whose.
    pub cluster: ClusterId,
    /// When the pass was.
    pub at: Now,
    /// Whether this process leads. A follower knows of no hosts.
    pub standing: Standing,
    /// The apps, those being removed included.
    pub apps: BTreeMap<AppName, AppStatus>,
    /// The registered hosts.
    pub hosts: BTreeMap<HostId, HostStatus>,
    /// Whether the registry is believed.
    pub registry: RegistryTrust,
    /// Hosts the registry has lost and that are not believed to be gone.
    pub doubted: BTreeSet<HostId>,
    /// Why things are as they are, and what could not be done: failures and back-offs among them.
    pub reasons: Vec<Reason>,
    /// Parts that fail right now, such as `ledger`, and why.
    pub troubles: BTreeMap<String, Error>,
    /// Actions going on.
    pub in_flight: usize,
    /// Passes of this process so far.
    pub passes: u64,
    /// How long the last pass took.
    pub last_pass: Duration,
}

/// An app.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct AppStatus {
    /// Instances it should have; 0 once it is removed.
    pub wanted: u32,
    /// Instances that are ready and not leaving.
    pub ready: u32,
    /// The revision it should run; `None` until its image is resolved.
    pub revision: Option<Revision>,
    /// The revision asked for, if its rollout failed: the one before serves.
    pub failed: Option<Revision>,
    /// Of which change this is the status; `None` once it is removed.
    pub generation: Option<Generation>,
    /// Whether every balancer that has the app was seen to have in force what is wanted now, and nothing of the
    /// app is set aside. Whether its clients are answered, [`Deployment::served`](crate::Deployment::served) asks.
    pub in_force: bool,
    /// The last of its instances that ended by itself or could not be started, since the version asked for
    /// changed, with the last lines it wrote.
    pub last_end: Option<LastEnd>,
    /// Its instances, in order of id.
    pub instances: Vec<InstanceStatus>,
    /// The latest load.
    pub load: Option<LoadSample>,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InstanceStatus {
    /// Which.
    pub id: InstanceId,
    /// Where it runs.
    pub host: HostId,
    /// Its address inside the cluster.
    pub address: Ipv4Addr,
    /// Its ports inside the container, by name.
    pub ports: BTreeMap<PortName, u16>,
    /// Ports of its host that lead to them.
    pub published: BTreeMap<PortName, u16>,
    /// What it does.
    pub state: InstanceState,
    /// How the balancer of its host has it; `None`: not at all.
    pub server: Option<ServerState>,
    /// Connections open to it at its host's balancer, and idle ones of clients whose next request may still be led to
    /// it.
    pub open: u64,
    /// Whether it is on its way out: it drains, or no balancer leads to it any more and it is stopped.
    pub leaving: bool,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostStatus {
    /// What it says of itself.
    pub facts: Arc<HostFacts>,
    /// Whether it answers.
    pub reachable: bool,
    /// Whether the latest observation shows what every ended action did, so that instances may be stopped.
    pub fresh: bool,
    /// Why it does not answer.
    pub error: Option<Error>,
    /// When it was seen last (monotonic, as `at`).
    pub seen: Option<Duration>,
    /// What the balancer is, and how its servers come and go; none while it does not answer.
    pub balancer: Option<BalancerInfo>,
    /// The table in force, as the balancer says.
    pub table: Option<TableHash>,
    /// What this process put in force there last.
    pub routing: Option<RoutingStatus>,
    /// What the balancer left out, and why.
    pub set_aside: BTreeMap<SetAside, String>,
}

/// A routing table without its secrets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoutingStatus {
    /// By outside port.
    pub listeners: BTreeMap<u16, ListenerStatus>,
    /// By name.
    pub backends: BTreeMap<BackendName, Arc<Backend>>,
}

/// An outside port.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerStatus {
    /// HTTP requests.
    Http {
        /// Who gets what.
        routes: BTreeSet<Route>,
        /// Whose certificates it has.
        certificates: BTreeSet<BackendName>,
    },
    /// A byte stream.
    Tcp {
        /// Who gets it.
        backend: BackendName,
        /// Whether it speaks TLS.
        tls: bool,
    },
}

impl AppStatus {
    /// Whether all wanted instances of the revision to run, and no others, are there and ready, and every
    /// balancer was seen to have them. After a rollout that went back that is the one before, and `failed` says
    /// so. It says nothing of a change the status does not know yet, nor whether clients are answered:
    /// [`Deployment::served`](crate::Deployment::served) waits for that.
    pub fn is_settled(&self) -> bool {
        let current = |i: &InstanceStatus| Some(i.id.revision) == self.revision;
        self.in_force
            && self.ready == self.wanted
            && self.instances.len() == self.wanted as usize
            && self.instances.iter().all(current)
    }
}

/// What a pass leaves for [`Status`]: cheap to make, for nobody may look.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) at: Now,
    pub(super) standing: Standing,
    pub(super) world: World,
    pub(super) ledgers: BTreeMap<AppName, Arc<AppLedger>>,
    pub(super) host_ledgers: BTreeMap<HostId, Arc<HostLedger>>,
    pub(super) links: Arc<BTreeMap<HostId, Arc<Link>>>,
    pub(super) errors: BTreeMap<HostId, Error>,
    pub(super) doubted: BTreeSet<HostId>,
    pub(super) reasons: Vec<Reason>,
    pub(super) troubles: BTreeMap<String, Error>,
    pub(super) in_flight: usize,
    pub(super) passes: u64,
    pub(super) last_pass: Duration,
    pub(super) status: OnceLock<Arc<Status>>,
}

impl Snapshot {
    /// The status, built on the first look.
    pub(super) fn status(&self) -> Arc<Status> {
        self.status.get_or_init(|| Arc::new(self.build())).clone()
    }

    fn build(&self) -> Status {
        let hosts = self.world.hosts.iter();
        Status {
            cluster: self.world.cluster.id.clone(),
            at: self.at,
            standing: self.standing,
            apps: self.apps(),
            hosts: hosts.map(|(id, view)| (id.clone(), self.host(id, view))).collect(),
            registry: self.world.registry.clone(),
            doubted: self.doubted.clone(),
            reasons: self.reasons.clone(),
            troubles: self.troubles.clone(),
            in_flight: self.in_flight,
            passes: self.passes,
            last_pass: self.last_pass,
        }
    }

    fn apps(&self) -> BTreeMap<AppName, AppStatus> {
        let mut apps: BTreeMap<AppName, AppStatus> = self
            .world
            .apps
            .iter()
            .map(|(name, view)| (name.clone(), self.app(name, view)))
            .collect();
        let leaving = self.leaving();
        for (host, view) in &self.world.hosts {
            let Some(seen) = &view.seen else { continue };
            let servers = self.servers(host);
            for instance in &seen.instances {
                let server = ServerName::from(&instance.id.container_name(&self.world.cluster.id));
                let open = seen.balancer.as_ref().and_then(|b| b.open.get(&server)).copied();
                let status = InstanceStatus {
                    server: servers.get(&server).copied(),
                    open: open.unwrap_or(0),
                    leaving: leaving.contains(&instance.id),
                    ..shown(instance, host)
                };
                let app = apps.entry(instance.id.app.clone()).or_default();
                app.ready += u32::from(status.is_ready());
                app.instances.push(status);
            }
        }
        for app in apps.values_mut() {
            app.instances.sort_by(|a, b| a.id.cmp(&b.id));
        }
        apps
    }

    fn app(&self, name: &AppName, view: &AppView) -> AppStatus {
        let ledger = self.ledgers.get(name);
        let target = ledger.and_then(|l| l.target);
        let failed = ledger.and_then(|l| l.failed).filter(|failed| Some(*failed) == target);
        let good = ledger.and_then(|l| l.good.as_ref()).map(|good| good.revision);
        AppStatus {
            wanted: ledger.and_then(|l| l.wanted).unwrap_or(view.app.replicas.min),
            revision: failed.and(good).or(target),
            failed,
            generation: Some(view.generation),
            in_force: self.is_in_force(view, ledger.map(Arc::as_ref)),
            last_end: ledger.and_then(|l| l.last_end.as_deref()).cloned(),
            load: view.load.last().copied(),
            ..AppStatus::default()
        }
    }

    /// The instances that are not to serve any more and still there.
    fn leaving(&self) -> BTreeSet<InstanceId> {
        let ids = |(name, ledger): (&AppName, &Arc<AppLedger>)| {
            let gone = ledger.instances.iter().filter(|record| !record.is_live());
            gone.map(|record| record.id(name)).collect::<Vec<_>>()
        };
        self.ledgers.iter().flat_map(ids).collect()
    }

    /// How the balancer of a host has its servers.
    fn servers(&self, host: &HostId) -> BTreeMap<ServerName, ServerState> {
        let Some(table) = self.links.get(host).and_then(|link| link.in_force().table) else {
            return BTreeMap::new();
        };
        let servers = table.backends.values().flat_map(|b| &b.servers);
        servers.map(|(name, server)| (name.clone(), server.state)).collect()
    }

    fn host(&self, id: &HostId, view: &HostView) -> HostStatus {
        let in_force = self.links.get(id).map(|link| link.in_force()).unwrap_or_default();
        let routing = in_force.table.map(|table| RoutingStatus {
            listeners: table.listeners.iter().map(|(port, l)| (*port, l.into())).collect(),
            backends: table.backends.clone(),
        });
        HostStatus {
            facts: view.facts.clone(),
            reachable: view.reachable,
            fresh: view.fresh,
            error: self.errors.get(id).cloned(),
            seen: view.seen.as_ref().map(|seen| seen.began),
            balancer: self.links.get(id).and_then(|link| link.balancer()),
            table: view.seen.as_ref().and_then(|seen| seen.balancer.as_ref()?.table),
            routing,
            set_aside: in_force.set_aside,
        }
    }
}

fn shown(instance: &ObservedInstance, host: &HostId) -> InstanceStatus {
    InstanceStatus {
        id: instance.id.clone(),
        host: host.clone(),
        address: instance.assignment.address,
        ports: instance.assignment.ports.clone(),
        published: instance.assignment.published.clone(),
        state: instance.state.clone(),
        server: None,
        open: 0,
        leaving: false,
    }
}

impl InstanceStatus {
    /// Whether it may take traffic: ready, and not leaving.
    pub fn is_ready(&self) -> bool {
        self.state == InstanceState::Running(Readiness::Ready)
            && !self.leaving
            && self.server != Some(ServerState::Draining)
    }
}

impl From<&Listener> for ListenerStatus {
    fn from(listener: &Listener) -> Self {
        match listener {
            Listener::Http { routes, certificates } => Self::Http {
                routes: routes.clone(),
                certificates: certificates.keys().cloned().collect(),
            },
            Listener::Tcp { backend, certificate } => {
                Self::Tcp { backend: backend.clone(), tls: certificate.is_some() }
            }
        }
    }
}
