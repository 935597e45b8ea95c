//! Making, ending and removing containers.

use std::time::Duration;

use super::labels::owned;
use super::runtime::Host;
use super::{EngineApi, Failure, Seen, container as subject, image_names};
use crate::error::{ErrorKind, Result};
use crate::model::{ClusterId, ContainerName, shown};
use crate::runtime::{
    ContainerId, ContainerSpec, ContainerState, Exit, Restart, Role, SpecHash, label,
};

/// What `run_to_end` keeps of the output.
const OUTPUT: usize = 64 * 1024;

/// An engine takes a name at the start of a creation and shows the container at its end. Whoever comes in
/// between asks again, so often and at such intervals.
const NAME_ATTEMPTS: u32 = 50;
const NAME_WAIT: Duration = Duration::from_millis(100);

/// What stands under a container's name.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: String,
    role: Option<Role>,
    spec: SpecHash,
    state: ContainerState,
}

pub(super) async fn run(host: &Host<impl EngineApi>, spec: &ContainerSpec) -> Result<ContainerId> {
    let done = make_and_start(host, spec).await;
    done.map(ContainerId).map_err(|e| e.into_error("run", subject(&spec.name)))
}

pub(super) async fn run_to_end(
    host: &Host<impl EngineApi>,
    spec: &ContainerSpec,
    deadline: Duration,
) -> Result<Exit> {
    see_through(host, spec, deadline).await.map_err(|e| e.into_error("run", subject(&spec.name)))
}

pub(super) async fn stop(
    host: &Host<impl EngineApi>,
    name: &ContainerName,
    grace: Duration,
) -> Result<()> {
    end(host, name, grace).await.map_err(|e| e.into_error("stop", subject(name)))
}

/// The container of this name, if it is there and this cluster's.
pub(super) async fn find(
    host: &Host<impl EngineApi>,
    name: &ContainerName,
) -> Result<Option<Found>, Failure> {
    match host.read(host.api.container(name.as_str())).await {
        Ok(seen) => ours(&host.cluster, name, seen),
        Err(failure) if failure.is_absent() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Engines also find by the beginning of an id: that is somebody else.
fn ours(cluster: &ClusterId, name: &ContainerName, seen: Seen) -> Result<Option<Found>, Failure> {
    if seen.name != name.as_str() {
        return Ok(None);
    }
    owned(cluster, &seen.labels)?;
    let spec = seen.labels.get(label::SPEC).map_or("", String::as_str);
    let role = seen.labels.get(label::ROLE).and_then(|role| Role::from_label(role));
    Ok(Some(Found { spec: SpecHash::from_label(spec), id: seen.id, role, state: seen.state }))
}

async fn make_and_start(
    host: &Host<impl EngineApi>,
    spec: &ContainerSpec,
) -> Result<String, Failure> {
    super::check(spec)?;
    let mut attempts = 1;
    loop {
        let failure = match create(host, spec).await {
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
async fn create(host: &Host<impl EngineApi>, spec: &ContainerSpec) -> Result<String, Failure> {
    let mut refused = None;
    for image in image_names(&spec.image) {
        match host.change(host.api.create(&host.cluster, spec, &image)).await {
            Err(failure) if failure.is_absent() => refused = refused.or(Some(failure)),
            other => return other,
        }
    }
    Err(refused.unwrap_or_else(|| Failure::unexpected("no image name to try")))
}

async fn start_or_remove(host: &Host<impl EngineApi>, id: String) -> Result<String, Failure> {
    let started = host.change(host.api.start(&id)).await;
    if started.is_err() {
        tidy(host, &id).await;
    }
    started.map(|()| id)
}

/// It could not be created: perhaps because it is there already, as it should be.
async fn adopt(
    host: &Host<impl EngineApi>,
    spec: &ContainerSpec,
    there: Found,
) -> Result<String, Failure> {
    if there.spec != spec.hash() {
        return Err(other_spec(&there.spec, &spec.hash()));
    }
    match there.state {
        ContainerState::Running => Ok(there.id),
        ContainerState::Created => host.change(host.api.start(&there.id)).await.map(|()| there.id),
        ContainerState::Exited(exit) => Err(Failure::conflict(format!(
            "exists and has exited with code {}: stop it to remove it, or take another name",
            exit.code
        ))),
    }
}

/// What stands there is a label, in which anything may be.
fn other_spec(there: &SpecHash, wanted: &SpecHash) -> Failure {
    let there = shown("spec", there.as_str());
    Failure::conflict(format!(
        "exists with another {there}, not \"{wanted}\": stop it, or take another name"
    ))
}

/// Nobody said whether it was created. If it was, by us or by one who asked for the same, it never ran.
async fn remove_half_made(host: &Host<impl EngineApi>, spec: &ContainerSpec) {
    if let Ok(Some(there)) = find(host, &spec.name).await
        && there.spec == spec.hash()
        && there.state == ContainerState::Created
    {
        tidy(host, &there.id).await;
    }
}

/// Removes what a failed call left. If that fails too, the next call by this name goes on from there.
async fn tidy(host: &Host<impl EngineApi>, id: &str) {
    if let Err(error) = remove(host, id).await {
        tracing::warn!(container = id, %error, "container left behind");
    }
}

async fn see_through(
    host: &Host<impl EngineApi>,
    spec: &ContainerSpec,
    deadline: Duration,
) -> Result<Exit, Failure> {
    let spec = ContainerSpec { restart: Restart::Never, ..spec.clone() };
    super::check(&spec)?;
    let id = match create_checker(host, &spec).await {
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

/// Creates it, in the place of one that a process left which did not live to remove it.
async fn create_checker(
    host: &Host<impl EngineApi>,
    spec: &ContainerSpec,
) -> Result<String, Failure> {
    let refused = match create(host, spec).await {
        Err(failure) if failure.kind() == ErrorKind::Conflict => failure,
        other => return other,
    };
    match find(host, &spec.name).await? {
        Some(there) if there.role == Some(Role::Checker) => {
            remove(host, &there.id).await?;
            create(host, spec).await
        }
        _ => Err(refused),
    }
}

async fn outcome(
    host: &Host<impl EngineApi>,
    id: &str,
    deadline: Duration,
) -> Result<Exit, Failure> {
    host.wait(deadline, host.api.ended(id)).await?;
    let ContainerState::Exited(exit) = host.read(host.api.container(id)).await?.state else {
        return Err(Failure::unexpected("the engine says that it ended, and that it runs"));
    };
    let output = host.read(host.api.output(id, None, OUTPUT)).await?;
    Ok(Exit { output, ..exit })
}

async fn end(
    host: &Host<impl EngineApi>,
    name: &ContainerName,
    grace: Duration,
) -> Result<(), Failure> {
    let Some(there) = find(host, name).await? else { return Ok(()) };
    if there.state == ContainerState::Running {
        let deadline = grace + host.calls.deadlines.change;
        match host.wait(deadline, host.api.stop(&there.id, grace)).await {
            Err(failure) if failure.is_absent() => return Ok(()),
            other => other?,
        }
    }
    remove(host, &there.id).await
}

async fn remove(host: &Host<impl EngineApi>, id: &str) -> Result<(), Failure> {
    match host.change(host.api.remove(id)).await {
        Err(failure) if failure.is_absent() => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_found_by_its_exact_name_and_owner_only() {
        let (cluster, name) = (ClusterId::new("shop").unwrap(), "cafe".parse().unwrap());
        let look = |name_there: &str, owner: Option<&str>| {
            let owner = owner.map(|o| (label::CLUSTER.to_owned(), o.to_owned()));
            let spec = (label::SPEC.to_owned(), "abc".to_owned());
            let labels = owner.into_iter().chain([spec]).collect();
            let state = ContainerState::Running;
            ours(&cluster, &name, Seen { id: "f00".into(), name: name_there.into(), labels, state })
        };
        let found = look("cafe", Some("shop")).unwrap().unwrap();
        assert_eq!((found.id.as_str(), found.spec.as_str()), ("f00", "abc"));
        assert!(look("other-whose-id-begins-cafe", None).unwrap().is_none());
        let (hostile, hash) = ("x\n".repeat(9999), SpecHash::from_label("abc"));
        for failure in [
            look("cafe", Some(&hostile)).unwrap_err(),
            other_spec(&SpecHash::from_label(&*hostile), &hash),
        ] {
            let message = failure.to_string();
            assert!(message.len() < 300 && !message.contains('\n'), "{message}");
        }
        for owner in [Some("else"), None] {
            let failure = look("cafe", owner).unwrap_err();
            assert_eq!(failure.kind(), ErrorKind::Conflict, "{failure}");
        }
    }
}
