//! Third step: the subnet of each host, and the address and host ports of each new instance.
//!
//! The first address of a subnet is the host's own, the upper quarter is the engine's; the planner gives
//! out what lies between.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::Ipv4Net;

use super::pass::{HostState, Pass};
use super::{Action, ActionKey, ClusterSpec, What};
use crate::ledger::NetworkLedger;
use crate::model::{App, Assignment, NetworkName, PortName};
use crate::runtime::NetworkSpec;

/// Addresses and host ports of a host that cannot be given out now.
#[derive(Debug, Default)]
pub(super) struct Taken {
    addresses: BTreeSet<Ipv4Addr>,
    ports: BTreeSet<u16>,
    /// Where to look on: what lies before is taken, and nothing is given back within a pass.
    next_address: u32,
    next_port: u16,
}

/// Why an instance gets no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    Subnets,
    Addresses,
    Ports,
    /// For now.
    Quarantine,
}

impl Full {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Subnets => "no subnet of the cluster's range is left for a further host",
            Self::Addresses => "no address of the host's subnet is left",
            Self::Ports => "no port of the cluster's host_ports is left on the host",
            Self::Quarantine => {
                "a balancer serves what a lost ledger knew of, and no address is given out until it is out of use"
            }
        }
    }
}

/// The network of the host with this subnet. The subnet is in its name, so that another one never meets
/// a network of the same name.
pub(super) fn network_name(cluster: &ClusterSpec, subnet: Ipv4Net) -> NetworkName {
    let [a, b, c, d] = subnet.network().octets();
    NetworkName::new(format!("{}.net-{a}-{b}-{c}-{d}", cluster.id))
        .unwrap_or_else(|e| unreachable!("parts of a network name are labels: {e}"))
}

/// The host's own address in its subnet: where containers reach its balancer.
pub(super) fn gateway(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()) + 1)
}

/// The network to make on a host.
pub(super) fn network(cluster: &ClusterSpec, subnet: Ipv4Net) -> NetworkSpec {
    let quarter = 1u32 << (32 - subnet.prefix_len() - 2);
    let engine = Ipv4Addr::from(u32::from(subnet.broadcast()) - quarter + 1);
    let engine_range = Ipv4Net::new(engine, subnet.prefix_len() + 2)
        .unwrap_or_else(|e| unreachable!("a subnet's prefix is at most 28: {e}"));
    NetworkSpec { name: network_name(cluster, subnet), subnet, engine_range }
}

/// Hosts whose ledger was lost keep the subnet their instances are in.
pub(super) fn recover_subnets(pass: &mut Pass<'_>) {
    let prefix = pass.cluster.subnet_prefix;
    let mut owned: BTreeSet<Ipv4Net> = pass.hosts.iter().filter_map(|h| h.ledger.subnet).collect();
    for host in &mut pass.hosts {
        if host.ledger.subnet.is_some() {
            continue;
        }
        let seen = host.view.and_then(|v| v.seen.as_ref());
        let Some(first) = seen.and_then(|s| s.instances.first()) else { continue };
        let subnet = Ipv4Net::new(first.assignment.address, prefix).map(|net| net.trunc());
        if let Ok(subnet) = subnet
            && pass.cluster.range.contains(&subnet)
            && owned.insert(subnet)
        {
            let ledger = host.edit();
            ledger.subnet = Some(subnet);
            ledger.network = NetworkLedger::Asked;
        }
    }
}

/// Gives the host a subnet if it has none: by its id's hash, so that after a loss of the ledger a host that
/// cannot be seen right now most likely gets back the one it had, and nobody else does.
fn subnet(pass: &mut Pass<'_>, host: u32) -> Option<Ipv4Net> {
    let free = likely_subnet(pass, host)?;
    if pass.hosts[host as usize].ledger.subnet.is_none() {
        pass.hosts[host as usize].edit().subnet = Some(free);
    }
    Some(free)
}

/// The subnet the host has, or else the one it gets next, which it most likely had before a ledger was lost.
pub(super) fn likely_subnet(pass: &Pass<'_>, host: u32) -> Option<Ipv4Net> {
    let state = &pass.hosts[host as usize];
    if let Some(subnet) = state.ledger.subnet {
        return Some(subnet);
    }
    let owned: BTreeSet<Ipv4Net> = pass.hosts.iter().filter_map(|h| h.ledger.subnet).collect();
    let prefix = pass.cluster.subnet_prefix;
    let count = 1u64 << (prefix - pass.cluster.range.prefix_len());
    let first = u32::from(pass.cluster.range.network());
    let nth = |n: u64| {
        let offset = (state.mark.wrapping_add(n) % count) << (32 - prefix);
        Ipv4Net::new(Ipv4Addr::from(first + offset as u32), prefix).ok()
    };
    let mut subnets = (0..count).filter_map(nth);
    subnets.find(|net| !owned.contains(net) && !state.ledger.refused.contains(net))
}

/// An address and ports for a new instance of the app on the host.
pub(super) fn assign(
    pass: &mut Pass<'_>,
    host: u32,
    settings: &App,
) -> std::result::Result<Arc<Assignment>, Full> {
    let subnet = subnet(pass, host).ok_or(Full::Subnets)?;
    let range = pass.cluster.host_ports.clone();
    let publishes = pass.publishes();
    let state = &mut pass.hosts[host as usize];
    let mut taken = match state.taken.take() {
        Some(taken) => taken,
        None => taken_on(state),
    };
    let found = taken.find(subnet, &range, settings, publishes);
    state.taken = Some(taken);
    let (address, published) = found?;
    let ports = settings.ports.iter().map(|(name, port)| (name.clone(), port.container.get()));
    let host = state.id.clone();
    Ok(Arc::new(Assignment { host, address, ports: ports.collect(), published }))
}

/// All that is in use or rests. Resting things whose time is over were dropped before.
fn taken_on(host: &HostState<'_>) -> Taken {
    let seen = host.view.and_then(|v| v.seen.as_deref());
    let seen = seen.into_iter().flat_map(|s| &s.instances).map(|i| &i.assignment);
    let mut taken = Taken::default();
    for assignment in seen.chain(&host.unseen) {
        taken.addresses.insert(assignment.address);
        taken.ports.extend(assignment.published.values());
    }
    for resting in &host.ledger.resting {
        taken.addresses.insert(resting.address);
        taken.ports.extend(&resting.ports);
    }
    taken
}

type Found = (Ipv4Addr, BTreeMap<PortName, u16>);

impl Taken {
    /// Finds all an instance needs, or takes nothing.
    fn find(
        &mut self,
        subnet: Ipv4Net,
        range: &RangeInclusive<u16>,
        settings: &App,
        publishes: bool,
    ) -> std::result::Result<Found, Full> {
        let address = self.address(subnet).ok_or(Full::Addresses)?;
        let outside = settings.ports.iter().filter(|(_, p)| publishes && p.outside.is_some());
        let names: Vec<_> = outside.map(|(name, _)| name.clone()).collect();
        let ports = self.ports(range, names.len()).ok_or(Full::Ports)?;
        self.addresses.insert(address);
        self.ports.extend(&ports);
        Ok((address, names.into_iter().zip(ports).collect()))
    }

    fn address(&mut self, subnet: Ipv4Net) -> Option<Ipv4Addr> {
        let first = u32::from(subnet.network());
        let size = 1u32 << (32 - subnet.prefix_len());
        let mut offset = self.next_address.max(2);
        while self.addresses.contains(&Ipv4Addr::from(first + offset)) {
            offset += 1;
        }
        self.next_address = offset;
        (offset < size - size / 4).then(|| Ipv4Addr::from(first + offset))
    }

    fn ports(&mut self, range: &RangeInclusive<u16>, count: usize) -> Option<Vec<u16>> {
        let start = self.next_port.max(*range.start());
        let free = (start..=*range.end()).filter(|p| !self.ports.contains(p));
        let found: Vec<u16> = free.take(count).collect();
        if count > 0 {
            self.next_port = found.first().copied().unwrap_or(u16::MAX);
        }
        (found.len() == count).then_some(found)
    }
}

/// Asks for a pass when the next address or port that rests on the host may be used again.
pub(super) fn wake_for_room(pass: &mut Pass<'_>, host: u32) {
    let now = pass.now.monotonic;
    let rests = pass.hosts[host as usize].ledger.resting.iter().map(|r| r.until);
    if let Some(until) = rests.filter(|until| *until > now).min() {
        pass.wake(until);
    }
}

/// Drops resting addresses whose time is over and that every balancer is known to have dropped.
pub(super) fn end_rests(pass: &mut Pass<'_>) {
    let now = pass.now.monotonic;
    let registered = pass.hosts.iter().filter(|h| h.view.is_some());
    let all = registered.map(|h| h.ack).min().unwrap_or(u64::MAX);
    for host in &mut pass.hosts {
        let over = |r: &crate::ledger::Resting| r.until <= now && r.seq <= all;
        if host.ledger.resting.iter().any(over) {
            host.edit().resting.retain(|r| !over(r));
        }
    }
}

/// Has the network made where instances are to start, before they do.
pub(super) fn ensure_network(pass: &mut Pass<'_>, host: u32) -> NetworkLedger {
    let state = &pass.hosts[host as usize];
    let Some(subnet) = state.ledger.subnet else { return NetworkLedger::Absent };
    if state.ledger.network == NetworkLedger::Made || state.network.is_some() {
        return state.ledger.network;
    }
    if pass.must_wait(host, &ActionKey::Network) {
        let id = pass.hosts[host as usize].id.clone();
        let text = "the network cannot be made, and is tried again".to_owned();
        pass.say(None, Some(&id), What::Failed, text);
        return NetworkLedger::Asked;
    }
    let spec = network(pass.cluster, subnet);
    let state = &mut pass.hosts[host as usize];
    state.network = Some(Action::EnsureNetwork(spec));
    if state.ledger.network == NetworkLedger::Absent {
        state.edit().network = NetworkLedger::Asked;
    }
    NetworkLedger::Asked
}
