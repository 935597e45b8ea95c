//! HAProxy behind the balancer's contract.

mod builder;
mod certificates;
mod compose;
mod culprits;
mod engine;
mod filed;
mod launch;
mod limits;
mod live;
mod loaded;
mod log;
mod look;
mod members;
mod old;
mod reload;
mod seen;
mod server;
mod totals;
mod traffic;

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use lb_core::balancer::TableQueue;
use lb_core::{Applied, BalancerInfo, FileName, LoadBalancer, Result, RoutingTable, Traffic};

pub use self::builder::{HARD_STOP_AFTER, HaproxyBalancerBuilder, MAX_OLD_WORKERS};
use self::engine::Engine;
#[cfg(fuzzing)]
pub(crate) use self::server::ServerEntry;
pub use self::server::server_lines;

/// What errors call it.
const PROGRAM: &str = "haproxy";

/// The image of [`in_container`](HaproxyBalancerBuilder::in_container) by default: the official one.
pub const DEFAULT_IMAGE: &str = "haproxy:3.2";

/// One host's HAProxy.
///
/// Servers come and go through the runtime API, never by a reload; a change of shape (listeners, routes,
/// backends) is checked, written, reloaded and seen running, or put back. At most one reload a second:
/// tables that wait meanwhile are replaced by later ones.
///
/// Calls run on tasks of their own, one at a time; dropping a call's future abandons the wait only. The
/// directory belongs to one balancer at a time. A draining server is in maintenance: it finishes what it
/// has, its sticky clients move, its checks pause (`up` is false).
#[derive(Debug, Clone)]
pub struct HaproxyBalancer {
    queue: TableQueue<Engine>,
}

impl HaproxyBalancer {
    /// A balancer whose files and sockets lie in `directory`: an absolute path of at most 75 bytes, made
    /// if absent, of this balancer alone.
    pub fn builder(directory: impl Into<PathBuf>) -> HaproxyBalancerBuilder {
        HaproxyBalancerBuilder::new(directory.into())
    }

    fn new(engine: Engine) -> Self {
        Self { queue: TableQueue::new(engine) }
    }
}

#[async_trait]
impl LoadBalancer for HaproxyBalancer {
    async fn describe(&self) -> Result<BalancerInfo> {
        self.queue.call("describe", |engine| Box::pin(engine.describe())).await
    }

    async fn apply(&self, table: &RoutingTable) -> Result<Applied> {
        self.queue.apply(table).await
    }

    async fn traffic(&self) -> Result<Traffic> {
        self.queue.call("read traffic of", |engine| Box::pin(engine.traffic())).await
    }

    async fn files(&self) -> Result<BTreeMap<FileName, String>> {
        self.queue.call("read files of", |engine| Box::pin(engine.files())).await
    }

    async fn shutdown(&self) -> Result<()> {
        self.queue.call("shut down", |engine| Box::pin(engine.shutdown())).await
    }
}
