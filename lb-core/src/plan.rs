//! The whole brain, pure: from a snapshot, the ledger and the time to actions.

mod address;
mod drain;
mod hosts;
mod join;
mod memo;
mod pass;
mod phase;
mod place;
mod replicas;
mod rollout;
mod route;
mod spec;
mod table;
mod version;
mod why;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub(crate) use self::memo::Memo;
pub use self::world::{
    ActionKey, AppView, ClusterSpec, Done, HostView, InstanceState, Observation, ObservedBalancer,
    ObservedInstance, Outcome, Reach, RegistryTrust, World,
};
use crate::ledger::Ledger;
use crate::model::{AppName, HostId, ImageRef, InstanceId, NetworkName, RegistryAuth};
use crate::routing::{RoutingTable, TableHash};
use crate::runtime::{ContainerSpec, NetworkSpec};
use crate::time::Now;

/// What a pass decided.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// What to do, by host, in order; each is safe to repeat and to leave out.
    pub actions: BTreeMap<HostId, Vec<Action>>,
    /// What to remember for the next pass.
    pub ledger: Ledger,
    /// Why, and what could not be done.
    pub reasons: Vec<Reason>,
    /// When to plan again even if nothing happens (monotonic); `None`: not needed.
    pub again: Option<Duration>,
    /// Hosts whose next observation something waits for: a drain, or a table on its way.
    pub watch: BTreeSet<HostId>,
}

/// One thing to do on a host.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Make sure the image is there and tell its digest.
    ResolveImage {
        /// For which app.
        app: AppName,
        /// The image as named.
        image: ImageRef,
        /// Login at its registry.
        auth: Option<RegistryAuth>,
    },
    /// Make sure the host's network is there.
    EnsureNetwork(NetworkSpec),
    /// Make sure the image is there, make and start the instance.
    Run {
        /// Which.
        id: InstanceId,
        /// How.
        spec: Box<ContainerSpec>,
        /// Login at the image's registry.
        auth: Option<RegistryAuth>,
    },
    /// Stop and remove the instance.
    Stop {
        /// Which.
        id: InstanceId,
        /// Time between signal and kill.
        grace: Duration,
    },
    /// Put the table in force.
    Apply(Arc<RoutingTable>),
    /// Nothing of the cluster is left to run here: end the balancer and remove the network.
    Clear(NetworkName),
}

impl Action {
    /// One action at a time for each key on a host.
    pub fn key(&self) -> ActionKey {
        match self {
            Self::ResolveImage { app, .. } => ActionKey::Image(app.clone()),
            Self::EnsureNetwork(_) => ActionKey::Network,
            Self::Run { id, .. } | Self::Stop { id, .. } => ActionKey::Instance(id.clone()),
            Self::Apply(_) | Self::Clear(_) => ActionKey::Table,
        }
    }

    /// The table it puts in force, if that is what it does.
    pub fn table(&self) -> Option<TableHash> {
        match self {
            Self::Apply(table) => Some(table.hash()),
            _ => None,
        }
    }
}

/// Why something was decided, or why it could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// About which app; `None`: the cluster or a host.
    pub app: Option<AppName>,
    /// On which host.
    pub host: Option<HostId>,
    /// What was decided or stands in the way.
    pub what: What,
    /// In words.
    pub text: String,
}

/// What a reason is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum What {
    /// A policy or schedule changed or kept the count.
    Scale,
    /// A limit cut what was asked.
    Clamped,
    /// An instance is started.
    Start,
    /// An instance drains or is stopped.
    Drain,
    /// A dead instance is replaced.
    Replace,
    /// A rollout goes on, is held, or goes back.
    Rollout,
    /// No host, address or port is left for it.
    NoRoom,
    /// It keeps crashing, and waits.
    CrashLoop,
    /// An action failed, and waits to be tried again.
    Failed,
    /// Checks fail on instances that are kept in the balancer all the same.
    Health,
    /// A host's lease ended, or a host is not believed to be gone.
    Host,
}

/// Plans one pass.
///
/// Five steps decide for each app: how many instances (`replicas`), of which version and when (`rollout`),
/// where (`place`), at which address (`address`), and what balancers serve (`route`). Around them `join`
/// and `phase` say what became of the instances, `drain` ends them, and `table` puts the hosts' tables
/// together.
pub fn plan(world: &World, ledger: &Ledger, now: Now) -> Plan {
    let (mut pass, mut apps) = pass::open(world, ledger, now);
    hosts::take_in(&mut pass, world);
    address::recover_subnets(&mut pass);
    address::end_rests(&mut pass);
    join::join(&mut pass, &mut apps);
    for (app, index) in apps.iter_mut().zip(0..) {
        decide(&mut pass, app, index);
    }
    let tables = table::all(&mut pass, &apps, &ledger.memo.tables);
    pass::close(pass, apps, tables, ledger)
}

fn decide(pass: &mut pass::Pass<'_>, app: &mut pass::AppState<'_>, index: u32) {
    phase::advance(pass, app);
    version::resolve(pass, app);
    let groups = rollout::group(pass, app);
    let wanted = replicas::decide(pass, app, groups.rolling());
    let rollout::Moves { start, drain } = rollout::moves(pass, app, groups, wanted);
    drain::begin(pass, app, &drain);
    place::start(pass, app, start);
    drain::run(pass, app);
    drain::progress(pass, app);
    drain::stop_duplicates(pass, app);
    route::app(pass, app, index);
    why::app(pass, app);
    join::keep(pass, app);
}
