//! What came of the requests.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Most failures kept in words; all are counted.
pub const MAX_FAILURES: usize = 50;

/// What came of the requests so far.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    /// Requests that ended.
    pub requests: u64,
    /// Of them, those that failed.
    pub failed: u64,
    /// Keep-alive connections the other side closed between requests.
    pub idle_closes: u64,
    /// The first failures, in words.
    pub failures: Vec<Failure>,
    /// By instance: when it began to listen and when its first answer came.
    pub arrivals: BTreeMap<String, Arrival>,
    /// Requests by instance.
    pub by_instance: BTreeMap<String, u64>,
    /// Requests by version.
    pub by_version: BTreeMap<String, u64>,
}

/// One failed request.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// When, in microseconds since the Unix epoch.
    pub at_us: u64,
    /// What was asked.
    pub request: String,
    /// What came.
    pub reason: String,
}

/// How soon an instance got its first request.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Arrival {
    /// When it began to listen, in microseconds since the Unix epoch, as it says itself.
    pub listening_us: u64,
    /// When its first answer reached this client.
    pub answered_us: u64,
}

impl Arrival {
    /// From listening to the first answer.
    pub const fn delay(&self) -> Duration {
        Duration::from_micros(self.answered_us.saturating_sub(self.listening_us))
    }
}

/// What an answer says of who gave it.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) instance: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) listening_us: Option<u64>,
}

/// Collects the counts of all clients.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Counts>);

impl Recorder {
    pub(crate) fn counts(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn idle_close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).idle_closes += 1;
    }

    pub(crate) fn record(&self, request: &str, result: Result<Answer, String>) {
        let now = now_us();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.requests += 1;
        match result {
            Ok(answer) => counts.answered(answer, now),
            Err(reason) => {
                counts.failed += 1;
                if counts.failures.len() < MAX_FAILURES {
                    let request = request.to_owned();
                    counts.failures.push(Failure { at_us: now, request, reason });
                }
            }
        }
    }
}

impl Counts {
    fn answered(&mut self, answer: Answer, now: u64) {
        if let Some(version) = answer.version {
            *self.by_version.entry(version).or_default() += 1;
        }
        let Some(instance) = answer.instance else { return };
        if let (Some(listening_us), false) =
            (answer.listening_us, self.arrivals.contains_key(&instance))
        {
            self.arrivals.insert(instance.clone(), Arrival { listening_us, answered_us: now });
        }
        *self.by_instance.entry(instance).or_default() += 1;
    }
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}
