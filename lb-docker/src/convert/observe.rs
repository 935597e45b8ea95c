//! What the engine says, in the core's words. Missing and unknown fields are taken for what they can mean.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, ContainerMemoryStats, ContainerState as EngineState,
    ContainerStateStatusEnum as Status, ContainerStatsResponse, ContainerSummary, EventMessage,
    ImageInspect,
};
use lb_core::{
    ByteSize, ClusterId, Container, ContainerId, ContainerName, ContainerState, Exit, ImageDigest,
    ImageRef, LabelKey, Readiness, RuntimeEvent, SpecHash, Usage, label,
};

use super::role_of;
use crate::error::Failure;

/// What stands under a container's name.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) id: String,
    pub(crate) spec: SpecHash,
    pub(crate) state: ContainerState,
}

/// The container `name`, if it is there and this cluster's. Engines also find by the beginning of an id:
/// that is somebody else.
pub(crate) fn found(
    cluster: &ClusterId,
    name: &ContainerName,
    answer: ContainerInspectResponse,
) -> Result<Option<Found>, Failure> {
    if answer.name.as_deref().map(|n| n.trim_start_matches('/')) != Some(name.as_str()) {
        return Ok(None);
    }
    let labels = answer.config.and_then(|config| config.labels);
    owned(cluster, labels.as_ref())?;
    let spec = labels.as_ref().and_then(|l| l.get(label::SPEC)).cloned().unwrap_or_default();
    let id = answer.id.ok_or_else(|| Failure::unexpected("the engine gave a container no id"))?;
    let state = state(&answer.state.unwrap_or_default());
    Ok(Some(Found { id, spec: SpecHash::from_label(spec), state }))
}

/// Whether the labels are this cluster's.
pub(crate) fn owned(
    cluster: &ClusterId,
    labels: Option<&HashMap<String, String>>,
) -> Result<(), Failure> {
    match labels.and_then(|labels| labels.get(label::CLUSTER)) {
        Some(owner) if owner == cluster.as_str() => Ok(()),
        Some(owner) => {
            Err(Failure::conflict(format!("belongs to cluster {owner:?}, not {cluster:?}")))
        }
        None => Err(Failure::conflict(format!(
            "exists without the label {}: it was not made by cluster {cluster:?}",
            label::CLUSTER
        ))),
    }
}

pub(crate) fn state(state: &EngineState) -> ContainerState {
    match state.status {
        Some(Status::CREATED) => ContainerState::Created,
        // Restarting is the engine's affair; paused was somebody's choice, and probes will tell.
        Some(Status::RUNNING | Status::PAUSED | Status::RESTARTING) => ContainerState::Running,
        _ if state.running == Some(true) => ContainerState::Running,
        _ => ContainerState::Exited(Exit {
            code: state.exit_code.unwrap_or_default(),
            out_of_memory: state.oom_killed.unwrap_or_default(),
            output: String::new(),
        }),
    }
}

/// The container's own name among its names: `/name`, where links would be `/other/name`.
pub(crate) fn container_name(names: &[String]) -> Option<ContainerName> {
    let own = names.iter().filter_map(|n| n.strip_prefix('/')).find(|n| !n.contains('/'))?;
    ContainerName::new(own).ok()
}

/// A container of the list, once its state is known. None if our labels are on something we did not make.
pub(crate) fn listed(summary: ContainerSummary, state: ContainerState) -> Option<Container> {
    let name = container_name(summary.names.as_deref().unwrap_or_default())?;
    let labels = summary.labels.unwrap_or_default();
    let role = role_of(labels.get(label::ROLE)?)?;
    let spec = SpecHash::from_label(labels.get(label::SPEC)?.as_str());
    Some(Container {
        name,
        id: ContainerId(summary.id?),
        role,
        spec,
        labels: further(labels),
        state,
        readiness: Readiness::Unknown,
    })
}

fn further(labels: HashMap<String, String>) -> BTreeMap<LabelKey, String> {
    let ours = [label::CLUSTER, label::SPEC, label::ROLE];
    labels
        .into_iter()
        .filter(|(key, _)| !ours.contains(&key.as_str()))
        .filter_map(|(key, value)| Some((LabelKey::new(key).ok()?, value)))
        .collect()
}

/// Counters of a container, if it ran when they were read: an ended one has the year 1 for a time.
pub(crate) fn usage(stats: &ContainerStatsResponse) -> Option<Usage> {
    let at: jiff::Timestamp = stats.read.as_deref()?.parse().ok()?;
    let cpu = stats.cpu_stats.as_ref()?.cpu_usage.as_ref()?.total_usage.filter(|ns| *ns > 0)?;
    let memory = ByteSize::new(working_set(stats.memory_stats.as_ref()?)?);
    (at > jiff::Timestamp::UNIX_EPOCH).then_some(Usage {
        at,
        cpu: Duration::from_nanos(cpu),
        memory,
    })
}

/// As `docker stats` counts (docker/cli `calculateMemUsageUnixNoCache`): usage without the inactive file
/// cache, which cgroup v1 calls `total_inactive_file` and v2 `inactive_file`.
fn working_set(memory: &ContainerMemoryStats) -> Option<u64> {
    let usage = memory.usage?;
    let of = |key| memory.stats.as_ref().and_then(|stats| stats.get(key)).copied();
    let cache = of("total_inactive_file").or_else(|| of("inactive_file"));
    Some(cache.filter(|cache| *cache < usage).map_or(usage, |cache| usage - cache))
}

/// The hint in an event, if it is one of ours.
pub(crate) fn event(message: &EventMessage) -> Option<RuntimeEvent> {
    let name = message.actor.as_ref()?.attributes.as_ref()?.get("name")?;
    let name = ContainerName::new(name).ok()?;
    match message.action.as_deref()? {
        "start" => Some(RuntimeEvent::Started(name)),
        "die" => Some(RuntimeEvent::Exited(name)),
        "destroy" => Some(RuntimeEvent::Removed(name)),
        _ => None,
    }
}

/// The manifest digests under which a registry knows the image in this repository, in order.
pub(crate) fn registry_digests(image: &ImageRef, local: &ImageInspect) -> Vec<ImageDigest> {
    let repository = familiar(image.repository());
    let of = |entry: &String| {
        let (name, digest) = entry.split_once('@')?;
        (familiar(name) == repository).then(|| ImageDigest::new(digest).ok())?
    };
    let mut digests: Vec<_> = local.repo_digests.iter().flatten().filter_map(of).collect();
    digests.sort();
    digests
}

/// The image's own id.
pub(crate) fn local_digest(local: &ImageInspect) -> Result<ImageDigest, Failure> {
    let id = local.id.clone().unwrap_or_default();
    ImageDigest::new(id)
        .map_err(|e| Failure::unexpected(format!("the engine gave an image a strange id: {e}")))
}

/// `Digest: sha256:...`, which ends every pull.
pub(crate) fn pulled_digest(status: &str) -> Option<ImageDigest> {
    ImageDigest::new(status.strip_prefix("Digest: ")?).ok()
}

/// A repository as the engine shows it: Docker Hub's own name and its `library` left out
/// (github.com/distribution/reference, `FamiliarName`).
fn familiar(repository: &str) -> &str {
    let hub = ["docker.io/", "index.docker.io/"];
    let path = hub.iter().find_map(|h| repository.strip_prefix(h)).unwrap_or(repository);
    match path.strip_prefix("library/") {
        Some(name) if !name.contains('/') => name,
        _ => path,
    }
}
