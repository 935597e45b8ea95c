//! From two states to what happened between them.

use std::collections::BTreeSet;

use super::events::Happened;
use super::inbox::Sight;
use crate::model::{AppName, HostId, InstanceId};
use crate::plan::{HostView, InstanceState, Observation, ObservedInstance, Reason, What};
use crate::runtime::Readiness;

/// The planner's reasons that were told already, so that each is told once while it lasts.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeSet<Key>);

type Key = (Option<AppName>, Option<HostId>, What, String);

impl Told {
    /// Those that were not there the last time.
    pub(super) fn news(&mut self, reasons: &[Reason]) -> Vec<Reason> {
        let key = |r: &Reason| (r.app.clone(), r.host.clone(), r.what, r.text.clone());
        let news = reasons.iter().filter(|r| !self.0.contains(&key(r))).cloned().collect();
        self.0 = reasons.iter().map(key).collect();
        news
    }
}

/// What a new look at a host shows. `is_wanted` tells whether an instance is meant to go on running.
pub(super) fn changes(
    host: &HostId,
    before: &HostView,
    was_silent: bool,
    sight: &Sight,
    is_wanted: impl Fn(&InstanceId) -> bool,
) -> Vec<Happened> {
    let mut changes = Vec::new();
    match &sight.error {
        Some(error) if !was_silent => {
            changes.push(Happened::HostSilent { host: host.clone(), error: error.clone() });
        }
        None if was_silent || before.seen.is_none() => {
            changes.push(Happened::HostAnswers(host.clone()));
        }
        _ => {}
    }
    let none = Observation::default();
    let before = before.seen.as_deref().unwrap_or(&none);
    let seen = sight.seen.as_deref().unwrap_or(&none);
    if before.instances != seen.instances {
        let known = |i: &ObservedInstance| before.instances.binary_search_by(|b| b.id.cmp(&i.id));
        changes.extend(seen.instances.iter().filter_map(|instance| {
            let before = known(instance).ok().map(|n| &before.instances[n].state);
            change(host, before, instance).filter(|change| match change {
                Happened::Died { id, .. } | Happened::Unready { id, .. } => is_wanted(id),
                _ => true,
            })
        }));
    }
    changes
}

fn change(
    host: &HostId,
    before: Option<&InstanceState>,
    instance: &ObservedInstance,
) -> Option<Happened> {
    use InstanceState::{Exited, Running};
    use Readiness::{NotReady, Ready};
    let (id, host) = (instance.id.clone(), host.clone());
    match (before, &instance.state) {
        (Some(Running(Ready)), Running(Ready)) | (Some(Exited(_)), Exited(_)) => None,
        (_, Running(Ready)) => Some(Happened::Ready { id, host }),
        (Some(Running(Ready)), Running(NotReady(reason))) => {
            Some(Happened::Unready { id, host, reason: reason.clone() })
        }
        (_, Exited(exit)) => Some(Happened::Died { id, host, exit: exit.clone() }),
        _ => None,
    }
}
