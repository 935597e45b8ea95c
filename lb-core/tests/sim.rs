//! The simulated cluster: many stories without a violation, and one seed one run.

use std::collections::BTreeMap;

use lb_core::sim::{Invariant, Options, run};

/// Things that happen in each story here; `simulate` tells longer ones, and more.
const STEPS: u32 = 12;

/// How often an invariant must be judged in a hundred stories, or they are not about it: half of what it is.
fn enough(invariant: Invariant) -> u64 {
    match invariant {
        Invariant::Route | Invariant::Alarm => 20_000,
        Invariant::Address => 70_000,
        Invariant::Floor => 3_000,
        Invariant::Drain => 50,
        Invariant::Served => 1_000,
        Invariant::Reason => 150,
        Invariant::Told => 40_000,
        // All is as asked for, and still is a while later.
        Invariant::Convergence => 200,
        Invariant::LeftBehind => 100,
        other => panic!("{other:?}: how often?"),
    }
}

fn hold(seeds: std::ops::Range<u64>) {
    let mut judged = BTreeMap::new();
    for seed in seeds {
        let report = run(&Options { steps: STEPS, ..Options::new(seed) });
        let violations: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "{}", violations.join("\n"));
        for (invariant, times) in report.judged {
            *judged.entry(invariant).or_default() += times;
        }
    }
    for invariant in Invariant::ALL {
        let times = judged.get(&invariant).copied().unwrap_or(0);
        assert!(times >= enough(invariant), "{invariant:?}: only {times} times: {judged:?}");
    }
}

#[test]
fn the_first_hundred_seeds_violate_nothing() {
    hold(0..100);
}

#[test]
fn the_second_hundred_seeds_violate_nothing() {
    hold(100..200);
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..8 {
        let (once, twice) = (run(&Options::new(seed)), run(&Options::new(seed)));
        let lines = once.trace.lines().zip(twice.trace.lines());
        for (a, b) in lines {
            assert_eq!(a, b, "seed {seed}");
        }
        assert_eq!(once, twice, "seed {seed}");
    }
}

#[test]
fn another_seed_is_another_run() {
    assert_ne!(run(&Options::new(1)).trace, run(&Options::new(2)).trace);
}
