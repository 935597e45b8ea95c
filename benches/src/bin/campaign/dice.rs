//! Chance from a seed: one seed, one row of numbers (`SplitMix64`).

/// Draws from a seed.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..n`; 0 of none.
    pub fn below(&mut self, n: u64) -> u64 {
        // The excess of the first values is below one in 2^50 for every n in use.
        self.next() % n.max(1)
    }

    /// One of `from..=to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }

    /// One of them, as often as its weight says; none of none.
    pub fn pick<T: Clone>(&mut self, weighted: &[(u64, T)]) -> Option<T> {
        let total: u64 = weighted.iter().map(|(weight, _)| weight).sum();
        let mut left = self.below(total);
        for (weight, value) in weighted {
            if left < *weight {
                return Some(value.clone());
            }
            left -= weight;
        }
        None
    }
}
