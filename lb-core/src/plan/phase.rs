//! How far each instance is, from what was seen of it: crashes, losses and returns are noticed here.

use std::sync::Arc;
use std::time::Duration;

use super::hosts::backoff;
use super::pass::{AppState, Condition, Fact, HostState, Pass};
use super::{ActionKey, InstanceState, What, address};
use crate::error::ErrorKind;
use crate::ledger::{Ending, InstanceLedger, LastEnd, NetworkLedger, Phase, Resting};
use crate::model::App;
use crate::runtime::Exit;

/// Longest wait before a crashing instance is started again.
const LONGEST_CRASH: Duration = Duration::from_secs(300);
/// A container that served so long has its slot's crashes forgotten.
const FORGET_CRASHES: Duration = Duration::from_secs(600);
/// After so many failures on a host an instance is started elsewhere.
const MOVE_AFTER: u32 = 3;
/// Longest an instance is given to become ready, however often it was not.
const LONGEST_START: Duration = Duration::from_secs(3600);

/// What becomes of an instance.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Keep,
    To(Phase),
    /// It ended by itself, and its container is still there.
    Crash,
    /// It ended by itself, and nothing is left of it.
    Vanish,
    /// It runs, and was not ready in the time it was given.
    GiveUp(Duration),
    /// What was left of it is gone.
    Remove,
}

/// Moves each instance to the phase that what was seen asks for.
pub(super) fn advance(pass: &mut Pass<'_>, app: &mut AppState<'_>) {
    let now = pass.now.monotonic;
    watch_checks(pass, app);
    // Backwards, so that removing one leaves the indexes before it as they are.
    for i in (0..app.facts.len()).rev() {
        let (record, fact) = (&app.ledger.instances[i], &app.facts[i]);
        let host = fact.spot.host.map(|h| &pass.hosts[h as usize]);
        let step = match step(record, fact, host, now) {
            Step::Keep => stuck(pass, app, i, now).map_or(Step::Keep, Step::GiveUp),
            step => step,
        };
        take(pass, app, i, step);
    }
    take_refusals(pass, app);
}

fn step(record: &InstanceLedger, fact: &Fact, host: Option<&HostState<'_>>, now: Duration) -> Step {
    use Condition::{Absent, Created, Exited, NotReady, Ready, Unasked, Unseen};
    let Some(host) = host else { return Step::Remove };
    if host.gone {
        return if record.phase == Phase::Lost { Step::Keep } else { Step::To(Phase::Lost) };
    }
    let live = record.is_live();
    // The engine refused the subnet it was to be in.
    let nowhere = || !host.ledger.subnet.is_some_and(|net| net.contains(&fact.spot.address));
    match (&record.phase, fact.condition) {
        (Phase::Starting { running: None }, Absent | Unseen) if nowhere() => Step::Remove,
        (Phase::Starting { running: None }, Absent) | (Phase::Dead, Exited) => Step::Keep,
        (Phase::Starting { .. } | Phase::Lost, Ready) => Step::To(Phase::Serving { since: now }),
        (Phase::Starting { running: None } | Phase::Lost, NotReady | Unasked) => {
            Step::To(Phase::Starting { running: Some(now) })
        }
        (Phase::Lost, Created) => Step::To(Phase::Starting { running: None }),
        (_, Exited) if live => Step::Crash,
        (_, Exited) => Step::To(Phase::Dead),
        (_, Absent) if live => Step::Vanish,
        (_, Absent) => Step::Remove,
        _ => Step::Keep,
    }
}

fn take(pass: &mut Pass<'_>, app: &mut AppState<'_>, i: usize, step: Step) {
    match step {
        Step::Keep => {}
        Step::To(phase) => {
            let ledger = app.edit();
            if matches!(phase, Phase::Serving { .. })
                && let Some(slot) = ledger.slots.get_mut(&ledger.instances[i].slot)
            {
                (slot.unready, slot.never_ready) = (None, 0);
            }
            ledger.instances[i].phase = phase;
        }
        Step::Crash => {
            let exit = exit(app, i);
            crashed(pass, app, i, exit.map_or(Ending::Vanished, Ending::Exited));
            app.edit().instances[i].phase = Phase::Dead;
        }
        Step::Vanish => {
            crashed(pass, app, i, Ending::Vanished);
            remove(pass, app, i);
        }
        // It was in no table, and its slot's next one does not wait for its end.
        Step::GiveUp(given) => {
            crashed(pass, app, i, Ending::NeverReady(given));
            app.edit().instances[i].phase = Phase::Dead;
        }
        Step::Remove => remove(pass, app, i),
    }
}

/// How the instance's container was seen to have ended.
fn exit(app: &AppState<'_>, i: usize) -> Option<Exit> {
    match app.state_of(&app.facts[i])? {
        InstanceState::Exited(exit) => Some(exit.clone()),
        _ => None,
    }
}

/// Notes since when checks fail on instances that served. What they fail for may be that their network was
/// taken from them: it is made again.
fn watch_checks(pass: &mut Pass<'_>, app: &mut AppState<'_>) {
    let now = pass.now.monotonic;
    let patience = app.settings().map(|settings| replace_after(settings));
    for i in 0..app.facts.len() {
        let (condition, host) = (app.facts[i].condition, app.facts[i].spot.host);
        let fails = condition == Condition::NotReady;
        let known = app.ledger.instances[i].failing.is_some();
        if !fails && !known {
            continue;
        }
        let serves = matches!(app.ledger.instances[i].phase, Phase::Serving { .. });
        let ends = condition == Condition::Ready || !serves;
        match (fails && serves, known) {
            (true, false) => {
                app.edit().instances[i].failing = Some(now);
                if let Some(host) = host.map(|h| &mut pass.hosts[h as usize])
                    && host.ledger.network == NetworkLedger::Made
                {
                    host.edit().network = NetworkLedger::Asked;
                }
            }
            (false, true) if ends => app.edit().instances[i].failing = None,
            _ => {}
        }
        let failing = app.ledger.instances[i].failing;
        if let Some(hangs) = failing.zip(patience).map(|(since, patience)| since + patience)
            && hangs > now
        {
            pass.wake(hangs);
        }
        if let Some(host) = host.filter(|h| fails && serves && pass.hosts[*h as usize].reachable())
        {
            address::ensure_network(pass, host);
        }
    }
}

/// How long the instance was given to become ready, if it was not. Each time it was not it is given twice as
/// long, so that what is slow to start comes up in the end. New versions with one to go back to are judged by
/// their rollout.
fn stuck(pass: &mut Pass<'_>, app: &AppState<'_>, i: usize, now: Duration) -> Option<Duration> {
    let record = &app.ledger.instances[i];
    let Phase::Starting { running: Some(since) } = record.phase else { return None };
    if app.facts[i].condition != Condition::NotReady {
        return None;
    }
    let settings = app.settings()?;
    let times = app.ledger.slots.get(&record.slot).map_or(0, |slot| slot.never_ready).min(6);
    let given = settings.rollout.ready_within + replace_after(settings);
    let given = given.saturating_mul(1 << times).min(LONGEST_START.max(given));
    let host = app.facts[i].spot.host.map(|h| &pass.hosts[h as usize])?;
    let is_seen = host.fresh();
    if now < since + given {
        pass.wake(since + given);
        return None;
    }
    is_seen.then_some(given)
}

/// How long checks may fail before an instance is replaced: the longest that a port of it asks for.
pub(super) fn replace_after(settings: &App) -> Duration {
    settings.ports.values().map(|port| port.health.replace_after).max().unwrap_or_default()
}

/// Counts the crash, and makes the slot wait when it was not the first in a row.
fn crashed(pass: &mut Pass<'_>, app: &mut AppState<'_>, i: usize, how: Ending) {
    let now = pass.now.monotonic;
    let id = app.id(i);
    let ledger = app.edit();
    let record = &ledger.instances[i];
    let slot = ledger.slots.entry(record.slot).or_default();
    slot.next = slot.next.max(record.incarnation + 1);
    match record.phase {
        Phase::Starting { running } => slot.unready = slot.unready.or(running),
        Phase::Serving { since } if now.saturating_sub(since) >= FORGET_CRASHES => slot.crashes = 0,
        _ => {}
    }
    slot.crashes = slot.crashes.saturating_add(1);
    slot.never_ready = match &how {
        Ending::NeverReady(_) => slot.never_ready.saturating_add(1),
        _ => 0,
    };
    (slot.code, slot.out_of_memory) = match &how {
        Ending::Exited(exit) => (Some(exit.code), exit.out_of_memory),
        _ => (None, false),
    };
    let wait = match slot.crashes {
        0 | 1 => Duration::ZERO,
        again => backoff(again - 1, LONGEST_CRASH, &id.to_string()),
    };
    slot.until = now + wait;
    let host = ledger.instances[i].assignment.host.clone();
    let text = format!("{id} {}", how.in_words());
    ledger.last_end = Some(Arc::new(LastEnd { id: id.clone(), host: host.clone(), how }));
    pass.say(Some(&id.app), Some(&host), What::Replace, text);
}

/// Forgets the instance and lets its address and ports rest.
pub(super) fn remove(pass: &mut Pass<'_>, app: &mut AppState<'_>, i: usize) {
    let drain = app.drain();
    let resources = app.settings().map(|a| a.resources).unwrap_or_default();
    let record = app.edit().instances.remove(i);
    let fact = app.facts.remove(i);
    let Some(host) = fact.spot.host else { return };
    let resting = Resting {
        address: record.assignment.address,
        ports: record.assignment.published.values().copied().collect(),
        until: pass.now.monotonic + pass.cluster.address_rest.max(pass.kept_alive) + drain,
        seq: pass.seq,
    };
    let host = &mut pass.hosts[host as usize];
    host.used.take(&resources);
    host.edit().resting.push(resting);
}

/// Instances the engine refuses, or cannot start where they are, get another incarnation.
fn take_refusals(pass: &mut Pass<'_>, app: &mut AppState<'_>) {
    for outcome in std::mem::take(&mut app.outcomes) {
        let (ActionKey::Instance(id), Err(error)) = (outcome.key, outcome.result) else {
            app.outcomes.push(outcome);
            continue;
        };
        let at = (0..app.facts.len())
            .find(|i| app.facts[*i].spot.host == Some(outcome.host) && app.id(*i) == *id);
        let Some(i) = at else { continue };
        let host = &pass.hosts[outcome.host as usize];
        let tried = host.ledger.retries.iter().find(|r| r.key == *outcome.key);
        let tried = tried.map_or(0, |r| r.failures);
        let starting = app.ledger.instances[i].phase == Phase::Starting { running: None };
        if starting && (error.kind() == ErrorKind::Conflict || tried >= MOVE_AFTER) {
            crashed(pass, app, i, Ending::Refused(error.to_string()));
            remove(pass, app, i);
        }
    }
}
