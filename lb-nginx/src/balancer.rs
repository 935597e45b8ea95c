//! NGINX behind the balancer's contract.

mod abilities;
mod bring;
mod builder;
mod compose;
mod culprits;
mod engine;
mod filed;
mod launch;
mod look;
mod main_lines;
mod members;
mod reload;
mod server;
mod traffic;

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use lb_core::balancer::TableQueue;
use lb_core::{Applied, BalancerInfo, FileName, LoadBalancer, Result, RoutingTable, Traffic};

pub use self::builder::{HARD_STOP_AFTER, MAX_OLD_WORKERS, NginxBalancerBuilder};
use self::engine::Engine;
#[cfg(any(fuzzing, test))]
pub(crate) use self::{
    abilities::{Abilities, Built, Module},
    compose::{Composed, Ground},
    culprits::culprits,
    filed::Filed,
    main_lines::MainSettings,
    server::Record,
};

/// What errors call it.
const PROGRAM: &str = "nginx";

/// The image of [`in_container`](NginxBalancerBuilder::in_container) by default: the official one.
pub const DEFAULT_IMAGE: &str = "nginx:1.30";

/// One host's NGINX.
///
/// Servers come and go by reloads: see the crate's documentation. A change is checked, written, reloaded and
/// seen running, or put back. At most one reload a second: tables that wait meanwhile are replaced by later
/// ones.
///
/// Calls run on tasks of their own, one at a time; dropping a call's future abandons the wait only. The
/// directory belongs to one balancer at a time.
#[derive(Debug, Clone)]
pub struct NginxBalancer {
    queue: TableQueue<Engine>,
}

impl NginxBalancer {
    /// A balancer whose files and sockets lie in `directory`: an absolute path of at most 75 bytes, made
    /// if absent, of this balancer alone. Workers, who are nobody in particular, must be able to reach it.
    pub fn builder(directory: impl Into<PathBuf>) -> NginxBalancerBuilder {
        NginxBalancerBuilder::new(directory.into())
    }

    fn new(engine: Engine) -> Self {
        Self { queue: TableQueue::new(engine) }
    }
}

#[async_trait]
impl LoadBalancer for NginxBalancer {
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
