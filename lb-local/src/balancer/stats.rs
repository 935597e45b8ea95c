//! Counters: cheap to count, summed up when asked.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The newest answer counts for one part in so many of the mean.
const MEAN_OVER: u64 = 64;

/// What goes through a backend; lives as long as its name is in the table.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) requests: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) queued: AtomicU64,
    /// Mean nanoseconds to the head of an answer; 0: none yet.
    mean: AtomicU64,
}

impl Stats {
    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn failure(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// Two answers at once may lose one from the mean: it is a mean.
    pub(crate) fn answered(&self, after: Duration) {
        let new = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX / MEAN_OVER).max(1);
        let mean = match self.mean.load(Relaxed) {
            0 => new,
            old => old - old / MEAN_OVER + new / MEAN_OVER,
        };
        self.mean.store(mean, Relaxed);
    }

    /// Mean seconds to the head of an answer.
    pub(crate) fn response_time(&self) -> Option<f64> {
        match self.mean.load(Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos).as_secs_f64()),
        }
    }
}
