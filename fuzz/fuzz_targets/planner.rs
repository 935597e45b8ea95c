#![no_main]
//! Histories of a cluster in memory. The simulation of the planner's tests checks every plan: nothing is routed
//! to that is dead or not ready, no address is given out twice or too early, nothing is stopped that still
//! serves, equal snapshots give equal plans. At the end the cluster must come to rest as it was asked for.

use std::sync::LazyLock;

use lb_core::conformance::strategies::{Happening, happening};
use lb_fuzz::plan_sim::Sim;
use lb_fuzz::{all_drawn, choice};
use libfuzzer_sys::fuzz_target;
use proptest::strategy::SBoxedStrategy;

/// Longest history.
const MOST: usize = 40;

static HAPPENINGS: LazyLock<SBoxedStrategy<Happening>> = LazyLock::new(happening);

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = choice(data) else { return };
    let mut sim = Sim::new(1 + first % 4);
    sim.ready_in(2, Some(u64::from(first >> 2) % 30));
    for happening in all_drawn(&*HAPPENINGS, rest).take(MOST) {
        sim.happen(&happening);
    }
    sim.end_well();
});
