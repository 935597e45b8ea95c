//! What holds whatever happens: random histories on a cluster in memory. The simulation checks every plan
//! (see `plan_sim`); the property here checks where the histories lead.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod plan_sim;

use lb_core::conformance::strategies::history;
use plan_sim::Sim;
use proptest::prelude::*;

proptest! {
    // 64 histories; PROPTEST_CASES asks for four times as many as are told.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 4,
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever happens, once it stops happening the cluster is as asked for: no instance too many or too
    /// few, no orphan, no address twice, every table in force; and then nothing more is planned.
    #[test]
    fn every_story_ends_well(
        hosts in 3..5u8,
        history in history(1..40),
        slow in prop::option::of(1..30u64),
    ) {
        let mut sim = Sim::new(hosts);
        sim.ready_in(2, slow);
        for happening in &history {
            sim.happen(happening);
        }
        sim.end_well();
    }
}
