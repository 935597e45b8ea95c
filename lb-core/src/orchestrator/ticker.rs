//! The loop's time: the clock's, but no two readings are equal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::{Clock, Now};

/// Readings that rise strictly, so that "began after" is never in doubt, however coarse the clock.
#[derive(Debug)]
pub(super) struct Ticker {
    clock: Arc<dyn Clock>,
    last: AtomicU64,
}

impl Ticker {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, last: AtomicU64::new(0) }
    }

    /// The time now, later than every reading before by at least a nanosecond.
    pub(super) fn now(&self) -> Now {
        let now = self.clock.now();
        let read = u64::try_from(now.monotonic.as_nanos()).unwrap_or(u64::MAX);
        let rise = |last: u64| Some(read.max(last.saturating_add(1)));
        let last = self
            .last
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, rise)
            .unwrap_or_else(|last| last);
        Now { monotonic: Duration::from_nanos(read.max(last.saturating_add(1))), ..now }
    }

    /// How long until the monotonic reading `at`.
    pub(super) fn until(&self, at: Duration) -> Duration {
        at.saturating_sub(self.clock.now().monotonic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Stopped;
    impl Clock for Stopped {
        fn now(&self) -> Now {
            Now::at_seconds(5)
        }
    }

    #[test]
    fn readings_of_a_stopped_clock_still_rise() {
        let ticker = Ticker::new(Arc::new(Stopped));
        let (a, b) = (ticker.now(), ticker.now());
        assert!(a.monotonic < b.monotonic);
        assert!(b.monotonic < Duration::from_secs(5) + Duration::from_micros(1));
    }
}
