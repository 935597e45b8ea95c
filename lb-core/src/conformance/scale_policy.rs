//! The suite of [`ScalePolicy`].
#![allow(clippy::unused_async, reason = "cases have one shape in all suites")]

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use super::{Ground, Wrapped};
use crate::model::App;
use crate::scale::{Decision, LoadSample, LoadView, PolicyMemory, STALE_AFTER, ScalePolicy};
use crate::time::Now;

/// What a policy's tests give the suite.
pub trait PolicySetup: Debug + Send + Sync + 'static {
    /// The policy; asked again, another value that decides alike.
    fn policy(&self) -> Arc<dyn ScalePolicy>;
}

/// A policy under test.
#[derive(Debug)]
pub struct Bed {
    /// The setup.
    pub setup: Arc<dyn PolicySetup>,
    /// Its policy.
    pub policy: Arc<dyn ScalePolicy>,
    app: App,
}

const WANTED: u32 = 8;
const EVERY: u32 = 15;
/// Most bytes a policy may remember.
const MEMORY: usize = 64 << 10;

impl Bed {
    /// A bed for the policy.
    pub async fn new(setup: impl PolicySetup) -> Self {
        let app = r#"
            name = "shop"
            image = "shop:1"
            replicas = { min = 1, max = 1000 }
            resources = { cpu = 0.5, memory = "100MB" }
            ports.web = { container = 80 }
        "#;
        let app = App::from_toml(app).unwrap();
        Self { policy: setup.policy(), setup: Arc::new(setup), app }
    }

    fn ask(
        &self,
        samples: &[LoadSample],
        memory: &PolicyMemory,
        second: u32,
    ) -> (Decision, PolicyMemory) {
        ask(&*self.policy, &self.app, samples, memory, second)
    }
}

fn ask(
    policy: &dyn ScalePolicy,
    app: &App,
    samples: &[LoadSample],
    memory: &PolicyMemory,
    second: u32,
) -> (Decision, PolicyMemory) {
    let load = LoadView { app, wanted: WANTED, ready: WANTED, starting: 0, samples };
    policy.decide(&load, memory, Now::at_seconds(second))
}

/// A sample in which everything measured is `load` of what one instance can do, for each instance.
fn sample(second: u32, load: f64) -> LoadSample {
    let all = load * f64::from(WANTED);
    LoadSample {
        at: Now::at_seconds(second),
        over: Duration::from_secs(EVERY.into()),
        instances: WANTED,
        cpu: Some(all * 0.5),
        memory: Some(all * 100e6),
        requests: Some(all * 100.0),
        failures: Some(0.0),
        concurrency: Some(all * 10.0),
        response_time: Some(0.1),
    }
}

/// Waves of load, with gaps.
fn history(length: u32) -> Vec<LoadSample> {
    let load = |n: u32| f64::from(n % 17) / 8.0;
    (0..length).filter(|n| n % 11 != 3).map(|n| sample(n * EVERY, load(n))).collect()
}

/// Whichever value is asked, and whatever it was asked before.
pub async fn equal_input_gives_equal_decisions(bed: &Bed) {
    let other = bed.setup.policy();
    let samples = history(40);
    let (mut memory, mut seen) = (PolicyMemory::default(), Vec::new());
    for n in 1..samples.len() {
        let second = u32::try_from(n).unwrap() * EVERY;
        let decided = bed.ask(&samples[..n], &memory, second);
        seen.push((memory, second, decided.clone()));
        memory = decided.1;
    }
    for (n, (memory, second, decided)) in seen.iter().enumerate().rev() {
        let again = ask(&*other, &bed.app, &samples[..=n], memory, *second);
        assert_eq!(&again, decided, "at {second} s");
    }
}

/// As JSON, and within 64 KiB however long it runs.
pub async fn its_memory_survives_a_store_and_is_bounded(bed: &Bed) {
    let mut memory = PolicyMemory::default();
    for n in 1..2_000u32 {
        let samples = [sample((n - 1) * EVERY, f64::from(n % 17) / 8.0)];
        memory = bed.ask(&samples, &memory, n * EVERY).1;
        let json = serde_json::to_string(&memory).unwrap();
        assert!(json.len() <= MEMORY, "{} bytes after {n} decisions", json.len());
        let back: PolicyMemory = serde_json::from_str(&json).unwrap();
        assert_eq!(back, memory);
    }
}

/// Of what is not measured at all.
pub async fn without_measurements_it_never_scales_in(bed: &Bed) {
    let nothing = LoadSample {
        cpu: None,
        memory: None,
        requests: None,
        failures: None,
        concurrency: None,
        response_time: None,
        ..sample(EVERY, 0.0)
    };
    for samples in [&[][..], &[nothing; 40]] {
        let mut memory = PolicyMemory::default();
        for n in 2..60 {
            let (decision, next) = bed.ask(samples, &memory, n * EVERY);
            assert!(decision.count(WANTED) >= WANTED, "{decision:?}");
            memory = next;
        }
    }
}

/// By [`LoadView::latest_fresh`]: just past its bound, an hour old, or from a time to come.
pub async fn stale_measurements_never_scale_in(bed: &Bed) {
    let samples: Vec<_> = (0..40).map(|n| sample(7_200 + n * EVERY, 0.01)).collect();
    let last = 7_200 + 39 * EVERY;
    let bound = u32::try_from(STALE_AFTER.as_secs()).unwrap();
    for first in [last + bound + 1, last + 3_600, 0] {
        let mut memory = PolicyMemory::default();
        for n in 0..60 {
            let second = first + n * EVERY;
            let (decision, next) = bed.ask(&samples, &memory, second);
            assert!(decision.count(WANTED) >= WANTED, "at {second} s: {decision:?}");
            memory = next;
        }
    }
}

/// Negative, infinite, not a number.
pub async fn absurd_measurements_never_scale_in(bed: &Bed) {
    for load in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
        let mut memory = PolicyMemory::default();
        for n in 1..60 {
            let samples: Vec<_> = (0..n).map(|n| sample(n * EVERY, load)).collect();
            let (decision, next) = bed.ask(&samples, &memory, n * EVERY);
            assert!(decision.count(WANTED) >= WANTED, "{load}: {decision:?}");
            memory = next;
        }
    }
}

/// It may be lost at any time, which never scales in at once.
pub async fn a_lost_memory_is_accepted(bed: &Bed) {
    let samples: Vec<_> = (0..8).map(|n| sample(n * EVERY, 0.9)).collect();
    let mut memory = PolicyMemory::default();
    for n in 1..8u32 {
        memory = bed.ask(&samples[..n as usize], &memory, n * EVERY).1;
    }
    let (decision, next) = bed.ask(&samples, &PolicyMemory::default(), 8 * EVERY);
    assert!(decision.count(WANTED) >= WANTED, "{decision:?}");
    drop(bed.ask(&samples, &next, 9 * EVERY));
}

/// The second answer is no lower than the first.
pub async fn asking_twice_at_one_time_changes_nothing(bed: &Bed) {
    let samples = history(20);
    let mut memory = PolicyMemory::default();
    for n in 1..samples.len() {
        let second = u32::try_from(n).unwrap() * EVERY;
        let (first, after) = bed.ask(&samples[..n], &memory, second);
        let (again, _) = bed.ask(&samples[..n], &after, second);
        assert_eq!(again.count(WANTED), first.count(WANTED), "at {second} s");
        memory = after;
    }
}

/// One test of each case of a [`ScalePolicy`](crate::ScalePolicy), from a
/// [`PolicySetup`](crate::conformance::scale_policy::PolicySetup). See
/// [`conformance`](crate::conformance).
#[macro_export]
macro_rules! scale_policy_suite {
    ($($given:tt)*) => {
        $crate::__conformance_cases! {
            ($) scale_policy [
                equal_input_gives_equal_decisions
                its_memory_survives_a_store_and_is_bounded
                without_measurements_it_never_scales_in
                stale_measurements_never_scale_in
                absurd_measurements_never_scale_in
                a_lost_memory_is_accepted
                asking_twice_at_one_time_changes_nothing
            ]
            $($given)*
        }
    };
}

impl Ground for Bed {}

#[deny(clippy::missing_trait_methods)]
impl<S: PolicySetup> PolicySetup for Wrapped<S, dyn ScalePolicy> {
    fn policy(&self) -> Arc<dyn ScalePolicy> {
        self.wrap(self.setup.policy())
    }
}
