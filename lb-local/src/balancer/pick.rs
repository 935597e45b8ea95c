//! The algorithms: which of the servers that could take a request gets it.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use crate::hash::{mix, unit};

/// A server that could take the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    /// Stable: consistent hashing depends on it.
    pub(crate) id: u32,
    /// Its share against the others', never 0.
    pub(crate) weight: u64,
    /// Requests it has in flight.
    pub(crate) open: u64,
    /// Its standing in the round robin.
    pub(crate) standing: &'a AtomicI64,
}

/// How to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    RoundRobin,
    LeastConnections,
    RandomTwo,
    Hash(u64),
}

/// The chosen one's index. `turn` is a fresh number each time; `candidates` must not be empty.
pub(crate) fn choose(how: How, candidates: &[Candidate<'_>], turn: u64) -> usize {
    match how {
        How::RoundRobin => round_robin(candidates),
        How::LeastConnections => least(candidates, turn),
        How::RandomTwo => random_two(candidates, turn),
        How::Hash(key) => rendezvous(candidates, key),
    }
}

/// Smooth weighted round robin, as in NGINX's `ngx_http_upstream_get_peer`: each gains its weight, the
/// foremost is chosen and pays the total.
fn round_robin(candidates: &[Candidate<'_>]) -> usize {
    let mut total = 0;
    let mut best = (0, i64::MIN);
    for (i, candidate) in candidates.iter().enumerate() {
        let weight = candidate.weight.cast_signed();
        let standing = candidate.standing.fetch_add(weight, Relaxed) + weight;
        total += weight;
        if standing > best.1 {
            best = (i, standing);
        }
    }
    candidates[best.0].standing.fetch_sub(total, Relaxed);
    best.0
}

/// The least load; among equals each in turn.
fn least(candidates: &[Candidate<'_>], turn: u64) -> usize {
    let count = candidates.len();
    let first = (turn % count as u64) as usize;
    let in_turn = (0..count).map(|i| (first + i) % count);
    in_turn.min_by(|a, b| load(&candidates[*a]).total_cmp(&load(&candidates[*b]))).unwrap_or(first)
}

fn load(candidate: &Candidate<'_>) -> f64 {
    (candidate.open + 1) as f64 / candidate.weight as f64
}

/// Two drawn by weight, then the less loaded of them.
fn random_two(candidates: &[Candidate<'_>], turn: u64) -> usize {
    let draw = |n: u64| drawn(candidates, mix(n));
    let (a, b) = (draw(turn.wrapping_mul(2)), draw(turn.wrapping_mul(2).wrapping_add(1)));
    match load(&candidates[a]) <= load(&candidates[b]) {
        true => a,
        false => b,
    }
}

fn drawn(candidates: &[Candidate<'_>], random: u64) -> usize {
    let total: u64 = candidates.iter().map(|c| c.weight).sum();
    let mut left = random % total.max(1);
    for (i, candidate) in candidates.iter().enumerate() {
        match left.checked_sub(candidate.weight) {
            Some(rest) => left = rest,
            None => return i,
        }
    }
    candidates.len() - 1
}

/// Weighted rendezvous hashing: a server that comes or goes moves only its own keys
/// (Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", 2005).
fn rendezvous(candidates: &[Candidate<'_>], key: u64) -> usize {
    let score = |c: &Candidate<'_>| {
        let random = unit(mix(key ^ mix(u64::from(c.id))));
        -(c.weight as f64) / random.ln()
    };
    let scored = candidates.iter().enumerate().map(|(i, c)| (i, score(c)));
    scored.max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(weights: &[u64]) -> Vec<(u64, AtomicI64)> {
        weights.iter().map(|w| (*w, AtomicI64::new(0))).collect()
    }

    fn candidates<'a>(servers: &'a [(u64, AtomicI64)], open: &[u64]) -> Vec<Candidate<'a>> {
        let each = servers.iter().zip(1..);
        each.map(|((weight, standing), id)| Candidate {
            id,
            weight: *weight,
            open: open.get(id as usize - 1).copied().unwrap_or(0),
            standing,
        })
        .collect()
    }

    #[test]
    fn round_robin_interleaves_by_weight() {
        let servers = servers(&[5, 1, 1]);
        let order: Vec<usize> =
            (0..7).map(|t| choose(How::RoundRobin, &candidates(&servers, &[]), t)).collect();
        assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn least_connections_weighs_and_takes_turns() {
        let equal = servers(&[1, 1, 1]);
        let pick =
            |open: &[u64], turn| choose(How::LeastConnections, &candidates(&equal, open), turn);
        assert_eq!(pick(&[2, 1, 2], 0), 1);
        assert_eq!((0..3).map(|t| pick(&[0, 0, 0], t)).collect::<Vec<_>>(), [0, 1, 2]);
        let heavy = servers(&[10, 1]);
        assert_eq!(choose(How::LeastConnections, &candidates(&heavy, &[5, 0]), 0), 0);
    }

    #[test]
    fn random_two_never_takes_the_most_loaded_when_it_drew_another() {
        let servers = servers(&[1, 1, 1, 1]);
        let mut taken = [0; 4];
        for turn in 0..4000 {
            taken[choose(How::RandomTwo, &candidates(&servers, &[9, 0, 0, 0]), turn)] += 1;
        }
        // Only when both draws hit it: one in sixteen.
        assert!((150..350).contains(&taken[0]), "{taken:?}");
        assert!(taken[1..].iter().all(|n| (1000..1500).contains(n)), "{taken:?}");
    }

    #[test]
    fn hashing_follows_weights_and_moves_only_the_keys_it_must() {
        let four = servers(&[100, 100, 100, 200]);
        let all = candidates(&four, &[]);
        let fewer = &all[..3];
        let mut taken = [0u32; 4];
        for key in 0..10_000 {
            let chosen = choose(How::Hash(key), &all, key);
            taken[chosen] += 1;
            if chosen < 3 {
                assert_eq!(choose(How::Hash(key), fewer, 7), chosen, "key {key} moved");
            }
        }
        assert!(taken[..3].iter().all(|n| (1800..2200).contains(n)), "{taken:?}");
        assert!((3800..4200).contains(&taken[3]), "{taken:?}");
    }
}
