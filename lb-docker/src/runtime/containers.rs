//! Making, ending and removing containers.

use std::time::Duration;

use bollard::errors::Error as BollardError;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    StopContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use lb_core::{
    ContainerId, ContainerName, ContainerSpec, ContainerState, ErrorKind, Exit, Restart, Result,
};

use super::{Host, text};
use crate::convert::{Found, create_body, found, image_names, whole_seconds};
use crate::error::Failure;

/// What `run_to_end` keeps of the output.
const OUTPUT: usize = 64 * 1024;

/// The engine takes a name at the start of a creation and shows the container at its end. Whoever comes
/// in between asks again, so often and at such intervals.
const NAME_ATTEMPTS: u32 = 50;
const NAME_WAIT: Duration = Duration::from_millis(100);

pub(super) async fn run(host: &Host, spec: &ContainerSpec) -> Result<ContainerId> {
    let done = make_and_start(host, spec).await;
    done.map(ContainerId).map_err(|e| e.into_error("run", subject(&spec.name)))
}

pub(super) async fn run_to_end(
    host: &Host,
    spec: &ContainerSpec,
    deadline: Duration,
) -> Result<Exit> {
    see_through(host, spec, deadline).await.map_err(|e| e.into_error("run", subject(&spec.name)))
}

pub(super) async fn stop(host: &Host, name: &ContainerName, grace: Duration) -> Result<()> {
    end(host, name, grace).await.map_err(|e| e.into_error("stop", subject(name)))
}

pub(super) fn subject(name: &ContainerName) -> String {
    format!("container {name:?}")
}

async fn make_and_start(host: &Host, spec: &ContainerSpec) -> Result<String, Failure> {
    let body = create_body(&host.cluster, spec, &host.settings)?;
    let mut attempts = 1;
    loop {
        let failure = match create(host, spec, body.clone()).await {
            Ok(id) => return start_or_remove(host, id).await,
            Err(failure) if failure.is_unclear() => {
                remove_half_made(host, spec).await;
                return Err(failure);
            }
            Err(failure) => failure,
        };
        match find(host, &spec.name).await? {
            Some(there) => return adopt(host, spec, there).await,
            None if attempts < NAME_ATTEMPTS && failure.kind() == ErrorKind::Conflict => {
                attempts += 1;
                tokio::time::sleep(NAME_WAIT).await;
            }
            None => return Err(failure),
        }
    }
}

/// Creates it under whichever of the image's names the engine knows.
async fn create(
    host: &Host,
    spec: &ContainerSpec,
    body: ContainerCreateBody,
) -> Result<String, Failure> {
    let mut refused = None;
    for image in image_names(&spec.image) {
        let body = ContainerCreateBody { image: Some(image), ..body.clone() };
        let options = CreateContainerOptionsBuilder::new().name(spec.name.as_str()).build();
        let made = Box::pin(host.engine.docker().create_container(Some(options), body));
        match host.engine.call(host.deadlines.change, made).await {
            Ok(answer) => return Ok(answer.id),
            Err(failure) if failure.is_absent() => refused = refused.or(Some(failure)),
            Err(failure) => return Err(failure),
        }
    }
    Err(refused.unwrap_or_else(|| Failure::unexpected("no image name to try")))
}

async fn start_or_remove(host: &Host, id: String) -> Result<String, Failure> {
    let started = start(host, &id).await;
    if started.is_err() {
        tidy(host, &id).await;
    }
    started.map(|()| id)
}

async fn start(host: &Host, id: &str) -> Result<(), Failure> {
    let started = host.engine.docker().start_container(id, None);
    host.engine.call(host.deadlines.change, started).await
}

/// It could not be created: perhaps because it is there already, as it should be.
async fn adopt(host: &Host, spec: &ContainerSpec, there: Found) -> Result<String, Failure> {
    if there.spec != spec.hash() {
        return Err(Failure::conflict(format!(
            "exists with another spec ({}, not {}): stop it, or take another name",
            there.spec,
            spec.hash()
        )));
    }
    match there.state {
        ContainerState::Running => Ok(there.id),
        ContainerState::Created => start(host, &there.id).await.map(|()| there.id),
        ContainerState::Exited(exit) => Err(Failure::conflict(format!(
            "exists and has exited with code {}: stop it to remove it, or take another name",
            exit.code
        ))),
    }
}

/// Nobody said whether it was created. If it was, by us or by one who asked for the same, it never ran.
async fn remove_half_made(host: &Host, spec: &ContainerSpec) {
    if let Ok(Some(there)) = find(host, &spec.name).await
        && there.spec == spec.hash()
        && there.state == ContainerState::Created
    {
        tidy(host, &there.id).await;
    }
}

/// Removes what a failed call left. If that fails too, `list` shows it, and `run` or `stop` go on from there.
async fn tidy(host: &Host, id: &str) {
    if let Err(error) = remove(host, id).await {
        tracing::warn!(container = id, %error, "container left behind");
    }
}

async fn see_through(
    host: &Host,
    spec: &ContainerSpec,
    deadline: Duration,
) -> Result<Exit, Failure> {
    let spec = ContainerSpec { restart: Restart::Never, ..spec.clone() };
    let body = create_body(&host.cluster, &spec, &host.settings)?;
    let id = match create(host, &spec, body).await {
        Ok(id) => start_or_remove(host, id).await?,
        Err(failure) => {
            if failure.is_unclear() {
                remove_half_made(host, &spec).await;
            }
            return Err(failure);
        }
    };
    let exit = outcome(host, &id, deadline).await;
    tidy(host, &id).await;
    exit
}

async fn outcome(host: &Host, id: &str, deadline: Duration) -> Result<Exit, Failure> {
    host.engine.wait(deadline, ended(host, id)).await?;
    let asked = host.engine.docker().inspect_container(id, None);
    let answer = host.engine.call(host.deadlines.read, asked).await?;
    let ContainerState::Exited(exit) = crate::convert::state(&answer.state.unwrap_or_default())
    else {
        return Err(Failure::unexpected("the engine says that it ended, and that it runs"));
    };
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
    let output = text::end_of(host.engine.docker().logs(id, Some(options)), OUTPUT);
    let output = host.engine.call(host.deadlines.read, output).await?;
    Ok(Exit { output, ..exit })
}

/// Waits for the end; bollard makes an error of every exit code but 0.
async fn ended(host: &Host, id: &str) -> Result<(), BollardError> {
    let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
    let mut answers = host.engine.docker().wait_container(id, Some(options));
    match answers.next().await {
        Some(Err(BollardError::DockerContainerWaitError { .. }) | Ok(_)) => Ok(()),
        Some(Err(error)) => Err(error),
        None => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
    }
}

async fn end(host: &Host, name: &ContainerName, grace: Duration) -> Result<(), Failure> {
    let Some(there) = find(host, name).await? else { return Ok(()) };
    if there.state == ContainerState::Running {
        let seconds = i32::try_from(whole_seconds(grace)).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        let stopped = host.engine.docker().stop_container(&there.id, Some(options));
        match host.engine.wait(grace + host.deadlines.change, stopped).await {
            Err(failure) if failure.is_absent() => return Ok(()),
            other => other?,
        }
    }
    remove(host, &there.id).await
}

/// With its anonymous volumes. Being removed by somebody else is waited for.
async fn remove(host: &Host, id: &str) -> Result<(), Failure> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    let removed = host.engine.docker().remove_container(id, Some(options));
    match host.engine.call(host.deadlines.change, removed).await {
        Err(failure) if failure.is_absent() => Ok(()),
        Err(Failure::Refused { status: 409, message })
            if message.contains("already in progress") =>
        {
            removed_by_other(host, id).await
        }
        other => other,
    }
}

async fn removed_by_other(host: &Host, id: &str) -> Result<(), Failure> {
    let options = WaitContainerOptionsBuilder::new().condition("removed").build();
    let mut answers = host.engine.docker().wait_container(id, Some(options));
    let gone = async {
        match answers.next().await {
            Some(Err(error @ BollardError::DockerResponseServerError { .. })) => Err(error),
            _ => Ok(()),
        }
    };
    match host.engine.wait(host.deadlines.change, gone).await {
        Err(failure) if failure.is_absent() => Ok(()),
        other => other,
    }
}

async fn find(host: &Host, name: &ContainerName) -> Result<Option<Found>, Failure> {
    let asked = host.engine.docker().inspect_container(name.as_str(), None);
    match host.engine.call(host.deadlines.read, asked).await {
        Ok(answer) => found(&host.cluster, name, answer),
        Err(failure) if failure.is_absent() => Ok(None),
        Err(failure) => Err(failure),
    }
}
