//! Time as an argument: the planner and the policies never read a clock.

use std::fmt::Debug;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The time of a pass. Intervals use `monotonic`, schedules use `wall`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Now {
    /// The wall clock, which may jump.
    pub wall: jiff::Timestamp,
    /// Time since some fixed point of this process (or simulation); never jumps.
    pub monotonic: Duration,
}

impl Now {
    /// A time for tests: `seconds` after the Unix epoch and after the start.
    pub fn at_seconds(seconds: u32) -> Self {
        let monotonic = Duration::from_secs(u64::from(seconds));
        Self { wall: jiff::Timestamp::UNIX_EPOCH + monotonic, monotonic }
    }

    /// The time that has passed since `earlier` (a monotonic reading), 0 if it lies ahead.
    pub const fn since(&self, earlier: Duration) -> Duration {
        self.monotonic.saturating_sub(earlier)
    }
}

/// Where the loop takes the time from.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Now;
}

/// The machine's clocks; the monotonic one is tokio's, so that a paused runtime pauses it.
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: tokio::time::Instant,
}

impl SystemClock {
    /// Counts from now. Needs no runtime.
    #[allow(clippy::disallowed_methods, reason = "this is the place ambient time comes in")]
    pub fn new() -> Self {
        Self { start: tokio::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the place ambient time comes in")]
    fn now(&self) -> Now {
        Now { wall: jiff::Timestamp::now(), monotonic: self.start.elapsed() }
    }
}
