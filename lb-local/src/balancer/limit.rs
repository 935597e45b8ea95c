//! The rate limit for each client address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use lb_core::RateLimit;
use tokio::time::Instant;

/// Client addresses remembered by one backend. When all are in use, further ones are let through:
/// a flood of addresses must not lock out everybody.
const CLIENTS: usize = 65_536;

/// Counts of two windows, this one and the one before: an even slide between them, without a list of times.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<BTreeMap<IpAddr, Count>>);

#[derive(Debug, Clone, Copy)]
struct Count {
    begun: Instant,
    now: u32,
    before: u32,
}

impl Rates {
    /// Whether the client may, and counts it if so.
    pub(crate) fn admits(&self, client: IpAddr, limit: &RateLimit, now: Instant) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= CLIENTS && !counts.contains_key(&client) {
            counts.retain(|_, c| now.duration_since(c.begun) < limit.window * 2);
            if counts.len() >= CLIENTS {
                return true;
            }
        }
        let count = counts.entry(client).or_insert(Count { begun: now, now: 0, before: 0 });
        count.slide(limit, now);
        let over = now.duration_since(count.begun).as_secs_f64() / limit.window.as_secs_f64();
        let used = f64::from(count.now) + f64::from(count.before) * (1.0 - over).max(0.0);
        let admitted = used + 1.0 <= f64::from(limit.requests.get());
        count.now += u32::from(admitted);
        admitted
    }
}

impl Count {
    fn slide(&mut self, limit: &RateLimit, now: Instant) {
        let passed = now.duration_since(self.begun);
        if passed >= limit.window * 2 {
            *self = Self { begun: now, now: 0, before: 0 };
        } else if passed >= limit.window {
            *self = Self { begun: self.begun + limit.window, now: 0, before: self.now };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_window_however_placed_lets_many_more_through() {
        let limit =
            RateLimit { requests: NonZeroU32::new(10).unwrap(), window: Duration::from_secs(1) };
        let rates = Rates::default();
        let client = IpAddr::from(Ipv4Addr::LOCALHOST);
        let mut admitted = Vec::new();
        for _ in 0..500 {
            let now = Instant::now();
            if rates.admits(client, &limit, now) {
                admitted.push(now);
            }
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        assert!(!admitted.is_empty());
        for from in &admitted {
            let inside = admitted.iter().filter(|t| **t >= *from && **t < *from + limit.window);
            assert!(inside.count() <= 12);
        }
        assert!((45..=60).contains(&admitted.len()), "{}", admitted.len());
        assert!(rates.admits(Ipv4Addr::new(127, 0, 0, 2).into(), &limit, Instant::now()));
    }
}
