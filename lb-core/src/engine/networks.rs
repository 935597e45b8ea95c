//! Networks: made once, checked for what is in their way, removed when empty.

use std::time::Duration;

use ipnet::Ipv4Net;

use super::labels::owned;
use super::routes::route_in_the_way;
use super::runtime::Host;
use super::{EngineApi, Failure, SeenNetwork};
use crate::error::{ErrorKind, Result};
use crate::model::{ClusterId, NetworkName};
use crate::runtime::NetworkSpec;

/// Where Linux shows the routes of this process's network namespace.
const ROUTES: &str = "/proc/net/route";

/// An engine takes a subnet, and its route stands, before it shows the network. Whoever comes in between
/// looks again, so often and at such intervals, before it believes in another network there.
const ATTEMPTS: u32 = 10;
const WAIT: Duration = Duration::from_millis(100);

pub(super) async fn ensure(host: &Host<impl EngineApi>, spec: &NetworkSpec) -> Result<()> {
    make(host, spec).await.map_err(|e| e.into_error("ensure", subject(&spec.name)))
}

pub(super) async fn remove(host: &Host<impl EngineApi>, name: &NetworkName) -> Result<()> {
    take_away(host, name).await.map_err(|e| e.into_error("remove", subject(name)))
}

fn subject(name: &NetworkName) -> String {
    format!("network {name:?}")
}

async fn make(host: &Host<impl EngineApi>, spec: &NetworkSpec) -> Result<(), Failure> {
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
            Ok(Some(existing)) => return matches(&host.cluster, spec, &existing),
            Ok(None) if attempts < ATTEMPTS && failure.kind() == ErrorKind::Conflict => {
                attempts += 1;
                tokio::time::sleep(WAIT).await;
            }
            _ => return Err(failure),
        }
    }
}

async fn make_once(host: &Host<impl EngineApi>, spec: &NetworkSpec) -> Result<(), Failure> {
    if let Some(existing) = find(host, &spec.name).await? {
        return matches(&host.cluster, spec, &existing);
    }
    refuse_routed(host, spec).await?;
    host.change(host.api.make_network(&host.cluster, spec)).await
}

/// Whether the network that has this name is the one asked for.
fn matches(cluster: &ClusterId, spec: &NetworkSpec, existing: &SeenNetwork) -> Result<(), Failure> {
    owned(cluster, &existing.labels)?;
    if existing.subnet.map(|subnet| subnet.trunc()) != Some(spec.subnet.trunc()) {
        let there = existing.subnet.as_ref().map_or_else(|| "none".to_owned(), Ipv4Net::to_string);
        return Err(Failure::conflict(format!(
            "exists with subnet {there}, not {}: remove it or give the old subnet",
            spec.subnet
        )));
    }
    let outside = existing.range.as_ref().is_none_or(|range| {
        [range.start(), range.end()].into_iter().any(|end| !spec.engine_range.contains(end))
    });
    match &existing.range {
        Some(_) if !outside => Ok(()),
        range => {
            let there = range.as_ref().map_or_else(
                || "everywhere".to_owned(),
                |range| format!("{} to {}", range.start(), range.end()),
            );
            Err(Failure::conflict(format!(
                "exists with the engine's range {there}, not {}: the engine could give out the planner's addresses",
                spec.engine_range
            )))
        }
    }
}

/// An engine looks for its own networks only. Where it runs beside us, so do its host's routes.
async fn refuse_routed(host: &Host<impl EngineApi>, spec: &NetworkSpec) -> Result<(), Failure> {
    if !host.api.is_here() {
        return Ok(());
    }
    let Ok(table) = tokio::fs::read_to_string(ROUTES).await else { return Ok(()) };
    match route_in_the_way(&table, spec.subnet) {
        None => Ok(()),
        Some(route) => Err(Failure::conflict(format!(
            "subnet {} overlaps the host's route {route}: choose a cluster range that no route leads to",
            spec.subnet
        ))),
    }
}

async fn take_away(host: &Host<impl EngineApi>, name: &NetworkName) -> Result<(), Failure> {
    let Some(existing) = find(host, name).await? else { return Ok(()) };
    owned(&host.cluster, &existing.labels)?;
    match host.change(host.api.remove_network(&existing.id)).await {
        Err(failure) if !failure.is_absent() => Err(failure),
        _ => Ok(()),
    }
}

/// By its exact name: engines also answer to the beginning of an id.
async fn find(
    host: &Host<impl EngineApi>,
    name: &NetworkName,
) -> Result<Option<SeenNetwork>, Failure> {
    match host.read(host.api.network(name)).await {
        Ok(network) if network.name == name.as_str() => Ok(Some(network)),
        Err(failure) if !failure.is_absent() => Err(failure),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_is_there_must_be_ours_and_the_same() {
        let spec = NetworkSpec {
            name: "shop.h1".parse().unwrap(),
            subnet: "10.1.2.0/24".parse().unwrap(),
            engine_range: "10.1.2.240/28".parse().unwrap(),
        };
        let there =
            |owner: Option<&str>, subnet: Option<&str>, range: Option<(&str, &str)>| SeenNetwork {
                id: "1".into(),
                name: "shop.h1".into(),
                labels: owner
                    .map(|o| ("lb.cluster".to_owned(), o.to_owned()))
                    .into_iter()
                    .collect(),
                subnet: subnet.map(|s| s.parse().unwrap()),
                range: range.map(|(first, last)| first.parse().unwrap()..=last.parse().unwrap()),
            };
        let check =
            |network: SeenNetwork| matches(&ClusterId::new("shop").unwrap(), &spec, &network);
        let (subnet, range) = (Some("10.1.2.0/24"), Some(("10.1.2.240", "10.1.2.255")));
        assert!(check(there(Some("shop"), subnet, range)).is_ok());
        assert!(check(there(Some("shop"), subnet, Some(("10.1.2.241", "10.1.2.254")))).is_ok());
        for (owner, subnet, range, word) in [
            (Some("other"), subnet, range, "belongs to cluster \"other\""),
            (None, subnet, range, "exists without the label lb.cluster"),
            (Some("shop"), Some("10.1.3.0/24"), range, "exists with subnet 10.1.3.0/24"),
            (Some("shop"), None, range, "exists with subnet none"),
            (
                Some("shop"),
                subnet,
                Some(("10.1.2.2", "10.1.2.250")),
                "exists with the engine's range 10.1.2.2 to 10.1.2.250",
            ),
            (Some("shop"), subnet, None, "exists with the engine's range everywhere"),
        ] {
            let failure = check(there(owner, subnet, range)).unwrap_err();
            assert_eq!(failure.kind(), ErrorKind::Conflict);
            assert!(failure.to_string().starts_with(word), "{failure}");
        }
    }
}
