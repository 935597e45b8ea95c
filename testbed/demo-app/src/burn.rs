//! Burning CPU, as an instance under load does.

use std::hint::black_box;
use std::time::Duration;

/// Rounds between two looks at the clock: about a microsecond.
const ROUNDS: u32 = 1_000;

/// Uses that much CPU time of this thread. Not wall time: where requests compete for a CPU, each
/// still costs what it costs, so measured usage follows the load.
pub(crate) fn burn(work: Duration) {
    if work.is_zero() {
        return;
    }
    let end = cpu_time() + work;
    while cpu_time() < end {
        for round in 0..ROUNDS {
            black_box(round);
        }
    }
}

#[cfg(unix)]
fn cpu_time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

#[cfg(not(unix))]
fn cpu_time() -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}
