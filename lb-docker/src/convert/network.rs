//! Networks: the request, and what an existing one is.

use std::collections::HashMap;

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect};
use ipnet::Ipv4Net;
use lb_core::engine::{SeenNetwork, owner_label};
use lb_core::{ClusterId, NetworkSpec};

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
        labels: Some(HashMap::from([owner_label(cluster)])),
        ..NetworkCreateRequest::default()
    }
}

/// Missing fields are taken for what they can mean.
pub(crate) fn seen_network(network: NetworkInspect) -> SeenNetwork {
    let config = network.ipam.and_then(|ipam| ipam.config?.into_iter().next()).unwrap_or_default();
    let read = |text: Option<String>| text.and_then(|t| t.parse::<Ipv4Net>().ok());
    let name = network.name.unwrap_or_default();
    SeenNetwork {
        id: network.id.unwrap_or_else(|| name.clone()),
        name,
        labels: network.labels.unwrap_or_default().into_iter().collect(),
        subnet: read(config.subnet),
        range: read(config.ip_range).map(|net| net.network()..=net.broadcast()),
    }
}
