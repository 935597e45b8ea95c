//! What was seen, laid beside what was asked for; containers nobody remembers are adopted.

use std::cmp::Ordering;
use std::mem;

use super::hosts::serves_unknown;
use super::pass::{AppState, Condition, Fact, HostState, Index, Key, Pass, Seen};
use super::{InstanceState, What};
use crate::ledger::{InstanceLedger, Phase};
use crate::model::HostId;
use crate::runtime::Readiness;

impl Key {
    pub(super) const fn of(instance: &InstanceLedger) -> Self {
        Self { slot: instance.slot, incarnation: instance.incarnation, revision: instance.revision }
    }
}

/// Fills `facts` of every app, adopts strangers, and counts what is placed on each host.
pub(super) fn join<'a>(pass: &mut Pass<'a>, apps: &mut [AppState<'a>]) {
    let ids: Vec<HostId> = pass.hosts.iter().map(|h| h.id.clone()).collect();
    let index: Index<'_> = ids.iter().map(HostId::as_str).zip(0..).collect();
    for app in apps {
        app.seen.sort_unstable_by_key(|s| (s.key, s.host));
        let strangers = merge(app, &pass.hosts, &index);
        if !strangers.is_empty() {
            adopt(pass, app, &strangers);
            merge(app, &pass.hosts, &index);
        }
        count(pass, app);
    }
}

/// Both lists are in order: one walk. Gives the containers without a record.
fn merge<'a>(app: &mut AppState<'a>, hosts: &[HostState<'a>], index: &Index<'_>) -> Vec<Seen<'a>> {
    let mut strangers: Vec<Seen<'a>> = Vec::new();
    let mut seen = app.seen.iter().copied().peekable();
    app.facts.clear();
    app.duplicates.clear();
    for record in &app.ledger.instances {
        let key = Key::of(record);
        let mut found = None;
        while let Some(next) = seen.next_if(|s| s.key <= key) {
            match next.key.cmp(&key) {
                Ordering::Equal if hosts[next.host as usize].id == record.assignment.host => {
                    found = Some(next);
                }
                Ordering::Equal => app.duplicates.push(next),
                _ => strangers.push(next),
            }
        }
        app.facts.push(found.map_or_else(|| unseen(record, hosts, index), Fact::of));
    }
    strangers.extend(seen);
    // Labels that name another host are a copy of its container.
    let misplaced = |s: &Seen<'_>| s.instance.assignment.host != hosts[s.host as usize].id;
    app.duplicates.extend(strangers.iter().filter(|s| misplaced(s)));
    strangers.retain(|s| !misplaced(s));
    strangers.dedup_by_key(|s| s.key);
    strangers
}

fn unseen<'a>(record: &InstanceLedger, hosts: &[HostState<'a>], index: &Index<'_>) -> Fact<'a> {
    let host = index.get(record.assignment.host.as_str()).copied();
    let fresh = host.is_some_and(|h| hosts[h as usize].fresh());
    let condition = if fresh { Condition::Absent } else { Condition::Unseen };
    Fact { host, condition, seen: None }
}

impl<'a> Fact<'a> {
    fn of(seen: Seen<'a>) -> Self {
        let condition = match &seen.instance.state {
            InstanceState::Created => Condition::Created,
            InstanceState::Running(Readiness::Unknown) => Condition::Unasked,
            InstanceState::Running(Readiness::NotReady(_)) => Condition::NotReady,
            InstanceState::Running(Readiness::Ready) => Condition::Ready,
            InstanceState::Exited(_) => Condition::Exited,
        };
        Self { host: Some(seen.host), condition, seen: Some(seen.instance) }
    }
}

/// Makes records of containers that labels say are ours: the ledger was lost, or is older than they are.
fn adopt(pass: &mut Pass<'_>, app: &mut AppState<'_>, strangers: &[Seen<'_>]) {
    let now = pass.now.monotonic;
    let ledger = app.edit();
    for stranger in strangers {
        let phase = match stranger.instance.state {
            InstanceState::Exited(_) => Phase::Dead,
            InstanceState::Running(Readiness::Ready) => Phase::Serving { since: now },
            InstanceState::Running(_) => Phase::Starting { running: Some(now) },
            InstanceState::Created => Phase::Starting { running: None },
        };
        let Key { slot, incarnation, revision } = stranger.key;
        let assignment = stranger.instance.assignment.clone();
        let known = ledger.slots.entry(slot).or_default();
        known.next = known.next.max(incarnation + 1);
        ledger.instances.push(InstanceLedger {
            slot,
            incarnation,
            revision,
            assignment,
            asked: now,
            phase,
        });
    }
    ledger.instances.sort_by_key(Key::of);
    if ledger.exposed.is_empty() {
        let unknown = pass.hosts.iter().filter(|h| serves_unknown(h));
        ledger.exposed = unknown.map(|h| h.id.clone()).collect();
    }
    let name = app.name.clone();
    let text = format!("{} found by their labels and adopted", strangers.len());
    pass.say(Some(&name), None, What::Start, text);
}

fn count(pass: &mut Pass<'_>, app: &mut AppState<'_>) {
    let resources = app.settings().map(|a| a.resources).unwrap_or_default();
    let facts = mem::take(&mut app.facts);
    for (record, fact) in app.ledger.instances.iter().zip(&facts) {
        let Some(host) = fact.host else { continue };
        let host = &mut pass.hosts[host as usize];
        host.used.add(&resources);
        if fact.seen.is_none() {
            host.unseen.push(record.assignment.clone());
        }
    }
    app.facts = facts;
    for duplicate in &app.duplicates {
        pass.hosts[duplicate.host as usize].used.add(&resources);
    }
}
