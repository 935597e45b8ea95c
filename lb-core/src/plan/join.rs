//! What was seen, laid beside what was asked for; containers nobody remembers are adopted.

use std::sync::Arc;

use ipnet::Ipv4Net;
use xxhash_rust::xxh3::xxh3_64;

use super::What;
use super::hosts::serves_unknown;
use super::memo::{AppMemo, Spots};
use super::pass::{AppState, Condition, Fact, HostState, Index, Key, Pass, Seen, Spot};
use crate::ledger::{InstanceLedger, Phase};
use crate::model::{Assignment, HostId};

impl Key {
    pub(super) const fn of(instance: &InstanceLedger) -> Self {
        Self { slot: instance.slot, incarnation: instance.incarnation, revision: instance.revision }
    }
}

/// Fills `facts` of every app, adopts strangers, and counts what is placed on each host.
pub(super) fn join<'a>(pass: &mut Pass<'a>, apps: &mut [AppState<'a>]) {
    let ids: Vec<HostId> = pass.hosts.iter().map(|h| h.id.clone()).collect();
    let index: Index<'_> = ids.iter().map(HostId::as_str).zip(0..).collect();
    let nets: Vec<_> = pass.hosts.iter().map(|h| h.ledger.subnet).collect();
    for app in apps {
        recall(pass, app, &index);
        let strangers = merge(app, &pass.hosts, &nets);
        if !strangers.is_empty() {
            adopt(pass, app, &strangers);
            recall(pass, app, &index);
            merge(app, &pass.hosts, &nets);
        }
        count(pass, app);
    }
}

/// Begins the facts with where the records say the instances are, as kept from the last pass or made anew.
fn recall(pass: &Pass<'_>, app: &mut AppState<'_>, index: &Index<'_>) {
    let fact = |spot| Fact { spot, condition: Condition::Unseen, outside: false };
    app.facts.clear();
    if let Some(known) = kept(pass, app) {
        let list = known.list.clone();
        return app.facts.extend(list.iter().copied().map(fact));
    }
    let host = |r: &InstanceLedger| index.get(r.assignment.host.as_str()).copied();
    let spots = app.ledger.instances.iter().map(|r| Spot::of(r, host(r)));
    app.facts.extend(spots.map(fact));
}

fn kept<'a>(pass: &Pass<'_>, app: &'a AppState<'_>) -> Option<&'a Spots> {
    let same = |s: &&Spots| pass.same_hosts && Arc::ptr_eq(&s.ledger, &app.ledger);
    app.memo.spots.as_ref().filter(same)
}

/// Keeps where the records say the instances are for the next pass.
pub(super) fn keep(pass: &Pass<'_>, app: &mut AppState<'_>) {
    if kept(pass, app).is_some() {
        return;
    }
    let known = app.facts.iter().map(|f| f.spot.key);
    debug_assert!(known.eq(app.ledger.instances.iter().map(Key::of)), "a fact for each record");
    let list = app.facts.iter().map(|f| f.spot).collect();
    let spots = Some(Spots { ledger: app.ledger.clone(), list });
    app.memo = Arc::new(AppMemo { spots, ..AppMemo::clone(&app.memo) });
}

impl Spot {
    pub(super) fn of(record: &InstanceLedger, host: Option<u32>) -> Self {
        let key = Key::of(record);
        let Assignment { address, published, .. } = &*record.assignment;
        let mut bytes = Vec::with_capacity(32);
        bytes.extend_from_slice(&key.slot.to_le_bytes());
        bytes.extend_from_slice(&key.incarnation.to_le_bytes());
        bytes.extend_from_slice(&key.revision.bits().to_le_bytes());
        bytes.extend_from_slice(&address.octets());
        for port in published.values() {
            bytes.extend_from_slice(&port.to_le_bytes());
        }
        let (address, published) = (*address, !published.is_empty());
        Self { key, host, address, published, mark: xxh3_64(&bytes) }
    }
}

/// Lays what was seen beside the records. Gives the containers without one, in order.
fn merge<'a>(
    app: &mut AppState<'a>,
    hosts: &[HostState<'a>],
    nets: &[Option<Ipv4Net>],
) -> Vec<Seen<'a>> {
    let mut strangers: Vec<Seen<'a>> = Vec::new();
    app.duplicates.clear();
    for seen in &app.seen {
        match position(&app.facts, seen.key) {
            None => strangers.push(*seen),
            Some(i) if app.facts[i].spot.host == Some(seen.host) => {
                app.facts[i].condition = seen.condition;
            }
            Some(_) => app.duplicates.push(*seen),
        }
    }
    for fact in &mut app.facts {
        let Some(host) = fact.spot.host else { continue };
        if !fact.condition.is_seen() && hosts[host as usize].fresh() {
            fact.condition = Condition::Absent;
        }
        fact.outside = nets[host as usize].is_some_and(|net| !net.contains(&fact.spot.address));
    }
    // Labels that name another host are a copy of its container.
    let misplaced = |s: &Seen<'_>| s.instance.assignment.host != hosts[s.host as usize].id;
    app.duplicates.extend(strangers.iter().filter(|s| misplaced(s)));
    app.duplicates.sort_unstable_by_key(|s| (s.key, s.host));
    strangers.retain(|s| !misplaced(s));
    strangers.sort_unstable_by_key(|s| (s.key, s.host));
    strangers.dedup_by_key(|s| s.key);
    strangers
}

/// Where in order the instance is. Most apps have one in each slot.
fn position(facts: &[Fact], key: Key) -> Option<usize> {
    let likely = key.slot as usize;
    match facts.get(likely).is_some_and(|f| f.spot.key == key) {
        true => Some(likely),
        false => facts.binary_search_by_key(&key, |f| f.spot.key).ok(),
    }
}

/// Makes records of containers that labels say are ours: the ledger was lost, or is older than they are.
fn adopt(pass: &mut Pass<'_>, app: &mut AppState<'_>, strangers: &[Seen<'_>]) {
    let now = pass.now.monotonic;
    let ledger = app.edit();
    for stranger in strangers {
        let phase = match stranger.condition {
            Condition::Exited => Phase::Dead,
            Condition::Ready => Phase::Serving { since: now },
            Condition::NotReady | Condition::Unasked => Phase::Starting { running: Some(now) },
            Condition::Created | Condition::Absent | Condition::Unseen => {
                Phase::Starting { running: None }
            }
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
            failing: None,
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

fn count(pass: &mut Pass<'_>, app: &AppState<'_>) {
    let resources = app.settings().map(|a| a.resources).unwrap_or_default();
    for (i, fact) in app.facts.iter().enumerate() {
        let Some(host) = fact.spot.host else { continue };
        let host = &mut pass.hosts[host as usize];
        host.used.add(&resources);
        if !fact.condition.is_seen() {
            host.unseen.push(app.ledger.instances[i].assignment.clone());
        }
    }
    for duplicate in &app.duplicates {
        pass.hosts[duplicate.host as usize].used.add(&resources);
    }
}
