//! Waiting longer after each failure: exponential, capped, jittered from a seed.

use std::time::Duration;

use crate::random::Random;

/// First wait after a failure.
const FIRST: Duration = Duration::from_millis(100);
/// Longest wait, unless told otherwise.
const LONGEST: Duration = Duration::from_secs(10);

/// The waits of one subject. Equal seeds give equal waits: there is no ambient randomness here.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    failures: u32,
    longest: Duration,
    jitter: Random,
}

impl Backoff {
    /// For a subject named by `seed`: different subjects do not retry in step.
    pub(crate) fn new(seed: &str) -> Self {
        Self { failures: 0, longest: LONGEST, jitter: Random::named(seed) }
    }

    /// With another longest wait.
    pub(crate) const fn up_to(self, longest: Duration) -> Self {
        Self { longest, ..self }
    }

    /// The next wait: half of it fixed, half of it random ("equal jitter", AWS Architecture Blog,
    /// "Exponential Backoff And Jitter").
    pub(crate) fn next(&mut self) -> Duration {
        let full = FIRST.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        self.jitter.between(full / 2, full)
    }

    /// It went well: the next failure waits the first time again.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_stay_capped_and_repeat_from_the_seed() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..40).map(|_| backoff.next()).collect::<Vec<_>>()
        };
        let a = waits("a");
        assert_eq!(a, waits("a"));
        assert_ne!(a, waits("b"));
        for (n, wait) in a.iter().enumerate() {
            let full = FIRST.saturating_mul(1 << n.min(16)).min(LONGEST);
            assert!((full / 2..=full).contains(wait), "wait {n} is {wait:?}");
        }
    }

    #[test]
    fn success_starts_over() {
        let mut backoff = Backoff::new("a");
        for _ in 0..10 {
            backoff.next();
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
