//! Stories of whole clusters in memory, each drawn from a seed: faults in every part, and checks at every step.
//!
//! `cargo run --release -p lb-benches --bin simulate -- --seeds 1000 --json`
//!
//! A seed that violates an invariant is replayed, with all that happened, by `--seed N --trace`.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its result")]

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Parser;
use lb_core::sim::{Options, Report, STEPS, run};
use serde::Serialize;

/// Seeds between two signs of life.
const SHOWN_EVERY: u64 = 50;

/// Runs simulated clusters and says which invariants did not hold.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// This seed alone.
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Things that happen in each run before the faults stop.
    #[arg(long, default_value_t = STEPS)]
    steps: u32,
    /// Print what happened, a line each; of a violating seed only, where there are many.
    #[arg(long)]
    trace: bool,
    /// Print the JSON line only.
    #[arg(long)]
    json: bool,
}

/// What is printed last.
#[derive(Debug, Default, Serialize)]
struct Sum {
    seeds: u64,
    /// Checks of everything.
    steps: u64,
    faults: u64,
    /// How often each invariant was judged.
    judged: BTreeMap<String, u64>,
    violations: u64,
    first_bad_seed: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = match arguments.seed {
        Some(seed) => seed..seed + 1,
        None => arguments.first..arguments.first.saturating_add(arguments.seeds),
    };
    let mut sum = Sum::default();
    for seed in seeds {
        let report = run(&Options { steps: arguments.steps, ..Options::new(seed) });
        let is_bad = !report.violations.is_empty();
        sum.add(seed, &report);
        if arguments.trace && !arguments.json && (is_bad || arguments.seed.is_some()) {
            print!("{}", report.trace);
        }
        for violation in &report.violations {
            eprintln!("{violation}");
        }
        if !arguments.json && sum.seeds.is_multiple_of(SHOWN_EVERY) {
            eprintln!("{} seeds, {} violations", sum.seeds, sum.violations);
        }
    }
    match serde_json::to_string(&sum) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("the sum cannot be printed: {error}"),
    }
    match sum.violations {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

impl Sum {
    fn add(&mut self, seed: u64, report: &Report) {
        self.seeds += 1;
        self.steps += report.steps;
        self.faults += report.faults;
        self.violations += report.violations.len() as u64;
        for (invariant, times) in &report.judged {
            *self.judged.entry(format!("{invariant:?}")).or_default() += times;
        }
        if !report.violations.is_empty() {
            self.first_bad_seed = self.first_bad_seed.or(Some(seed));
        }
    }
}
