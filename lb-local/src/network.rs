//! Networks: subnets of loopback, which exist by being written down.

use std::net::Ipv4Addr;

use lb_core::{ClusterId, NetworkName, NetworkSpec};

use crate::address::LOOPBACK;
use crate::error::{LocalError, Result};
use crate::records::{NetworkRecord, Records};

/// Makes sure the network is there, and nobody else's.
pub(crate) fn ensure(records: &Records, cluster: &ClusterId, spec: NetworkSpec) -> Result<()> {
    check(&spec)?;
    records.locked(|| match records.network(&spec.name)? {
        Some(n) if n.cluster != *cluster => {
            Err(LocalError::Conflict("it is another cluster's".into()))
        }
        Some(n) if n.spec.subnet != spec.subnet => {
            Err(LocalError::Conflict(format!("it has the subnet {}", n.spec.subnet)))
        }
        Some(_) => Ok(()),
        None => make(records, cluster, spec),
    })
}

/// Removes the network, unless containers are on it.
pub(crate) fn remove(records: &Records, cluster: &ClusterId, name: &NetworkName) -> Result<()> {
    records.locked(|| {
        match records.network(name)? {
            None => return Ok(()),
            Some(n) if n.cluster != *cluster => {
                return Err(LocalError::Conflict("it is another cluster's".into()));
            }
            Some(_) => {}
        }
        let containers = records.containers()?;
        match containers.iter().find(|r| r.network.as_ref().is_some_and(|(n, _)| n == name)) {
            Some(r) => Err(LocalError::Conflict(format!("container {} is attached", r.name))),
            None => records.remove_network(name),
        }
    })
}

fn check(spec: &NetworkSpec) -> Result<()> {
    let NetworkSpec { subnet, engine_range, .. } = spec;
    if !subnet.contains(engine_range) {
        let rule = format!("engine range {engine_range} must lie in {subnet}");
        return Err(LocalError::Invalid(rule));
    }
    match LOOPBACK.contains(subnet) && !subnet.contains(&Ipv4Addr::LOCALHOST) {
        true => Ok(()),
        false => Err(LocalError::Invalid(format!(
            "subnet {subnet} must lie in {LOOPBACK} without {}: see lb_local::cluster",
            Ipv4Addr::LOCALHOST
        ))),
    }
}

fn make(records: &Records, cluster: &ClusterId, spec: NetworkSpec) -> Result<()> {
    let overlaps = |n: &NetworkRecord| {
        n.spec.subnet.contains(&spec.subnet) || spec.subnet.contains(&n.spec.subnet)
    };
    match records.networks()?.iter().find(|n| overlaps(n)) {
        Some(n) => Err(LocalError::Conflict(format!(
            "subnet {} overlaps {} of network {}",
            spec.subnet, n.spec.subnet, n.spec.name
        ))),
        None => records.put_network(&NetworkRecord::new(cluster.clone(), spec)),
    }
}
