//! The processes of the platform: one leads, and others wait.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{BoxStream, StreamExt};
use tokio_util::task::AbortOnDropHandle;

use super::{Cluster, LEASE};
use crate::error::{Result, valid};
use crate::memory::MemoryLoadStore;
use crate::model::{App, AppName};
use crate::orchestrator::{Event, LoopSettings, Orchestrator, Served, Status};
use crate::store::{AppChange, AppStore as _, Standing, Term};

/// So long a deployment is waited for.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Process {
    number: u32,
    platform: Orchestrator,
    events: Ears,
    /// Deployments that are waited for.
    waits: Vec<Wait>,
}

/// Somebody waits for a deployment to be served.
#[derive(Debug)]
struct Wait {
    name: AppName,
    app: Arc<App>,
    task: AbortOnDropHandle<Result<Served>>,
}

/// What came of waiting for a deployment.
#[derive(Debug)]
pub(in crate::sim) struct Waited {
    pub(in crate::sim) name: AppName,
    pub(in crate::sim) app: Arc<App>,
    pub(in crate::sim) result: Result<Served>,
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
        let waits = Vec::new();
        self.processes.push(Process { number: self.started, platform, events, waits });
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
        for host in self.hosts.values_mut() {
            host.ask_anew(&self.connector);
        }
        self.leadership.depose();
        self.start().await;
    }

    /// Deploys by the process that leads, and waits there until it is served; where none does, by the store.
    pub(super) async fn deploy_by_platform(&mut self, name: &AppName, app: &Arc<App>) {
        let leader = self.processes.iter_mut().find(|p| leads(&p.platform).is_some());
        let Some(leader) = leader else {
            valid(self.apps.put(app, AppChange::Deploy).await);
            return;
        };
        let deployment = valid(leader.platform.deploy(app).await);
        let task = tokio::spawn(async move { deployment.served(PATIENCE).await });
        let task = AbortOnDropHandle::new(task);
        leader.waits.push(Wait { name: name.clone(), app: app.clone(), task });
    }

    /// Whether somebody waits for what is wanted of the app now.
    pub(in crate::sim) fn is_waited_for(&self, app: &Arc<App>) -> bool {
        let mut waits = self.processes.iter().flat_map(|p| &p.waits);
        waits.any(|wait| Arc::ptr_eq(&wait.app, app))
    }

    /// Takes what came of waiting.
    fn take_waited(&mut self) {
        for process in &mut self.processes {
            let (over, still) = process.waits.drain(..).partition(|wait| wait.task.is_finished());
            process.waits = still;
            for Wait { name, app, task } in Vec::<Wait>::from_iter(over) {
                let Some(Ok(result)) = task.now_or_never() else { continue };
                let text = match &result {
                    Ok(served) => format!("served by {}", served.revision),
                    Err(error) => format!("not served: {error}"),
                };
                self.trace.say(self.clock.elapsed(), &name, text);
                self.waited.push(Waited { name, app, result });
            }
        }
    }

    /// What the leading process shows.
    pub(in crate::sim) fn status(&self) -> Option<Arc<Status>> {
        let leading = self.processes.iter().filter_map(|p| Some((leads(&p.platform)?, p)));
        leading.max_by_key(|(term, _)| *term).map(|(_, p)| p.platform.status())
    }

    /// Takes the processes' events into the trace.
    pub(super) fn hear(&mut self) {
        self.take_waited();
        let at = self.clock.elapsed();
        for process in &mut self.processes {
            while let Some(Some(event)) = process.events.0.next().now_or_never() {
                self.trace.say(at, format_args!("p{}", process.number), &event.what);
                self.heard.push(event.what);
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
