//! A whole cluster in memory under a paused clock and one seed (feature `sim`).
//!
//! [`run`] draws a story from a seed and lets it happen to a real [`Orchestrator`](crate::Orchestrator) over
//! the in-memory backends, which take as long over calls as real ones do: apps are deployed, undone, flipped,
//! many in a row, changed and removed while containers die and hang, hosts die, return, stall and lie, lose
//! their networks, engines fail, hang, answer late and lose events, reloads fail, balancers are edited by hand,
//! links are cut, stores and leaders come and go, and the wall clock jumps. Readiness is found out by
//! [`Probed`](crate::Probed), as on every host. After each step what is really there, what clients get and what
//! the status tells are compared with what must hold ([`Invariant`]); then all faults stop, and the cluster
//! must become what was asked for, and nothing be left once everything is removed.
//!
//! One seed is one run: the trace of two is the same, byte for byte.
//!
//! ```
//! use lb_core::sim::{Options, run};
//! let report = run(&Options { steps: 5, ..Options::new(7) });
//! assert!(report.violations.is_empty(), "{}", report.violations[0]);
//! ```
//!
//! What a fault may cost is excused while it lasts and for as long as it can be felt: see the checks.

mod check;
mod clock;
mod cluster;
mod deploy;
mod dice;
mod host;
mod mutant;
mod story;
mod trace;
mod traffic;
mod weather;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

pub use self::check::Invariant;
#[doc(hidden)]
pub use self::mutant::Mutant;
use self::story::Story;

/// Things that happen in a run unless told otherwise.
pub const STEPS: u32 = 30;

/// What is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Everything follows from it.
    pub seed: u64,
    /// Things that happen before the faults stop. Default [`STEPS`].
    pub steps: u32,
    /// A planner with a broken rule, to see that the checks notice. Default: none.
    #[doc(hidden)]
    pub mutant: Option<Mutant>,
}

impl Options {
    /// The run of this seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed, steps: STEPS, mutant: None }
    }
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Times everything was checked.
    pub steps: u64,
    /// Faults that happened.
    pub faults: u64,
    /// How often each invariant was judged where no fault excused it.
    pub judged: BTreeMap<Invariant, u64>,
    /// What did not hold, in order of time; at most a few.
    pub violations: Vec<Violation>,
    /// What happened, a line each.
    pub trace: String,
}

/// Something that must hold and did not. Its text says how to see it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What was violated.
    pub invariant: Invariant,
    /// When, from the start of the run.
    pub at: Duration,
    /// How, in words.
    pub text: String,
    options: (u64, u32),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, at, text, options: (seed, steps) } = self;
        let at = at.as_secs_f64();
        write!(f, "seed {seed}, {at:.1} s: {invariant}: {text} (replay: ")?;
        write!(f, "cargo run -p lb-benches --bin simulate -- --seed {seed}")?;
        match *steps {
            STEPS => f.write_str(" --trace)"),
            steps => write!(f, " --steps {steps} --trace)"),
        }
    }
}

/// Runs a story to its end, on the calling thread and in no time but the processor's.
///
/// # Panics
/// Within a tokio runtime: it needs one of its own, whose clock is paused.
pub fn run(options: &Options) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap_or_else(|e| unreachable!("a runtime without input and output: {e}"));
    // Made within the runtime: outside, the clock is the machine's.
    runtime.block_on(async { Story::new(options).tell().await })
}
