//! The simulated cluster: many stories without a violation, and one seed one run.

use lb_core::sim::{Options, run};

/// Things that happen in each story here; `simulate` tells longer ones, and more.
const STEPS: u32 = 20;

fn hold(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let report = run(&Options { steps: STEPS, ..Options::new(seed) });
        let violations: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "{}", violations.join("\n"));
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
