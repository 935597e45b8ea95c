//! What must hold at every step, checked against what is really there.

mod address;
mod client;
mod drain;
pub(super) mod end;
mod floor;
mod reason;
mod route;
mod served;
mod told;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use self::address::check_addresses;
use self::drain::Drains;
use self::floor::Floors;
use self::reason::Reasons;
use self::route::Routes;
use self::served::Served;
use self::told::Told;
pub(super) use self::truth::Truth;
use super::cluster::Cluster;
use super::deploy::Deployment;
use super::traffic::Traffic;
use crate::model::HostId;

/// Most violations told of one run.
const MOST_VIOLATIONS: usize = 8;

/// What was violated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Invariant {
    /// Never a route to a dead or unready instance beyond its detection time.
    Route,
    /// Never two instances with one address, nor a route to an address that is another instance's.
    Address,
    /// Never fewer ready instances than a rollout allows.
    Floor,
    /// Never a request cut before its app's drain time is over.
    Drain,
    /// What dies or hangs is replaced, and what is deployed is served, within seconds where no fault acts.
    Served,
    /// Nothing waits without a reason, and what is down says why for as long as it is.
    Reason,
    /// What is told is so: events, what is ready, and that clients get what is said to be settled.
    Told,
    /// Everything converges after the faults stop.
    Convergence,
    /// Nothing is left behind.
    LeftBehind,
    /// No panic, and no table or container that backends refuse as invalid.
    Alarm,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Route,
        Self::Address,
        Self::Floor,
        Self::Drain,
        Self::Served,
        Self::Reason,
        Self::Told,
        Self::Convergence,
        Self::LeftBehind,
        Self::Alarm,
    ];
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Route => "a route to what cannot serve",
            Self::Address => "an address of two",
            Self::Floor => "below the floor",
            Self::Drain => "a request cut",
            Self::Served => "not served in time",
            Self::Reason => "without a reason",
            Self::Told => "told and not so",
            Self::Convergence => "no convergence",
            Self::LeftBehind => "left behind",
            Self::Alarm => "alarm",
        })
    }
}

/// What a check found, and about what.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) invariant: Invariant,
    pub(super) text: String,
}

/// What was judged, with nothing to excuse it.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// How often each invariant was.
    pub(super) judged: BTreeMap<Invariant, u64>,
    found: Vec<Found>,
}

impl Verdicts {
    /// It holds or, with these words, does not.
    pub(super) fn judge(
        &mut self,
        invariant: Invariant,
        holds: bool,
        text: impl FnOnce() -> String,
    ) {
        *self.judged.entry(invariant).or_default() += 1;
        if !holds {
            self.found.push(Found { invariant, text: text() });
        }
    }
}

/// What is new since the last step.
#[derive(Debug, Clone, Copy)]
struct Changes<'a> {
    /// Whether anything is another way in truth.
    changed: bool,
    deployed: &'a [Deployment],
}

/// The checks of one run.
#[derive(Debug, Default)]
pub(super) struct Checks {
    pub(super) truth: Truth,
    routes: Routes,
    floors: Floors,
    drains: Drains,
    served: Served,
    reasons: Reasons,
    said: Told,
    pub(super) verdicts: Verdicts,
    told: BTreeSet<String>,
    pub(super) violations: Vec<(Duration, Found)>,
}

impl Checks {
    /// One step.
    pub(super) fn look(&mut self, cluster: &mut Cluster, traffic: &mut Traffic) {
        let changed = self.truth.update(cluster);
        let deployed = std::mem::take(&mut cluster.deployed);
        let verdicts = &mut self.verdicts;
        if changed {
            self.routes.compare(&self.truth, cluster, verdicts);
            check_addresses(&self.truth, cluster, verdicts);
            self.drains.compare(&self.truth, cluster, traffic, verdicts);
        }
        self.routes.look(cluster, verdicts);
        self.floors.look(&self.truth, cluster, Changes { changed, deployed: &deployed }, verdicts);
        self.served.look(&self.truth, cluster, &deployed, verdicts);
        self.reasons.look(cluster, verdicts);
        self.said.look(&self.truth, cluster, verdicts);
        self.tell(cluster);
    }

    /// Judges something beside the steps.
    pub(super) fn judge(
        &mut self,
        cluster: &mut Cluster,
        invariant: Invariant,
        why: Option<String>,
    ) {
        self.verdicts.judge(invariant, why.is_none(), || why.unwrap_or_default());
        self.tell(cluster);
    }

    fn tell(&mut self, cluster: &mut Cluster) {
        for found in std::mem::take(&mut self.verdicts.found) {
            self.note(cluster, found);
        }
    }

    /// Notes a violation; the same one once.
    fn note(&mut self, cluster: &mut Cluster, found: Found) {
        let line = format!("{}: {}", found.invariant, found.text);
        if self.violations.len() >= MOST_VIOLATIONS || !self.told.insert(line.clone()) {
            return;
        }
        cluster.say("VIOLATED", line);
        self.violations.push((cluster.now(), found));
    }

    /// Whether enough is known to be wrong.
    pub(super) fn is_full(&self) -> bool {
        self.violations.len() >= MOST_VIOLATIONS
    }
}

/// Until when an ailment of one of the hosts, or of the platform, may be to blame.
fn excused(cluster: &Cluster, hosts: [Option<&HostId>; 2]) -> Duration {
    let of = |id: &HostId| cluster.hosts.get(id).map_or(Duration::ZERO, |h| h.excused);
    let hosts = hosts.into_iter().flatten().map(of);
    hosts.fold(cluster.excuses.platform, Duration::max)
}
