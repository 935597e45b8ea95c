//! Between the core's words and the Engine API's. Pure.

mod container;
mod network;
mod observe;
#[cfg(test)]
mod tests;

pub(crate) use container::{Settings, create_body, image_names, whole_seconds};
pub(crate) use network::{existing_matches, host_route_in_the_way, network_request};
pub(crate) use observe::{
    Found, container_name, event, found, listed, local_digest, owned, pulled_digest,
    registry_digests, state, usage,
};

use std::collections::HashMap;

use lb_core::{ClusterId, Role, label};

/// A role as its label writes it.
const ROLES: [(Role, &str); 4] = [
    (Role::Instance, "instance"),
    (Role::Balancer, "balancer"),
    (Role::Agent, "agent"),
    (Role::Checker, "checker"),
];

fn role_text(role: Role) -> &'static str {
    ROLES.iter().find(|(r, _)| *r == role).map_or("instance", |(_, text)| text)
}

fn role_of(text: &str) -> Option<Role> {
    ROLES.iter().find(|(_, t)| *t == text).map(|(role, _)| *role)
}

/// The filter that keeps a call to what this cluster owns.
pub(crate) fn owned_by(cluster: &ClusterId) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{}={cluster}", label::CLUSTER)])])
}
