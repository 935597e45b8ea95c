//! Before the steps: what became of the actions on each host, which hosts are believed to be gone, and
//! up to where their balancers obey.

use std::net::IpAddr;
use std::time::Duration;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::pass::{HostState, Pass};
use super::{ActionKey, Done, Outcome, RegistryTrust, What, World};
use crate::error::ErrorKind;
use crate::ledger::{HostLedger, Lost, NetworkLedger, Retry, Said};
use crate::model::HostId;
use crate::routing::TableHash;

/// Leases that end within this time end together. As long as hosts' leases usually are.
const LEASE: Duration = Duration::from_secs(30);
/// A host that stays away so long is forgotten, and its subnet given to others.
const FORGET_HOST: Duration = Duration::from_secs(24 * 3600);
/// Longest wait before a failed action is tried again.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// Longest wait before what was set aside is tried again: a port that was taken may be free.
const LONGEST_ASIDE: Duration = Duration::from_secs(10);
/// What is remembered of a table of which a part was set aside.
const ASIDE: &str = "parts are set aside";
/// Most failed actions remembered of a host.
const MAX_RETRIES: usize = 512;
/// Most subnets remembered as refused by a host.
const MAX_REFUSED: usize = 64;
/// How long new instances wait at the start for hosts that have not been seen.
const RECOVERY: Duration = Duration::from_secs(15);

/// Takes in the outcomes and the registry's set.
pub(super) fn take_in(pass: &mut Pass<'_>, world: &World) {
    let (now, began) = (pass.now.monotonic, pass.began);
    for (index, host) in pass.hosts.iter_mut().enumerate() {
        let address = host.view.map(|v| v.facts.address);
        if address.is_some() && address != host.ledger.address {
            host.edit().address = address;
        }
        let outcomes = host.view.map_or(&[][..], |v| &v.outcomes);
        for outcome in outcomes {
            take_outcome(host, outcome);
        }
        look_whether_in_force(host);
        forget_old_retries(host, now);
        host.ack = acknowledged(host, pass.seq - 1);
        meet(host);
        if host.reachable() && serves_unknown(host) {
            pass.unknown.push(index as u32);
            if !host.ledger.met {
                // Its old workers live on for a while after the table is replaced.
                let until = now + pass.cluster.address_rest;
                host.edit().quarantine = until;
                pass.quarantine = until;
            }
        }
    }
    pass.places = pass.hosts.iter().map(place).collect();
    believe(pass, &world.registry);
    let waited = now >= began + RECOVERY;
    pass.settled = waited || pass.hosts.iter().all(|h| h.view.is_none_or(|v| v.seen.is_some()));
    if !pass.settled {
        pass.wake(began + RECOVERY);
    }
}

/// From the first table that is remembered on, a stranger among tables is no sign of a lost ledger: whatever
/// it leads to is still in use or rests.
fn meet(host: &mut HostState<'_>) {
    let serves = host.balancer().is_some_and(|b| b.table.is_some());
    if serves && host.ack > 0 && !host.ledger.met {
        host.edit().met = true;
    }
}

/// Where its servers are: part of all they are made from.
fn place(host: &HostState<'_>) -> u64 {
    match host.ledger.address {
        Some(IpAddr::V4(address)) => xxh3_64_with_seed(&address.octets(), host.mark),
        Some(IpAddr::V6(address)) => xxh3_64_with_seed(&address.octets(), host.mark),
        None => host.mark,
    }
}

fn take_outcome(host: &mut HostState<'_>, outcome: &Outcome) {
    match &outcome.result {
        // Whether that is so the next look shows.
        Ok(Done::Applied { table, whole }) => {
            host.edit().said = Some(Said { hash: *table, whole: *whole, at: outcome.at });
        }
        Ok(done) => succeeded(host, &outcome.action, done),
        Err(error) => {
            let refused = error.kind() == ErrorKind::Conflict;
            // What was said of a call before it ends no doubt about this one, which may be going on.
            if outcome.action == ActionKey::Table && host.ledger.said.is_some() {
                host.edit().said = None;
            }
            failed(host, &outcome.action, outcome.table, outcome.at, error.to_string());
            if refused && outcome.action == ActionKey::Network {
                refuse_subnet(host);
            }
            let missing = error.kind() == ErrorKind::NotFound;
            let instance = matches!(outcome.action, ActionKey::Instance(_));
            if missing && instance && host.ledger.network == NetworkLedger::Made {
                host.edit().network = NetworkLedger::Asked;
            }
        }
    }
}

fn succeeded(host: &mut HostState<'_>, key: &ActionKey, done: &Done) {
    if host.ledger.retries.iter().any(|r| r.key == *key) {
        host.edit().retries.retain(|r| r.key != *key);
    }
    let network = match (key, done) {
        // Without a subnet it was asked for by a ledger that was lost, and may be another network.
        (ActionKey::Network, _) if host.ledger.subnet.is_some() => NetworkLedger::Made,
        // Unless the host has been given something to serve since: then the network may be there again.
        (_, Done::Cleared) if host.ledger.clearing => NetworkLedger::Absent,
        _ => return,
    };
    if host.ledger.network != network {
        host.edit().network = network;
    }
}

/// A balancer that says a table is in force and shows another one has failed to apply it, and one that set
/// parts aside has failed at these: it is asked again, and not at once for ever.
fn look_whether_in_force(host: &mut HostState<'_>) {
    let Some(said) = host.ledger.said else { return };
    let seen = host.view.and_then(|v| v.seen.as_ref()).filter(|seen| seen.began > said.at);
    let Some(balancer) = seen.and_then(|seen| seen.balancer.as_ref()) else { return };
    host.edit().said = None;
    let error = match balancer.table == Some(said.hash) {
        true if said.whole => return succeeded(host, &ActionKey::Table, &Done::Plain),
        true => ASIDE,
        false => "said to be in force, and is not",
    };
    failed(host, &ActionKey::Table, Some(said.hash), said.at, error.to_owned());
}

fn failed(
    host: &mut HostState<'_>,
    key: &ActionKey,
    table: Option<TableHash>,
    at: Duration,
    error: String,
) {
    let id = host.id.clone();
    let retries = &mut host.edit().retries;
    let before = retries.iter().position(|r| r.key == *key);
    let before = before.map(|i| retries.swap_remove(i)).filter(|r| r.table == table);
    let failures = before.map_or(1, |r| r.failures.saturating_add(1));
    let longest = if error == ASIDE { LONGEST_ASIDE } else { LONGEST_RETRY };
    let until = at + backoff(failures, longest, &format!("{id} {key:?}"));
    retries.push(Retry { key: key.clone(), table, failures, until, error });
    if retries.len() > MAX_RETRIES {
        retries.remove(0);
    }
    retries.sort_by(|a, b| a.key.cmp(&b.key));
}

/// 1 s, doubled with each failure in a row up to `most`, each shortened by up to a fifth so that things
/// that failed together are not tried together. The share comes from the seed: equal passes, equal waits.
pub(super) fn backoff(failures: u32, most: Duration, seed: &str) -> Duration {
    let doubled = Duration::from_secs(1 << failures.saturating_sub(1).min(16)).min(most);
    let share = xxh3_64(format!("{seed} {failures}").as_bytes()) % 200;
    doubled.mul_f64(1.0 - share as f64 / 1000.0)
}

/// A host's network cannot have this subnet. Another is tried while nothing of ours is in it.
fn refuse_subnet(host: &mut HostState<'_>) {
    let occupied = host.view.and_then(|v| v.seen.as_ref()).is_some_and(|s| !s.instances.is_empty());
    if occupied || host.ledger.refused.len() >= MAX_REFUSED {
        return;
    }
    let ledger = host.edit();
    ledger.refused.extend(ledger.subnet.take());
    ledger.network = NetworkLedger::Absent;
    ledger.retries.retain(|r| r.key != ActionKey::Network);
}

fn forget_old_retries(host: &mut HostState<'_>, now: Duration) {
    let over = |r: &Retry| now.saturating_sub(r.until) > 10 * LONGEST_RETRY;
    if host.ledger.retries.iter().any(over) {
        host.edit().retries.retain(|r| !over(r));
    }
}

/// The `seq` up to which what was decided is in force on the host's balancer, where `last` is the ledger's.
fn acknowledged(host: &HostState<'_>, last: u64) -> u64 {
    let tables = &host.ledger.tables;
    let Some(seen) = host.view.and_then(|v| v.seen.as_ref()) else { return 0 };
    match seen.balancer.as_ref().map(|b| b.table) {
        // Nothing of ours is in force, nor can be on its way there.
        None | Some(None) if tables.is_empty() => u64::MAX,
        None | Some(None) => 0,
        Some(Some(hash)) => {
            // A host that comes back has what was decided before it was lost.
            let last = host.ledger.lost.map_or(last, |lost| lost.seq - 1);
            let obeys = |hash| match tables.iter().rposition(|t| t.hash == hash) {
                Some(i) => tables.get(i + 1).map_or(last, |next| next.seq - 1),
                None => 0,
            };
            // What is on its way may come in force after what was seen.
            let coming = host.view.map_or(&[][..], |v| &v.on_their_way);
            let coming = coming.iter().filter(|hash| tables.iter().any(|t| t.hash == **hash));
            coming.copied().map(obeys).fold(obeys(hash), u64::min)
        }
    }
}

/// Whether its balancer serves a table nobody remembers: anything may be in it.
pub(super) fn serves_unknown(host: &HostState<'_>) -> bool {
    let balancer = host.balancer();
    host.ack == 0
        && balancer
            .and_then(|b| b.table)
            .is_some_and(|hash| !host.ledger.tables.iter().any(|t| t.hash == hash))
}

/// Marks the hosts whose leases ended. More than max(1, 30 %) of the leases within one lease are not
/// believed: their instances are kept until they come back, fewer are missing, or an operator confirms.
fn believe(pass: &mut Pass<'_>, trust: &RegistryTrust) {
    let (now, seq) = (pass.now.monotonic, pass.seq);
    for host in &mut pass.hosts {
        match (host.view, host.ledger.lost) {
            (Some(_), Some(_)) => host.edit().lost = None,
            (None, None) => host.edit().lost = Some(Lost { since: now, seq, believed: false }),
            _ => {}
        }
    }
    let lost = || pass.hosts.iter().filter_map(|h| h.ledger.lost);
    let is_counted = |l: &Lost| !l.believed || now.saturating_sub(l.since) < LEASE;
    let together = lost().filter(is_counted).count();
    let fewer = lost().filter(|l| l.believed && is_counted(l)).map(|l| l.since + LEASE).min();
    let registered = pass.hosts.iter().filter(|h| h.view.is_some()).count();
    let most = ((registered + together) * 3 / 10).max(1);
    let credible = together <= most && *trust != RegistryTrust::Fails;
    let confirmed = |id: &HostId| match trust {
        RegistryTrust::Confirmed(hosts) => hosts.contains(id),
        _ => false,
    };
    let mut doubted = Vec::new();
    for host in &mut pass.hosts {
        let Some(lost) = host.ledger.lost else { continue };
        if !lost.believed && (credible || confirmed(&host.id)) {
            host.edit().lost = Some(Lost { believed: true, ..lost });
        }
        host.gone = host.ledger.lost.is_some_and(|l| l.believed);
        if !host.gone {
            doubted.push(host.id.clone());
        }
    }
    if let Some(fewer) = fewer.filter(|_| !doubted.is_empty()) {
        pass.wake(fewer);
    }
    report(pass, &doubted, trust);
}

fn report(pass: &mut Pass<'_>, doubted: &[HostId], trust: &RegistryTrust) {
    if *trust == RegistryTrust::Fails {
        pass.say(None, None, What::Host, "the registry fails: no host is taken for lost".into());
    }
    for id in doubted {
        let text = "its lease ended with too many others to be believed: its instances are kept \
                    until it comes back or an operator confirms that it is gone";
        pass.say(None, Some(id), What::Host, text.into());
    }
    let gone: Vec<_> = pass.hosts.iter().filter(|h| h.gone).map(|h| h.id.clone()).collect();
    for id in gone {
        pass.say(None, Some(&id), What::Host, "its lease ended: its instances are replaced".into());
    }
}

/// Whether nothing of the host need be remembered any more.
pub(super) fn is_forgotten(host: &HostLedger, now: Duration) -> bool {
    let over = |l: Lost| now.saturating_sub(l.since) > FORGET_HOST || host.subnet.is_none();
    host.lost.is_some_and(|l| l.believed && over(l))
}
