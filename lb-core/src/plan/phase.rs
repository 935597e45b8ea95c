//! How far each instance is, from what was seen of it: crashes, losses and returns are noticed here.

use std::time::Duration;

use super::hosts::backoff;
use super::pass::{AppState, Condition, Fact, HostState, Pass};
use super::{ActionKey, What};
use crate::error::ErrorKind;
use crate::ledger::{InstanceLedger, Phase, Resting};

/// Longest wait before a crashing instance is started again.
const LONGEST_CRASH: Duration = Duration::from_secs(300);
/// A container that served so long has its slot's crashes forgotten.
const FORGET_CRASHES: Duration = Duration::from_secs(600);
/// After so many failures on a host an instance is started elsewhere.
const MOVE_AFTER: u32 = 3;

/// What becomes of an instance.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Keep,
    To(Phase),
    /// It ended by itself, and its container is still there.
    Crash,
    /// It ended by itself, and nothing is left of it.
    Vanish,
    /// What was left of it is gone.
    Remove,
}

/// Moves each instance to the phase that what was seen asks for.
pub(super) fn advance(pass: &mut Pass<'_>, app: &mut AppState<'_>) {
    let now = pass.now.monotonic;
    let steps: Vec<(usize, Step)> = app
        .ledger
        .instances
        .iter()
        .zip(&app.facts)
        .enumerate()
        .filter_map(|(i, (record, fact))| {
            let host = fact.spot.host.map(|h| &pass.hosts[h as usize]);
            match step(record, fact, host, now) {
                Step::Keep => None,
                step => Some((i, step)),
            }
        })
        .collect();
    // Backwards, so that removing one leaves the indexes before it as they are.
    for (i, step) in steps.into_iter().rev() {
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
                slot.unready = None;
            }
            ledger.instances[i].phase = phase;
        }
        Step::Crash => {
            crashed(pass, app, i);
            app.edit().instances[i].phase = Phase::Dead;
        }
        Step::Vanish => {
            crashed(pass, app, i);
            remove(pass, app, i);
        }
        Step::Remove => remove(pass, app, i),
    }
}

/// Counts the crash, and makes the slot wait when it was not the first in a row.
fn crashed(pass: &mut Pass<'_>, app: &mut AppState<'_>, i: usize) {
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
    let wait = match slot.crashes {
        0 | 1 => Duration::ZERO,
        again => backoff(again - 1, LONGEST_CRASH, &id.to_string()),
    };
    slot.until = now + wait;
    let crashes = slot.crashes;
    let host = ledger.instances[i].assignment.host.clone();
    pass.say(Some(&id.app), Some(&host), What::Replace, format!("{id} ended by itself"));
    if crashes > 1 {
        let text = format!("slot {} ended {crashes} times in a row: waits {wait:.1?}", id.slot);
        pass.say(Some(&id.app), Some(&host), What::CrashLoop, text);
    }
}

/// Forgets the instance and lets its address and ports rest.
pub(super) fn remove(pass: &mut Pass<'_>, app: &mut AppState<'_>, i: usize) {
    let drain = app.settings().map(|a| a.stop.drain).unwrap_or_default();
    let resources = app.settings().map(|a| a.resources).unwrap_or_default();
    let record = app.edit().instances.remove(i);
    let fact = app.facts.remove(i);
    let Some(host) = fact.spot.host else { return };
    let resting = Resting {
        address: record.assignment.address,
        ports: record.assignment.published.values().copied().collect(),
        until: pass.now.monotonic + pass.cluster.hard_stop_after + drain,
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
        let text = format!("{id}: {error}");
        let host = host.id.clone();
        pass.say(Some(&app.name.clone()), Some(&host), What::Failed, text);
        let starting = app.ledger.instances[i].phase == Phase::Starting { running: None };
        if starting && (error.kind() == ErrorKind::Conflict || tried >= MOVE_AFTER) {
            take(pass, app, i, Step::Vanish);
        }
    }
}
