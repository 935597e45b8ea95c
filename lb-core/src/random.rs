//! Random numbers from a seed: the only ones there are here.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

/// A sequence of random numbers (`SplitMix64`, Steele, Lea and Flood 2014). Equal seeds, equal sequences.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence named so.
    pub(crate) fn named(seed: &str) -> Self {
        Self(xxh3_64(seed.as_bytes()))
    }

    /// The next number.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A duration from `least` to `most`.
    pub(crate) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let share = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        least + most.saturating_sub(least).mul_f64(share)
    }
}
