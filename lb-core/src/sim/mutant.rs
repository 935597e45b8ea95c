//! Planners with one rule broken: each must be caught, or the checks check nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::check::Invariant;
use crate::ledger::{HostLedger, Ledger, Phase};
use crate::model::{AppSpec, Count};
use crate::orchestrator::Planner;
use crate::plan::{Action, InstanceState, Observation, Plan, World, plan};
use crate::runtime::Readiness;

/// A rule of the planner, broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mutant {
    /// An instance that ended is taken to run: routes to it stay.
    RoutesToTheDead,
    /// A check that fails is not looked at: routes to unready instances stay, and come too early.
    RoutesToTheUnready,
    /// Instances of a lost host are not given up.
    BelievesInLostHosts,
    /// Every host has the subnet of the first.
    SharesSubnets,
    /// Addresses that were given back do not rest.
    ReusesAddresses,
    /// A rollout replaces all instances at once.
    ForgetsTheFloor,
    /// An instance is stopped as soon as it is not wanted.
    CutsDrains,
    /// A balancer that is between two tables is taken for one that serves what a lost ledger knew: addresses wait.
    Quarantines,
    /// An instance whose checks have failed for long is waited for.
    WaitsForTheHung,
    /// What was decided is taken to be in force, and never asked for.
    BelievesItIsServed,
    /// Nobody hears why anything is as it is.
    SaysNothing,
    /// The place of an instance that ended is not filled again.
    GivesUp,
    /// A host that has nothing left keeps its balancer and network.
    NeverClears,
    /// Instances of a removed app are not stopped.
    LeavesInstances,
    /// Tables do not have the backends that their routes lead to.
    LeadsNowhere,
    /// It panics once no app is wanted.
    Panics,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::RoutesToTheDead,
        Self::RoutesToTheUnready,
        Self::BelievesInLostHosts,
        Self::SharesSubnets,
        Self::ReusesAddresses,
        Self::ForgetsTheFloor,
        Self::CutsDrains,
        Self::Quarantines,
        Self::WaitsForTheHung,
        Self::BelievesItIsServed,
        Self::SaysNothing,
        Self::GivesUp,
        Self::NeverClears,
        Self::LeavesInstances,
        Self::LeadsNowhere,
        Self::Panics,
    ];

    /// What it violates, at least.
    pub const fn violates(self) -> Invariant {
        match self {
            Self::RoutesToTheDead | Self::RoutesToTheUnready | Self::BelievesInLostHosts => {
                Invariant::Route
            }
            Self::SharesSubnets | Self::ReusesAddresses => Invariant::Address,
            Self::ForgetsTheFloor => Invariant::Floor,
            Self::CutsDrains => Invariant::Drain,
            Self::Quarantines | Self::WaitsForTheHung => Invariant::Served,
            Self::BelievesItIsServed => Invariant::Told,
            Self::SaysNothing => Invariant::Reason,
            Self::GivesUp => Invariant::Convergence,
            Self::NeverClears | Self::LeavesInstances => Invariant::LeftBehind,
            Self::LeadsNowhere | Self::Panics => Invariant::Alarm,
        }
    }

    pub(super) fn planner(self) -> Planner {
        Planner::new(move |world, ledger, now| {
            let seen = self.sees(world.clone());
            let known = self.knows(ledger.clone());
            self.decides(plan(&seen, &known, now), &seen)
        })
    }

    /// What it takes the world for.
    fn sees(self, mut world: World) -> World {
        match self {
            Self::RoutesToTheDead => looking(&mut world, |state| {
                if matches!(state, InstanceState::Exited(_)) {
                    *state = InstanceState::Running(Readiness::Ready);
                }
            }),
            Self::RoutesToTheUnready => looking(&mut world, |state| {
                if matches!(state, InstanceState::Running(_)) {
                    *state = InstanceState::Running(Readiness::Ready);
                }
            }),
            Self::BelievesInLostHosts => world.registry = crate::plan::RegistryTrust::Fails,
            Self::ForgetsTheFloor => {
                for view in world.apps.values_mut() {
                    let mut spec = AppSpec::from(crate::model::App::clone(&view.app));
                    spec.rollout.max_unavailable = Some(Count::Exactly(spec.replicas.max.max(1)));
                    if let Ok(app) = crate::model::App::new(spec) {
                        view.app = Arc::new(app);
                    }
                }
            }
            _ => {}
        }
        world
    }

    /// What it remembers.
    fn knows(self, mut ledger: Ledger) -> Ledger {
        match self {
            Self::SharesSubnets => {
                let first = ledger.hosts.values().find_map(|h| h.subnet);
                editing(&mut ledger, |host| {
                    if host.subnet.is_some() {
                        host.subnet = first;
                    }
                });
            }
            Self::ReusesAddresses => editing(&mut ledger, |host| host.resting.clear()),
            Self::Quarantines => {
                let until = ledger.at + Duration::from_secs(60);
                editing(&mut ledger, |host| {
                    if host.tables.len() > 1 {
                        host.quarantine = until;
                    }
                });
            }
            Self::WaitsForTheHung => {
                for app in ledger.apps.values_mut() {
                    for instance in &mut Arc::make_mut(app).instances {
                        instance.failing = None;
                    }
                }
            }
            Self::GivesUp => {
                for app in ledger.apps.values_mut() {
                    let slots = Arc::make_mut(app).slots.values_mut();
                    slots.filter(|s| s.crashes > 0).for_each(|s| s.until = Duration::MAX);
                }
            }
            Self::CutsDrains => {
                for app in ledger.apps.values_mut() {
                    for instance in &mut Arc::make_mut(app).instances {
                        if let Phase::Draining { until, acked, .. } = &mut instance.phase {
                            *until = Duration::ZERO;
                            for at in acked.values_mut() {
                                *at = Duration::ZERO;
                            }
                        }
                    }
                }
            }
            _ => {}
        }
        ledger
    }

    /// What it leaves out.
    fn decides(self, mut plan: Plan, world: &World) -> Plan {
        match self {
            Self::NeverClears => {
                leaving_out(&mut plan, |_, action| matches!(action, Action::Clear(_)));
            }
            Self::LeavesInstances => leaving_out(&mut plan, |_, action| match action {
                Action::Stop { id, .. } => !world.apps.contains_key(&id.app),
                _ => false,
            }),
            Self::LeadsNowhere => {
                for action in plan.actions.values_mut().flatten() {
                    if let Action::Apply(table) = action {
                        Arc::make_mut(table).backends.clear();
                    }
                }
            }
            Self::SaysNothing => plan.reasons.clear(),
            Self::BelievesItIsServed => {
                for (id, view) in &world.hosts {
                    let in_force = view.seen.as_ref().and_then(|s| s.balancer.as_ref()?.table);
                    let Some(hash) = in_force else { continue };
                    if let Some(actions) = plan.actions.get_mut(id) {
                        actions.retain(|action| !matches!(action, Action::Apply(_)));
                    }
                    if let Some(host) = plan.ledger.hosts.get_mut(id)
                        && let Some(last) = Arc::make_mut(host).tables.last_mut()
                    {
                        last.hash = hash;
                    }
                }
            }
            Self::Panics => assert!(!world.apps.is_empty(), "as asked for"),
            _ => {}
        }
        plan
    }
}

fn looking(world: &mut World, look: impl Fn(&mut InstanceState)) {
    for view in world.hosts.values_mut() {
        if let Some(seen) = &mut view.seen {
            let seen: &mut Observation = Arc::make_mut(seen);
            seen.instances.iter_mut().for_each(|instance| look(&mut instance.state));
        }
    }
}

fn editing(ledger: &mut Ledger, edit: impl Fn(&mut HostLedger)) {
    ledger.hosts.values_mut().for_each(|host| edit(Arc::make_mut(host)));
}

fn leaving_out(plan: &mut Plan, left_out: impl Fn(&crate::model::HostId, &Action) -> bool) {
    let actions = std::mem::take(&mut plan.actions);
    let kept = actions.into_iter().map(|(host, mut actions)| {
        actions.retain(|action| !left_out(&host, action));
        (host, actions)
    });
    plan.actions = kept.filter(|(_, actions)| !actions.is_empty()).collect::<BTreeMap<_, _>>();
}
