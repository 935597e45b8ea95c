//! One observer a host: lists it when something may have changed, and leaves what it saw in the inbox.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{FutureExt, join_all};
use futures_util::stream::{BoxStream, StreamExt};

use super::builder::LoopSettings;
use super::inbox::{Inbox, Sight};
use super::link::{InForce, Link, bounded};
use super::ticker::Ticker;
use crate::backoff::Backoff;
use crate::balancer::Traffic;
use crate::error::{Error, Result};
use crate::model::{
    Assignment, ClusterId, ContainerName, ImageRef, InstanceId, LabelKey, ServerName,
};
use crate::plan::{InstanceState, Observation, ObservedBalancer, ObservedInstance};
use crate::random::Random;
use crate::runtime::{Container, ContainerState, Role, RuntimeEvent, label};

/// Least time between the starts of two listings: a burst of events costs one.
pub(super) const LOOK_GAP: Duration = Duration::from_millis(20);
/// A listing's rest is so many times what it took: a slow engine is asked less often,
const LOOK_REST: u32 = 3;
/// but not less often than this when something happened.
const LONGEST_GAP: Duration = Duration::from_millis(500);
/// How long a balancer is waited for that did not answer the last time: it must not slow every look down.
const SILENT_PATIENCE: Duration = Duration::from_millis(500);
/// Most lines kept of what an instance wrote before it ended by itself,
const LAST_LINES: usize = 50;
/// and most bytes.
const LAST_WORDS: usize = 8 * 1024;
/// A look waits no longer for them,
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);
/// and reads no more at once: of many that end together these tell enough.
const LAST_WORDS_AT_ONCE: usize = 8;
/// Events already here that one listing answers.
const EVENTS_AT_ONCE: usize = 4096;

/// Observes one host until it is gone.
pub(super) struct Observer {
    pub(super) cluster: ClusterId,
    pub(super) link: Arc<Link>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) time: Arc<Ticker>,
    pub(super) settings: Arc<LoopSettings>,
}

/// Why the observer looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Something may have changed, or the loop needs a fresh look.
    Asked,
    /// Time has passed.
    Timer,
}

impl Observer {
    pub(super) async fn run(self) {
        let gone = self.link.gone.clone();
        let _ = gone.run_until_cancelled(self.keep_observing()).await;
    }

    /// A stream of events is foreign code too: its panic costs a look, not the observer.
    async fn keep_observing(&self) {
        let mut backoff = Backoff::new(self.link.host.as_str());
        loop {
            let _ = AssertUnwindSafe(self.observe()).catch_unwind().await;
            tracing::error!(host = %self.link.host, "the observer panicked");
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn observe(&self) -> Infallible {
        let host = self.link.host.as_str();
        let mut ears = Ears::new(self.link.handle.runtime.events(), host);
        let (mut jitter, mut backoff) = (Random::named(host), Backoff::new(host));
        let mut sight = Sight { seen: None, error: None };
        let mut cause = Cause::Asked;
        loop {
            ears.drain();
            let began = self.time.now().monotonic;
            let looked = self.look(began, sight.seen.as_deref()).await;
            let took = self.time.now().monotonic.saturating_sub(began);
            sight = self.leave(sight, looked, cause);
            let pause = self.pause(sight.error.as_ref(), &mut backoff, &mut jitter);
            cause = self.wait(&mut ears, pause).await;
            let gap = LOOK_GAP.max(took.saturating_mul(LOOK_REST).min(LONGEST_GAP));
            if cause == Cause::Asked {
                tokio::time::sleep(self.time.until(began + gap)).await;
            }
        }
    }

    /// Until the next look, if nothing asks for one.
    fn pause(&self, error: Option<&Error>, backoff: &mut Backoff, jitter: &mut Random) -> Duration {
        if error.is_some() {
            return backoff.next();
        }
        backoff.reset();
        let resync = self.settings.resync;
        match self.link.is_watched() {
            true => self.settings.drain_poll,
            false => jitter.between(resync * 7 / 10, resync),
        }
    }

    async fn wait(&self, ears: &mut Ears, pause: Duration) -> Cause {
        tokio::select! {
            biased;
            () = self.link.look.notified() => Cause::Asked,
            () = ears.hear(self.link.handle.runtime.as_ref()) => Cause::Asked,
            () = tokio::time::sleep(pause) => Cause::Timer,
        }
    }

    /// Lists containers and connections side by side. A balancer that does not answer is simply not seen.
    async fn look(&self, began: Duration, before: Option<&Observation>) -> Result<Observation> {
        let Link { host, handle, .. } = &*self.link;
        let deadlines = &self.settings.deadlines;
        let list = bounded("list", host, deadlines.list, handle.runtime.list());
        let was_silent = before.is_some_and(|b| b.balancer.is_none());
        let patience = match was_silent {
            true => deadlines.traffic.min(SILENT_PATIENCE),
            false => deadlines.traffic,
        };
        let traffic = bounded("traffic", host, patience, handle.balancer.traffic());
        let (containers, traffic, ()) = tokio::join!(list, traffic, self.link.identify(patience));
        let mut instances = instances(&self.cluster, containers?, before);
        self.last_words(&mut instances, before).await;
        let balancer = match traffic {
            Ok(traffic) => Some(self.balancer(&traffic)),
            Err(error) => {
                tracing::debug!(%host, %error, "balancer not seen");
                self.link.forget_balancer();
                None
            }
        };
        Ok(Observation { began, instances, balancer })
    }

    /// What ended by itself is removed soon, and what it wrote last with it.
    async fn last_words(&self, instances: &mut [ObservedInstance], before: Option<&Observation>) {
        let before = before.map_or(&[][..], |b| &b.instances);
        let mut unread = Vec::new();
        for instance in instances {
            let InstanceState::Exited(exit) = &mut instance.state else { continue };
            let known = before.binary_search_by(|b| b.id.cmp(&instance.id)).ok();
            match known.map(|i| &before[i].state) {
                Some(InstanceState::Exited(known)) => exit.output.clone_from(&known.output),
                _ if unread.len() < LAST_WORDS_AT_ONCE => {
                    let name = instance.id.container_name(&self.cluster);
                    unread.push(async move { exit.output = self.last_lines(&name).await });
                }
                _ => {}
            }
        }
        join_all(unread).await;
    }

    /// The last lines a container wrote; none where the engine does not give them soon.
    async fn last_lines(&self, name: &ContainerName) -> String {
        let Link { host, handle, .. } = &*self.link;
        let logs = handle.runtime.logs(name, LAST_LINES);
        let mut text =
            bounded("read logs", host, LAST_WORDS_WITHIN, logs).await.unwrap_or_default();
        let start = text.ceil_char_boundary(text.len().saturating_sub(LAST_WORDS));
        text.split_off(start)
    }

    fn balancer(&self, traffic: &Traffic) -> ObservedBalancer {
        let mut open: BTreeMap<ServerName, u64> = BTreeMap::new();
        for (name, server) in traffic.backends.values().flat_map(|b| &b.servers) {
            let busy = server.open.saturating_add(server.expected);
            if busy > 0 {
                *open.entry(name.clone()).or_default() += busy;
            }
        }
        let InForce { table, set_aside } = self.link.in_force();
        ObservedBalancer { table: traffic.table, open, set_aside, inherited: table.is_none() }
    }

    /// Leaves the sight in the inbox; wakes the loop only if it says something new or was asked for.
    fn leave(&self, before: Sight, looked: Result<Observation>, cause: Cause) -> Sight {
        let (sight, news) = match looked {
            Ok(seen) => {
                let same = before
                    .seen
                    .as_ref()
                    .is_some_and(|b| b.instances == seen.instances && b.balancer == seen.balancer);
                let news = !same || before.error.is_some() || cause == Cause::Asked;
                (Sight { seen: Some(Arc::new(seen)), error: None }, news)
            }
            Err(error) => {
                let news = before.error.is_none();
                (Sight { seen: before.seen, error: Some(error) }, news)
            }
        };
        let left = sight.clone();
        let host = self.link.host.clone();
        let leave = |inbox: &mut super::inbox::News| {
            inbox.hosts.entry(host).or_default().sight = Some(left);
        };
        match news {
            true => self.inbox.put(leave),
            false => self.inbox.put_quietly(leave),
        }
        sight
    }
}

/// The containers that are instances, in order of id. What is known of a container from before is shared:
/// labels cannot change while the spec's hash stays.
fn instances(
    cluster: &ClusterId,
    containers: Vec<Container>,
    before: Option<&Observation>,
) -> Vec<ObservedInstance> {
    let before = before.map_or(&[][..], |b| &b.instances);
    let mut seen: Vec<_> = containers
        .into_iter()
        .filter(|c| c.role == Role::Instance)
        .filter_map(|c| instance(cluster, c, before))
        .collect();
    seen.sort_by(|a, b| a.id.cmp(&b.id));
    seen
}

fn instance(
    cluster: &ClusterId,
    container: Container,
    before: &[ObservedInstance],
) -> Option<ObservedInstance> {
    let id = InstanceId::from_container_name(cluster, &container.name)?;
    let known = before.binary_search_by(|b| b.id.cmp(&id)).ok().map(|i| &before[i]);
    let (assignment, image) = match known.filter(|k| k.spec == container.spec) {
        Some(known) => (known.assignment.clone(), known.image.clone()),
        None => labels(&container)?,
    };
    let state = match container.state {
        ContainerState::Created => InstanceState::Created,
        ContainerState::Running => InstanceState::Running(container.readiness),
        ContainerState::Exited(exit) => InstanceState::Exited(exit),
    };
    Some(ObservedInstance { id, assignment, image, spec: container.spec, state })
}

/// What the planner wrote on it. Without that a container of ours cannot be placed: it is left alone.
fn labels(container: &Container) -> Option<(Arc<Assignment>, Arc<ImageRef>)> {
    let text = |key: &str| container.labels.get(&LabelKey::new(key).ok()?);
    let assignment = text(label::ASSIGNMENT).and_then(|t| serde_json::from_str(t).ok());
    let image = text(label::IMAGE).and_then(|t| ImageRef::new(t).ok());
    if assignment.is_none() || image.is_none() {
        tracing::warn!(container = %container.name, "labels of an instance do not parse");
    }
    Some((Arc::new(assignment?), Arc::new(image?)))
}

/// Listens to an engine's events; a stream that fails is left alone for a while.
struct Ears {
    stream: BoxStream<'static, Result<RuntimeEvent>>,
    backoff: Backoff,
    deaf: Option<Duration>,
    ended: bool,
}

impl Ears {
    fn new(stream: BoxStream<'static, Result<RuntimeEvent>>, seed: &str) -> Self {
        Self { stream, backoff: Backoff::new(seed), deaf: None, ended: false }
    }

    /// Forgets the events that are here already: the listing that follows answers them.
    fn drain(&mut self) {
        for _ in 0..EVENTS_AT_ONCE {
            match self.deaf.is_none().then(|| self.stream.next().now_or_never()).flatten() {
                Some(event) => self.note(event.as_ref()),
                None => return,
            }
        }
    }

    /// Returns once something may have changed. Nothing is lost when it is dropped.
    async fn hear(&mut self, runtime: &dyn crate::runtime::ContainerRuntime) {
        if let Some(wait) = self.deaf {
            tokio::time::sleep(wait).await;
            self.deaf = None;
            if std::mem::take(&mut self.ended) {
                self.stream = runtime.events();
            }
        }
        let event = self.stream.next().await;
        self.note(event.as_ref());
    }

    fn note(&mut self, event: Option<&Result<RuntimeEvent>>) {
        match event {
            Some(Ok(_)) => self.backoff.reset(),
            Some(Err(error)) => {
                tracing::debug!(%error, "engine events");
                self.deaf = Some(self.backoff.next());
            }
            None => {
                (self.ended, self.deaf) = (true, Some(self.backoff.next()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
