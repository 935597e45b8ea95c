//! One term's view of the world, and one pass over it: take in what is new, plan, remember, act, show.

mod absorb;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::act::{Desk, Hands};
use super::events::Happened;
use super::inbox::Inbox;
use super::keeper::{self, Keeper};
use super::link::{Link, panic_text};
use super::sampler::{Board, Sampler};
use super::status::Snapshot;
use super::tell::Told;
use super::trust::Membership;
use super::{Request, Shared};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::Ledger;
use crate::model::{AppName, HostId};
use crate::plan::{Plan, Reason, RegistryTrust, World};
use crate::store::{Standing, Term};
use crate::time::Now;

/// An observation older than so many resyncs allows nothing destructive.
const STALE_RESYNCS: u32 = 3;

/// The loop's state in one term. Lost with it: the next term observes afresh.
pub(super) struct Reign {
    shared: Arc<Shared>,
    term: Term,
    scope: CancellationToken,
    hands: Hands,
    keeper: Keeper,
    ledger: Ledger,
    world: World,
    members: Membership,
    seats: BTreeMap<HostId, Seat>,
    links: Arc<BTreeMap<HostId, Arc<Link>>>,
    board: Arc<Board>,
    /// What stands in an app's way that the planner does not know of.
    own_reasons: BTreeMap<AppName, Vec<Reason>>,
    reasons: Vec<Reason>,
    told: Told,
    troubles: BTreeMap<String, Error>,
    heard: Heard,
    believed: bool,
    again: Duration,
    last_pass: Duration,
}

/// Whether apps and hosts have been heard of at all: nothing is planned before.
#[derive(Default)]
struct Heard {
    apps: bool,
    hosts: bool,
}

/// A host as the loop holds it.
struct Seat {
    desk: Desk,
    error: Option<Error>,
    looked: bool,
}

impl Reign {
    pub(super) fn new(
        shared: Arc<Shared>,
        term: Term,
        ledger: Ledger,
        scope: CancellationToken,
    ) -> Self {
        let parts = &shared.parts;
        let inbox = Arc::new(Inbox::default());
        let hands = Hands {
            cluster: parts.cluster.id.clone(),
            settings: parts.settings.clone(),
            inbox: inbox.clone(),
            events: shared.events.clone(),
            time: shared.time.clone(),
            tasks: TaskTracker::new(),
        };
        let desk = keeper::Desk {
            store: parts.ledger.clone(),
            term,
            inbox: inbox.clone(),
            events: shared.events.clone(),
            time: shared.time.clone(),
            deadline: parts.settings.deadlines.store,
        };
        let world = World {
            cluster: parts.cluster.clone(),
            apps: BTreeMap::new(),
            hosts: BTreeMap::new(),
            registry: RegistryTrust::Answers,
        };
        let board = Arc::new(Board::default());
        let sampler = Sampler {
            board: board.clone(),
            store: parts.load.clone(),
            inbox,
            time: shared.time.clone(),
            settings: parts.settings.clone(),
        };
        tokio::spawn(scope.clone().run_until_cancelled_owned(sampler.run()));
        Self {
            term,
            scope,
            hands,
            keeper: Keeper::start(desk, Arc::new(ledger.clone())),
            ledger,
            world,
            members: Membership::default(),
            seats: BTreeMap::new(),
            links: Arc::default(),
            board,
            own_reasons: BTreeMap::new(),
            reasons: Vec::new(),
            told: Told::default(),
            troubles: BTreeMap::new(),
            heard: Heard::default(),
            believed: true,
            again: Duration::MAX,
            last_pass: Duration::ZERO,
            shared,
        }
    }

    pub(super) const fn inbox(&self) -> &Arc<Inbox> {
        &self.hands.inbox
    }

    /// When the planner wants to be asked again (monotonic).
    pub(super) const fn again(&self) -> Duration {
        self.again
    }

    /// Whether enough is known to plan: apps, hosts, and what runs on each, or long enough waited for.
    pub(super) fn is_ready(&self, patience_is_over: bool) -> bool {
        self.heard.apps
            && self.heard.hosts
            && (patience_is_over || self.seats.values().all(|seat| seat.looked))
    }

    /// Takes in what is new.
    ///
    /// # Errors
    /// `Fenced` when another leader was seen.
    pub(super) fn absorb(&mut self) -> Result<()> {
        let news = self.inbox().take();
        if let Some(error) = news.fenced {
            return Err(error);
        }
        if let Some(registry) = news.registry {
            self.absorb_registry(registry);
        }
        if let Some(apps) = news.apps {
            self.absorb_apps(apps);
        }
        for (host, news) in news.hosts {
            self.absorb_host(&host, news)?;
        }
        if news.sampled {
            self.absorb_load();
        }
        Ok(())
    }

    /// What each host's latest observation is worth now.
    fn refresh(&mut self, now: Now) {
        let stale = self.shared.parts.settings.resync * STALE_RESYNCS;
        for (id, view) in &mut self.world.hosts {
            let Some(seat) = self.seats.get(id) else { continue };
            let began = view.seen.as_ref().map(|seen| seen.began);
            view.reachable = seat.error.is_none() && began.is_some();
            view.on_their_way = seat.desk.on_their_way();
            view.fresh = view.reachable
                && began.is_some_and(|b| seat.desk.shown_by(b) && now.since(b) <= stale);
        }
        if self.members.reconsider(now.monotonic, self.shared.parts.settings.lease) {
            self.seat_members();
        }
    }

    /// One pass. Gives the time it took.
    pub(super) fn pass(&mut self) -> Duration {
        let now = self.shared.time.now();
        self.refresh(now);
        match self.plan(now) {
            Ok(plan) => self.act(plan, now),
            Err(error) => {
                self.again = now.monotonic + self.shared.parts.settings.resync;
                self.shared.tell(Happened::Trouble { part: "planner", error: error.clone() });
                self.troubles.insert("planner".to_owned(), error);
            }
        }
        self.last_pass = self.shared.time.now().since(now.monotonic);
        tracing::debug!(took = ?self.last_pass, reasons = self.reasons.len(), "pass");
        self.show(now);
        self.last_pass
    }

    /// A policy of the platform's is foreign code: its panic costs the pass, not the loop.
    fn plan(&self, now: Now) -> Result<Plan> {
        let planner = &self.shared.parts.planner;
        let made = catch_unwind(AssertUnwindSafe(|| planner.plan(&self.world, &self.ledger, now)));
        made.map_err(|panic| {
            let text = format!("panicked: {}", panic_text(&*panic));
            Error::new(ErrorKind::Unexpected, "plan", "cluster", text)
        })
    }

    fn act(&mut self, plan: Plan, now: Now) {
        self.troubles.remove("planner");
        self.world.hosts.values_mut().for_each(|view| view.outcomes.clear());
        self.again = plan.again.unwrap_or(Duration::MAX);
        self.ledger = plan.ledger;
        self.keeper.save(&self.ledger);
        let after = self.keeper.remembered();
        for (id, seat) in &self.seats {
            seat.desk.link.set_watched(plan.watch.contains(id));
        }
        for (host, actions) in plan.actions {
            let reachable = self.world.hosts.get(&host).is_some_and(|view| view.reachable);
            if let Some(seat) = self.seats.get_mut(&host).filter(|_| reachable) {
                seat.desk.dispatch(actions, &self.hands, &after);
            }
        }
        self.reasons = plan.reasons;
        self.reasons.extend(self.own_reasons.values().flatten().cloned());
        for reason in self.told.news(&self.reasons) {
            self.shared.events.tell(now.wall, Happened::Decided(reason));
        }
    }

    /// Leaves the state for whoever looks.
    fn show(&self, now: Now) {
        let mut troubles = self.troubles.clone();
        troubles.extend(self.keeper.failure().map(|error| ("ledger".to_owned(), error)));
        troubles.extend(self.board.failure().map(|error| ("load".to_owned(), error)));
        troubles.extend(self.members.failure().map(|e| ("registry".to_owned(), e.clone())));
        let errors = self.seats.iter().filter_map(|(id, s)| Some((id.clone(), s.error.clone()?)));
        let snapshot = Snapshot {
            at: now,
            standing: Standing::Leader(self.term),
            world: self.world.clone(),
            ledgers: self.ledger.apps.clone(),
            host_ledgers: self.ledger.hosts.clone(),
            links: self.links.clone(),
            errors: errors.collect(),
            doubted: self.members.doubted().clone(),
            reasons: self.reasons.clone(),
            troubles,
            in_flight: self.seats.values().map(|seat| seat.desk.in_flight()).sum(),
            passes: self.shared.snapshot.borrow().passes + 1,
            last_pass: self.last_pass,
            status: OnceLock::new(),
        };
        self.shared.snapshot.send_replace(Arc::new(snapshot));
    }

    pub(super) fn serve(&mut self, request: Request) {
        // Whoever asked may have gone.
        match request {
            Request::Preview(reply) => drop(reply.send(self.preview())),
            Request::ConfirmGone(hosts, reply) => {
                self.confirm(hosts);
                drop(reply.send(Ok(())));
            }
        }
    }

    fn preview(&mut self) -> Result<Plan> {
        self.absorb()?;
        if !self.is_ready(false) {
            let text = "apps and hosts must have been seen first";
            return Err(Error::new(ErrorKind::Unavailable, "preview", "orchestrator", text));
        }
        let now = self.shared.time.now();
        self.refresh(now);
        let mut plan = self.plan(now)?;
        plan.reasons.extend(self.own_reasons.values().flatten().cloned());
        Ok(plan)
    }

    fn confirm(&mut self, hosts: BTreeSet<HostId>) {
        self.members.confirm(hosts);
        self.seat_members();
    }

    /// Ends the term: actions in flight end, at most so long.
    pub(super) async fn end(self) {
        self.hands.tasks.close();
        let patience = self.shared.parts.settings.shutdown;
        if tokio::time::timeout(patience, self.hands.tasks.wait()).await.is_err() {
            tracing::warn!(actions = self.hands.tasks.len(), "actions left in flight");
        }
        self.keeper.remembered().wait().await;
    }
}
