//! In-memory backends of every trait: the reference semantics of the contracts, always compiled.
//!
//! Each value is a cheap handle: clones share one state, so that a test keeps one and gives the other
//! away as `Arc<dyn ...>`. Time is tokio's, so a paused clock pauses leases and start-up times.

mod answers;
mod balancer;
mod connector;
mod engine;
mod faults;
mod lies;
mod registry;
mod runtime;
mod stores;
#[cfg(feature = "sim")]
mod truth;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use self::balancer::{MemoryBalancer, TABLES_KEPT};
pub use self::connector::MemoryConnector;
pub use self::engine::Behaviour;
pub use self::faults::{Faults, Op};
pub use self::registry::MemoryRegistry;
pub use self::runtime::{EVENTS_KEPT, MemoryRuntime};
pub use self::stores::{
    MemoryAppStore, MemoryLeadership, MemoryLedgerStore, MemoryLoadStore, SAMPLES_KEPT,
};

#[cfg(feature = "sim")]
pub(crate) use self::truth::Held;

/// The state behind a handle; a panic of another holder does not spread.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
