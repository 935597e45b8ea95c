//! How far a change of an app is, as the last pass left it: what its clients get, and what stands in the way.

use std::sync::Arc;

use super::link::Link;
use super::status::Snapshot;
use crate::balancer::{Ask, ListenerProbe};
use crate::error::{Error, ErrorKind};
use crate::ledger::{AppLedger, Ending, InstanceLedger, LastEnd, Phase};
use crate::model::{AppName, DomainName, HostId, Port, Protocol, Revision};
use crate::plan::{AppView, HostView};
use crate::store::{Generation, Standing};

/// Most lines of what failed that an error shows.
const LINES_SHOWN: usize = 20;

/// What a process says that does not know how far a change is.
const FOLLOWS: &str = "this process does not lead: another one does, or none";

/// How far a change is.
pub(super) enum Stage {
    /// The loop has not taken it in, and why.
    Unheard(String),
    /// What stands in the way.
    Waits(Vec<String>),
    /// Every balancer was seen to have it in force; these are what its clients would ask.
    InForce { revision: Revision, questions: Vec<Question> },
    /// It will not come about.
    Over(Error),
}

/// What a client asks of a listener, and where.
pub(super) struct Question {
    pub(super) link: Arc<Link>,
    pub(super) probe: ListenerProbe,
}

/// What is left of an app that is being removed.
pub(super) struct Left {
    pub(super) is_wanted: bool,
    pub(super) obstacles: Vec<String>,
}

impl Snapshot {
    /// How far the change of this generation is. `met`: the app was there before.
    pub(super) fn stage(&self, app: &AppName, generation: Generation, met: bool) -> Stage {
        if self.standing == Standing::Follower {
            return Stage::Unheard(FOLLOWS.into());
        }
        let over = |kind, text: String| Stage::Over(Error::new(kind, "wait for", "", text));
        let Some(view) = self.world.apps.get(app) else {
            return match met {
                true => over(ErrorKind::NotFound, "was removed".into()),
                false => Stage::Unheard("the store has not told of it yet".into()),
            };
        };
        if view.generation < generation {
            return Stage::Unheard("the store has not told of the change yet".into());
        }
        if view.generation > generation && view.deploy != generation {
            let text = format!("change {} took the place of change {generation}", view.generation);
            return over(ErrorKind::Conflict, text);
        }
        let ledger = self.ledgers.get(app).filter(|ledger| ledger.deploy == view.deploy);
        let Some((ledger, target)) = ledger.and_then(|ledger| Some((ledger, ledger.target?)))
        else {
            return Stage::Waits(self.obstacles(app, "its image has to be looked up"));
        };
        if ledger.failed == Some(target) {
            let good = ledger.good.as_ref().map(|good| good.revision);
            let text = went_back(target, good, ledger.last_end.as_deref());
            return over(ErrorKind::RolledBack, text);
        }
        self.stage_of(app, view, ledger, target)
    }

    fn stage_of(
        &self,
        app: &AppName,
        view: &AppView,
        ledger: &AppLedger,
        target: Revision,
    ) -> Stage {
        if let Some(lack) = self.lacks(view, ledger, target) {
            return Stage::Waits(self.obstacles(app, &lack));
        }
        let none_wanted = ledger.wanted == Some(0);
        let has_listeners = view.app.ports.values().any(|port| port.outside.is_some());
        if ledger.exposed.is_empty() && has_listeners && !none_wanted {
            return Stage::Waits(self.obstacles(app, "no host has its listeners"));
        }
        let mut questions = Vec::new();
        for (host, at, link) in self.exposing(ledger) {
            if let Some(lack) = self.lacks_on(host, at, link, view) {
                return Stage::Waits(self.obstacles(app, &lack));
            }
            if none_wanted {
                continue;
            }
            let probes = view.app.ports.values().filter_map(|port| probe(at, port));
            questions.extend(probes.map(|probe| Question { link: link.clone(), probe }));
        }
        Stage::InForce { revision: target, questions }
    }

    /// Whether no balancer that has the app keeps it from being served as the planner wants it.
    pub(super) fn is_in_force(&self, view: &AppView, ledger: Option<&AppLedger>) -> bool {
        let Some(ledger) = ledger else { return false };
        self.exposing(ledger).all(|(host, at, link)| self.lacks_on(host, at, link, view).is_none())
    }

    /// The registered hosts whose balancers have the app; without a lease one has no clients either.
    fn exposing<'a>(
        &'a self,
        ledger: &'a AppLedger,
    ) -> impl Iterator<Item = (&'a HostId, &'a HostView, &'a Arc<Link>)> {
        ledger
            .exposed
            .iter()
            .filter_map(|host| Some((host, self.world.hosts.get(host)?, self.links.get(host)?)))
    }

    /// What the app's instances lack to be those that are wanted.
    fn lacks(&self, view: &AppView, ledger: &AppLedger, target: Revision) -> Option<String> {
        let wanted = ledger.wanted.unwrap_or(view.app.replicas.min);
        let publishes = self.world.publishes();
        let of_target = |record: &&InstanceLedger| {
            let lacks_port = publishes && record.lacks_host_port(&view.app, &ledger.exposed);
            record.revision == target && !lacks_port
        };
        let serves = |record: &&InstanceLedger| {
            matches!(record.phase, Phase::Serving { .. }) && record.failing.is_none()
        };
        let live = || ledger.instances.iter().filter(|record| record.is_live());
        let serving = live().filter(of_target).filter(serves).count() as u32;
        let others = live().filter(|record| !of_target(record)).count();
        let is_trial = ledger.good.as_ref().is_some_and(|good| good.revision != target);
        let (needed, others_may_stay) = match &view.app.rollout.canary {
            Some(canary) if is_trial => (u32::from(canary.instances).min(wanted), true),
            _ => (wanted, false),
        };
        if serving < needed {
            return Some(format!("{serving} of {needed} instances of revision {target} are ready"));
        }
        (others > 0 && !others_may_stay)
            .then(|| format!("{others} instances of other revisions are left"))
    }

    /// What keeps the host's balancer from serving the app as the planner wants it.
    fn lacks_on(&self, host: &HostId, at: &HostView, link: &Link, app: &AppView) -> Option<String> {
        if !at.reachable {
            return Some(format!("host \"{host}\" does not answer"));
        }
        let Some(balancer) = at.seen.as_ref().and_then(|seen| seen.balancer.as_ref()) else {
            return Some(format!("the balancer of host \"{host}\" does not answer"));
        };
        let wanted = self.host_ledgers.get(host).and_then(|l| l.tables.last()).map(|t| t.hash);
        if balancer.table != wanted || at.on_their_way.iter().any(|way| Some(*way) != wanted) {
            return Some(format!("the balancer of host \"{host}\" is not seen to have its table"));
        }
        let in_force = link.in_force();
        let aside = balancer.set_aside.iter().chain(&in_force.set_aside);
        let mut of_app = aside.filter(|(part, _)| part.is_of(&app.app));
        of_app.next().map(|(part, why)| {
            format!("{} is set aside on host \"{host}\": {why}", String::from(part.clone()))
        })
    }

    /// What is missing, and everything said that may be why.
    fn obstacles(&self, app: &AppName, lack: &str) -> Vec<String> {
        let about = |reason: &&crate::plan::Reason| reason.app.as_ref().is_none_or(|a| a == app);
        let said = self.reasons.iter().filter(about).map(|reason| reason.text.clone());
        let troubles = self.troubles.iter().map(|(part, error)| format!("{part}: {error}"));
        let silent = self.errors.iter().map(|(host, error)| format!("host \"{host}\": {error}"));
        let end = self.ledgers.get(app).and_then(|ledger| ledger.last_end.as_deref()).map(told);
        let mut all = vec![lack.to_owned()];
        all.extend(said.chain(troubles).chain(silent).chain(end));
        all
    }

    /// What is left of an app; `None`: nothing.
    pub(super) fn left_of(&self, app: &AppName) -> Option<Left> {
        let is_wanted = self.world.apps.contains_key(app);
        if self.standing == Standing::Follower {
            return Some(Left { is_wanted: false, obstacles: vec![FOLLOWS.into()] });
        }
        if !is_wanted && !self.ledgers.contains_key(app) {
            return None;
        }
        let instances = self.ledgers.get(app).map_or(0, |ledger| ledger.instances.len());
        let lack = format!("{instances} of its instances are left");
        Some(Left { is_wanted, obstacles: self.obstacles(app, &lack) })
    }
}

/// What a client asks the port's listener on the host.
fn probe(host: &HostView, port: &Port) -> Option<ListenerProbe> {
    let get = || Ask::Get { host: port.hosts.first().map(concrete), path: port.path.clone() };
    let ask = match port.protocol {
        Protocol::Http if port.tls.is_none() => get(),
        _ => Ask::Connection,
    };
    Some(ListenerProbe { address: host.facts.address, port: port.outside?.get(), ask })
}

/// A name that a wildcard takes.
fn concrete(host: &DomainName) -> DomainName {
    let name = host.as_str().replacen('*', "probe", 1);
    DomainName::new(&name).unwrap_or_else(|_| host.clone())
}

fn went_back(target: Revision, good: Option<Revision>, end: Option<&LastEnd>) -> String {
    let good = good.map_or_else(String::new, |good| format!(": {good} serves"));
    let end = end.map_or_else(String::new, |end| format!("; {}", told(end)));
    format!("revision {target} was not ready in time, and is given up{good}{end}")
}

/// An instance's end, with its last lines.
fn told(end: &LastEnd) -> String {
    let text = format!("{} {}", end.id, end.how.in_words());
    let Ending::Exited(exit) = &end.how else { return text };
    let lines: Vec<&str> = exit.output.lines().collect();
    match lines.len() {
        0 | 1 => text,
        all => format!(
            "{text}\nit wrote last:\n{}",
            lines[all.saturating_sub(LINES_SHOWN)..].join("\n")
        ),
    }
}
