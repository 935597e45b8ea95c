//! What the steps of one pass work on.

#[allow(clippy::disallowed_types, reason = "see Index")]
use std::collections::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::address::Taken;
use super::hosts::is_forgotten;
use super::memo::{AppMemo, Memo, TableMemo};
use super::{
    Action, ActionKey, AppView, ClusterSpec, Done, HostView, InstanceState, ObservedBalancer,
    ObservedInstance, Plan, Reach, Reason, What, World,
};
use crate::error::Error;
use crate::ledger::{
    AppLedger, HostLedger, InstanceLedger, Ledger, NetworkLedger, Version, default_drain,
};
use crate::model::{App, AppName, Assignment, HostId, InstanceId, Resources};
use crate::runtime::Readiness;
use crate::time::Now;

/// Looks up only, and is never iterated: its order cannot reach a plan.
#[allow(clippy::disallowed_types, reason = "its hasher has no random seed, and nobody iterates it")]
pub(super) type Index<'a> = HashMap<&'a str, u32, BuildHasherDefault<NameHasher>>;

/// A name's hash, the same in every process.
#[derive(Debug, Default)]
pub(super) struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// One pass under way: everything but the apps.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    pub cluster: &'a ClusterSpec,
    pub now: Now,
    /// A hash of each host's id and registered address.
    pub places: Vec<u64>,
    /// The `seq` of the ledger this pass makes if it changes anything.
    pub seq: u64,
    /// In order of id: those registered and those remembered.
    pub hosts: Vec<HostState<'a>>,
    /// Whether more than one host is registered, and instances need host ports for the others.
    pub publish: bool,
    /// Whether every instance that may be there is known, so that new ones can be started.
    pub settled: bool,
    /// Before this time nothing is given out that balancers of other hosts lead to.
    pub quarantine: Duration,
    /// The longest that any app lets a client's connection wait for its next request.
    pub kept_alive: Duration,
    /// Hosts whose balancers serve tables nobody remembers, by index.
    pub unknown: Vec<u32>,
    /// When this process began with the ledger.
    pub began: Duration,
    /// Whether the hosts are those of the last pass, so that its indexes hold.
    pub same_hosts: bool,
    pub reasons: Vec<Reason>,
    pub again: Option<Duration>,
    pub watch: BTreeSet<HostId>,
}

/// A host in a pass.
#[derive(Debug)]
pub(super) struct HostState<'a> {
    pub id: HostId,
    pub view: Option<&'a HostView>,
    pub ledger: Arc<HostLedger>,
    /// Its id's hash.
    pub mark: u64,
    /// Up to which `seq` its balancer is known to obey.
    pub ack: u64,
    /// Whether its lease is gone and that is believed.
    pub gone: bool,
    pub used: Used,
    /// Assignments on it whose containers were not seen.
    pub unseen: Vec<Arc<Assignment>>,
    pub taken: Option<Taken>,
    /// Apps in its table, by index.
    pub parts: Vec<u32>,
    /// Those of them without listeners.
    pub closing: Vec<u32>,
    /// Whether its table waits for adopted instances to be probed.
    pub hold: bool,
    pub network: Option<Action>,
    pub images: Vec<Action>,
    pub runs: Vec<Action>,
    pub table: Option<Action>,
    pub stops: Vec<Action>,
}

/// What is placed on a host.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Used {
    pub instances: u32,
    pub cpu: u64,
    pub memory: u64,
}

/// An app in a pass.
#[derive(Debug)]
pub(super) struct AppState<'a> {
    pub name: AppName,
    pub view: Option<&'a AppView>,
    pub ledger: Arc<AppLedger>,
    /// Its containers, in order of host.
    pub seen: Vec<Seen<'a>>,
    /// What is known of each of the ledger's instances, in the same order.
    pub facts: Vec<Fact>,
    /// Containers with the identity of an instance that runs on another host, in order of that and of host.
    pub duplicates: Vec<Seen<'a>>,
    pub outcomes: Vec<AppOutcome<'a>>,
    /// What the app asks for now; `None` while its image is not resolved.
    pub target: Option<Arc<Version>>,
    /// What is run: the target, or what a failed rollout went back to.
    pub effective: Option<Arc<Version>>,
    pub memo: Arc<AppMemo>,
}

/// A container seen on a host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub key: Key,
    pub host: u32,
    pub condition: Condition,
    pub instance: &'a ObservedInstance,
}

/// Which of an app's instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub slot: u32,
    pub incarnation: u32,
    pub revision: crate::model::Revision,
}

/// What is known of an instance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fact {
    pub spot: Spot,
    pub condition: Condition,
    /// Whether its host has a subnet, and the instance is not in it.
    pub outside: bool,
}

/// What a record says of where its instance is. It lies together for all of an app's instances, where
/// records and their assignments are scattered over memory: a pass over many is bound by that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub key: Key,
    /// Its host's index; `None`: the host is forgotten.
    pub host: Option<u32>,
    pub address: Ipv4Addr,
    /// Whether ports of its host lead to it.
    pub published: bool,
    /// A hash of all of the record that servers are made from.
    pub mark: u64,
}

/// What an instance does, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// Its host was not seen since it could have changed.
    Unseen,
    /// Its host was seen, without it.
    Absent,
    Created,
    /// Running, and nobody asked it yet.
    Unasked,
    NotReady,
    Ready,
    Exited,
}

/// The result of an action on an app's behalf.
#[derive(Debug, Clone, Copy)]
pub(super) struct AppOutcome<'a> {
    pub host: u32,
    pub key: &'a ActionKey,
    pub result: &'a std::result::Result<Done, Error>,
}

/// A host nobody remembers: a network may be left there from before the ledger was lost.
fn unknown_host() -> Arc<HostLedger> {
    Arc::new(HostLedger { network: NetworkLedger::Asked, ..HostLedger::default() })
}

impl<'a> HostState<'a> {
    pub(super) fn new(
        id: HostId,
        view: Option<&'a HostView>,
        ledger: Option<&Arc<HostLedger>>,
    ) -> Self {
        Self {
            mark: xxh3_64(id.as_str().as_bytes()),
            id,
            view,
            ledger: ledger.cloned().unwrap_or_else(unknown_host),
            ack: 0,
            gone: false,
            used: Used::default(),
            unseen: Vec::new(),
            taken: None,
            parts: Vec::new(),
            closing: Vec::new(),
            hold: false,
            network: None,
            images: Vec::new(),
            runs: Vec::new(),
            table: None,
            stops: Vec::new(),
        }
    }

    /// What its balancer was seen to serve.
    pub(super) fn balancer(&self) -> Option<&'a ObservedBalancer> {
        self.view.and_then(|v| v.seen.as_ref()?.balancer.as_ref())
    }

    /// Whether it can be asked to do anything.
    pub(super) fn reachable(&self) -> bool {
        self.view.is_some_and(|v| v.reachable && v.seen.is_some())
    }

    /// Whether destructive actions are allowed on it.
    pub(super) fn fresh(&self) -> bool {
        self.reachable() && self.view.is_some_and(|v| v.fresh)
    }

    pub(super) fn edit(&mut self) -> &mut HostLedger {
        Arc::make_mut(&mut self.ledger)
    }
}

impl Condition {
    fn of(state: &InstanceState) -> Self {
        match state {
            InstanceState::Created => Self::Created,
            InstanceState::Running(Readiness::Unknown) => Self::Unasked,
            InstanceState::Running(Readiness::NotReady(_)) => Self::NotReady,
            InstanceState::Running(Readiness::Ready) => Self::Ready,
            InstanceState::Exited(_) => Self::Exited,
        }
    }

    /// Whether the checks of an instance that served fail, as far as is known: who failed them, and was not asked since,
    /// is not taken to be well. So it is after a restart of the platform, and while the host is away.
    pub(super) const fn fails(self, record: &InstanceLedger) -> bool {
        match self {
            Self::Ready => false,
            Self::NotReady => true,
            _ => record.failing.is_some(),
        }
    }

    /// Whether its container is there.
    pub(super) const fn is_seen(self) -> bool {
        !matches!(self, Self::Unseen | Self::Absent)
    }
}

impl Used {
    pub(super) fn add(&mut self, resources: &Resources) {
        self.instances += 1;
        self.cpu += resources.cpu.map_or(0, |c| u64::from(c.millis()));
        self.memory += resources.memory.map_or(0, crate::model::ByteSize::get);
    }

    pub(super) fn take(&mut self, resources: &Resources) {
        self.instances = self.instances.saturating_sub(1);
        self.cpu = self.cpu.saturating_sub(resources.cpu.map_or(0, |c| u64::from(c.millis())));
        let memory = resources.memory.map_or(0, crate::model::ByteSize::get);
        self.memory = self.memory.saturating_sub(memory);
    }
}

impl<'a> AppState<'a> {
    fn new(
        name: &AppName,
        view: Option<&'a AppView>,
        ledger: Option<&Arc<AppLedger>>,
        memo: Option<&Arc<AppMemo>>,
    ) -> Self {
        let known = ledger.map_or(0, |l| l.instances.len());
        Self {
            name: name.clone(),
            view,
            ledger: ledger.cloned().unwrap_or_default(),
            seen: Vec::with_capacity(known),
            facts: Vec::with_capacity(known),
            duplicates: Vec::new(),
            outcomes: Vec::new(),
            target: None,
            effective: None,
            memo: memo.cloned().unwrap_or_default(),
        }
    }

    pub(super) fn edit(&mut self) -> &mut AppLedger {
        Arc::make_mut(&mut self.ledger)
    }

    /// The app as it was deployed last, as far as that is known.
    pub(super) fn settings(&self) -> Option<&Arc<App>> {
        self.view.map(|v| &v.app).or_else(|| self.ledger.settings())
    }

    /// What the container of an instance was seen to do.
    pub(super) fn state_of(&self, fact: &Fact) -> Option<&'a InstanceState> {
        let is = |s: &&Seen<'_>| s.key == fact.spot.key && Some(s.host) == fact.spot.host;
        self.seen.iter().find(is).map(|seen| &seen.instance.state)
    }

    pub(super) fn id(&self, index: usize) -> InstanceId {
        self.ledger.instances[index].id(&self.name)
    }

    /// How long its instances drain, at most: as one that says nothing, where what it says is not known.
    pub(super) fn drain(&self) -> Duration {
        self.settings().map_or_else(default_drain, |app| app.stop.drain)
    }

    /// How many live instances are ready.
    pub(super) fn ready(&self) -> u32 {
        let live = self.ledger.instances.iter().zip(&self.facts);
        live.filter(|(i, f)| i.is_live() && f.condition == Condition::Ready).count() as u32
    }
}

impl Pass<'_> {
    /// Asks for a pass at `when`.
    pub(super) fn wake(&mut self, when: Duration) {
        self.again = Some(self.again.map_or(when, |again| again.min(when)));
    }

    pub(super) fn say(
        &mut self,
        app: Option<&AppName>,
        host: Option<&HostId>,
        what: What,
        text: String,
    ) {
        self.reasons.push(Reason { app: app.cloned(), host: host.cloned(), what, text });
    }

    /// Whether the action failed and has to wait on this host. Asks for a pass when it may be tried.
    pub(super) fn must_wait(&mut self, host: u32, key: &ActionKey) -> bool {
        let retries = &self.hosts[host as usize].ledger.retries;
        let Some(until) = retries.iter().find(|r| r.key == *key).map(|r| r.until) else {
            return false;
        };
        if until > self.now.monotonic {
            self.wake(until);
            return true;
        }
        false
    }

    /// Whether balancers need a host port to reach instances of other hosts.
    pub(super) fn publishes(&self) -> bool {
        self.publish && self.cluster.reach == Reach::HostPort
    }
}

/// Puts a pass together from the snapshot and the ledger: hosts in order, apps in order.
pub(super) fn open<'a>(
    world: &'a World,
    ledger: &'a Ledger,
    now: Now,
) -> (Pass<'a>, Vec<AppState<'a>>) {
    let ids = merged(world.hosts.keys(), ledger.hosts.keys());
    let (mut views, mut ledgers) = (beside(&world.hosts), beside(&ledger.hosts));
    let hosts: Vec<_> =
        ids.into_iter().map(|id| HostState::new(id.clone(), views(id), ledgers(id))).collect();
    let same_hosts = hosts.iter().map(|h| &h.id).eq(ledger.memo.hosts.iter());
    let pass = Pass {
        cluster: &world.cluster,
        now,
        places: Vec::new(),
        seq: ledger.seq + 1,
        hosts,
        publish: world.hosts.len() > 1,
        settled: true,
        quarantine: ledger.quarantine,
        kept_alive: kept_alive(world),
        unknown: Vec::new(),
        began: ledger.began.unwrap_or(now.monotonic),
        same_hosts,
        reasons: Vec::new(),
        again: None,
        watch: BTreeSet::new(),
    };
    let apps = gather(world, ledger, &pass);
    (pass, apps)
}

/// Over all apps: they share listeners, and a client's connection with them.
fn kept_alive(world: &World) -> Duration {
    let ports = world.apps.values().flat_map(|view| view.app.ports.values());
    let outside = ports.filter(|port| port.outside.is_some());
    outside.map(|port| port.timeouts.keep_alive).max().unwrap_or_default()
}

fn gather<'a>(world: &'a World, ledger: &'a Ledger, pass: &Pass<'a>) -> Vec<AppState<'a>> {
    let names = merged(world.apps.keys(), ledger.apps.keys());
    let (mut views, mut ledgers) = (beside(&world.apps), beside(&ledger.apps));
    let mut memos = beside(&ledger.memo.apps);
    let mut apps: Vec<_> = names
        .iter()
        .map(|name| AppState::new(name, views(name), ledgers(name), memos(name)))
        .collect();
    // Looked up for every instance: their text lies together.
    let text: String = names.iter().map(|name| name.as_str()).collect();
    let mut rest = text.as_str();
    let mut index = Index::with_capacity_and_hasher(names.len(), <_>::default());
    for (name, at) in names.iter().zip(0..) {
        let (text, after) = rest.split_at(name.as_str().len());
        index.insert(text, at);
        rest = after;
    }
    for (host, state) in pass.hosts.iter().enumerate() {
        let Some(view) = state.view else { continue };
        let Some(seen) = view.seen.as_deref() else { continue };
        for run in seen.instances.chunk_by(|a, b| a.id.app == b.id.app) {
            let name = &run[0].id.app;
            let at = *index.entry(name.as_str()).or_insert_with(|| {
                apps.push(AppState::new(name, None, None, None));
                apps.len() as u32 - 1
            });
            apps[at as usize].seen.extend(run.iter().map(|i| Seen::new(host as u32, i)));
        }
        for outcome in &view.outcomes {
            let (ActionKey::Image(name) | ActionKey::Instance(InstanceId { app: name, .. })) =
                &outcome.action
            else {
                continue;
            };
            if let Some(at) = index.get(name.as_str()) {
                let (key, result) = (&outcome.action, &outcome.result);
                let outcome = AppOutcome { host: host as u32, key, result };
                apps[*at as usize].outcomes.push(outcome);
            }
        }
    }
    apps
}

/// Two sets of names as one, in order.
fn merged<'a, K: Ord>(
    a: impl Iterator<Item = &'a K>,
    b: impl Iterator<Item = &'a K>,
) -> Vec<&'a K> {
    let mut names: Vec<&K> = a.chain(b).collect();
    // Two runs in order: the stable sort merges them.
    names.sort();
    names.dedup();
    names
}

/// Looks up what is asked for in order: one walk along the map.
fn beside<'a, K: Ord, V>(map: &'a BTreeMap<K, V>) -> impl FnMut(&K) -> Option<&'a V> {
    let mut rest = map.iter().peekable();
    move |key| {
        while rest.next_if(|(other, _)| *other < key).is_some() {}
        rest.next_if(|(other, _)| *other == key).map(|(_, value)| value)
    }
}

impl<'a> Seen<'a> {
    fn new(host: u32, instance: &'a ObservedInstance) -> Self {
        let id = &instance.id;
        let key = Key { slot: id.slot, incarnation: id.incarnation, revision: id.revision };
        Self { key, host, condition: Condition::of(&instance.state), instance }
    }
}

/// Puts the plan together: the new ledger, and the actions of each host in the order in which they lean
/// on each other.
pub(super) fn close(
    mut pass: Pass<'_>,
    apps: Vec<AppState<'_>>,
    tables: Vec<Option<TableMemo>>,
    before: &Ledger,
) -> Plan {
    let now = pass.now.monotonic;
    let hosts = std::mem::take(&mut pass.hosts);
    let ids = hosts.iter().map(|h| h.id.clone());
    let ids = if pass.same_hosts { before.memo.hosts.clone() } else { ids.collect() };
    let memos = apps.iter().map(|a| (a.name.clone(), a.memo.clone())).collect();
    let memo = Memo { hosts: ids, apps: memos, tables };
    let mut ledger = Ledger {
        seq: before.seq,
        at: before.at,
        began: Some(pass.began),
        quarantine: pass.quarantine,
        hosts: BTreeMap::new(),
        apps: apps.into_iter().filter_map(remembered).collect(),
        memo,
    };
    let mut actions = BTreeMap::new();
    for host in hosts {
        let mut list: Vec<Action> = host.network.into_iter().collect();
        list.extend(host.images);
        list.extend(host.runs);
        list.extend(host.table);
        list.extend(host.stops);
        if !is_forgotten(&host.ledger, now) {
            ledger.hosts.insert(host.id.clone(), host.ledger);
        }
        if !list.is_empty() {
            actions.insert(host.id, list);
        }
    }
    if !same(&ledger, before) {
        (ledger.seq, ledger.at) = (pass.seq, now);
        // What was noted late in this pass may decide more, or when to wake, early in the next.
        pass.wake(now);
    }
    Plan { actions, ledger, reasons: pass.reasons, again: pass.again, watch: pass.watch }
}

/// A removed app is forgotten once nothing of it is left.
fn remembered(app: AppState<'_>) -> Option<(AppName, Arc<AppLedger>)> {
    let AppLedger { instances, closing, leaving, .. } = &*app.ledger;
    let left = !(instances.is_empty() && closing.is_empty() && leaving.is_empty());
    (left || app.view.is_some()).then_some((app.name, app.ledger))
}

/// Whether nothing was written: what is equal is shared.
fn same(ledger: &Ledger, before: &Ledger) -> bool {
    let hosts = ledger.hosts.values().zip(before.hosts.values());
    let apps = ledger.apps.values().zip(before.apps.values());
    (ledger.began, ledger.quarantine) == (before.began, before.quarantine)
        && (ledger.hosts.len(), ledger.apps.len()) == (before.hosts.len(), before.apps.len())
        && hosts.into_iter().all(|(a, b)| Arc::ptr_eq(a, b))
        && apps.into_iter().all(|(a, b)| Arc::ptr_eq(a, b))
}
