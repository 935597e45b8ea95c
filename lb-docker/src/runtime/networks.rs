//! Networks: made once, checked for what is in their way, removed when empty.

use std::time::Duration;

use bollard::models::NetworkInspect;
use lb_core::{ErrorKind, NetworkName, NetworkSpec, Result};

use super::Host;
use crate::convert::{existing_matches, host_route_in_the_way, network_request, owned};
use crate::endpoint::Endpoint;
use crate::error::Failure;

/// Where Linux shows the routes of this process's network namespace.
const ROUTES: &str = "/proc/net/route";

/// The engine takes a subnet, and its route stands, before it shows the network. Whoever comes in between
/// looks again, so often and at such intervals, before it believes in another network there.
const ATTEMPTS: u32 = 10;
const WAIT: Duration = Duration::from_millis(100);

pub(super) async fn ensure(host: &Host, spec: &NetworkSpec) -> Result<()> {
    make(host, spec).await.map_err(|e| e.into_error("ensure", subject(&spec.name)))
}

pub(super) async fn remove(host: &Host, name: &NetworkName) -> Result<()> {
    take_away(host, name).await.map_err(|e| e.into_error("remove", subject(name)))
}

fn subject(name: &NetworkName) -> String {
    format!("network {name:?}")
}

async fn make(host: &Host, spec: &NetworkSpec) -> Result<(), Failure> {
    if !spec.subnet.contains(&spec.engine_range) {
        let message = format!("engine_range {} must lie inside {}", spec.engine_range, spec.subnet);
        return Err(Failure::invalid(message));
    }
    let mut attempts = 1;
    loop {
        let failure = match make_once(host, spec).await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        // The answer got lost, or somebody was faster: what stands there now decides.
        match find(host, &spec.name).await {
            Ok(Some(existing)) => return existing_matches(&host.cluster, spec, &existing),
            Ok(None) if attempts < ATTEMPTS && failure.kind() == ErrorKind::Conflict => {
                attempts += 1;
                tokio::time::sleep(WAIT).await;
            }
            _ => return Err(failure),
        }
    }
}

async fn make_once(host: &Host, spec: &NetworkSpec) -> Result<(), Failure> {
    if let Some(existing) = find(host, &spec.name).await? {
        return existing_matches(&host.cluster, spec, &existing);
    }
    refuse_routed(host, spec).await?;
    let request = network_request(&host.cluster, spec);
    let made = host.engine.docker().create_network(request);
    host.engine.call(host.deadlines.change, made).await.map(drop)
}

/// The engine looks for its own networks only. Where it runs beside us, so do its host's routes.
async fn refuse_routed(host: &Host, spec: &NetworkSpec) -> Result<(), Failure> {
    if !matches!(host.endpoint, Endpoint::Unix(_)) {
        return Ok(());
    }
    let Ok(table) = tokio::fs::read_to_string(ROUTES).await else { return Ok(()) };
    match host_route_in_the_way(&table, spec.subnet) {
        None => Ok(()),
        Some(route) => Err(Failure::conflict(format!(
            "subnet {} overlaps the host's route {route}: choose a cluster range that no route leads to",
            spec.subnet
        ))),
    }
}

async fn take_away(host: &Host, name: &NetworkName) -> Result<(), Failure> {
    let Some(existing) = find(host, name).await? else { return Ok(()) };
    owned(&host.cluster, existing.labels.as_ref())?;
    let id = existing.id.unwrap_or_else(|| name.to_string());
    let removed = host.engine.docker().remove_network(&id);
    match host.engine.call(host.deadlines.change, removed).await {
        Err(failure) if !failure.is_absent() => Err(failure),
        _ => Ok(()),
    }
}

/// By its exact name: the engine also answers to the beginning of an id.
async fn find(host: &Host, name: &NetworkName) -> Result<Option<NetworkInspect>, Failure> {
    let asked = host.engine.docker().inspect_network(name.as_str(), None);
    match host.engine.call(host.deadlines.read, asked).await {
        Ok(network) if network.name.as_deref() == Some(name.as_str()) => Ok(Some(network)),
        Err(failure) if !failure.is_absent() => Err(failure),
        _ => Ok(None),
    }
}
