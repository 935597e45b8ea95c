//! Hashing that is the same in every process: for consistent choices, not for secrets.

/// FNV-1a over the bytes, then mixed (`http://www.isthe.com/chongo/tech/comp/fnv/`).
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    let folded = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    mix(folded)
}

/// The finaliser of `SplitMix64`: every input bit moves every output bit. Over a counter it is a generator.
pub(crate) const fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// The top 53 bits as a number in (0, 1).
pub(crate) fn unit(n: u64) -> f64 {
    ((n >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}
