//! The simulation's clocks: the monotonic one is the paused runtime's, the wall clock jumps on request.

use std::sync::Mutex;
use std::time::Duration;

use crate::memory::lock;
use crate::time::{Clock, Now};

/// The wall clock's time at the start: a Monday morning, the same in every run.
const BEGAN: &str = "2026-01-05T08:00:00Z";

#[derive(Debug)]
pub(super) struct SimClock {
    start: tokio::time::Instant,
    /// What the wall clock showed at the start, jumps included.
    wall: Mutex<jiff::Timestamp>,
}

impl SimClock {
    #[allow(clippy::disallowed_methods, reason = "the runtime's clock is paused")]
    pub(super) fn new() -> Self {
        let began = BEGAN.parse();
        let wall = began.unwrap_or_else(|e| unreachable!("\"{BEGAN}\" is a time: {e}"));
        Self { start: tokio::time::Instant::now(), wall: Mutex::new(wall) }
    }

    /// The time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The wall clock jumps by so many seconds.
    pub(super) fn jump(&self, seconds: i64) {
        *lock(&self.wall) += jiff::SignedDuration::from_secs(seconds);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Now {
        let monotonic = self.elapsed();
        Now { wall: *lock(&self.wall) + monotonic, monotonic }
    }
}
