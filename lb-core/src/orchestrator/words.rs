//! Events and states in words, a line each, for people.

use std::fmt;

use super::events::Happened;
use super::status::InstanceStatus;
use crate::balancer::Change;
use crate::plan::InstanceState;
use crate::routing::ServerState;
use crate::runtime::Readiness;

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leads(term) => write!(f, "leading in term {}", term.0),
            Self::Follows => f.write_str("no longer leading"),
            Self::HostJoined(host) => write!(f, "host {host} registered"),
            Self::HostLeft(host) => write!(f, "host {host} is gone"),
            Self::HostAnswers(host) => write!(f, "host {host} answers"),
            Self::HostSilent { host, error } => write!(f, "host {host} does not answer: {error}"),
            Self::RegistryDoubted(why) => write!(f, "the registry is not believed: {why}"),
            Self::RegistryBelieved => f.write_str("the registry is believed again"),
            Self::AppChanged(app) => write!(f, "app {app} deployed"),
            Self::AppRemoved(app) => write!(f, "app {app} removed"),
            Self::Fetching { host, step } => {
                write!(f, "host {host}: {} {} {}/{}", step.what, step.item, step.done, step.total)
            }
            Self::Resolved { app, digest } => write!(f, "app {app} runs image {digest}"),
            Self::Started { id, host } => write!(f, "{id} started on {host}"),
            Self::Ready { id, host } => write!(f, "{id} ready on {host}"),
            Self::Unready { id, host, reason } => write!(f, "{id} not ready on {host}: {reason}"),
            Self::Died { id, host, exit } => {
                let why = if exit.out_of_memory { ", out of memory" } else { "" };
                write!(f, "{id} died on {host} with code {}{why}", exit.code)
            }
            Self::Stopped { id, host } => write!(f, "{id} stopped on {host}"),
            Self::Applied { host, change, set_aside, .. } => {
                write!(f, "balancer of {host}: {}", change.in_words())?;
                set_aside.iter().try_for_each(|part| write!(f, "; left out {part}"))
            }
            Self::Cleared(host) => write!(f, "host {host} has nothing left of this cluster"),
            Self::Failed { host, error, .. } => write!(f, "failed on {host}: {error}"),
            Self::Decided(reason) => f.write_str(&reason.text),
            Self::Trouble { part, error } => write!(f, "{part}: {error}"),
            Self::Missed(count) => write!(f, "{count} events missed"),
        }
    }
}

impl Change {
    const fn in_words(self) -> &'static str {
        match self {
            Self::None => "as it was",
            Self::Live => "changed without a reload",
            Self::Reload => "reloaded",
            Self::Start => "started",
        }
    }
}

impl InstanceStatus {
    /// What it does, in a word or two: `starting`, `ready`, `draining`, `stopping`, `exited (137)`, ...
    pub fn in_words(&self) -> String {
        match (&self.state, self.server) {
            (InstanceState::Created, _) => "created".to_owned(),
            (InstanceState::Exited(exit), _) => format!("exited ({})", exit.code),
            (_, Some(ServerState::Draining)) => "draining".to_owned(),
            _ if self.leaving => "stopping".to_owned(),
            (InstanceState::Running(Readiness::Ready), Some(ServerState::Active)) => {
                "serving".to_owned()
            }
            (InstanceState::Running(Readiness::Ready), None) => "ready".to_owned(),
            (InstanceState::Running(_), _) => "starting".to_owned(),
        }
    }
}
