//! What the engine says, in the core's words. Missing and unknown fields are taken for what they can mean.

use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, ContainerMemoryStats, ContainerState as EngineState,
    ContainerStateStatusEnum as Status, ContainerStatsResponse, ContainerSummary,
    ContainerSummaryStateEnum as ListState, CreateImageInfo, EventMessage, ImageInspect,
    SystemInfo,
};
use lb_core::engine::{Failure, Hint, PullLine, Seen, SeenImage, Summary};
use lb_core::{
    ByteSize, ContainerName, ContainerState, EngineInfo, Exit, ImageDigest, ProgressStep,
    RuntimeEvent, Usage,
};

pub(crate) fn engine_info(info: SystemInfo) -> EngineInfo {
    let system = info.operating_system.unwrap_or_default();
    let secured = info.security_options.unwrap_or_default();
    // Inside a virtual machine or a user's own namespace, bridges are out of the host's reach.
    let apart = system.contains("Docker Desktop") || secured.iter().any(|s| s.contains("rootless"));
    EngineInfo {
        name: "docker".into(),
        version: info.server_version.unwrap_or_default(),
        addresses: info.os_type.as_deref() == Some("linux") && !apart,
        limits: info.memory_limit == Some(true) && info.cpu_cfs_quota == Some(true),
    }
}

pub(crate) fn seen(answer: ContainerInspectResponse) -> Result<Seen, Failure> {
    let labels = answer.config.and_then(|config| config.labels).unwrap_or_default();
    Ok(Seen {
        id: answer.id.ok_or_else(|| Failure::unexpected("the engine gave a container no id"))?,
        name: answer.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        labels: labels.into_iter().collect(),
        state: state(&answer.state.unwrap_or_default()),
    })
}

pub(super) fn state(state: &EngineState) -> ContainerState {
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

pub(crate) fn summary(summary: ContainerSummary) -> Option<Summary> {
    Some(Summary {
        id: summary.id?,
        name: container_name(summary.names.as_deref().unwrap_or_default()),
        labels: summary.labels.unwrap_or_default().into_iter().collect(),
        state: match summary.state {
            Some(ListState::CREATED) => Some(ContainerState::Created),
            Some(ListState::RUNNING | ListState::PAUSED | ListState::RESTARTING) => {
                Some(ContainerState::Running)
            }
            // How it ended, a list does not say.
            _ => None,
        },
    })
}

/// The container's own name among its names: `/name`, where links would be `/other/name`.
pub(super) fn container_name(names: &[String]) -> Option<ContainerName> {
    let own = names.iter().filter_map(|n| n.strip_prefix('/')).find(|n| !n.contains('/'))?;
    ContainerName::new(own).ok()
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

pub(crate) fn hint(message: &EventMessage) -> Hint {
    Hint { at: message.time_nano.map(i128::from), event: event(message) }
}

/// The hint in an event, if it is one of ours.
fn event(message: &EventMessage) -> Option<RuntimeEvent> {
    let name = message.actor.as_ref()?.attributes.as_ref()?.get("name")?;
    let name = ContainerName::new(name).ok()?;
    match message.action.as_deref()? {
        "start" => Some(RuntimeEvent::Started(name)),
        "die" => Some(RuntimeEvent::Exited(name)),
        "destroy" => Some(RuntimeEvent::Removed(name)),
        _ => None,
    }
}

/// As the engine takes a time: `seconds.nanoseconds`.
pub(crate) fn unix_time(nanoseconds: i128) -> String {
    const SECOND: i128 = 1_000_000_000;
    format!("{}.{:09}", nanoseconds.div_euclid(SECOND), nanoseconds.rem_euclid(SECOND))
}

pub(crate) fn seen_image(image: ImageInspect) -> Result<SeenImage, Failure> {
    let id = ImageDigest::new(image.id.unwrap_or_default())
        .map_err(|e| Failure::unexpected(format!("the engine gave an image a strange id: {e}")))?;
    let digest = |entry: String| {
        let (repository, digest) = entry.split_once('@')?;
        Some((repository.to_owned(), ImageDigest::new(digest).ok()?))
    };
    let digests = image.repo_digests.into_iter().flatten().filter_map(digest).collect();
    Ok(SeenImage { id, digests, single: None })
}

/// The registry's answers are not told apart: the engine was asked what the tag means before.
pub(crate) fn pull_line(line: CreateImageInfo) -> PullLine {
    let status = line.status.unwrap_or_default();
    let bytes = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    let detail = line.progress_detail.unwrap_or_default();
    PullLine {
        answered: true,
        // `Digest: sha256:...`, which ends every pull.
        digest: status.strip_prefix("Digest: ").and_then(|d| ImageDigest::new(d).ok()),
        step: ProgressStep {
            what: status,
            item: line.id.unwrap_or_default(),
            done: bytes(detail.current),
            total: bytes(detail.total),
        },
    }
}
