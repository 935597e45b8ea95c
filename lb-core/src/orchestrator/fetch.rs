//! Tells how fetching an image goes on, not too often.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::events::{Events, FETCH_EVENT_GAP, Happened};
use super::ticker::Ticker;
use crate::model::HostId;
use crate::runtime::{Progress, ProgressStep};

/// The progress of one fetch, as events.
pub(super) struct Fetching {
    host: HostId,
    events: Events,
    time: Arc<Ticker>,
    told: Mutex<Option<Duration>>,
}

impl Fetching {
    pub(super) fn new(host: HostId, events: Events, time: Arc<Ticker>) -> Self {
        Self { host, events, time, told: Mutex::new(None) }
    }
}

impl Progress for Fetching {
    fn step(&self, step: &ProgressStep) {
        let now = self.time.now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|told| now.since(told) < FETCH_EVENT_GAP) {
            return;
        }
        *told = Some(now.monotonic);
        let what = Happened::Fetching { host: self.host.clone(), step: step.clone() };
        self.events.tell(now.wall, what);
    }
}
