//! What the loop has not looked at yet: the latest of everything, never a queue of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::error::{Error, Result};
use crate::model::{HostId, HostSet};
use crate::plan::{Action, Done, Observation};
use crate::store::AppSet;

/// Where watchers, observers and finished actions leave what they found. Bounded by its shape: one latest
/// value a source, and at most one result for each action in flight.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    news: Mutex<News>,
    wake: Notify,
}

/// Everything that came since the loop looked last.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) hosts: BTreeMap<HostId, HostNews>,
    pub(super) registry: Option<Result<Arc<HostSet>>>,
    pub(super) apps: Option<Result<Arc<AppSet>>>,
    /// New load samples are there.
    pub(super) sampled: bool,
    /// Another leader has a higher term.
    pub(super) fenced: Option<Error>,
}

/// What came from one host.
#[derive(Debug, Default)]
pub(super) struct HostNews {
    pub(super) sight: Option<Sight>,
    pub(super) ended: Vec<Ended>,
}

/// The latest look at a host.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    /// The latest complete observation.
    pub(super) seen: Option<Arc<Observation>>,
    /// Why the host does not answer, if it does not.
    pub(super) error: Option<Error>,
}

/// An action that ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) action: Action,
    pub(super) at: Duration,
    pub(super) result: Result<Done>,
}

impl Inbox {
    /// Leaves something and wakes the loop.
    pub(super) fn put(&self, leave: impl FnOnce(&mut News)) {
        self.put_quietly(leave);
        self.wake.notify_one();
    }

    /// Leaves something the loop need not be woken for.
    pub(super) fn put_quietly(&self, leave: impl FnOnce(&mut News)) {
        leave(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes everything there is.
    pub(super) fn take(&self) -> News {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns once something was left since the last return.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }
}
