//! What the engine says, in the core's words. Missing and unknown fields are taken for what they can mean.

use std::collections::BTreeSet;
use std::time::Duration;

use lb_core::engine::{Failure, Hint, Seen, Summary};
use lb_core::{
    ByteSize, ContainerName, ContainerState, EngineInfo, ErrorKind, Exit, RuntimeEvent, Usage,
};
use serde_json::Value;

use super::pick;

/// What an engine can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Abilities {
    version: String,
    rootless: bool,
    controllers: BTreeSet<String>,
}

pub(crate) fn abilities(info: &Value) -> Abilities {
    Abilities {
        version: pick::text(info, "/version/Version").unwrap_or_default().to_owned(),
        rootless: pick::flag(info, "/host/security/rootless").unwrap_or_default(),
        controllers: pick::texts(info, "/host/cgroupControllers").map(str::to_owned).collect(),
    }
}

impl Abilities {
    pub(crate) fn engine_info(&self) -> EngineInfo {
        EngineInfo {
            name: "podman".into(),
            version: self.version.clone(),
            addresses: !self.rootless,
            limits: self.has_controller("cpu") && self.has_controller("memory"),
        }
    }

    /// Refuses what needs addresses that the host reaches.
    pub(crate) fn needs_addresses(&self) -> Result<(), Failure> {
        match self.rootless {
            false => Ok(()),
            true => Err(Failure::rule(
                ErrorKind::Unsupported,
                "network: rootless Podman keeps container addresses where the host does not reach them: run Podman as root, or use the host's network or none",
            )),
        }
    }

    /// Refuses a limit that would not be kept.
    pub(crate) fn needs_controller(&self, name: &str) -> Result<(), Failure> {
        if self.has_controller(name) {
            return Ok(());
        }
        let have: Vec<_> = self.controllers.iter().map(String::as_str).collect();
        let message = format!(
            "{name}: the engine's cgroup has no {name} controller (it has: {}): run Podman as root, delegate it to the user (systemd's Delegate=, cgroup v2), or set no limit",
            if have.is_empty() { "none".to_owned() } else { have.join(", ") },
        );
        Err(Failure::rule(ErrorKind::Unsupported, message))
    }

    pub(crate) fn has_controller(&self, name: &str) -> bool {
        self.controllers.contains(name)
    }
}

pub(crate) fn seen(answer: &Value) -> Result<Seen, Failure> {
    let id = pick::text(answer, "/Id");
    Ok(Seen {
        id: id.ok_or_else(|| Failure::unexpected("the engine gave a container no id"))?.to_owned(),
        name: pick::text(answer, "/Name").unwrap_or_default().trim_start_matches('/').to_owned(),
        labels: pick::labels(answer, "/Config/Labels"),
        state: state(answer),
    })
}

fn state(answer: &Value) -> ContainerState {
    let status = pick::text(answer, "/State/Status").unwrap_or_default();
    let always = pick::text(answer, "/HostConfig/RestartPolicy/Name") == Some("always");
    match status {
        "created" | "configured" | "initialized" => ContainerState::Created,
        // Paused was somebody's choice, and probes will tell.
        "running" | "paused" | "stopping" | "restarting" => ContainerState::Running,
        // Ended, and not tidied up after yet: what restarts always does so now.
        "stopped" if always => ContainerState::Running,
        _ if pick::flag(answer, "/State/Running") == Some(true) => ContainerState::Running,
        _ => ContainerState::Exited(Exit {
            code: pick::number(answer, "/State/ExitCode").unwrap_or_default(),
            out_of_memory: pick::flag(answer, "/State/OOMKilled").unwrap_or_default(),
            output: String::new(),
        }),
    }
}

/// The list; `null` where there is none.
pub(crate) fn summaries(answer: &Value) -> Result<Vec<Summary>, Failure> {
    match answer {
        Value::Array(all) => Ok(all.iter().filter_map(summary).collect()),
        Value::Null => Ok(Vec::new()),
        _ => Err(Failure::unexpected("the engine's list of containers is none")),
    }
}

fn summary(entry: &Value) -> Option<Summary> {
    let name = pick::texts(entry, "/Names").next();
    Some(Summary {
        id: pick::text(entry, "/Id")?.to_owned(),
        name: name.and_then(|name| ContainerName::new(name.trim_start_matches('/')).ok()),
        labels: pick::labels(entry, "/Labels"),
        state: match pick::text(entry, "/State").unwrap_or_default() {
            "created" | "configured" | "initialized" => Some(ContainerState::Created),
            "running" | "paused" | "stopping" | "restarting" => Some(ContainerState::Running),
            // How it ended, a list does not say.
            _ => None,
        },
    })
}

/// Counters of the first container of the answer, if it ran when they were read.
pub(crate) fn usage(answer: &Value) -> Option<Usage> {
    let stats = pick::items(answer, "/Stats").first()?;
    let at = pick::number(stats, "/SystemNano").filter(|at| *at > 0)?;
    let cpu = pick::number(stats, "/CPUNano").and_then(|ns| u64::try_from(ns).ok())?;
    let memory = pick::number(stats, "/MemUsage").and_then(|bytes| u64::try_from(bytes).ok())?;
    Some(Usage {
        at: jiff::Timestamp::from_nanosecond(i128::from(at)).ok()?,
        cpu: Duration::from_nanos(cpu),
        memory: ByteSize::new(memory),
    })
}

pub(crate) fn hint(event: &Value) -> Hint {
    Hint { at: pick::number(event, "/timeNano").map(i128::from), event: told(event) }
}

/// The hint in an event, if it is one of ours. Podman's own words and Docker's both count.
fn told(event: &Value) -> Option<RuntimeEvent> {
    let name = ContainerName::new(pick::text(event, "/Actor/Attributes/name")?).ok()?;
    match pick::text(event, "/Action")? {
        "start" => Some(RuntimeEvent::Started(name)),
        "died" | "die" => Some(RuntimeEvent::Exited(name)),
        "remove" | "destroy" => Some(RuntimeEvent::Removed(name)),
        _ => None,
    }
}

/// As the engine takes a time: `seconds.nanoseconds`.
pub(crate) fn unix_time(nanoseconds: i128) -> String {
    const SECOND: i128 = 1_000_000_000;
    format!("{}.{:09}", nanoseconds.div_euclid(SECOND), nanoseconds.rem_euclid(SECOND))
}
