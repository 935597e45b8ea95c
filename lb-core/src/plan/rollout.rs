//! How many instances of which version to start now, and which to drain: scaling, rollouts, canaries and
//! the way back from a rollout that failed.
//!
//! Level-triggered, as Kubernetes' Deployment controller: each pass compares what is there with what is
//! wanted, and nothing is remembered of a rollout but its verdict.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use super::What;
use super::drain::balancers;
use super::pass::{AppState, Condition, Pass};
use super::phase::replace_after;
use super::replicas::Rolling;
use super::version::forgive;
use super::why::MOST_SAID;
use crate::ledger::{InstanceLedger, Phase, SlotLedger, Version};
use crate::model::{Count, ServerName};
use crate::time::Now;

/// A new instance that was not even seen running after this, beside its `ready_within`, fails its
/// rollout: the time an image may take to come.
const IMAGE_LIMIT: Duration = Duration::from_secs(600);

/// What an app's live instances should become.
#[derive(Debug, Default)]
pub(super) struct Moves {
    pub start: Vec<Start>,
    /// Indexes of instances to drain.
    pub drain: Vec<usize>,
}

/// So many instances of a version.
#[derive(Debug)]
pub(super) struct Start {
    pub version: Arc<Version>,
    pub count: u32,
}

/// An app's live instances, by what is to become of them.
#[derive(Debug, Default)]
pub(super) struct Groups {
    new: Vec<usize>,
    old: Vec<usize>,
    new_ready: u32,
    old_ready: u32,
    /// Slots they fill.
    slots: usize,
    /// Slots of crashed instances that wait.
    waiting: u32,
    /// Those whose checks have failed for too long, the longest first: each is replaced, and goes once enough
    /// others are ready.
    hung: Vec<usize>,
}

impl Groups {
    /// Whether anything live is not as it should be.
    pub(super) fn rolling(&self) -> Rolling {
        if self.old.is_empty() { Rolling::No } else { Rolling::Yes }
    }
}

/// Decides the moves towards `wanted` instances of the version to run.
pub(super) fn moves(
    pass: &mut Pass<'_>,
    app: &mut AppState<'_>,
    mut groups: Groups,
    wanted: u32,
) -> Moves {
    if app.view.is_none() {
        return Moves { drain: live(app), ..Moves::default() };
    }
    if judge(pass, app) == Verdict::GoesBack {
        groups = group(pass, app);
    }
    let Some(version) = app.effective.clone() else { return Moves::default() };
    groups.waiting = waiting(pass, app, groups.slots);
    let mut moves = if groups.old.is_empty() {
        conclude(pass, app, &version, wanted, groups.new_ready);
        scale(pass, app, &groups, version, wanted)
    } else {
        if app.ledger.good.is_none() && groups.new_ready > 0 {
            app.edit().good = Some(Version::clone(&version));
        }
        roll(pass, app, &groups, &version, wanted)
    };
    if !groups.hung.is_empty() {
        replace_hung(pass, app, &groups, wanted, &mut moves);
    }
    let Margin { surge, .. } = Margin::of(app, wanted);
    if surge == 0 {
        // What must not run beside another one waits for its end, not only for its turn to drain.
        let live = (groups.new.len() + groups.old.len() + groups.hung.len()) as u32;
        let running = live + leaving(app) + groups.waiting;
        shorten(&mut moves.start, wanted.saturating_sub(running));
    }
    moves
}

/// Instances that are no longer wanted and may run still.
fn leaving(app: &AppState<'_>) -> u32 {
    let ended = |c: Condition| matches!(c, Condition::Exited | Condition::Absent);
    let instances = app.ledger.instances.iter().zip(&app.facts);
    instances.filter(|(r, f)| !r.is_live() && !ended(f.condition)).count() as u32
}

/// Starts at most so many.
fn shorten(starts: &mut Vec<Start>, mut most: u32) {
    for start in starts.iter_mut() {
        start.count = start.count.min(most);
        most -= start.count;
    }
    starts.retain(|start| start.count > 0);
}

/// What hangs is replaced within the bounds of a rollout: others start beside it as far as the surge goes, and
/// it goes as far as enough others are ready or may be missing. Where checks fail on all, because of what all
/// of them lean on, none goes before another one is ready.
fn replace_hung(
    pass: &mut Pass<'_>,
    app: &AppState<'_>,
    groups: &Groups,
    wanted: u32,
    moves: &mut Moves,
) {
    let hung = groups.hung.len() as u32;
    let Margin { surge, unavailable } = Margin::of(app, wanted);
    let others = (groups.new.len() + groups.old.len()) as u32 + groups.waiting;
    shorten(&mut moves.start, (wanted + surge).saturating_sub(others + hung));
    let ready = groups.new_ready + groups.old_ready;
    let going = (ready + unavailable + hung).saturating_sub(wanted).min(hung);
    moves.drain.extend(&groups.hung[..going as usize]);
    for i in &groups.hung {
        let text = format!("{} fails its checks for too long: it is replaced", app.id(*i));
        let host = app.ledger.instances[*i].assignment.host.clone();
        pass.say(Some(&app.name), Some(&host), What::Replace, text);
    }
}

/// How far the count of instances may differ from the wanted one while some are replaced.
struct Margin {
    surge: u32,
    unavailable: u32,
}

impl Margin {
    fn of(app: &AppState<'_>, wanted: u32) -> Self {
        let default = (Count::Exactly(1), Count::Exactly(0));
        let (surge, unavailable) = app.view.map_or(default, |v| v.app.rollout_bounds());
        let unavailable = unavailable.of_rounded_down(wanted);
        let surge = surge.of_rounded_up(wanted);
        Self { surge: if unavailable == 0 { surge.max(1) } else { surge }, unavailable }
    }
}

fn live(app: &AppState<'_>) -> Vec<usize> {
    let instances = app.ledger.instances.iter().enumerate();
    instances.filter(|(_, r)| r.is_live()).map(|(i, _)| i).collect()
}

/// Of the revision to run, in its host's subnet, and reachable from every host that leads to it.
fn is_current(pass: &Pass<'_>, app: &AppState<'_>, version: &Version, i: usize) -> bool {
    let fact = &app.facts[i];
    fact.spot.key.revision == version.revision && !fact.outside && !lacks_host_port(pass, app, i)
}

/// Made while its host was alone, and now wanted by the balancers of others.
fn lacks_host_port(pass: &Pass<'_>, app: &AppState<'_>, i: usize) -> bool {
    let (record, exposed) = (&app.ledger.instances[i], &app.ledger.exposed);
    pass.publishes() && app.view.is_some_and(|v| record.lacks_host_port(&v.app, exposed))
}

/// Compares the live instances with the version to run.
pub(super) fn group(pass: &Pass<'_>, app: &AppState<'_>) -> Groups {
    let Some(version) = &app.effective else { return Groups::default() };
    let live = app.ledger.instances.iter().enumerate().filter(|(_, r)| r.is_live());
    let mut groups = Groups { new: Vec::with_capacity(app.facts.len()), ..Groups::default() };
    let mut last = None;
    let hangs = app.settings().map(|settings| replace_after(settings));
    let hangs = |since: Duration| hangs.is_some_and(|after| pass.now.since(since) >= after);
    for (i, record) in live {
        groups.slots += usize::from(last.replace(record.slot) != Some(record.slot));
        if record.failing.is_some_and(hangs) {
            groups.hung.push(i);
            continue;
        }
        let ready = u32::from(app.facts[i].condition == Condition::Ready);
        match is_current(pass, app, version, i) {
            true => (groups.new.push(i), groups.new_ready += ready),
            false => (groups.old.push(i), groups.old_ready += ready),
        };
    }
    groups.hung.sort_by_key(|i| app.ledger.instances[*i].failing);
    groups
}

/// How many slots wait after a crash. `filled` have a live instance, and do not.
fn waiting(pass: &mut Pass<'_>, app: &AppState<'_>, filled: usize) -> u32 {
    // Every instance's slot is remembered: none is left. A walk over all slots is not cheap.
    if app.ledger.slots.len() == filled {
        return 0;
    }
    let now = pass.now.monotonic;
    let instances = &app.ledger.instances;
    let is_filled = |slot: u32| {
        let first = instances.partition_point(|r| r.slot < slot);
        instances[first..].iter().take_while(|r| r.slot == slot).any(InstanceLedger::is_live)
    };
    let mut count = 0;
    for (n, slot) in app.ledger.slots.iter().filter(|(n, s)| s.until > now && !is_filled(**n)) {
        count += 1;
        pass.wake(slot.until);
        if count <= MOST_SAID {
            let text = crash_loop(*n, slot, pass.now);
            pass.say(Some(&app.name), None, What::CrashLoop, text);
        }
    }
    count
}

fn crash_loop(n: u32, slot: &SlotLedger, now: Now) -> String {
    let last = match (slot.code, slot.out_of_memory) {
        (_, true) => ", the last time for want of memory".to_owned(),
        (Some(code), false) => format!(", the last time with exit code {code}"),
        (None, false) if slot.never_ready > 0 => {
            ", the last time because it was not ready in time".to_owned()
        }
        (None, false) => String::new(),
    };
    // In whole seconds, so that it reads the same in every pass.
    let at = now.wall + slot.until.saturating_sub(now.monotonic);
    let at = at.round(jiff::Unit::Second).unwrap_or(at);
    format!("slot {n} failed {} times in a row{last}: the next try is at {at}", slot.crashes)
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    GoesOn,
    GoesBack,
}

/// A new instance that is not ready in time ends its rollout, if there is something to go back to.
fn judge(pass: &mut Pass<'_>, app: &mut AppState<'_>) -> Verdict {
    let (Some(target), Some(good)) = (app.target.clone(), &app.ledger.good) else {
        return Verdict::GoesOn;
    };
    if target.revision == good.revision {
        return Verdict::GoesOn;
    }
    let good = good.clone();
    if app.ledger.failed == Some(target.revision) {
        let text = format!("revision {} failed: {} stays", target.revision, good.revision);
        pass.say(Some(&app.name.clone()), None, What::Rollout, text);
        return Verdict::GoesOn;
    }
    let Some(late) = earliest_deadline(app, &target) else { return Verdict::GoesOn };
    if late > pass.now.monotonic {
        pass.wake(late);
        return Verdict::GoesOn;
    }
    let within = target.app.rollout.ready_within;
    let text = format!(
        "revision {} was not ready within {within:?}: back to {}",
        target.revision, good.revision
    );
    pass.say(Some(&app.name.clone()), None, What::Rollout, text);
    let ledger = app.edit();
    ledger.failed = Some(target.revision);
    forgive(ledger, pass.now.monotonic);
    app.effective = Some(Arc::new(good));
    Verdict::GoesBack
}

fn earliest_deadline(app: &AppState<'_>, target: &Version) -> Option<Duration> {
    let within = target.app.rollout.ready_within;
    let starting = app.ledger.instances.iter().filter(|r| r.revision == target.revision);
    let deadlines = starting.filter_map(|r| match r.phase {
        Phase::Starting { running } => {
            let unready = app.ledger.slots.get(&r.slot).and_then(|s| s.unready);
            Some(unready.or(running).map_or(r.asked + IMAGE_LIMIT, |since| since) + within)
        }
        _ => None,
    });
    // Slots that wait after a crash count as well, or a crash loop would never fail a rollout.
    let crashed = app.ledger.slots.values().filter_map(|s| s.unready).map(|since| since + within);
    deadlines.chain(crashed).min()
}

/// The first version that serves is good, and each later one once all its instances are ready.
fn conclude(
    pass: &mut Pass<'_>,
    app: &mut AppState<'_>,
    version: &Arc<Version>,
    wanted: u32,
    ready: u32,
) {
    let enough = match &app.ledger.good {
        Some(good) if good.revision == version.revision => {
            match Arc::ptr_eq(&good.app, &version.app) || *good == **version {
                true => return,
                false => 0,
            }
        }
        // Without instances it has not served.
        Some(_) => wanted.max(1),
        None => 1,
    };
    if ready < enough {
        return;
    }
    app.edit().good = Some(Version::clone(version));
    if enough > 0 {
        let text = format!("revision {} runs on {ready} instances", version.revision);
        pass.say(Some(&app.name.clone()), None, What::Rollout, text);
    }
}

/// Nothing old is left: more or fewer of the same.
fn scale(
    pass: &Pass<'_>,
    app: &AppState<'_>,
    groups: &Groups,
    version: Arc<Version>,
    wanted: u32,
) -> Moves {
    let have = groups.new.len() as u32;
    let count = wanted.saturating_sub(have + groups.waiting);
    let start = if count > 0 { vec![Start { version, count }] } else { Vec::new() };
    let surplus = have.saturating_sub(wanted) as usize;
    let drain = match surplus {
        0 => Vec::new(),
        _ => victims(pass, app, &groups.new).into_iter().take(surplus).collect(),
    };
    Moves { start, drain }
}

/// New beside old: start within the surge, drain above the floor.
fn roll(
    pass: &mut Pass<'_>,
    app: &AppState<'_>,
    groups: &Groups,
    version: &Arc<Version>,
    wanted: u32,
) -> Moves {
    let bounds = Bounds::of(app, version, wanted);
    let new = groups.new.len() as u32 + groups.waiting;
    let old = groups.old.len() as u32;
    let room = (wanted + bounds.surge).saturating_sub(new + old);
    let count = bounds.new.saturating_sub(new).min(room);
    let mut start = Vec::new();
    if let Some(good) = app.ledger.good.clone().filter(|_| bounds.old > old) {
        let count = (bounds.old - old).min(room.saturating_sub(count));
        start.push(Start { version: Arc::new(good), count });
    }
    start.push(Start { version: version.clone(), count });
    start.retain(|s| s.count > 0);
    let drain = droppable(pass, app, groups, &bounds);
    let text = format!(
        "revision {}: {} of {} ready; {old} others left{}",
        version.revision,
        groups.new_ready,
        bounds.new,
        if bounds.old > 0 { " beside the canary" } else { "" }
    );
    pass.say(Some(&app.name), None, What::Rollout, text);
    Moves { start, drain }
}

/// What a rollout aims at and stays within.
#[derive(Debug)]
struct Bounds {
    /// Instances of the new version in the end.
    new: u32,
    /// Instances of the old one kept beside a canary.
    old: u32,
    surge: u32,
    /// Fewer ready ones are not allowed.
    floor: u32,
}

impl Bounds {
    fn of(app: &AppState<'_>, version: &Version, wanted: u32) -> Self {
        let Margin { surge, unavailable } = Margin::of(app, wanted);
        let canary = app.view.and_then(|v| v.app.rollout.canary.clone());
        let going_back = app.target.as_ref().is_some_and(|t| t.revision != version.revision);
        let canary = canary.filter(|_| !going_back && wanted > 0 && replaces_good(app, version));
        let new = canary.as_ref().map_or(wanted, |c| u32::from(c.instances).min(wanted));
        let old = canary.map_or(0, |_| (wanted - new).max(1));
        Self { new, old, surge, floor: wanted.saturating_sub(unavailable) }
    }
}

/// Whether a good version of another revision is there to try this one beside.
fn replaces_good(app: &AppState<'_>, version: &Version) -> bool {
    app.ledger.good.as_ref().is_some_and(|g| g.revision != version.revision)
}

/// The old instances that can go now: first those that are not ready, as long as enough are left that
/// could become ready; then ready ones above the floor.
fn droppable(pass: &Pass<'_>, app: &AppState<'_>, groups: &Groups, bounds: &Bounds) -> Vec<usize> {
    let new = groups.new.len() as u32;
    let old = groups.old.len() as u32;
    let not_ready = new - groups.new_ready;
    let spare = (new + old).saturating_sub(bounds.floor + not_ready);
    let most = spare.min(old.saturating_sub(bounds.old));
    let unready = (old - groups.old_ready).min(most);
    let above = (groups.new_ready + groups.old_ready).saturating_sub(bounds.floor);
    let ready = (most - unready).min(above);
    let order = victims(pass, app, &groups.old);
    order.into_iter().take((unready + ready) as usize).collect()
}

/// The instances in the order in which they are given up: not ready first; then, each time, the one with
/// the fewest connections on the host that has most of the app, of those on the fullest.
fn victims(pass: &Pass<'_>, app: &AppState<'_>, among: &[usize]) -> Vec<usize> {
    let mut crowd = BTreeMap::<u32, u32>::new();
    for i in live(app) {
        *crowd.entry(host_of(app, i)).or_default() += 1;
    }
    let is_ready = |i: &usize| app.facts[*i].condition == Condition::Ready;
    let (ready, mut order): (Vec<usize>, Vec<usize>) = among.iter().partition(|i| is_ready(i));
    let never_served = |i: usize| matches!(app.ledger.instances[i].phase, Phase::Starting { .. });
    order.sort_by_key(|i| (Reverse(never_served(*i)), Reverse(app.ledger.instances[*i].slot)));
    for i in &order {
        crowd.entry(host_of(app, *i)).and_modify(|n| *n -= 1);
    }
    let mut queues = BTreeMap::<u32, Vec<usize>>::new();
    for i in ready {
        queues.entry(host_of(app, i)).or_default().push(i);
    }
    let balancers = balancers(pass, app);
    let mut heap = BinaryHeap::new();
    for (host, queue) in &mut queues {
        // The next victim stands last.
        let slot = |i: usize| app.ledger.instances[i].slot;
        queue.sort_by_cached_key(|i| (Reverse(connections(pass, app, &balancers, *i)), slot(*i)));
        let full = pass.hosts.get(*host as usize).map_or(0, |h| h.used.instances);
        heap.push((crowd[host], full, Reverse(*host)));
    }
    while let Some((crowd, full, Reverse(host))) = heap.pop() {
        let Some(i) = queues.get_mut(&host).and_then(Vec::pop) else { continue };
        order.push(i);
        heap.push((crowd - 1, full.saturating_sub(1), Reverse(host)));
    }
    order
}

fn host_of(app: &AppState<'_>, i: usize) -> u32 {
    app.facts[i].spot.host.unwrap_or(u32::MAX)
}

/// Open connections of an instance over the balancers that lead to it.
fn connections(pass: &Pass<'_>, app: &AppState<'_>, balancers: &[u32], i: usize) -> u64 {
    let server = ServerName::from(&app.id(i).container_name(&pass.cluster.id));
    let hosts = balancers.iter().map(|h| &pass.hosts[*h as usize]);
    let seen = hosts.filter_map(|h| h.view.and_then(|v| v.seen.as_deref()));
    seen.filter_map(|s| s.balancer.as_ref()?.open.get(&server)).sum()
}
