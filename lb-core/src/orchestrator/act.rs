//! Acting on one host: one action a key at a time, bounded, each to its deadline, none waiting for another
//! host's. What finds no place now is left out: the next pass plans it again from what is true then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::builder::LoopSettings;
use super::events::{Events, Happened};
use super::fetch::Fetching;
use super::inbox::{Ended, Inbox};
use super::keeper::Remembered;
use super::link::{Link, bounded};
use super::ticker::Ticker;
use crate::error::Result;
use crate::model::{ClusterId, ImageDigest, ImageRef, RegistryAuth};
use crate::plan::{Action, ActionKey, Done};
use crate::routing::TableHash;
use crate::runtime::ContainerSpec;

/// The actions of one host.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) link: Arc<Link>,
    in_flight: BTreeMap<ActionKey, Lane>,
    /// Actions that succeeded and that no observation has shown yet: not to be repeated.
    unseen: BTreeMap<ActionKey, Action>,
    /// Cancelled once the network was made or could not be; runs wait for that.
    network: Option<CancellationToken>,
    /// When the last action ended that changes what a listing shows.
    last_ended: Duration,
    /// Tables handed to the balancer that may still come in force, oldest first.
    sent: Vec<Sent>,
}

/// A table handed to a balancer.
#[derive(Debug, Clone, Copy)]
struct Sent {
    hash: TableHash,
    /// When that succeeded; `None`: it goes on, or failed, and its work may go on.
    done: Option<Duration>,
}

/// Most tables kept that failed in a row. A balancer serves one call after the other, so that of so many the
/// first has long ended.
const MAX_SENT: usize = 8;

/// What bounds an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Start,
    Stop,
    /// One a host by its key: the network, the table.
    Single,
    /// One a host, and nothing is made beside it.
    Clear,
}

/// What all actions of a term share.
#[derive(Debug, Clone)]
pub(super) struct Hands {
    pub(super) cluster: ClusterId,
    pub(super) settings: Arc<LoopSettings>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) events: Events,
    pub(super) time: Arc<Ticker>,
    pub(super) tasks: TaskTracker,
}

impl Desk {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            in_flight: BTreeMap::new(),
            unseen: BTreeMap::new(),
            network: None,
            last_ended: Duration::ZERO,
            sent: Vec::new(),
        }
    }

    /// Tables that may still come in force whatever the latest observation shows.
    pub(super) fn on_their_way(&self) -> Vec<TableHash> {
        self.sent.iter().map(|sent| sent.hash).collect()
    }

    /// Whether an observation that began then shows what every ended action did.
    pub(super) fn shown_by(&self, began: Duration) -> bool {
        began > self.last_ended
    }

    /// An observation is there: what it began after need not be held back any more.
    pub(super) fn observed(&mut self, began: Duration) {
        if self.shown_by(began) {
            self.unseen.clear();
        }
        self.sent.retain(|sent| sent.done.is_none_or(|done| began <= done));
    }

    /// Actions going on.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// An action ended.
    pub(super) fn ended(&mut self, ended: &Ended) {
        let key = ended.action.key();
        self.in_flight.remove(&key);
        if key == ActionKey::Network {
            self.network = None;
        }
        // One after the other: what was handed over before has ended too.
        match &ended.result {
            Ok(Done::Applied { table, .. }) => {
                self.sent = vec![Sent { hash: *table, done: Some(ended.at) }];
            }
            Ok(Done::Cleared) => self.sent.clear(),
            _ => {}
        }
        if !changes_listing(&ended.action) {
            return;
        }
        self.last_ended = self.last_ended.max(ended.at);
        match ended.result.is_ok() {
            true => drop(self.unseen.insert(key, ended.action.clone())),
            false => drop(self.unseen.remove(&key)),
        }
    }

    /// Begins what can begin now, in order.
    pub(super) fn dispatch(&mut self, actions: Vec<Action>, hands: &Hands, after: &Remembered) {
        for action in actions {
            if self.admits(&action, &hands.settings) {
                self.begin(action, hands, after);
            }
        }
    }

    fn admits(&self, action: &Action, settings: &LoopSettings) -> bool {
        let key = action.key();
        let lane = lane(action);
        let busy = || self.in_flight.values().filter(|l| **l == lane).count();
        !self.in_flight.contains_key(&key)
            && self.unseen.get(&key) != Some(action)
            && !self.would_cross(action)
            && match lane {
                Lane::Start => busy() < settings.starts_per_host,
                Lane::Stop => busy() < settings.stops_per_host,
                Lane::Single | Lane::Clear => true,
            }
    }

    /// A clear takes the network away from what is made beside it: neither begins while the other goes on.
    fn would_cross(&self, action: &Action) -> bool {
        let makes = |key: &ActionKey| matches!(key, ActionKey::Network | ActionKey::Instance(_));
        match action {
            Action::EnsureNetwork(_) | Action::Run { .. } => {
                self.in_flight.values().any(|lane| *lane == Lane::Clear)
            }
            Action::Clear(_) => self.in_flight.keys().any(makes),
            _ => false,
        }
    }

    fn send(&mut self, hash: TableHash) {
        self.sent.retain(|sent| sent.hash != hash);
        self.sent.push(Sent { hash, done: None });
        if self.sent.len() > MAX_SENT {
            self.sent.remove(0);
        }
    }

    fn begin(&mut self, action: Action, hands: &Hands, after: &Remembered) {
        self.in_flight.insert(action.key(), lane(&action));
        if let Action::Apply(table) = &action {
            self.send(table.hash());
        }
        let made = matches!(action, Action::EnsureNetwork(_)).then(|| {
            let network = CancellationToken::new();
            self.network = Some(network.clone());
            network.drop_guard()
        });
        let hand = Hand {
            link: self.link.clone(),
            hands: hands.clone(),
            network: self.network.clone(),
            after: after.clone(),
        };
        hands.tasks.spawn(hand.work(action, made));
    }
}

const fn lane(action: &Action) -> Lane {
    match action {
        Action::ResolveImage { .. } | Action::Run { .. } => Lane::Start,
        Action::Stop { .. } => Lane::Stop,
        Action::EnsureNetwork(_) | Action::Apply(_) => Lane::Single,
        Action::Clear(_) => Lane::Clear,
    }
}

const fn changes_listing(action: &Action) -> bool {
    !matches!(action, Action::ResolveImage { .. })
}

/// One action on its way.
struct Hand {
    link: Arc<Link>,
    hands: Hands,
    network: Option<CancellationToken>,
    after: Remembered,
}

impl Hand {
    async fn work(self, action: Action, made: Option<DropGuard>) {
        let result = self.perform(&action).await;
        drop(made);
        self.tell(&action, &result);
        let ended = Ended { at: self.hands.time.now().monotonic, action, result };
        let look = changes_listing(&ended.action);
        let host = self.link.host.clone();
        self.hands.inbox.put(|news| news.hosts.entry(host).or_default().ended.push(ended));
        if look {
            self.link.look.notify_one();
        }
    }

    /// A digest needs nothing remembered; what makes, removes or leads to things does.
    async fn perform(&self, action: &Action) -> Result<Done> {
        match action {
            Action::ResolveImage { image, auth, .. } => {
                self.fetch(image, auth.as_ref()).await.map(Done::Digest)
            }
            Action::Apply(table) => {
                self.after.clone().wait().await;
                let apply = self.link.handle.balancer.apply(table);
                let deadline = self.hands.settings.deadlines.apply;
                let applied = bounded("apply", &self.link.host, deadline, apply).await?;
                self.link.put_in_force(table, &applied);
                self.event(Happened::applied(&self.link.host, &applied));
                Ok(Done::Applied { table: applied.table, whole: applied.set_aside.is_empty() })
            }
            _ => {
                self.after.clone().wait().await;
                self.change(action).await?;
                Ok(if matches!(action, Action::Clear(_)) { Done::Cleared } else { Done::Plain })
            }
        }
    }

    async fn change(&self, action: &Action) -> Result<()> {
        let Link { host, handle, .. } = &*self.link;
        let deadlines = &self.hands.settings.deadlines;
        match action {
            Action::EnsureNetwork(network) => {
                let ensure = handle.runtime.ensure_network(network);
                bounded("make network", host, deadlines.network, ensure).await
            }
            Action::Run { spec, auth, .. } => self.run(spec, auth.as_ref()).await,
            Action::Stop { id, grace } => {
                let name = id.container_name(&self.hands.cluster);
                let stop = handle.runtime.stop(&name, *grace);
                bounded("stop", host, deadlines.stop + *grace, stop).await
            }
            Action::Clear(network) => {
                let end = handle.balancer.shutdown();
                bounded("end balancer", host, deadlines.apply, end).await?;
                self.link.forget_in_force();
                let remove = handle.runtime.remove_network(network);
                bounded("remove network", host, deadlines.network, remove).await
            }
            Action::ResolveImage { .. } | Action::Apply(_) => Ok(()),
        }
    }

    async fn run(&self, spec: &ContainerSpec, auth: Option<&RegistryAuth>) -> Result<()> {
        self.fetch(&spec.image, auth).await?;
        if let Some(network) = &self.network {
            // Whether it was made or not: without it the engine refuses the run, and says why.
            network.cancelled().await;
        }
        let run = self.link.handle.runtime.run(spec);
        let deadline = self.hands.settings.deadlines.run;
        bounded("run", &self.link.host, deadline, run).await.map(drop)
    }

    async fn fetch(&self, image: &ImageRef, auth: Option<&RegistryAuth>) -> Result<ImageDigest> {
        let Hands { events, time, settings, .. } = &self.hands;
        let progress = Fetching::new(self.link.host.clone(), events.clone(), time.clone());
        let fetch = self.link.handle.runtime.ensure_image(image, auth, &progress);
        bounded("fetch image", &self.link.host, settings.deadlines.image, fetch).await
    }

    fn tell(&self, action: &Action, result: &Result<Done>) {
        let host = self.link.host.clone();
        match (action, result) {
            (_, Err(error)) => {
                let (action, error) = (action.key(), error.clone());
                self.event(Happened::Failed { host, action, error });
            }
            (Action::ResolveImage { app, .. }, Ok(Done::Digest(digest))) => {
                self.event(Happened::Resolved { app: app.clone(), digest: digest.clone() });
            }
            (Action::Run { id, .. }, _) => self.event(Happened::Started { id: id.clone(), host }),
            (Action::Stop { id, .. }, _) => self.event(Happened::Stopped { id: id.clone(), host }),
            (Action::Clear(_), _) => self.event(Happened::Cleared(host)),
            _ => {}
        }
    }

    fn event(&self, what: Happened) {
        self.hands.events.tell(self.hands.time.now().wall, what);
    }
}

#[cfg(test)]
mod tests;
