//! The ports of one container: what its labels ask for, and the loops that ask.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, Weak};

use futures_util::future::join_all;
use tokio::sync::watch;

use super::Shared;
use super::check::ask;
use super::health::{Health, Origin};
use crate::error::{Error, Result};
use crate::memory::lock;
use crate::model::{Assignment, ContainerName, Health as Rules, LabelKey};
use crate::runtime::{Readiness, RuntimeEvent, label};

/// A port of a container and its rules.
#[derive(Debug)]
pub(super) struct Target {
    port: u16,
    address: SocketAddr,
    rules: Rules,
}

/// What the labels say: the ports to ask; none: ready once running.
pub(super) fn targets(labels: &BTreeMap<LabelKey, String>) -> Result<Vec<Target>> {
    fn read<T: serde::de::DeserializeOwned>(key: &str, text: &str) -> Result<T> {
        serde_json::from_str(text)
            .map_err(|e| Error::invalid(format!("label {key}"), e.to_string()))
    }
    let text = |key: &str| labels.iter().find(|(k, _)| k.as_str() == key).map(|(_, v)| v);
    let Some(health) = text(label::HEALTH) else { return Ok(Vec::new()) };
    let health: BTreeMap<u16, Rules> = read(label::HEALTH, health)?;
    if health.is_empty() {
        return Ok(Vec::new());
    }
    let Some(assignment) = text(label::ASSIGNMENT) else {
        return Err(Error::invalid(format!("label {}", label::ASSIGNMENT), "must be there"));
    };
    let assignment: Assignment = read(label::ASSIGNMENT, assignment)?;
    let target = |(port, rules)| {
        let address = SocketAddr::from((assignment.address, port));
        Target { port, address, rules }
    };
    Ok(health.into_iter().map(target).collect())
}

/// Asks every port of a container for ever, and tells when all pass and when they stop to.
pub(super) async fn probing(
    shared: Weak<Shared>,
    name: ContainerName,
    targets: Vec<Target>,
    verdict: watch::Sender<Readiness>,
    origin: Origin,
) {
    let Some(asking) = shared.upgrade().map(|s| s.asking.clone()) else { return };
    let ports = Mutex::new(vec![Readiness::Unknown; targets.len()]);
    let told = |index: usize, readiness: Readiness| {
        let mut ports = lock(&ports);
        ports[index] = readiness;
        let all = together(&ports);
        let (before, now) = (verdict.send_replace(all.clone()), all);
        let changed = (before == Readiness::Ready) != (now == Readiness::Ready);
        if (changed || before == Readiness::Unknown)
            && let Some(shared) = shared.upgrade()
        {
            let _ = shared.changes.send(RuntimeEvent::ReadyChanged(name.clone()));
        }
    };
    let loops = targets.iter().enumerate().map(|(index, target)| {
        let (told, asking) = (&told, &asking);
        let mut health = Health::new(&target.rules, origin, spread(&name, target.port));
        async move {
            loop {
                tokio::time::sleep(health.pause()).await;
                let Ok(turn) = asking.turns.acquire().await else { return };
                let address = (asking.reach)(target.address);
                let answer = ask(&asking.asker, address, &target.rules).await;
                drop(turn);
                if let Some(readiness) = health.take(answer) {
                    told(index, in_port(target.port, readiness));
                }
            }
        }
    });
    join_all(loops).await;
}

fn in_port(port: u16, readiness: Readiness) -> Readiness {
    match readiness {
        Readiness::NotReady(why) => Readiness::NotReady(format!("port {port}: {why}")),
        other => other,
    }
}

/// All must be ready; one that is not says why, and none is guessed before it has answered.
fn together(ports: &[Readiness]) -> Readiness {
    let not_ready = ports.iter().find(|p| matches!(p, Readiness::NotReady(_)));
    let unknown = ports.iter().find(|p| **p == Readiness::Unknown);
    not_ready.or(unknown).cloned().unwrap_or(Readiness::Ready)
}

/// A number from 0 to 1 that differs between ports, so that their checks do not fall together.
fn spread(name: &ContainerName, port: u16) -> f64 {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(name.as_str().as_bytes(), u64::from(port));
    (hash >> 11) as f64 / (1u64 << 53) as f64
}
