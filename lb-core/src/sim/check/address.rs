//! Never two instances with one address, and never a route to an address that is another instance's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::super::cluster::Cluster;
use super::truth::Truth;
use super::{Invariant, Verdicts};
use crate::model::HostId;
use crate::routing::Server;

type Owners<'a> = BTreeMap<Ipv4Addr, (&'a HostId, &'a str)>;

pub(super) fn check_addresses(truth: &Truth, cluster: &Cluster, verdicts: &mut Verdicts) {
    if cluster.excuses.addresses > cluster.now() {
        return;
    }
    let mut owners = Owners::new();
    let mut ports = BTreeMap::new();
    for (host, name, life) in truth.living().filter(|(_, _, life)| life.state.holds()) {
        ports.extend(life.published.iter().map(|port| ((host, *port), name)));
        let twin = owners.insert(life.address, (host, name));
        verdicts.judge(Invariant::Address, twin.is_none(), || {
            let (other, who) = twin.unwrap_or((host, name));
            format!("{}: {who} on {other} and {name} on {host}", life.address)
        });
    }
    for (at, host) in &truth.hosts {
        // Whoever has lost its lease is not waited for: it may serve what it last heard of.
        let lost = |h: &super::super::host::Host| h.silent.is_some() && h.excused > cluster.now();
        if cluster.hosts.get(at).is_some_and(lost) {
            continue;
        }
        let backends = host.table.iter().flat_map(|t| t.backends.values());
        for (server, s) in backends.flat_map(|b| &b.servers) {
            let owner = match s.published.filter(|_| s.host.as_ref() != Some(at)) {
                Some(published) => {
                    s.host.as_ref().and_then(|on| ports.get(&(on, published.port()))).copied()
                }
                None => owner(&owners, s),
            };
            let right = owner.is_none_or(|owner| owner == server.as_str());
            verdicts.judge(Invariant::Address, right, || {
                format!("{at} routes to {server} at an address of {}", owner.unwrap_or_default())
            });
        }
    }
}

/// Who has a server's address inside the cluster.
fn owner<'a>(owners: &Owners<'a>, server: &Server) -> Option<&'a str> {
    match server.address.ip() {
        IpAddr::V4(address) => owners.get(&address).map(|(_, name)| *name),
        IpAddr::V6(_) => None,
    }
}
