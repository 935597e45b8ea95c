//! What chance decides, all of it from the seed.

use std::time::Duration;

use crate::random::Random;

/// A sequence of draws.
#[derive(Debug)]
pub(super) struct Dice(Random);

impl Dice {
    /// Each purpose draws from a sequence of its own, so that more draws for one change nothing for others.
    pub(super) fn new(seed: u64, purpose: &str) -> Self {
        Self(Random::named(&format!("{purpose} {seed}")))
    }

    /// From 0 to below `n`; 0 for `n` of 0.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0.next().checked_rem(n).unwrap_or(0)
    }

    /// From `least` to `most`.
    pub(super) fn within(&mut self, least: u32, most: u32) -> u32 {
        least + self.below(u64::from(most - least) + 1) as u32
    }

    /// True in so many of a hundred cases.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// From `least` to `most` milliseconds.
    pub(super) fn millis(&mut self, least: u32, most: u32) -> Duration {
        Duration::from_millis(self.within(least, most).into())
    }

    /// One of them, `None` if there is none.
    pub(super) fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        among.get(self.below(among.len() as u64) as usize)
    }

    /// One of them, by weight. At least one weight is more than 0.
    pub(super) fn weighted<T: Copy>(&mut self, among: &[(u32, T)]) -> T {
        let mut at = self.below(among.iter().map(|(weight, _)| u64::from(*weight)).sum()) as u32;
        for (weight, one) in among {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *one,
            }
        }
        unreachable!("the draw lies below the sum of the weights")
    }
}
