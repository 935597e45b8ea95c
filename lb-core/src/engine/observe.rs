//! Questions: who runs, how much they use, what they print, what the engine is.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::containers::find;
use super::labels::listed;
use super::runtime::Host;
use super::{EngineApi, Failure, Summary, Which, container as subject};
use crate::error::{ErrorKind, Result};
use crate::model::ContainerName;
use crate::runtime::{Container, EngineInfo, Usage};

/// The most that `logs` gives, whatever the number of lines.
const MOST_LOGS: usize = 4 * 1024 * 1024;

pub(super) async fn describe(host: &Host<impl EngineApi>) -> Result<EngineInfo> {
    host.read(host.api.describe()).await.map_err(|e| e.into_error("describe", host.subject()))
}

pub(super) async fn list(host: &Host<impl EngineApi>) -> Result<Vec<Container>> {
    list_all(host).await.map_err(|e| e.into_error("list", host.subject()))
}

async fn list_all(host: &Host<impl EngineApi>) -> Result<Vec<Container>, Failure> {
    let doubted = host.ended.now();
    let mut summaries = host.read(host.api.containers(&host.cluster, Which::All)).await?;
    for summary in &mut summaries {
        summary.state.take_if(|_| summary.name.as_ref().is_some_and(|n| doubted.contains_key(n)));
    }
    // The engine's places bound these; the list says all but how a container ended.
    let known = summaries.into_iter().map(|summary| with_state(host, summary));
    let bound = host.calls.bounds.calls.max(1);
    let found: Vec<_> = stream::iter(known).buffer_unordered(bound).try_collect().await?;
    host.ended.settle(&doubted);
    let mut containers: Vec<Container> = found.into_iter().flatten().collect();
    containers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(containers)
}

/// None when it has gone meanwhile, or is not of our making after all.
async fn with_state(
    host: &Host<impl EngineApi>,
    mut summary: Summary,
) -> Result<Option<Container>, Failure> {
    let state = match summary.state.take() {
        Some(state) => state,
        None => match host.read(host.api.container(&summary.id)).await {
            Ok(seen) => seen.state,
            Err(failure) if failure.is_absent() => return Ok(None),
            Err(failure) => return Err(failure),
        },
    };
    Ok(listed(summary, state))
}

pub(super) async fn usage(host: &Host<impl EngineApi>) -> Result<BTreeMap<ContainerName, Usage>> {
    let running = host.read(host.api.containers(&host.cluster, Which::Running)).await;
    let running = running.map_err(|e| e.into_error("measure", host.subject()))?;
    let asked = running.into_iter().filter_map(|summary| Some((summary.name?, summary.id)));
    let deadline = host.calls.deadlines.read;
    let measured = asked
        .map(|(name, id)| async move { (host.wait(deadline, host.api.usage(&id)).await, name) });
    let mut measured = stream::iter(measured).buffer_unordered(host.calls.bounds.statistics.max(1));
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

pub(super) async fn logs(
    host: &Host<impl EngineApi>,
    name: &ContainerName,
    tail: usize,
) -> Result<String> {
    read_logs(host, name, tail).await.map_err(|e| e.into_error("read logs of", subject(name)))
}

async fn read_logs(
    host: &Host<impl EngineApi>,
    name: &ContainerName,
    tail: usize,
) -> Result<String, Failure> {
    let there = match find(host, name).await {
        Ok(Some(there)) => there,
        // A foreign one is, for this cluster, not there.
        Ok(None) | Err(Failure::Rule { .. }) => {
            let message = "no container of this cluster has this name";
            return Err(Failure::rule(ErrorKind::NotFound, message));
        }
        Err(failure) => return Err(failure),
    };
    host.read(host.api.output(&there.id, Some(tail), MOST_LOGS)).await
}
