//! Questions: who runs, how much they use, what they print, what the engine is.

use std::collections::BTreeMap;

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum as State};
use bollard::query_parameters::{ListContainersOptions, LogsOptionsBuilder, StatsOptionsBuilder};
use futures_util::{StreamExt, TryStreamExt, stream};
use lb_core::{Container, ContainerName, ContainerState, EngineInfo, ErrorKind, Result, Usage};

use super::containers::subject;
use super::{Host, text};
use crate::convert;
use crate::error::Failure;

/// The most that `logs` gives, whatever the number of lines.
const MOST_LOGS: usize = 4 * 1024 * 1024;

pub(super) async fn describe(host: &Host) -> Result<EngineInfo> {
    let asked = host.engine.docker().info();
    let fail = |e: Failure| e.into_error("describe", engine(host));
    let info = host.engine.call(host.deadlines.read, asked).await.map_err(fail)?;
    let system = info.operating_system.unwrap_or_default();
    let secured = info.security_options.unwrap_or_default();
    // Inside a virtual machine or a user's own namespace, bridges are out of the host's reach.
    let apart = system.contains("Docker Desktop") || secured.iter().any(|s| s.contains("rootless"));
    Ok(EngineInfo {
        name: "docker".into(),
        version: info.server_version.unwrap_or_default(),
        addresses: info.os_type.as_deref() == Some("linux") && !apart,
        limits: info.memory_limit == Some(true) && info.cpu_cfs_quota == Some(true),
    })
}

fn engine(host: &Host) -> String {
    format!("engine {}", host.endpoint)
}

pub(super) async fn list(host: &Host) -> Result<Vec<Container>> {
    list_all(host).await.map_err(|e| e.into_error("list", engine(host)))
}

async fn list_all(host: &Host) -> Result<Vec<Container>, Failure> {
    let summaries = owned_summaries(host, All::States).await?;
    // The engine's places bound these; the list says all but how a container ended.
    let known = summaries.into_iter().map(|summary| with_state(host, summary));
    let bound = host.bounds.calls.max(1);
    let found: Vec<_> = stream::iter(known).buffer_unordered(bound).try_collect().await?;
    let mut containers: Vec<Container> = found.into_iter().flatten().collect();
    containers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(containers)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum All {
    States,
    Running,
}

async fn owned_summaries(host: &Host, which: All) -> Result<Vec<ContainerSummary>, Failure> {
    let options = ListContainersOptions {
        all: which == All::States,
        filters: Some(convert::owned_by(&host.cluster)),
        ..ListContainersOptions::default()
    };
    let asked = host.engine.docker().list_containers(Some(options));
    host.engine.call(host.deadlines.read, asked).await
}

/// None when it has gone meanwhile, or is not of our making after all.
async fn with_state(host: &Host, summary: ContainerSummary) -> Result<Option<Container>, Failure> {
    let state = match summary.state {
        Some(State::CREATED) => ContainerState::Created,
        Some(State::RUNNING | State::PAUSED | State::RESTARTING) => ContainerState::Running,
        _ => {
            let id = summary.id.as_deref().unwrap_or_default();
            let asked = host.engine.docker().inspect_container(id, None);
            match host.engine.call(host.deadlines.read, asked).await {
                Ok(answer) => convert::state(&answer.state.unwrap_or_default()),
                Err(failure) if failure.is_absent() => return Ok(None),
                Err(failure) => return Err(failure),
            }
        }
    };
    Ok(convert::listed(summary, state))
}

pub(super) async fn usage(host: &Host) -> Result<BTreeMap<ContainerName, Usage>> {
    let running = owned_summaries(host, All::Running).await;
    let running = running.map_err(|e| e.into_error("measure", engine(host)))?;
    let asked = running.into_iter().filter_map(|summary| {
        let name = convert::container_name(summary.names.as_deref().unwrap_or_default())?;
        Some((name, summary.id?))
    });
    let measured = asked.map(|(name, id)| async move { (measure(host, &id).await, name) });
    let mut measured = stream::iter(measured).buffer_unordered(host.bounds.statistics.max(1));
    let mut usages = BTreeMap::new();
    while let Some((result, name)) = measured.next().await {
        match result {
            Ok(Some(usage)) => drop(usages.insert(name, usage)),
            Ok(None) => {}
            Err(e) if e.kind() == ErrorKind::Unavailable => {
                return Err(e.into_error("measure", subject(&name)));
            }
            // One that ends or hangs must not hide the others.
            Err(error) => tracing::debug!(container = %name, %error, "no usage"),
        }
    }
    Ok(usages)
}

async fn measure(host: &Host, id: &str) -> Result<Option<Usage>, Failure> {
    let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
    let mut stats = host.engine.docker().stats(id, Some(options));
    let answer = host.engine.wait(host.deadlines.read, stats.try_next()).await?;
    Ok(answer.as_ref().and_then(convert::usage))
}

pub(super) async fn logs(host: &Host, name: &ContainerName, tail: usize) -> Result<String> {
    read_logs(host, name, tail).await.map_err(|e| e.into_error("read logs of", subject(name)))
}

async fn read_logs(host: &Host, name: &ContainerName, tail: usize) -> Result<String, Failure> {
    let asked = host.engine.docker().inspect_container(name.as_str(), None);
    let answer = host.engine.call(host.deadlines.read, asked).await?;
    // A foreign one is, for this cluster, not there.
    let Ok(Some(there)) = convert::found(&host.cluster, name, answer) else {
        let message = "no container of this cluster has this name".into();
        return Err(Failure::Rule { kind: ErrorKind::NotFound, message });
    };
    let lines = tail.to_string();
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&lines).build();
    let output = host.engine.docker().logs(&there.id, Some(options));
    host.engine.call(host.deadlines.read, text::end_of(output, MOST_LOGS)).await
}
