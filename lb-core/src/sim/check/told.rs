//! What the loop tells is so: its events, and the readiness of instances in its status.

use std::sync::Arc;
use std::time::Duration;

use super::super::cluster::Cluster;
use super::truth::Truth;
use super::{Invariant, Verdicts};
use crate::error::ErrorKind;
use crate::orchestrator::{Happened, Status};

/// An event may tell of a death this late: a host that did not answer is looked at when it does again.
const LATE: Duration = Duration::from_secs(300);

/// The status that was looked at last.
#[derive(Debug, Default)]
pub(super) struct Told(Option<Arc<Status>>);

impl Told {
    pub(super) fn look(&mut self, truth: &Truth, cluster: &mut Cluster, verdicts: &mut Verdicts) {
        for what in std::mem::take(&mut cluster.heard) {
            let alarm = alarm(&what);
            let holds = alarm.is_none();
            verdicts.judge(Invariant::Alarm, holds, || alarm.unwrap_or_default());
            if let Happened::Died { id, host, exit } = &what {
                let died = cluster.died.get(&(host.clone(), id.clone()));
                let so = died.is_some_and(|at| *at + LATE >= cluster.now());
                verdicts.judge(Invariant::Told, so, || {
                    format!("{id} on {host} was said to have ended by itself ({exit:?}), and was stopped")
                });
            }
        }
        let Some(status) = cluster.status() else { return };
        if self.0.as_ref().is_some_and(|last| Arc::ptr_eq(last, &status)) {
            return;
        }
        for instance in status.apps.values().flat_map(|app| &app.instances) {
            if !instance.is_ready() {
                continue;
            }
            let name = instance.id.container_name(&cluster.spec.id);
            // Of what came and went between two looks nothing is known here.
            let Some(life) = truth.life(&instance.host, name.as_str()) else { continue };
            let host = cluster.hosts.get(&instance.host);
            let was = life.was_ready || host.is_some_and(|h| h.engine.was_ready(name.as_str()));
            verdicts.judge(Invariant::Told, was, || {
                format!("{name} on {} is said to be ready, and never was", instance.host)
            });
        }
        self.0 = Some(status);
    }
}

/// What is wrong whatever happened: a planner that panics, a table that breaks its own rules.
fn alarm(what: &Happened) -> Option<String> {
    match what {
        Happened::Trouble { part: "planner", error } => Some(error.to_string()),
        Happened::Failed { host, error, .. } if error.kind() == ErrorKind::Invalid => {
            Some(format!("{host} refused what was planned: {error}"))
        }
        _ => None,
    }
}
