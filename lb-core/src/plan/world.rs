//! The snapshot a pass plans from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::Action;
use crate::balancer::SetAside;
use crate::error::{Error, Result};
use crate::model::{
    App, AppName, Assignment, ClusterId, HostFacts, HostId, ImageDigest, ImageRef, InstanceId,
    ServerName,
};
use crate::routing::TableHash;
use crate::runtime::{Exit, Readiness, SpecHash};
use crate::scale::{LoadSample, ScalePolicy};
use crate::store::Generation;

/// Everything a pass plans from. Made by the loop from each host's latest observation.
#[derive(Debug, Clone)]
pub struct World {
    /// The cluster's settings.
    pub cluster: Arc<ClusterSpec>,
    /// The desired apps.
    pub apps: BTreeMap<AppName, AppView>,
    /// The registered hosts; a host that is only in the ledger has lost its lease.
    pub hosts: BTreeMap<HostId, HostView>,
    /// Whether the set of hosts can be believed (see the fifteenth invariant).
    pub registry: RegistryTrust,
}

impl World {
    /// Whether balancers need a port of an instance's host to reach it from other hosts.
    pub(crate) fn publishes(&self) -> bool {
        self.hosts.len() > 1 && self.cluster.reach == Reach::HostPort
    }
}

/// Longest time an address may rest.
const MOST_REST: Duration = Duration::from_secs(24 * 3600);

/// Settings of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSpec {
    /// In names, labels and networks.
    pub id: ClusterId,
    /// Divided into one subnet per host, of addresses of machines, /8 to /28. Default `10.210.0.0/16`.
    pub range: Ipv4Net,
    /// Prefix length of a host's subnet: the range's to 28. Default 24.
    pub subnet_prefix: u8,
    /// Ports of hosts that lead to instances for other hosts. Default 20000 to 27999: below Linux's
    /// ephemeral range (`net.ipv4.ip_local_port_range`, 32768 up).
    pub host_ports: RangeInclusive<u16>,
    /// How balancers reach instances of other hosts.
    pub reach: Reach,
    /// How long an address or host port that balancers led to is not given out again, beside an app's longest
    /// `timeouts.keep_alive` and the drain: after a reload the worker before still answers one more request on each
    /// connection it kept, and sends it where its own table says. At most 24 h.
    /// Default 60 s.
    pub address_rest: Duration,
}

/// How balancers reach instances of other hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// At a port of the other host's registered address: works on any network.
    #[default]
    HostPort,
    /// At their internal address: hosts route to each other's subnets.
    Routed,
}

impl ClusterSpec {
    /// A cluster with defaults.
    pub fn new(id: ClusterId) -> Self {
        Self {
            id,
            range: Ipv4Net::new_assert(Ipv4Addr::new(10, 210, 0, 0), 16),
            subnet_prefix: 24,
            host_ports: 20_000..=27_999,
            reach: Reach::HostPort,
            address_rest: Duration::from_secs(60),
        }
    }

    /// Rules between the fields.
    ///
    /// # Errors
    /// `Invalid` naming the field.
    pub fn check(&self) -> Result<()> {
        let (prefix, first) = (self.range.prefix_len(), self.range.network());
        let others = first.is_link_local() || first.octets()[0] == 0;
        if !(8..=28).contains(&prefix) || others || first.octets()[0] >= 224 {
            let rule = "must be /8 to /28 of addresses of machines, such as 10.210.0.0/16";
            return Err(Error::invalid(format!("cluster: range {}", self.range), rule));
        }
        if self.range != self.range.trunc() {
            let rule = format!("must be {}", self.range.trunc());
            return Err(Error::invalid(format!("cluster: range {}", self.range), rule));
        }
        if self.address_rest > MOST_REST {
            return Err(Error::invalid("cluster: address_rest", "must be at most 24h"));
        }
        if !(self.range.prefix_len()..=28).contains(&self.subnet_prefix) {
            return Err(Error::invalid(
                "cluster: subnet_prefix",
                "must be the range's prefix length to 28",
            ));
        }
        match self.host_ports.is_empty() || *self.host_ports.start() < 1024 {
            true => Err(Error::invalid("cluster: host_ports", "must be a range from 1024 up")),
            false => Ok(()),
        }
    }
}

/// A desired app and what the planner needs to decide about it.
#[derive(Debug, Clone)]
pub struct AppView {
    /// What the user asks for.
    pub app: Arc<App>,
    /// Of what the user asked for last.
    pub generation: Generation,
    /// Of the deploy it comes from (see [`StoredApp::deploy`](crate::StoredApp::deploy)).
    pub deploy: Generation,
    /// Whether this process was asked for that deploy: if not, and nothing is remembered of it, its tag means
    /// what running instances were made from.
    pub asked_here: bool,
    /// What moves its count; `None`: nothing.
    pub policy: Option<Arc<dyn ScalePolicy>>,
    /// What was measured, oldest first.
    pub load: Arc<[LoadSample]>,
}

impl AppView {
    /// An app that was deployed before this process began; nothing moves its count, nothing was measured.
    pub fn new(app: Arc<App>, deploy: Generation) -> Self {
        let load = Arc::from([]);
        Self { app, generation: deploy, deploy, asked_here: false, policy: None, load }
    }
}

/// A registered host and what is known of it.
#[derive(Debug, Clone)]
pub struct HostView {
    /// What it says of itself.
    pub facts: Arc<HostFacts>,
    /// The latest complete observation; `None` before the first.
    pub seen: Option<Arc<Observation>>,
    /// Whether destructive actions are allowed: the observation began after our last action there ended,
    /// and is not older than the loop's bound.
    pub fresh: bool,
    /// Whether the host answers. An unreachable host gets no actions and keeps its instances.
    pub reachable: bool,
    /// Tables handed to its balancer that may still come in force whatever `seen` shows: of the call in flight,
    /// of the last one that ended after `seen` began, and of those that failed since the last that did not.
    pub on_their_way: Vec<TableHash>,
    /// Results of actions since the last pass, each handed over once.
    pub outcomes: Vec<Outcome>,
}

/// What was seen on a host in one round.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// When the round began (monotonic).
    pub began: Duration,
    /// Instances of this cluster, in order of id.
    pub instances: Vec<ObservedInstance>,
    /// What its balancer serves; `None`: it does not answer.
    pub balancer: Option<ObservedBalancer>,
}

/// A container that bears an instance's name and labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedInstance {
    /// Which, from its name.
    pub id: InstanceId,
    /// Where it is reached, from its labels.
    pub assignment: Arc<Assignment>,
    /// The image as the app named it and its digest, from its labels.
    pub image: Arc<ImageRef>,
    /// The spec it was made from.
    pub spec: SpecHash,
    /// What it does.
    pub state: InstanceState,
}

/// What an instance does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Made, never started.
    Created,
    /// Running; it may take traffic when ready.
    Running(Readiness),
    /// Ended.
    Exited(Exit),
}

/// What a balancer was seen to serve.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedBalancer {
    /// The table in force.
    pub table: Option<TableHash>,
    /// Servers with open connections, or with idle ones of clients whose next request may still be led to them, over
    /// all workers and backends; absent: none.
    pub open: BTreeMap<ServerName, u64>,
    /// What the last `apply` left out, and why.
    pub set_aside: BTreeMap<SetAside, String>,
    /// Whether the table was put in force by somebody else, such as this process before it began again: what
    /// was set aside then is not known, and the table is applied once more.
    #[serde(default)]
    pub inherited: bool,
}

/// Whether the registry's set of hosts can be believed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistryTrust {
    /// It answers.
    #[default]
    Answers,
    /// It fails: nobody is replaced.
    Fails,
    /// An operator has confirmed that these hosts are gone.
    Confirmed(BTreeSet<HostId>),
}

/// The result of an action the plan asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// When it ended (monotonic).
    pub at: Duration,
    /// What was asked.
    pub action: ActionKey,
    /// Of [`ActionKey::Table`]: which; `None` of a clear.
    pub table: Option<TableHash>,
    /// What came of it.
    pub result: std::result::Result<Done, Error>,
}

impl Outcome {
    /// What came of the action, and when it ended (monotonic).
    pub fn of(action: &Action, at: Duration, result: std::result::Result<Done, Error>) -> Self {
        Self { at, action: action.key(), table: action.table(), result }
    }
}

/// What an action gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// It was done.
    Plain,
    /// The balancer says that a table is in force.
    Applied {
        /// Which.
        table: TableHash,
        /// Whether all of it is: nothing was set aside.
        whole: bool,
    },
    /// The balancer was ended and the network removed.
    Cleared,
    /// The image's digest.
    Digest(ImageDigest),
}

/// Names an action: one at a time for each key on a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionKey {
    /// Resolving an app's image.
    Image(AppName),
    /// The host's network.
    Network,
    /// Starting or stopping this instance.
    Instance(InstanceId),
    /// The host's routing table.
    Table,
}
