//! What the loop, the observer and the actions of one host share.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::balancer::{Applied, BalancerInfo, Change, SetAside};
use crate::error::{Error, ErrorKind, Result};
use crate::host::HostHandle;
use crate::model::HostId;
use crate::routing::RoutingTable;

/// One host for one leader's term.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) host: HostId,
    pub(super) handle: HostHandle,
    /// Asks the observer to look again.
    pub(super) look: Notify,
    /// Ends the observer and the sampler; actions in flight run to their end.
    pub(super) gone: CancellationToken,
    watched: AtomicBool,
    in_force: Mutex<InForce>,
    balancer: Mutex<Identity>,
}

/// What the balancer was given last.
#[derive(Debug, Clone, Default)]
pub(super) struct InForce {
    pub(super) table: Option<Arc<RoutingTable>>,
    pub(super) set_aside: BTreeMap<SetAside, String>,
}

/// What the balancer said of itself, and how often it has become another since.
#[derive(Debug, Default)]
struct Identity {
    info: Option<BalancerInfo>,
    epoch: u64,
}

impl Link {
    pub(super) fn new(host: HostId, handle: HostHandle, gone: CancellationToken) -> Self {
        Self {
            host,
            handle,
            look: Notify::new(),
            gone,
            watched: AtomicBool::new(false),
            in_force: Mutex::default(),
            balancer: Mutex::default(),
        }
    }

    /// Whether the planner waits for what this host shows, such as a drain's end: then it is polled.
    pub(super) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    pub(super) fn set_watched(&self, watched: bool) {
        if self.watched.swap(watched, Ordering::Relaxed) != watched && watched {
            self.look.notify_one();
        }
    }

    pub(super) fn in_force(&self) -> InForce {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn put_in_force(&self, table: &Arc<RoutingTable>, applied: &Applied) {
        *self.in_force.lock().unwrap_or_else(PoisonError::into_inner) =
            InForce { table: Some(table.clone()), set_aside: applied.set_aside.clone() };
        if matches!(applied.change, Change::Reload | Change::Start) {
            self.forget_balancer();
        }
    }

    pub(super) fn forget_in_force(&self) {
        *self.in_force.lock().unwrap_or_else(PoisonError::into_inner) = InForce::default();
        self.forget_balancer();
    }

    /// What the balancer said of itself, since it was started or reloaded last.
    pub(super) fn balancer(&self) -> Option<BalancerInfo> {
        self.identity().info.clone()
    }

    /// It may have become another: it has to be asked again.
    pub(super) fn forget_balancer(&self) {
        let mut identity = self.identity();
        *identity = Identity { info: None, epoch: identity.epoch + 1 };
    }

    /// Asks the balancer who it is, unless that is known.
    pub(super) async fn identify(&self, patience: Duration) {
        let epoch = match &*self.identity() {
            Identity { info: Some(_), .. } => return,
            Identity { epoch, .. } => *epoch,
        };
        let describe = self.handle.balancer.describe();
        let info = bounded("describe", &self.host, patience, describe).await;
        let mut identity = self.identity();
        if identity.epoch == epoch {
            identity.info = info.ok();
        }
    }

    fn identity(&self) -> MutexGuard<'_, Identity> {
        self.balancer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a backend's answer, at most until the deadline; its panic is an error like another.
pub(super) async fn bounded<T>(
    operation: &'static str,
    subject: &HostId,
    deadline: Duration,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    bounded_store(operation, &format!("host \"{subject}\""), deadline, call).await
}

/// [`bounded`] for a call that is about no host.
pub(super) async fn bounded_store<T>(
    operation: &'static str,
    subject: &str,
    deadline: Duration,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    let call = AssertUnwindSafe(call).catch_unwind();
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => {
            let text = format!("the backend panicked: {}", panic_text(&*panic));
            Err(Error::new(ErrorKind::Unexpected, operation, subject, text))
        }
        Err(_) => {
            let text = format!("no answer within {deadline:?}");
            Err(Error::new(ErrorKind::Timeout, operation, subject, text))
        }
    }
}

/// The message of a panic, where it has one.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
