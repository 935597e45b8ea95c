//! The checks of the simulation, checked: a planner with one rule broken is caught.

use lb_core::sim::{Invariant, Mutant, Options, run};

/// Seeds in which a broken rule must show itself.
const SEEDS: u64 = 60;

/// Runs until the mutant is caught violating what it must.
fn is_caught(mutant: Mutant) {
    let invariant = mutant.violates();
    let mut others = Vec::new();
    for seed in 0..SEEDS {
        let report = run(&Options { mutant: Some(mutant), ..Options::new(seed) });
        if report.violations.iter().any(|v| v.invariant == invariant) {
            return;
        }
        others.extend(report.violations.into_iter().map(|v| v.to_string()));
    }
    panic!("{mutant:?} was not caught in {SEEDS} seeds; it violated: {others:#?}");
}

#[test]
fn a_route_to_a_dead_instance_is_seen() {
    is_caught(Mutant::RoutesToTheDead);
}

#[test]
fn a_route_to_an_unready_instance_is_seen() {
    is_caught(Mutant::RoutesToTheUnready);
}

#[test]
fn a_route_to_a_host_whose_lease_ended_is_seen() {
    is_caught(Mutant::BelievesInLostHosts);
}

#[test]
fn two_instances_with_one_address_are_seen() {
    is_caught(Mutant::SharesSubnets);
}

#[test]
fn an_address_that_is_used_again_too_early_is_seen() {
    is_caught(Mutant::ReusesAddresses);
}

#[test]
fn a_rollout_below_its_floor_is_seen() {
    is_caught(Mutant::ForgetsTheFloor);
}

#[test]
fn a_request_cut_before_its_time_is_seen() {
    is_caught(Mutant::CutsDrains);
}

#[test]
fn starts_that_wait_while_a_table_comes_in_force_are_seen() {
    is_caught(Mutant::Quarantines);
}

#[test]
fn an_instance_that_hangs_for_good_is_seen() {
    is_caught(Mutant::WaitsForTheHung);
}

#[test]
fn what_is_said_to_be_served_and_is_not_is_seen() {
    is_caught(Mutant::BelievesItIsServed);
}

#[test]
fn a_status_that_never_says_why_is_seen() {
    is_caught(Mutant::SaysNothing);
}

#[test]
fn a_cluster_that_does_not_converge_is_seen() {
    is_caught(Mutant::GivesUp);
}

#[test]
fn a_balancer_that_is_left_behind_is_seen() {
    is_caught(Mutant::NeverClears);
}

#[test]
fn an_instance_that_is_left_behind_is_seen() {
    is_caught(Mutant::LeavesInstances);
}

#[test]
fn a_table_that_backends_refuse_is_seen() {
    is_caught(Mutant::LeadsNowhere);
}

#[test]
fn a_planner_that_panics_is_seen() {
    is_caught(Mutant::Panics);
}

/// Each check has a planner that it catches.
#[test]
fn no_invariant_is_left_out() {
    for invariant in Invariant::ALL {
        assert!(Mutant::ALL.iter().any(|mutant| mutant.violates() == invariant), "{invariant:?}");
    }
}

/// Every mutant has a test above.
#[test]
fn no_mutant_is_left_out() {
    let source = include_str!("sim_mutants.rs");
    for mutant in Mutant::ALL {
        assert!(source.contains(&format!("is_caught(Mutant::{mutant:?})")), "{mutant:?}");
    }
}
