//! The whole planner against a model that knows only what was asked for: whatever happened on the way, a
//! cluster that is well again and left alone is exactly that.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod plan_sim;

use std::collections::{BTreeMap, BTreeSet};

use lb_core::conformance::strategies::{Deployment, Happening, happening};
use lb_core::*;
use plan_sim::Sim;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

const HOSTS: usize = 3;
const MAX_HOSTS: usize = 5;

/// What was asked for, and which hosts are in order.
#[derive(Debug, Clone)]
struct Model {
    apps: BTreeMap<u8, Deployment>,
    hosts: Vec<Host>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Host {
    Up,
    Cut,
    Lost,
}

#[derive(Debug, Clone)]
enum Step {
    Happens(Happening),
    /// All is well again, and the cluster is left alone until nothing is to do.
    Settles,
}

impl Model {
    fn host(&mut self, index: Index) -> &mut Host {
        let at = index.index(self.hosts.len());
        &mut self.hosts[at]
    }

    fn is(&self, index: Index, host: Host) -> bool {
        self.hosts[index.index(self.hosts.len())] == host
    }
}

struct Cluster;

impl ReferenceStateMachine for Cluster {
    type State = Model;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Model> {
        Just(Model { apps: BTreeMap::new(), hosts: vec![Host::Up; HOSTS] }).boxed()
    }

    fn transitions(_: &Model) -> BoxedStrategy<Step> {
        prop_oneof![12 => happening().prop_map(Step::Happens), 1 => Just(Step::Settles)].boxed()
    }

    fn preconditions(model: &Model, step: &Step) -> bool {
        let Step::Happens(happening) = step else { return true };
        match happening {
            Happening::Remove(app) => model.apps.contains_key(app),
            Happening::Cut(i) => model.is(*i, Host::Up),
            Happening::Heal(i) => model.is(*i, Host::Cut),
            Happening::Lose(i) => !model.is(*i, Host::Lost),
            Happening::Return(i) => model.is(*i, Host::Lost),
            Happening::Join => model.hosts.len() < MAX_HOSTS,
            _ => true,
        }
    }

    fn apply(mut model: Model, step: &Step) -> Model {
        match step {
            Step::Settles => model.hosts.fill(Host::Up),
            Step::Happens(Happening::Deploy(d)) => drop(model.apps.insert(d.app, *d)),
            Step::Happens(Happening::Remove(app)) => drop(model.apps.remove(app)),
            Step::Happens(Happening::Cut(i)) => *model.host(*i) = Host::Cut,
            Step::Happens(Happening::Lose(i)) => *model.host(*i) = Host::Lost,
            Step::Happens(Happening::Heal(i) | Happening::Return(i)) => {
                *model.host(*i) = Host::Up;
            }
            Step::Happens(Happening::Join) => model.hosts.push(Host::Up),
            Step::Happens(_) => {}
        }
        model
    }
}

impl StateMachineTest for Cluster {
    type SystemUnderTest = Sim;
    type Reference = Self;

    fn init_test(model: &Model) -> Sim {
        Sim::new(model.hosts.len() as u8)
    }

    fn apply(mut sim: Sim, model: &Model, step: Step) -> Sim {
        match step {
            Step::Happens(happening) => sim.happen(&happening),
            Step::Settles => {
                sim.end_well();
                check_settled(&sim, model);
            }
        }
        sim
    }

    fn check_invariants(sim: &Sim, model: &Model) {
        let hosts = sim.hosts.values();
        let seen: Vec<_> = hosts.map(|h| (h.registered, h.reachable)).collect();
        let told: Vec<_> = model.hosts.iter().map(|h| (*h != Host::Lost, *h == Host::Up)).collect();
        assert_eq!(seen, told, "the model is about this cluster");
    }

    fn teardown(mut sim: Sim, model: Model) {
        sim.end_well();
        check_settled(&sim, &model);
    }
}

fn check_settled(sim: &Sim, model: &Model) {
    let asked: BTreeSet<_> = model.apps.keys().map(|app| Deployment::name_of(*app)).collect();
    let there: BTreeSet<_> =
        sim.hosts.values().flat_map(|h| h.containers.keys()).map(|id| id.app.clone()).collect();
    assert!(there.is_subset(&asked), "{there:?} run, {asked:?} were asked for");
    for deployment in model.apps.values() {
        check_app(sim, *deployment);
    }
}

/// The app runs as deployed, unless its rollout failed (containers died in it): then all of it runs one
/// older version. Its instances are active at every balancer that is to lead to it, and nothing else is.
fn check_app(sim: &Sim, deployment: Deployment) {
    let name = Deployment::name_of(deployment.app);
    let of_app = |(id, _): &(&InstanceId, _)| id.app == name;
    let hosts = sim.hosts.values();
    let all: BTreeMap<_, _> = hosts.flat_map(|h| &h.containers).filter(of_app).collect();
    assert_eq!(all.len(), usize::from(deployment.count), "{name}: {:?}", all.keys());
    let tags: BTreeSet<_> = all.values().map(|c| c.spec.image.tag().unwrap()).collect();
    let ledger = &sim.ledger.apps[&name];
    match ledger.failed.is_some() && ledger.failed == ledger.target {
        true => assert!(tags.len() <= 1, "{name} went back to {tags:?}"),
        false => assert!(tags.iter().all(|t| *t == deployment.version.to_string()), "{tags:?}"),
    }
    let servers: BTreeSet<_> = all.values().map(|c| ServerName::from(&c.container.name)).collect();
    for (id, host) in &sim.hosts {
        let runs_here = host.containers.keys().any(|i| i.app == name);
        let port = PortName::new("web").unwrap();
        let backend =
            host.table.as_ref().and_then(|t| t.backends.get(&BackendName::of(&name, &port)));
        let led_to: BTreeSet<_> = backend
            .iter()
            .flat_map(|b| &b.servers)
            .filter(|(_, s)| s.state == ServerState::Active)
            .map(|(name, _)| name.clone())
            .collect();
        let wanted = if deployment.everywhere || runs_here { servers.clone() } else { [].into() };
        assert_eq!(led_to, wanted, "{name} at the balancer of {id}");
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 4,
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_cluster_left_alone_is_what_was_asked_for(sequential 1..30 => Cluster);
}
