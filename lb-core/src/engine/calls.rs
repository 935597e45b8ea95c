//! How long calls may take, and how many there may be at a time.

use std::future::Future;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::Failure;

/// How long a call to the engine may take. A method may make several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Questions: inspect, list, logs, statistics. Default 10 s.
    pub read: Duration,
    /// Changes: create, start, remove; a stop's grace comes on top. Default 60 s.
    pub change: Duration,
    /// Fetching an image. Default 10 min.
    pub pull: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            read: Duration::from_secs(10),
            change: Duration::from_secs(60),
            pull: Duration::from_secs(600),
        }
    }
}

/// How much is asked of the engine at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Calls in flight; waits for a container's end and event streams are not counted. Default 16.
    pub calls: usize,
    /// Containers whose statistics are asked for at a time, beside those calls: an engine may take a
    /// second for each, and waits rather than works. Default 64.
    pub statistics: usize,
    /// Images fetched at a time. Default 3.
    pub pulls: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { calls: 16, statistics: 64, pulls: 3 }
    }
}

/// The deadlines, and the places that calls take.
#[derive(Debug)]
pub struct Calls {
    pub(super) deadlines: Deadlines,
    pub(super) bounds: Bounds,
    places: Semaphore,
    pub(super) pulls: Semaphore,
}

impl Calls {
    /// With all places free.
    pub fn new(deadlines: Deadlines, bounds: Bounds) -> Self {
        let places = Semaphore::new(bounds.calls.max(1));
        let pulls = Semaphore::new(bounds.pulls.max(1));
        Self { deadlines, bounds, places, pulls }
    }

    /// A call that is answered soon: takes one of the places, and ends at the deadline, which counts from
    /// now, the wait for a place included.
    pub(super) async fn call<T>(
        &self,
        deadline: Duration,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let bounded = async {
            let _place = self.places.acquire().await;
            work.await
        };
        within(deadline, bounded).await
    }
}

/// A call that lasts as long as what it waits for; it holds no place meanwhile.
pub(super) async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(deadline, work).await.unwrap_or(Err(Failure::Late(deadline)))
}
