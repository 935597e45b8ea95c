//! How often a balancer that has a configuration file may be reloaded.
//!
//! A reload leaves the worker before to its connections. Where these live long, each reload costs a worker's
//! memory for as long: the more old workers there are, the more changes wait for one reload.

use std::time::Duration;

/// Least time between two reloads. Changes that wait meanwhile share the next one.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// Least time between two reloads beside ever so many old workers. A call that waits so long still ends before
/// the loop gives it up ([`Deadlines::apply`](crate::Deadlines::apply)).
pub const LONGEST_RELOAD_INTERVAL: Duration = Duration::from_secs(20);
/// So many old workers slow nothing.
const FREE: u32 = 8;

/// Least time between two reloads beside so many old workers: [`RELOAD_INTERVAL`] up to 8, doubled with each more,
/// up to [`LONGEST_RELOAD_INTERVAL`].
pub fn reload_interval(old_workers: u32) -> Duration {
    let doublings = old_workers.saturating_sub(FREE).min(16);
    RELOAD_INTERVAL.saturating_mul(1 << doublings).min(LONGEST_RELOAD_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_old_workers_the_rarer_a_reload_and_never_rarer_than_a_call_can_wait() {
        assert_eq!(reload_interval(0), RELOAD_INTERVAL);
        assert_eq!(reload_interval(8), RELOAD_INTERVAL);
        assert_eq!(reload_interval(10), 4 * RELOAD_INTERVAL);
        assert_eq!(reload_interval(u32::MAX), LONGEST_RELOAD_INTERVAL);
        assert!(LONGEST_RELOAD_INTERVAL < crate::Deadlines::default().apply);
    }
}
