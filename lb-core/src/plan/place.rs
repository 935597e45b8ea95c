//! Second step: on which host a new instance runs. Filter, then score: spread an app, then pack.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use super::address::{Full, assign, wake_for_room};
use super::pass::{AppState, Condition, Fact, HostState, Key, Pass, Spot};
use super::rollout::Start;
use super::{ActionKey, Reach, What};
use crate::ledger::{InstanceLedger, Phase, Version};
use crate::model::{App, AppName, LabelKey, LabelValue};

/// Places, names and addresses the instances to start, as far as there is room.
pub(super) fn start(pass: &mut Pass<'_>, app: &mut AppState<'_>, starts: Vec<Start>) {
    if starts.is_empty() {
        return;
    }
    if !pass.settled {
        let text = "new instances wait until what was there before is known";
        return pass.say(Some(&app.name), None, What::Start, text.to_owned());
    }
    for Start { version, count } in starts {
        let mut hosts = Candidates::of(pass, app, &version.app);
        let started = (0..count).take_while(|_| start_one(pass, app, &version, &mut hosts)).count();
        report(pass, app, &version, &hosts, &Outcome { asked: count, started: started as u32 });
    }
}

struct Outcome {
    asked: u32,
    started: u32,
}

fn report(
    pass: &mut Pass<'_>,
    app: &AppState<'_>,
    version: &Version,
    hosts: &Candidates,
    outcome: &Outcome,
) {
    let Outcome { asked, started } = *outcome;
    if started > 0 {
        let text = format!("{started} instances of revision {} started", version.revision);
        pass.say(Some(&app.name), None, What::Start, text);
    }
    if started < asked {
        let why = hosts.full.map_or("no reachable host may run it and has room", Full::text);
        let text = format!("{} of {asked} instances are not started: {why}", asked - started);
        pass.say(Some(&app.name), None, What::NoRoom, text);
    }
}

/// Until when a new instance of the app on the host could get an address or port that a balancer still leads
/// to, because a lost ledger knew of it.
fn quarantine(pass: &Pass<'_>, host: &HostState<'_>, app: &App) -> Duration {
    let reached = match pass.cluster.reach {
        Reach::Routed => true,
        Reach::HostPort => app.ports.values().any(|p| p.outside.is_some()),
    };
    let from_others = if pass.publish && reached { pass.quarantine } else { Duration::ZERO };
    host.ledger.quarantine.max(from_others)
}

/// Whether the host may run the app, room aside.
pub(super) fn may_run(host: &HostState<'_>, app: &App) -> bool {
    host.reachable() && has_labels(host, &app.placement.labels)
}

pub(super) fn has_labels(host: &HostState<'_>, labels: &BTreeMap<LabelKey, LabelValue>) -> bool {
    let has = host.view.map(|v| &v.facts.labels);
    has.is_some_and(|has| labels.iter().all(|(key, value)| has.get(key) == Some(value)))
}

/// The hosts that may run an app, the best on top.
#[derive(Debug)]
struct Candidates {
    heap: BinaryHeap<Reverse<Score>>,
    /// Why hosts fell out.
    full: Option<Full>,
    /// No slot before this one is free.
    slot: u32,
}

/// Smaller is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    /// Whether starting the app there has just failed.
    failed: bool,
    /// Instances of the app there.
    same: u32,
    /// Free share of the declared capacity in thousandths: less is better. 1000 where none is declared.
    free: u64,
    instances: u32,
    host: u32,
}

impl Candidates {
    fn of(pass: &mut Pass<'_>, app: &AppState<'_>, settings: &App) -> Self {
        let now = pass.now.monotonic;
        let mut same = BTreeMap::<u32, u32>::new();
        for (record, fact) in app.ledger.instances.iter().zip(&app.facts) {
            if let (true, Some(host)) = (record.is_live(), fact.spot.host) {
                *same.entry(host).or_default() += 1;
            }
        }
        let able = pass.hosts.iter().zip(0..).filter(|(h, _)| may_run(h, settings));
        let (able, waits): (Vec<_>, Vec<_>) =
            able.partition(|(host, _)| quarantine(pass, host, settings) <= now);
        let heap = able
            .into_iter()
            .map(|(host, i)| {
                let same = same.get(&i).copied().unwrap_or(0);
                Reverse(Score::of(host, i, same, &app.name))
            })
            .collect();
        let waits = waits.into_iter().map(|(host, _)| quarantine(pass, host, settings)).min();
        if let Some(until) = waits {
            pass.wake(until);
        }
        Self { heap, full: waits.map(|_| Full::Quarantine), slot: 0 }
    }
}

impl Score {
    fn of(host: &HostState<'_>, index: u32, same: u32, app: &AppName) -> Self {
        let failed = host.ledger.retries.iter().any(|r| match &r.key {
            ActionKey::Instance(id) => id.app == *app,
            _ => false,
        });
        let instances = host.used.instances;
        Self { failed, same, free: free_share(host), instances, host: index }
    }
}

/// The scarcer of CPU and memory, in thousandths of what is declared.
fn free_share(host: &HostState<'_>) -> u64 {
    let Some(capacity) = host.view.map(|v| v.facts.capacity) else { return 1000 };
    let share = |used: u64, of: u64| 1000u64.saturating_sub(used.saturating_mul(1000) / of.max(1));
    let cpu = capacity.cpu.map(|c| share(host.used.cpu, c.millis().into()));
    let memory = capacity.memory.map(|m| share(host.used.memory, m.get()));
    cpu.into_iter().chain(memory).min().unwrap_or(1000)
}

fn fits(host: &HostState<'_>, app: &App) -> bool {
    let Some(capacity) = host.view.map(|v| v.facts.capacity) else { return false };
    let mut after = host.used;
    after.add(&app.resources);
    capacity.cpu.is_none_or(|c| after.cpu <= c.millis().into())
        && capacity.memory.is_none_or(|m| after.memory <= m.get())
}

/// Starts one instance on the best host with room; a host without falls out for good.
fn start_one(
    pass: &mut Pass<'_>,
    app: &mut AppState<'_>,
    version: &Arc<Version>,
    candidates: &mut Candidates,
) -> bool {
    let slot = free_slot(pass, app, candidates.slot);
    while let Some(Reverse(score)) = candidates.heap.pop() {
        let host = score.host;
        if !fits(&pass.hosts[host as usize], &version.app) {
            continue;
        }
        match assign(pass, host, &version.app) {
            Ok(assignment) => {
                let phase = Phase::Starting { running: None };
                let asked = pass.now.monotonic;
                let (incarnation, revision) = (next_incarnation(app, slot), version.revision);
                let record = InstanceLedger {
                    slot,
                    incarnation,
                    revision,
                    assignment,
                    asked,
                    phase,
                    failing: None,
                };
                let state = &mut pass.hosts[host as usize];
                state.used.add(&version.app.resources);
                add(app, host, record);
                let next = Score::of(state, host, score.same + 1, &app.name);
                candidates.heap.push(Reverse(next));
                candidates.slot = slot + 1;
                return true;
            }
            Err(full) => {
                candidates.full = Some(full);
                wake_for_room(pass, host);
            }
        }
    }
    false
}

fn next_incarnation(app: &mut AppState<'_>, slot: u32) -> u32 {
    let known = app.edit().slots.entry(slot).or_default();
    known.next += 1;
    known.next - 1
}

fn add(app: &mut AppState<'_>, host: u32, record: InstanceLedger) {
    let spot = Spot::of(&record, Some(host));
    let fact = Fact { spot, condition: Condition::Unseen, outside: false };
    let instances = &mut app.edit().instances;
    let at = instances.partition_point(|r| Key::of(r) < spot.key);
    instances.insert(at, record);
    app.facts.insert(at, fact);
}

/// The lowest slot from `from` on that is neither filled nor waiting after a crash.
fn free_slot(pass: &Pass<'_>, app: &AppState<'_>, from: u32) -> u32 {
    let now = pass.now.monotonic;
    let instances = &app.ledger.instances;
    let start = instances.partition_point(|r| r.slot < from);
    let mut filled = instances[start..].iter().filter(|r| r.phase != Phase::Dead).peekable();
    let mut slot = from;
    loop {
        let mut free = app.ledger.slots.get(&slot).is_none_or(|s| s.until <= now);
        while filled.next_if(|r| r.slot == slot).is_some() {
            free = false;
        }
        if free {
            return slot;
        }
        slot += 1;
    }
}
