//! Hosts and their leases in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use tokio::task::AbortHandle;

use super::{Faults, Op, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{HostFacts, HostId, HostSet};
use crate::registry::HostRegistry;
use crate::store::Latest;

/// A [`HostRegistry`] in memory. Leases run on tokio's clock. Clones share one state.
#[derive(Debug, Clone)]
pub struct MemoryRegistry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    leases: Mutex<BTreeMap<HostId, Lease>>,
    /// How many there were.
    announcements: AtomicU64,
    members: Latest<Arc<HostSet>>,
    faults: Faults,
}

#[derive(Debug)]
struct Lease {
    facts: HostFacts,
    /// Which announcement it is from, so that a late timer of an earlier one ends nothing.
    announcement: u64,
    timer: AbortHandle,
}

impl Default for MemoryRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryRegistry {
    /// No hosts.
    pub fn new() -> Self {
        let members = Latest::new(Ok(Arc::default()));
        let shared = Shared {
            leases: Mutex::default(),
            announcements: AtomicU64::new(0),
            members,
            faults: Faults::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The faults of `announce` and `withdraw`.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Watchers hear that the registry cannot be believed, until [`heal`](Self::heal) or a change.
    pub fn fail(&self, kind: ErrorKind) {
        let error = Error::new(kind, "watch", "registry", "a fault was asked for");
        self.shared.members.tell(Err(error));
    }

    /// Watchers hear the whole set again.
    pub fn heal(&self) {
        self.shared.publish(&lock(&self.shared.leases));
    }
}

impl Shared {
    /// Tells watchers the set, if it differs from what they heard last.
    fn publish(&self, leases: &BTreeMap<HostId, Lease>) {
        let set = leases.values().map(|lease| lease.facts.clone()).collect();
        self.members.tell_news(Arc::new(set));
    }

    fn announce(self: &Arc<Self>, host: &HostFacts, ttl: Duration) {
        let mut leases = lock(&self.leases);
        if let Some(before) = leases.remove(&host.id) {
            before.timer.abort();
        }
        let announcement = self.announcements.fetch_add(1, Ordering::Relaxed);
        let end = end_lease(Arc::downgrade(self), host.id.clone(), announcement, ttl);
        let timer = tokio::spawn(end).abort_handle();
        leases.insert(host.id.clone(), Lease { facts: host.clone(), announcement, timer });
        self.publish(&leases);
    }

    fn withdraw(&self, id: &HostId) {
        let mut leases = lock(&self.leases);
        if let Some(lease) = leases.remove(id) {
            lease.timer.abort();
        }
        self.publish(&leases);
    }
}

async fn end_lease(registry: Weak<Shared>, id: HostId, announcement: u64, ttl: Duration) {
    tokio::time::sleep(ttl).await;
    let Some(registry) = registry.upgrade() else { return };
    let mut leases = lock(&registry.leases);
    if leases.get(&id).is_some_and(|lease| lease.announcement == announcement) {
        leases.remove(&id);
        registry.publish(&leases);
    }
}

#[async_trait]
impl HostRegistry for MemoryRegistry {
    async fn announce(&self, host: &HostFacts, ttl: Duration) -> Result<()> {
        let subject = format!("host \"{}\"", host.id);
        if ttl.is_zero() {
            return Err(Error::invalid(subject, "ttl must not be 0").during("announce"));
        }
        host.check().map_err(|e| e.during("announce"))?;
        let announce = || {
            self.shared.announce(host, ttl);
            Ok(())
        };
        self.shared.faults.call(Op::Announce, &subject, announce).await
    }

    async fn withdraw(&self, id: &HostId) -> Result<()> {
        let withdraw = || {
            self.shared.withdraw(id);
            Ok(())
        };
        self.shared.faults.call(Op::Withdraw, &format!("host \"{id}\""), withdraw).await
    }

    fn watch(&self) -> BoxStream<'static, Result<Arc<HostSet>>> {
        self.shared.members.watch()
    }
}
