//! Rollouts against a model: one after the other or one into the other, of versions that become ready at
//! once, late or never. No pass goes below the floor or above the surge; what settles is the version asked
//! for, or a good one it went back to.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod plan_sim;

use std::collections::BTreeSet;
use std::time::Duration;

use lb_core::conformance::strategies::{Deployment, deployment};
use plan_sim::Sim;
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

/// Versions are numbered below this; the first is good.
const VERSIONS: u8 = 5;
/// Between two passes.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Clone)]
struct Model {
    deployment: Deployment,
    /// Seconds each version takes to become ready; `None`: it never does.
    ready: Vec<Option<u64>>,
    /// Versions the cluster may run once it has settled.
    good: BTreeSet<u8>,
}

impl Model {
    fn is_good(&self, version: u8) -> bool {
        let within = Deployment::READY_WITHIN.as_secs();
        self.ready[usize::from(version)].is_some_and(|seconds| seconds < within)
    }

    fn floor(&self) -> u32 {
        u32::from(self.deployment.count.saturating_sub(self.deployment.unavailable))
    }

    fn most(&self) -> u32 {
        u32::from(self.deployment.count) + self.deployment.surge()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Deploy(u8),
    Seconds(u64),
    Settle,
}

struct Rollouts;

impl ReferenceStateMachine for Rollouts {
    type State = Model;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Model> {
        // Not near the limit: a pass more or less would decide.
        let time = prop_oneof![(0..16_u64).prop_map(Some), (25..40_u64).prop_map(Some), Just(None)];
        (deployment(), prop::collection::vec(time, usize::from(VERSIONS) - 1))
            .prop_map(|(drawn, times)| Model {
                deployment: Deployment {
                    count: drawn.count.max(1),
                    version: 0,
                    everywhere: true,
                    ..drawn
                },
                ready: [vec![Some(0)], times].concat(),
                good: [0].into(),
            })
            .boxed()
    }

    fn transitions(_: &Model) -> BoxedStrategy<Step> {
        prop_oneof![
            3 => (1..40_u64).prop_map(Step::Seconds),
            3 => (0..VERSIONS).prop_map(Step::Deploy),
            1 => Just(Step::Settle),
        ]
        .boxed()
    }

    fn apply(mut model: Model, step: &Step) -> Model {
        match step {
            Step::Deploy(version) => {
                model.deployment.version = *version;
                if model.is_good(*version) {
                    model.good.insert(*version);
                }
            }
            Step::Settle if model.is_good(model.deployment.version) => {
                model.good = [model.deployment.version].into();
            }
            Step::Settle | Step::Seconds(_) => {}
        }
        model
    }
}

impl StateMachineTest for Rollouts {
    type SystemUnderTest = Sim;
    type Reference = Self;

    fn init_test(model: &Model) -> Sim {
        let mut sim = Sim::new(3);
        for (version, ready) in (0..VERSIONS).zip(&model.ready) {
            sim.ready_in(version, *ready);
        }
        sim.deploy(model.deployment.app());
        sim.settle();
        sim
    }

    fn apply(mut sim: Sim, model: &Model, step: Step) -> Sim {
        match step {
            Step::Deploy(_) => sim.deploy(model.deployment.app()),
            Step::Seconds(seconds) => run(&mut sim, model, Duration::from_secs(seconds)),
            Step::Settle => settle(&mut sim, model),
        }
        sim
    }

    fn check_invariants(sim: &Sim, model: &Model) {
        let (served, floor) = (sim.served_at_least("web"), model.floor());
        assert!(served >= floor, "{served} served, the floor is {floor}");
        let (live, most) = (sim.live(), model.most());
        assert!(live <= most, "{live} live, at most {most}");
    }

    fn teardown(mut sim: Sim, model: Model) {
        settle(&mut sim, &model);
    }
}

fn run(sim: &mut Sim, model: &Model, time: Duration) {
    let end = sim.now + time;
    while sim.now < end {
        sim.pass();
        sim.now += PAUSE;
        Rollouts::check_invariants(sim, model);
    }
}

/// Until nothing is left to do, a rollout that fails and its way back included.
fn settle(sim: &mut Sim, model: &Model) {
    sim.settle_with(|sim| Rollouts::check_invariants(sim, model));
    sim.check_settled();
    let tags: BTreeSet<u8> =
        sim.containers().map(|c| c.spec.image.tag().unwrap().parse().unwrap()).collect();
    assert_eq!(tags.len(), 1, "all run one version: {tags:?}");
    let asked = model.deployment.version;
    match model.is_good(asked) {
        true => assert!(tags.contains(&asked), "{tags:?} runs, {asked} was asked for"),
        false => assert!(tags.is_subset(&model.good), "{tags:?} runs, {:?} are good", model.good),
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 8,
        max_shrink_iters: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn rollouts_keep_their_floor_and_end_at_a_good_version(sequential 1..12 => Rollouts);
}
