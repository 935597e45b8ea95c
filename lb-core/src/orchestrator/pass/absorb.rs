//! Taking in what is new: hosts, apps, load, what was seen and what ended.

use std::sync::{Arc, PoisonError};

use super::super::act::Desk;
use super::super::events::Happened;
use super::super::inbox::{HostNews, Sight};
use super::super::link::Link;
use super::super::observe::Observer;
use super::super::policy::policy_of;
use super::super::tell::changes;
use super::{Reign, Seat};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::InstanceLedger;
use crate::model::{App, AppName, HostFacts, HostId, HostSet, InstanceId};
use crate::plan::{AppView, HostView, Outcome, Reason, What};
use crate::store::{AppSet, StoredApp};

impl Reign {
    pub(super) fn absorb_registry(&mut self, set: Result<Arc<HostSet>>) {
        let now = self.shared.time.now().monotonic;
        match set {
            Ok(set) => {
                self.heard.hosts = true;
                self.members.update(&set, now, self.shared.parts.settings.lease);
            }
            Err(error) => self.members.fail(error),
        }
        self.seat_members();
    }

    /// Hosts that came get a link and an observer, hosts that went lose theirs.
    pub(super) fn seat_members(&mut self) {
        let was_believed = self.believed;
        self.believed = self.members.is_believed();
        self.world.registry = self.members.trust();
        match (was_believed, self.believed) {
            (true, false) => self.shared.tell(Happened::RegistryDoubted(self.doubt())),
            (false, true) => self.shared.tell(Happened::RegistryBelieved),
            _ => {}
        }
        let members = self.members.hosts();
        let gone: Vec<HostId> =
            self.seats.keys().filter(|id| !members.contains_key(*id)).cloned().collect();
        let came: Vec<HostFacts> =
            members.values().filter(|f| !self.seats.contains_key(&f.id)).cloned().collect();
        for (id, view) in &mut self.world.hosts {
            if let Some(facts) = members.get(id).filter(|facts| **facts != *view.facts) {
                view.facts = Arc::new(facts.clone());
            }
        }
        if gone.is_empty() && came.is_empty() {
            return;
        }
        for id in &gone {
            self.unseat(id);
        }
        for facts in came {
            self.seat(facts);
        }
        let links = self.seats.iter().map(|(id, seat)| (id.clone(), seat.desk.link.clone()));
        self.links = Arc::new(links.collect());
    }

    fn doubt(&self) -> String {
        let doubted = self.members.doubted();
        match self.members.failure() {
            Some(error) => error.to_string(),
            None => format!("{} hosts were lost within one lease: {doubted:?}", doubted.len()),
        }
    }

    fn seat(&mut self, facts: HostFacts) {
        let id = facts.id.clone();
        let handle = self.shared.parts.connector.connect(&id, self.term);
        let link = Arc::new(Link::new(id.clone(), handle, self.scope.child_token()));
        let observer = Observer {
            cluster: self.hands.cluster.clone(),
            link: link.clone(),
            inbox: self.hands.inbox.clone(),
            time: self.hands.time.clone(),
            settings: self.hands.settings.clone(),
        };
        tokio::spawn(observer.run());
        tokio::spawn(self.board.clone().meter(
            link.clone(),
            self.hands.time.clone(),
            self.hands.settings.clone(),
        ));
        self.shared.tell(Happened::HostJoined(id.clone()));
        let view = HostView {
            facts: Arc::new(facts),
            seen: None,
            fresh: false,
            reachable: false,
            on_their_way: Vec::new(),
            outcomes: Vec::new(),
        };
        self.world.hosts.insert(id.clone(), view);
        self.seats.insert(id, Seat { desk: Desk::new(link), error: None, looked: false });
    }

    fn unseat(&mut self, id: &HostId) {
        if let Some(seat) = self.seats.remove(id) {
            seat.desk.link.gone.cancel();
        }
        self.world.hosts.remove(id);
        self.board.forget(id);
        self.shared.tell(Happened::HostLeft(id.clone()));
    }

    pub(super) fn absorb_apps(&mut self, apps: Result<Arc<AppSet>>) {
        let apps = match apps {
            Ok(apps) => apps,
            Err(error) => {
                self.shared.tell(Happened::Trouble { part: "apps", error: error.clone() });
                self.troubles.insert("apps".to_owned(), error);
                return;
            }
        };
        self.heard.apps = true;
        let before = self.troubles.remove("apps");
        if let Some(error) = &apps.trouble {
            if before.as_ref() != Some(error) {
                self.shared.tell(Happened::Trouble { part: "apps", error: error.clone() });
            }
            self.troubles.insert("apps".to_owned(), error.clone());
        }
        let mut before = std::mem::take(&mut self.world.apps);
        for (name, stored) in apps.iter() {
            let view = match before.remove(name) {
                Some(view) if view.generation == stored.generation && view.app == stored.app => {
                    view
                }
                known => self.view(name, stored, known),
            };
            self.world.apps.insert(name.clone(), view);
        }
        for name in before.into_keys() {
            self.own_reasons.remove(&name);
            self.shared.tell(Happened::AppRemoved(name));
        }
        self.board.watch(apps);
    }

    /// The view of an app that is new, or was put again.
    fn view(&mut self, name: &AppName, stored: &StoredApp, known: Option<AppView>) -> AppView {
        let StoredApp { app, generation, deploy } = stored.clone();
        self.shared.tell(Happened::AppChanged(name.clone()));
        let mut reasons = notes(&app);
        let policy = policy_of(&app, &self.shared.parts.policies).unwrap_or_else(|reason| {
            reasons.push(reason);
            None
        });
        self.own_reasons.insert(name.clone(), reasons);
        let deploys = self.shared.deploys.lock().unwrap_or_else(PoisonError::into_inner);
        let asked_here = deploys.contains(name);
        let load = known.map_or_else(|| Arc::from([]), |view| view.load);
        AppView { app, generation, deploy, asked_here, policy, load }
    }

    pub(super) fn absorb_load(&mut self) {
        let mut load = self.board.take();
        for (name, view) in &mut self.world.apps {
            if let Some(samples) = load.remove(name) {
                view.load = samples;
            }
        }
    }

    pub(super) fn absorb_host(&mut self, host: &HostId, news: HostNews) -> Result<()> {
        let (Some(seat), Some(view)) = (self.seats.get_mut(host), self.world.hosts.get_mut(host))
        else {
            return Ok(());
        };
        for ended in news.ended {
            seat.desk.ended(&ended);
            let outcome = Outcome::of(&ended.action, ended.at, ended.result);
            step_down(outcome.result.as_ref().err())?;
            view.outcomes.push(outcome);
        }
        let Some(sight) = news.sight else { return Ok(()) };
        step_down(sight.error.as_ref())?;
        seat.looked = true;
        let ledger = &self.ledger;
        let is_wanted = |id: &InstanceId| {
            let app = ledger.apps.get(&id.app);
            let record = app.and_then(|app| app.instances.iter().find(|r| r.id(&id.app) == *id));
            // What no ledger knows yet was not asked to end either.
            record.is_none_or(InstanceLedger::is_live)
        };
        for change in changes(host, view, seat.error.is_some(), &sight, is_wanted) {
            self.shared.tell(change);
        }
        let Sight { seen, error } = sight;
        if let Some(seen) = &seen {
            seat.desk.observed(seen.began);
        }
        (view.seen, seat.error) = (seen, error);
        Ok(())
    }
}

/// What is accepted of an app and has no effect: said for as long as it is deployed so.
fn notes(app: &App) -> Vec<Reason> {
    let reason = |text| {
        tracing::warn!(app = %app.name, "{text}");
        Reason { app: Some(app.name.clone()), host: None, what: What::Scale, text }
    };
    app.notes().into_iter().map(reason).collect()
}

/// A host or store that has seen a higher term ends this one.
fn step_down(error: Option<&Error>) -> Result<()> {
    match error {
        Some(error) if error.kind() == ErrorKind::Fenced => Err(error.clone()),
        _ => Ok(()),
    }
}
