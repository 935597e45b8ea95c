//! Clients: what they get who ask an app's listeners, at every balancer that has them.

use std::collections::BTreeSet;
use std::fmt;

use super::super::cluster::Cluster;
use super::super::deploy::web;
use super::super::host::Ailment;
use super::truth::{HostTruth, Life, State, Truth};
use crate::model::{AppName, HostId};
use crate::routing::{Server, ServerState};

/// What clients of one balancer get.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answers {
    /// Servers that answer,
    pub(super) good: u32,
    /// and those that do not: a request they get is lost.
    pub(super) bad: u32,
    /// The versions that answer.
    pub(super) tags: BTreeSet<String>,
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} servers answer (versions {:?}) and {} do not", self.good, self.tags, self.bad)
    }
}

/// Asks at each balancer that is up and listens for the app.
pub(super) fn ask<'a>(
    truth: &'a Truth,
    cluster: &'a Cluster,
    app: &AppName,
) -> impl Iterator<Item = (&'a HostId, Answers)> {
    let backend = web(app);
    let up = truth.hosts.iter().filter(|(id, _)| !cluster.hosts[*id].is(Ailment::is_down));
    up.filter_map(move |(at, host)| {
        let table = host.table.as_ref()?;
        if !super::super::traffic::leads_to(table, &backend) {
            return None;
        }
        let mut answers = Answers::default();
        let servers = table.backends.get(&backend)?.servers.values();
        for server in servers.filter(|s| s.state == ServerState::Active) {
            match who(truth, cluster, at, server).filter(|life| life.state == State::Ready) {
                Some(life) => {
                    answers.good += 1;
                    answers.tags.insert(life.tag.clone());
                }
                None => answers.bad += 1,
            }
        }
        Some((at, answers))
    })
}

/// Who is at a server's address, seen from a host: by the address alone, as a packet goes.
fn who<'a>(truth: &'a Truth, cluster: &Cluster, at: &HostId, server: &Server) -> Option<&'a Life> {
    let address = server.address_from(Some(at));
    let here = |life: &&Life| life.state.holds() && life.address == address.ip();
    let published = |life: &&Life| life.state.holds() && life.published.contains(&address.port());
    let of = |host: &'a HostTruth| host.lives.values();
    let by_host = cluster.hosts.iter().find(|(_, h)| h.facts.address == address.ip());
    match by_host {
        Some((on, host)) if !host.is(Ailment::is_down) => of(truth.hosts.get(on)?).find(published),
        Some(_) => None,
        None => truth.hosts.values().flat_map(of).find(here),
    }
}
