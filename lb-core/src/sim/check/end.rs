//! Everything converges after the faults stop, and nothing is left behind.

use std::collections::BTreeSet;

use super::super::cluster::Cluster;
use super::super::deploy::{Deployment, web};
use super::truth::{HostTruth, State, Truth};
use crate::model::{AppName, ServerName};
use crate::orchestrator::Status;
use crate::routing::ServerState;

/// Why the cluster is not what was asked for; `None`: it is.
pub(in crate::sim) fn unsettled(truth: &Truth, cluster: &Cluster) -> Option<String> {
    let Some(status) = cluster.status() else { return Some("nobody leads".to_owned()) };
    if status.in_flight > 0 {
        return Some(format!("{} actions are going on", status.in_flight));
    }
    let apps = cluster.wanted.iter();
    let mut apps = apps.filter_map(|(name, wanted)| app(truth, &status, name, wanted));
    apps.next()
        .or_else(|| twins(truth))
        .or_else(|| orphans(truth, cluster))
        .or_else(|| leftovers(truth, cluster))
}

fn app(truth: &Truth, status: &Status, name: &AppName, wanted: &Deployment) -> Option<String> {
    let Some(shown) = status.apps.get(name) else { return Some(format!("{name} is not known")) };
    if !shown.is_settled() {
        return Some(format!("{name} is not settled: {} of {} ready", shown.ready, shown.wanted));
    }
    let all: Vec<_> = truth.living().filter(|(.., life)| life.app == *name).collect();
    let ready = all.iter().filter(|(.., life)| life.state == State::Ready).count();
    if (all.len(), ready) != (wanted.staged.count as usize, wanted.staged.count as usize) {
        let text = format!(
            "{name} has {} containers, {ready} of them ready, and {} were asked for",
            all.len(),
            wanted.staged.count
        );
        return Some(text);
    }
    let tags: BTreeSet<&str> = all.iter().map(|(.., life)| life.tag.as_str()).collect();
    let right = match shown.failed {
        Some(_) => tags.len() <= 1,
        None => tags.iter().all(|tag| *tag == wanted.staged.version.to_string()),
    };
    if !right {
        return Some(format!("{name} runs {tags:?}, and {} was asked for", wanted.staged.version));
    }
    let servers: BTreeSet<&str> = all.iter().map(|(_, name, _)| *name).collect();
    truth.hosts.iter().find_map(|(id, host)| {
        let runs = all.iter().any(|(on, ..)| *on == id);
        let text = format!("{id} does not lead to the instances of {name} as it should");
        (!leads_rightly(host, name, wanted, &servers, runs)).then_some(text)
    })
}

/// Whether a balancer leads to all of an app's instances where it should, and to none where it should not.
fn leads_rightly(
    host: &HostTruth,
    name: &AppName,
    wanted: &Deployment,
    servers: &BTreeSet<&str>,
    runs: bool,
) -> bool {
    let backend = host.table.as_ref().and_then(|t| t.backends.get(&web(name)));
    let led: BTreeSet<&str> =
        backend.iter().flat_map(|b| b.servers.keys()).map(ServerName::as_str).collect();
    let mut states = backend.iter().flat_map(|b| b.servers.values()).map(|s| s.state);
    let active = states.all(|state| state == ServerState::Active);
    match wanted.staged.everywhere || runs {
        true => led == *servers && active,
        // Without instances its listeners stay where they were, and answer 503.
        false => backend.is_none() || (wanted.staged.count == 0 && led.is_empty()),
    }
}

/// Two instances with one address, whatever may have excused it before.
fn twins(truth: &Truth) -> Option<String> {
    let mut addresses = BTreeSet::new();
    let twin = truth.living().find(|(.., life)| !addresses.insert(life.address));
    twin.map(|(.., life)| format!("two instances have {}", life.address))
}

fn orphans(truth: &Truth, cluster: &Cluster) -> Option<String> {
    let mut living = truth.living();
    let orphan = living.find(|(.., life)| !cluster.wanted.contains_key(&life.app));
    orphan.map(|(host, name, _)| format!("{name} is left on {host}"))
}

/// A host that neither runs nor serves anything has no balancer and no network.
fn leftovers(truth: &Truth, cluster: &Cluster) -> Option<String> {
    let stays = |d: &Deployment| d.staged.everywhere || d.staged.count == 0;
    if cluster.wanted.values().any(stays) {
        return None;
    }
    truth.hosts.iter().find_map(|(id, host)| {
        if host.lives.values().any(|life| life.state != State::Gone) {
            return None;
        }
        let networks = cluster.hosts[id].engine.networks();
        match (host.table.is_some(), networks) {
            (true, _) => Some(format!("{id} has a balancer with nothing to serve")),
            (false, 0) => None,
            (false, _) => Some(format!("{id} has {networks} networks with nothing on them")),
        }
    })
}
