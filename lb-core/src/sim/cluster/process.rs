//! The processes of the platform: one leads, and others wait.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{BoxStream, StreamExt};

use super::{Cluster, LEASE};
use crate::error::{ErrorKind, valid};
use crate::memory::MemoryLoadStore;
use crate::orchestrator::{Event, Happened, LoopSettings, Orchestrator, Status};
use crate::store::{Standing, Term};

#[derive(Debug)]
pub(super) struct Process {
    number: u32,
    platform: Orchestrator,
    events: Ears,
}

struct Ears(BoxStream<'static, Event>);

impl fmt::Debug for Ears {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ears")
    }
}

impl Cluster {
    /// Another process that stands for election.
    pub(in crate::sim) async fn start(&mut self) {
        self.started += 1;
        let mut builder = Orchestrator::builder(self.spec.clone())
            .registry(Arc::new(self.registry.clone()))
            .connector(Arc::new(self.connector.clone()))
            .apps(Arc::new(self.apps.clone()))
            .ledger(Arc::new(self.ledger.clone()))
            .load(Arc::new(MemoryLoadStore::new()))
            .leadership(Arc::new(self.leadership.clone()))
            .settings(settings())
            .clock(self.clock.clone());
        if let Some(mutant) = self.mutant {
            builder = builder.planner(mutant.planner());
        }
        let platform = valid(builder.start().await);
        let events = Ears(platform.events());
        self.say(format!("p{}", self.started), "starts");
        self.processes.push(Process { number: self.started, platform, events });
    }

    /// The process that leads ends as if killed, but for actions in flight; another begins.
    pub(in crate::sim) async fn restart(&mut self) {
        let leader = self.processes.iter().position(|p| leads(&p.platform).is_some());
        if let Some(leader) = leader {
            let process = self.processes.remove(leader);
            self.say(format!("p{}", process.number), "killed");
        }
        if self.excuses.unsaved > self.now() {
            self.doubt_addresses();
        }
        self.leadership.depose();
        self.start().await;
    }

    /// What the leading process shows.
    pub(in crate::sim) fn status(&self) -> Option<Arc<Status>> {
        let leading = self.processes.iter().filter_map(|p| Some((leads(&p.platform)?, p)));
        leading.max_by_key(|(term, _)| *term).map(|(_, p)| p.platform.status())
    }

    /// Takes the processes' events into the trace.
    pub(super) fn hear(&mut self) {
        let at = self.clock.elapsed();
        for process in &mut self.processes {
            while let Some(Some(event)) = process.events.0.next().now_or_never() {
                self.heard.push(alarm(&event.what));
                self.trace.say(at, format_args!("p{}", process.number), &event.what);
            }
        }
    }

    /// The processes end.
    pub(in crate::sim) async fn end(&mut self) {
        for process in &self.processes {
            process.platform.shutdown().await;
        }
        self.hear();
    }
}

/// Production's, but for what is asked most often and decides nothing here.
fn settings() -> LoopSettings {
    LoopSettings {
        drain_poll: Duration::from_millis(500),
        sample: Duration::from_secs(20),
        lease: LEASE,
        ..LoopSettings::default()
    }
}

fn leads(platform: &Orchestrator) -> Option<Term> {
    match platform.status().standing {
        Standing::Leader(term) => Some(term),
        Standing::Follower => None,
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
