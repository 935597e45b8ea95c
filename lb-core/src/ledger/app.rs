//! What the planner remembers of an app.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Shift;
use crate::model::{
    App, AppName, Assignment, HostId, ImageDigest, ImageRef, InstanceId, Revision, Stop,
};
use crate::runtime::Exit;
use crate::scale::PolicyMemory;
use crate::store::Generation;

/// What the planner remembers of one app.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AppLedger {
    /// The digest its image was resolved to.
    pub image: Option<ResolvedImage>,
    /// The resolving that is under way.
    pub resolving: Option<Resolving>,
    /// How many instances it should have; `None` before the first decision.
    pub wanted: Option<u32>,
    /// What its policy remembers.
    pub policy: PolicyMemory,
    /// When its policy was last asked.
    pub asked: Option<Duration>,
    /// The version that last served well: what a failed rollout goes back to.
    pub good: Option<Version>,
    /// The app as it was deployed last, where `good` is of other settings: by these the instances of a
    /// removed app are drained.
    pub deployed: Option<Arc<App>>,
    /// The revision last asked for. When it changes, what is remembered of crashes is forgotten.
    pub target: Option<Revision>,
    /// The deploy that asked for it. When another does, the same holds.
    pub deploy: Generation,
    /// The revision whose rollout failed. It is not tried again until the app is deployed again.
    pub failed: Option<Revision>,
    /// Its instances, in order of slot, incarnation and revision.
    pub instances: Vec<InstanceLedger>,
    /// By slot.
    pub slots: BTreeMap<u32, SlotLedger>,
    /// The last of its instances that ended by itself or could not be started, since its target changed.
    pub last_end: Option<Arc<LastEnd>>,
    /// Hosts whose table has its backends.
    pub exposed: BTreeSet<HostId>,
    /// Hosts that stopped leading new connections to its backends, until the open ones end.
    pub closing: BTreeMap<HostId, Closing>,
    /// Hosts whose table had them until the table of this `seq`, which is not known to be in force.
    pub leaving: BTreeMap<HostId, u64>,
}

/// An image as named, and what that meant when it was resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolvedImage {
    /// As the app names it.
    pub named: ImageRef,
    /// What it was resolved to.
    pub digest: ImageDigest,
    /// For this deploy: for another it is looked up again.
    #[serde(default)]
    pub deploy: Generation,
}

/// An image that is being resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolving {
    /// As the app names it.
    pub named: ImageRef,
    /// By this host's engine.
    pub host: HostId,
    /// For this deploy.
    #[serde(default)]
    pub deploy: Generation,
}

/// Everything needed to run instances of one revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// Which.
    pub revision: Revision,
    /// The image's digest.
    pub digest: ImageDigest,
    /// The app as it was then.
    pub app: Arc<App>,
}

/// An instance that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceLedger {
    /// The place it fills.
    pub slot: u32,
    /// How many containers filled the slot before it.
    pub incarnation: u32,
    /// What it runs with.
    pub revision: Revision,
    /// Where it is reached.
    pub assignment: Arc<Assignment>,
    /// When it was asked for.
    pub asked: Duration,
    /// How far it is.
    pub phase: Phase,
    /// Since when checks fail on it after it has served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<Duration>,
}

/// How an instance ended that was not asked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastEnd {
    /// Which.
    pub id: InstanceId,
    /// Where.
    pub host: HostId,
    /// What ended it.
    pub how: Ending,
}

/// What ended an instance that was not asked to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Its process ended, with the last lines it wrote.
    Exited(Exit),
    /// Its container was gone.
    Vanished,
    /// The engine did not make or start it, and why.
    Refused(String),
    /// It was not ready within this time.
    NeverReady(Duration),
}

/// How far an instance is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not ready yet.
    Starting {
        /// Since when it was seen running.
        running: Option<Duration>,
    },
    /// It has been ready.
    Serving {
        /// Since when.
        since: Duration,
    },
    /// It takes no new connections.
    Draining {
        /// Since the table of this `seq`.
        seq: u64,
        /// How long its connections may go on once a balancer sends it no more.
        #[serde(default = "default_drain")]
        time: Duration,
        /// Unreachable balancers are waited for until then, reachable ones longer.
        until: Duration,
        /// Hosts whose balancer was seen to obey, and when that observation began.
        acked: BTreeMap<HostId, Duration>,
    },
    /// It is in no table any more; stopped once every balancer is known to have dropped it.
    Left {
        /// Since the table of this `seq`.
        seq: u64,
        /// Unreachable balancers are waited for until then, reachable ones longer.
        until: Duration,
    },
    /// Its container ended, or was given up before it served; what is left of it is removed.
    Dead,
    /// Its host's lease ended.
    Lost,
}

/// What an app has that says nothing else of its drain.
pub(crate) fn default_drain() -> Duration {
    Stop::default().drain
}

/// A host on which an app's listeners have gone, and its backends not yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closing {
    /// Since the table of this `seq`.
    pub seq: u64,
    /// Its connections are shut at this time.
    pub until: Duration,
}

/// What the planner remembers of a slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlotLedger {
    /// The next container's incarnation.
    pub next: u32,
    /// Containers that ended in a row.
    pub crashes: u32,
    /// Of these the last in a row that were not ready in time: each next one is given twice as long.
    pub never_ready: u32,
    /// The next container waits until then.
    pub until: Duration,
    /// Since when the slot's containers run without having been ready, over all of them.
    pub unready: Option<Duration>,
    /// The exit code of the last of them that ended by itself.
    pub code: Option<i64>,
    /// Whether that was for want of memory.
    pub out_of_memory: bool,
}

impl Ending {
    /// What became of it, to stand behind its name.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::Exited(exit) => exit.in_words(),
            Self::Vanished => "is gone, and nobody here removed it".to_owned(),
            Self::Refused(error) => format!("cannot be started: {error}"),
            Self::NeverReady(given) => format!("was not ready within {given:?}"),
        }
    }
}

impl InstanceLedger {
    /// Its identity.
    pub fn id(&self, app: &AppName) -> InstanceId {
        InstanceId {
            app: app.clone(),
            revision: self.revision,
            slot: self.slot,
            incarnation: self.incarnation,
        }
    }

    /// Whether it counts as one of the app's wanted instances.
    pub const fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. } | Phase::Serving { .. })
    }

    /// Whether a balancer of another host is to lead to it and needs a port of its host that it does not have.
    pub(crate) fn lacks_host_port(&self, app: &App, exposed: &BTreeSet<HostId>) -> bool {
        self.assignment.published.is_empty()
            && exposed.iter().any(|host| *host != self.assignment.host)
            && app.ports.values().any(|port| port.outside.is_some())
    }
}

impl AppLedger {
    /// The app as it was deployed last, as far as that is known.
    pub(crate) fn settings(&self) -> Option<&Arc<App>> {
        self.deployed.as_ref().or(self.good.as_ref().map(|good| &good.app))
    }

    pub(super) fn rebased(mut self, shift: Shift) -> Self {
        self.resolving = None;
        self.asked = self.asked.map(|_| shift.now);
        for slot in self.slots.values_mut() {
            slot.until = shift.until(slot.until);
            slot.unready = slot.unready.map(|_| shift.now);
        }
        for closing in self.closing.values_mut() {
            closing.until = shift.until(closing.until);
        }
        for instance in &mut self.instances {
            instance.asked = shift.now;
            instance.failing = instance.failing.map(|_| shift.now);
            match &mut instance.phase {
                Phase::Starting { running } => *running = running.map(|_| shift.now),
                Phase::Serving { since } => *since = shift.now,
                Phase::Draining { until, acked, .. } => {
                    *until = shift.until(*until);
                    acked.clear();
                }
                Phase::Left { until, .. } => *until = shift.until(*until),
                Phase::Dead | Phase::Lost => {}
            }
        }
        self
    }
}
