//! From an instance to its container, and from a container's labels back to the instance.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::Ipv4Net;

use super::address::{gateway, network_name};
use super::{ClusterSpec, InstanceState, ObservedInstance};
use crate::ledger::{InstanceLedger, Version};
use crate::model::{
    Assignment, ClusterId, DomainName, EnvName, Health, ImageRef, InstanceId, LabelKey,
};
use crate::runtime::{Attachment, Container, ContainerSpec, ContainerState, Publish, Role, label};

/// Where an instance is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The host's registered address.
    pub address: Option<IpAddr>,
    pub subnet: Ipv4Net,
}

/// The container of an instance: equal instances have equal specs.
///
/// Beside the app's own variables it has `LB_APP`, `LB_INSTANCE`, `LB_ADDRESS` (its own address) and
/// `LB_HOST_ADDRESS`, where its host's balancer is reached, which is also `lb.internal` in its hosts file.
pub(super) fn container_spec(
    cluster: &ClusterSpec,
    place: Place,
    id: &InstanceId,
    record: &InstanceLedger,
    version: &Version,
) -> ContainerSpec {
    let app = &version.app;
    let assignment = &record.assignment;
    let image = app.image.clone().with_digest(version.digest.clone());
    let name = id.container_name(&cluster.id);
    let gateway = gateway(place.subnet);
    let mut env = variables(id, assignment.address, gateway);
    env.extend(app.env.clone());
    let labels = labels(assignment, version, &image);
    ContainerSpec {
        command: app.command.clone(),
        args: app.args.clone(),
        user: app.user.clone(),
        env,
        secrets: app.secrets.clone(),
        volumes: app.volumes.clone(),
        resources: app.resources,
        network: Attachment::Network {
            name: network_name(cluster, place.subnet),
            address: assignment.address,
        },
        hosts: [(internal_name(), gateway.into())].into(),
        publish: publish(assignment, place.address),
        stop_signal: app.stop.signal.clone(),
        stop_grace: app.stop.grace,
        labels,
        ..ContainerSpec::new(name, Role::Instance, image)
    }
}

fn variables(id: &InstanceId, own: Ipv4Addr, host: Ipv4Addr) -> BTreeMap<EnvName, String> {
    let name =
        |s| EnvName::new(s).unwrap_or_else(|e| unreachable!("a constant variable name: {e}"));
    [
        (name("LB_APP"), id.app.to_string()),
        (name("LB_INSTANCE"), id.to_string()),
        (name("LB_ADDRESS"), own.to_string()),
        (name("LB_HOST_ADDRESS"), host.to_string()),
    ]
    .into()
}

fn internal_name() -> DomainName {
    DomainName::new("lb.internal").unwrap_or_else(|e| unreachable!("a constant name: {e}"))
}

fn key(label: &str) -> LabelKey {
    LabelKey::new(label).unwrap_or_else(|e| unreachable!("a constant label: {e}"))
}

fn labels(
    assignment: &Assignment,
    version: &Version,
    image: &ImageRef,
) -> BTreeMap<LabelKey, String> {
    let health: BTreeMap<u16, &Health> =
        version.app.ports.values().map(|p| (p.container.get(), &p.health)).collect();
    let json = "labels are JSON";
    [
        (
            key(label::ASSIGNMENT),
            serde_json::to_string(assignment).unwrap_or_else(|e| unreachable!("{json}: {e}")),
        ),
        (
            key(label::HEALTH),
            serde_json::to_string(&health).unwrap_or_else(|e| unreachable!("{json}: {e}")),
        ),
        (key(label::IMAGE), image.to_string()),
    ]
    .into()
}

fn publish(assignment: &Assignment, address: Option<IpAddr>) -> Vec<Publish> {
    let Some(address) = address else { return Vec::new() };
    let ports = assignment.published.iter().filter_map(|(name, host)| {
        let container = *assignment.ports.get(name)?;
        Some(Publish { address, host: *host, container })
    });
    ports.collect()
}

impl ObservedInstance {
    /// Reads an instance back from its container. `None` for containers of other roles, and for those
    /// whose name or labels are not an instance's of this cluster.
    pub fn from_container(cluster: &ClusterId, container: &Container) -> Option<Self> {
        if container.role != Role::Instance {
            return None;
        }
        let id = InstanceId::from_container_name(cluster, &container.name)?;
        let label = |name: &str| {
            let mut labels = container.labels.iter();
            labels.find_map(|(key, value)| (key.as_str() == name).then_some(value))
        };
        let assignment: Assignment = serde_json::from_str(label(label::ASSIGNMENT)?).ok()?;
        let image = ImageRef::new(label(label::IMAGE)?).ok()?;
        let state = match &container.state {
            ContainerState::Created => InstanceState::Created,
            ContainerState::Running => InstanceState::Running(container.readiness.clone()),
            ContainerState::Exited(exit) => InstanceState::Exited(exit.clone()),
        };
        let spec = container.spec.clone();
        Some(Self { id, assignment: Arc::new(assignment), image: Arc::new(image), spec, state })
    }
}
