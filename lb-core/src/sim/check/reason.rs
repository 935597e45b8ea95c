//! Nothing waits without a reason, and while something is down its reason stands in the status.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::cluster::Cluster;
use super::{Invariant, Verdicts};
use crate::model::AppName;
use crate::orchestrator::{AppStatus, InstanceStatus, Status};
use crate::plan::{InstanceState, What};
use crate::routing::ServerState;
use crate::runtime::Readiness;

/// So long a status may say nothing, beside what everything takes.
const SILENT: Duration = Duration::from_secs(2);

/// So long a host is waited for before it is said that it does not answer: a listing's deadline.
const UNANSWERED: Duration = Duration::from_secs(6);

#[derive(Debug, Default)]
pub(super) struct Reasons {
    status: Option<Arc<Status>>,
    /// Apps that are not as they were asked for, while nothing goes on and nobody says why, and since when.
    silent: BTreeMap<AppName, Duration>,
}

impl Reasons {
    pub(super) fn look(&mut self, cluster: &Cluster, verdicts: &mut Verdicts) {
        let now = cluster.now();
        let status = cluster.status().filter(|_| cluster.excuses.platform < now);
        let Some(status) = status else { return self.silent.clear() };
        if !self.status.as_ref().is_some_and(|last| Arc::ptr_eq(last, &status)) {
            self.silent.retain(|name, _| cluster.wanted.contains_key(name));
            for name in cluster.wanted.keys() {
                match is_silent(&status, name) {
                    true => drop(self.silent.entry(name.clone()).or_insert(now)),
                    false => drop(self.silent.remove(name)),
                }
                crash_is_explained(cluster, &status, name, verdicts);
            }
            self.status = Some(status);
        }
        let felt = cluster.hosts.values().any(|h| h.excused >= now);
        let patience = if felt { UNANSWERED } else { Duration::ZERO };
        let most = SILENT + patience + cluster.known_within();
        for (name, since) in &self.silent {
            verdicts.judge(Invariant::Reason, now <= *since + most, || {
                let since = since.as_secs_f64();
                format!("{name} is not as it was asked for since {since:.1} s, and nobody says why")
            });
        }
    }
}

/// Whether an app waits and nothing tells for what.
fn is_silent(status: &Status, name: &AppName) -> bool {
    let Some(app) = status.apps.get(name) else { return true };
    let told = || {
        let mut reasons = status.reasons.iter();
        reasons.any(|r| r.app.as_ref().is_none_or(|of| of == name))
            || app.instances.iter().any(tells)
            || status.hosts.values().any(|h| h.error.is_some())
            || !status.troubles.is_empty()
    };
    !app.is_settled() && status.in_flight == 0 && !told()
}

/// An instance that is on its way up or down, and how it is.
fn tells(instance: &InstanceStatus) -> bool {
    let rising = matches!(
        instance.state,
        InstanceState::Running(Readiness::NotReady(_)) | InstanceState::Created
    );
    // It drains for requests at any balancer, and for no longer than its app says.
    rising || instance.server == Some(ServerState::Draining)
}

/// What keeps crashing and waits says how it ended.
fn crash_is_explained(cluster: &Cluster, status: &Status, name: &AppName, verdicts: &mut Verdicts) {
    let waits = |app: &AppStatus| {
        (app.instances.len() as u32) < app.wanted && status.in_flight == 0 && app.failed.is_none()
    };
    let died = cluster.died.iter().filter(|((_, id), _)| id.app == *name);
    let last = died.map(|(_, at)| *at).max();
    let Some(last) = last.filter(|_| status.apps.get(name).is_some_and(waits)) else { return };
    let deployed =
        cluster.drains.get(name).and_then(|d| d.last()).map_or(Duration::ZERO, |(at, _)| *at);
    let felt = cluster.hosts.values().any(|h| h.excused >= cluster.now());
    // Before it died nothing was down, and what is deployed now has not crashed.
    if felt || last <= deployed || last + SILENT > status.at.monotonic {
        return;
    }
    // The next one may have been given up since, or waits for something else than its turn.
    let says = |text: &str| ["exit code", "memory", "not ready"].iter().any(|w| text.contains(w));
    let mut reasons = status.reasons.iter().filter(|r| r.app.as_ref() == Some(name));
    let ended = status.apps.get(name).is_some_and(|app| app.last_end.is_some());
    let told = reasons.any(|r| says(&r.text) || (ended && r.what == What::NoRoom));
    verdicts.judge(Invariant::Reason, told, || {
        let reasons: Vec<&str> = status.reasons.iter().map(|r| r.text.as_str()).collect();
        let last = last.as_secs_f64();
        format!(
            "an instance of {name} died at {last:.1} s, it waits, and nobody says how: {reasons:?}"
        )
    });
}
