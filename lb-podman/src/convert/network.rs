//! Networks: the request, and what an existing one is.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use lb_core::engine::{SeenNetwork, owner_label};
use lb_core::{ClusterId, NetworkSpec};
use serde_json::{Map, Value, json};

use super::pick;

pub(crate) fn network_request(cluster: &ClusterId, spec: &NetworkSpec) -> Value {
    let (owner, name) = owner_label(cluster);
    let labels: Map<String, Value> = [(owner, name.into())].into_iter().collect();
    let (first, last) = lease_range(spec);
    json!({
        "name": spec.name,
        "driver": "bridge",
        "subnets": [{
            "subnet": spec.subnet.trunc(),
            "gateway": spec.subnet.hosts().next(),
            "lease_range": {"start_ip": first, "end_ip": last},
        }],
        "ipv6_enabled": false,
        "internal": false,
        "dns_enabled": false,
        "labels": labels,
    })
}

/// The engine's range without the addresses of the subnet that nobody can have.
fn lease_range(spec: &NetworkSpec) -> (Ipv4Addr, Ipv4Addr) {
    let (subnet, range) = (spec.subnet, spec.engine_range);
    let first = u32::from(range.network() == subnet.network());
    let last = u32::from(range.broadcast() == subnet.broadcast());
    (
        Ipv4Addr::from(u32::from(range.network()).saturating_add(first)),
        Ipv4Addr::from(u32::from(range.broadcast()).saturating_sub(last)),
    )
}

/// The first IPv4 subnet counts.
pub(crate) fn seen_network(answer: &Value) -> SeenNetwork {
    let subnet_of = |subnet: &Value| pick::text(subnet, "/subnet")?.parse::<Ipv4Net>().ok();
    let subnets = pick::items(answer, "/subnets");
    let ours = subnets.iter().find_map(|subnet| Some((subnet_of(subnet)?, subnet)));
    let address = |subnet, pointer| pick::text(subnet, pointer)?.parse::<Ipv4Addr>().ok();
    let name = pick::text(answer, "/name").unwrap_or_default();
    SeenNetwork {
        // By its id, Podman 4 removes a network that is in use.
        id: name.to_owned(),
        name: name.to_owned(),
        labels: pick::labels(answer, "/labels"),
        subnet: ours.map(|(subnet, _)| subnet),
        range: ours.and_then(|(_, subnet)| {
            let first = address(subnet, "/lease_range/start_ip")?;
            Some(first..=address(subnet, "/lease_range/end_ip")?)
        }),
    }
}
