//! From the first drained connection to the stopped container: each step waits for what balancers were
//! seen to do, and for no longer than its deadline.

use std::time::Duration;

use super::pass::{AppState, Condition, Pass};
use super::spec::{Place, container_spec};
use super::{Action, ActionKey, What, address};
use crate::ledger::{AppLedger, NetworkLedger, Phase, Version};
use crate::model::{InstanceId, ServerName, Stop};

/// A reachable balancer that does not put a table in force in which an instance drains, or is gone, is waited for so
/// long after the time it had.
const LEAVE_LIMIT: Duration = Duration::from_secs(60);

/// Starts to drain the instances; those that never served leave at once.
pub(super) fn begin(pass: &mut Pass<'_>, app: &mut AppState<'_>, instances: &[usize]) {
    if instances.is_empty() {
        return;
    }
    let (now, seq) = (pass.now.monotonic, pass.seq);
    let time = app.drain();
    let ledger = app.edit();
    for i in instances {
        let phase = &mut ledger.instances[*i].phase;
        *phase = match phase {
            Phase::Serving { .. } => {
                Phase::Draining { seq, time, until: now + time, acked: [].into() }
            }
            _ => Phase::Left { seq, until: now },
        };
    }
    let text = format!("{} instances drain and are stopped", instances.len());
    pass.say(Some(&app.name.clone()), None, What::Drain, text);
}

/// Lets drained instances leave the tables, and stops those that have left.
pub(super) fn progress(pass: &mut Pass<'_>, app: &mut AppState<'_>) {
    let leaves = |p: &Phase| !matches!(p, Phase::Starting { .. } | Phase::Serving { .. });
    if !app.ledger.instances.iter().any(|r| leaves(&r.phase)) {
        return;
    }
    let balancers = balancers(pass, app);
    for i in 0..app.facts.len() {
        if matches!(app.ledger.instances[i].phase, Phase::Draining { .. }) {
            drain(pass, app, i, &balancers);
        }
        if let Phase::Left { seq, until } = app.ledger.instances[i].phase {
            leave(pass, app, i, Departure { seq, until, balancers: &balancers });
        }
        if app.ledger.instances[i].phase == Phase::Dead {
            bury(pass, app, i);
        }
    }
}

/// Registered hosts whose balancer may lead to the app's instances.
pub(super) fn balancers(pass: &Pass<'_>, app: &AppState<'_>) -> Vec<u32> {
    let AppLedger { exposed, closing, leaving, .. } = &*app.ledger;
    let ids = exposed.iter().chain(closing.keys()).chain(leaving.keys());
    let found = ids.filter_map(|id| pass.hosts.binary_search_by(|h| h.id.cmp(id)).ok());
    let known = found.filter(|h| pass.hosts[*h].view.is_some()).map(|h| h as u32);
    let mut all: Vec<u32> = known.chain(pass.unknown.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn drain(pass: &mut Pass<'_>, app: &mut AppState<'_>, i: usize, balancers: &[u32]) {
    let now = pass.now.monotonic;
    acknowledge(pass, app, i, balancers);
    let Phase::Draining { time, until, acked, .. } = &app.ledger.instances[i].phase else {
        return;
    };
    let server = ServerName::from(&app.id(i).container_name(&pass.cluster.id));
    let idle = |h: &u32| {
        let host = &pass.hosts[*h as usize];
        let (Some(acked), Some(seen)) =
            (acked.get(&host.id), host.view.and_then(|v| v.seen.as_ref()))
        else {
            return false;
        };
        // A balancer that was not seen shows nothing, which is not the same as no connection.
        let Some(balancer) = &seen.balancer else { return false };
        let open = balancer.open.get(&server).is_some_and(|n| *n > 0);
        host.reachable() && seen.began > *acked && !open
    };
    // Requests have their time from when their balancer was seen to send no more: told late, it sent them until then.
    let ends = |h: &u32| {
        let host = &pass.hosts[*h as usize];
        match acked.get(&host.id) {
            Some(at) => *at + *time,
            None if host.reachable() => *until + LEAVE_LIMIT,
            None => *until,
        }
    };
    let last = balancers.iter().filter(|h| !idle(h)).map(ends).max();
    if last.is_none_or(|last| now >= last) {
        app.edit().instances[i].phase = Phase::Left { seq: pass.seq, until: now };
        return;
    }
    pass.wake(last.unwrap_or(now));
    let busy: Vec<_> = balancers.iter().map(|h| pass.hosts[*h as usize].id.clone()).collect();
    pass.watch.extend(busy);
}

/// Notes the balancers that were seen to take no new connections for it.
fn acknowledge(pass: &Pass<'_>, app: &mut AppState<'_>, i: usize, balancers: &[u32]) {
    let Phase::Draining { seq, acked, .. } = &app.ledger.instances[i].phase else { return };
    let news: Vec<_> = balancers
        .iter()
        .map(|h| &pass.hosts[*h as usize])
        .filter(|h| h.ack >= *seq && !acked.contains_key(&h.id))
        .filter_map(|h| Some((h.id.clone(), h.view?.seen.as_ref()?.began)))
        .collect();
    if news.is_empty() {
        return;
    }
    if let Phase::Draining { acked, .. } = &mut app.edit().instances[i].phase {
        acked.extend(news);
    }
}

/// An instance on its way out.
#[derive(Clone, Copy)]
struct Departure<'a> {
    seq: u64,
    until: Duration,
    balancers: &'a [u32],
}

fn leave(pass: &mut Pass<'_>, app: &mut AppState<'_>, i: usize, departure: Departure<'_>) {
    let now = pass.now.monotonic;
    let Departure { seq, until, balancers } = departure;
    let given_up = until + LEAVE_LIMIT;
    let dropped = |h: &u32| {
        let host = &pass.hosts[*h as usize];
        host.ack >= seq || now >= given_up || (now >= until && !host.reachable())
    };
    if !balancers.iter().all(dropped) {
        pass.wake(if now < until { until } else { given_up });
        let waits: Vec<_> = balancers.iter().map(|h| pass.hosts[*h as usize].id.clone()).collect();
        pass.watch.extend(waits);
        return;
    }
    let Some(host) = app.facts[i].spot.host else { return };
    if pass.hosts[host as usize].fresh() {
        stop(pass, app, host, app.id(i));
    } else if pass.hosts[host as usize].reachable() {
        let id = pass.hosts[host as usize].id.clone();
        pass.watch.insert(id);
    } else if now >= until + LEAVE_LIMIT / 2 {
        // Nor can its host's balancer be told: it is given its time once it can be.
        app.edit().instances[i].phase = Phase::Left { seq, until: now };
    }
}

/// Removes what is left of a container that ended. Its name is never used again, so this is safe whatever
/// happened since it was seen.
fn bury(pass: &mut Pass<'_>, app: &AppState<'_>, i: usize) {
    let fact = &app.facts[i];
    let Some(host) = fact.spot.host.filter(|_| fact.condition != Condition::Unseen) else { return };
    if pass.hosts[host as usize].reachable() {
        stop(pass, app, host, app.id(i));
    }
}

/// Stops containers that bear the identity of an instance on another host.
pub(super) fn stop_duplicates(pass: &mut Pass<'_>, app: &AppState<'_>) {
    for duplicate in &app.duplicates {
        let host = &pass.hosts[duplicate.host as usize];
        let id = duplicate.instance.id.clone();
        let text = format!("{id} also runs on another host: this one is stopped");
        let (host_id, ready) = (host.id.clone(), host.fresh() && host.ack >= pass.seq - 1);
        pass.say(Some(&app.name), Some(&host_id), What::Drain, text);
        if ready {
            stop(pass, app, duplicate.host, id);
        }
    }
}

fn stop(pass: &mut Pass<'_>, app: &AppState<'_>, host: u32, id: InstanceId) {
    let key = ActionKey::Instance(id.clone());
    if pass.must_wait(host, &key) {
        return;
    }
    let grace = app.settings().map_or_else(|| Stop::default().grace, |a| a.stop.grace);
    pass.hosts[host as usize].stops.push(Action::Stop { id, grace });
}

/// Runs the instances that were asked for and have not been seen. Asked again each pass: starting twice is
/// harmless.
pub(super) fn run(pass: &mut Pass<'_>, app: &AppState<'_>) {
    for (record, fact) in app.ledger.instances.iter().zip(&app.facts) {
        let waits = matches!(record.phase, Phase::Starting { running: None });
        let Some(host) = fact.spot.host.filter(|h| waits && pass.hosts[*h as usize].reachable())
        else {
            continue;
        };
        let Some(version) = known_version(app, record.revision) else { continue };
        if address::ensure_network(pass, host) != NetworkLedger::Made {
            continue;
        }
        let id = record.id(&app.name);
        if pass.must_wait(host, &ActionKey::Instance(id.clone())) {
            continue;
        }
        let state = &mut pass.hosts[host as usize];
        let Some(subnet) = state.ledger.subnet else { continue };
        let place = Place { address: state.ledger.address, subnet };
        let spec = Box::new(container_spec(pass.cluster, place, &id, record, version));
        let auth = version.app.registry.clone();
        state.runs.push(Action::Run { id, spec, auth });
    }
}

fn known_version<'a>(
    app: &'a AppState<'_>,
    revision: crate::model::Revision,
) -> Option<&'a Version> {
    let all = [app.effective.as_deref(), app.target.as_deref(), app.ledger.good.as_ref()];
    all.into_iter().flatten().find(|v| v.revision == revision)
}
