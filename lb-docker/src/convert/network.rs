//! Networks: the request, what an existing one must look like, and the host's routes.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect};
use ipnet::Ipv4Net;
use lb_core::{ClusterId, NetworkSpec, label};

use crate::error::Failure;

pub(crate) fn network_request(cluster: &ClusterId, spec: &NetworkSpec) -> NetworkCreateRequest {
    let config = IpamConfig {
        subnet: Some(spec.subnet.trunc().to_string()),
        ip_range: Some(spec.engine_range.trunc().to_string()),
        gateway: spec.subnet.hosts().next().map(|address| address.to_string()),
        ..IpamConfig::default()
    };
    let ipam =
        Ipam { driver: Some("default".into()), config: Some(vec![config]), ..Ipam::default() };
    NetworkCreateRequest {
        name: spec.name.to_string(),
        driver: Some("bridge".into()),
        ipam: Some(ipam),
        enable_ipv6: Some(false),
        labels: Some(HashMap::from([(label::CLUSTER.to_owned(), cluster.to_string())])),
        ..NetworkCreateRequest::default()
    }
}

/// Whether the network that has this name is the one asked for.
pub(crate) fn existing_matches(
    cluster: &ClusterId,
    spec: &NetworkSpec,
    existing: &NetworkInspect,
) -> Result<(), Failure> {
    super::observe::owned(cluster, existing.labels.as_ref())?;
    let config = existing.ipam.as_ref().and_then(|ipam| ipam.config.as_ref()?.first());
    let read = |text: Option<&String>| text.and_then(|t| t.parse::<Ipv4Net>().ok());
    let subnet = read(config.and_then(|c| c.subnet.as_ref()));
    let range = read(config.and_then(|c| c.ip_range.as_ref()));
    let same =
        |have: Option<Ipv4Net>, want: Ipv4Net| have.is_some_and(|n| n.trunc() == want.trunc());
    if !same(subnet, spec.subnet) {
        return Err(Failure::conflict(format!(
            "exists with subnet {}, not {}: remove it or give the old subnet",
            shown(subnet),
            spec.subnet
        )));
    }
    match same(range, spec.engine_range) {
        true => Ok(()),
        false => Err(Failure::conflict(format!(
            "exists with the engine's range {}, not {}: the engine could give out the planner's addresses",
            shown(range),
            spec.engine_range
        ))),
    }
}

fn shown(network: Option<Ipv4Net>) -> String {
    network.map_or_else(|| "none".to_owned(), |n| n.to_string())
}

/// The first route of `table` (the text of `/proc/net/route`) that overlaps `subnet`, as `net via device`.
/// Routes of half the address space and more are defaults, which a network may always cut into.
pub(crate) fn host_route_in_the_way(table: &str, subnet: Ipv4Net) -> Option<String> {
    table.lines().skip(1).filter_map(route).find_map(|(network, device)| {
        let overlaps = network.contains(&subnet.network()) || subnet.contains(&network.network());
        (overlaps && network.prefix_len() > 1).then(|| format!("{network} on {device}"))
    })
}

/// Device, destination, ..., mask: hexadecimal in the machine's byte order (proc(5)).
fn route(line: &str) -> Option<(Ipv4Net, &str)> {
    let mut fields = line.split_ascii_whitespace();
    let device = fields.next()?;
    let destination = hex_address(fields.next()?)?;
    let mask = hex_address(fields.nth(5)?)?;
    Some((Ipv4Net::with_netmask(destination, mask).ok()?, device))
}

fn hex_address(text: &str) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(u32::from_str_radix(text, 16).ok()?.to_ne_bytes()))
}
