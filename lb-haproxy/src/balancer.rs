//! HAProxy behind the balancer's contract.

mod aside;
mod builder;
mod certificates;
mod compose;
mod directory;
mod engine;
mod filed;
mod launch;
mod limits;
mod look;
mod members;
mod old;
mod ports;
mod reload;
mod server;
mod totals;
mod traffic;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use lb_core::{
    Applied, BalancerInfo, Error, ErrorKind, FileName, LoadBalancer, Result, RoutingTable, Traffic,
};
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::time::sleep;

pub use self::builder::{HARD_STOP_AFTER, HaproxyBalancerBuilder, MAX_OLD_WORKERS};
use self::engine::{Engine, Outcome};
pub use self::server::server_lines;
use crate::error::Failure;

/// The image of [`in_container`](HaproxyBalancerBuilder::in_container) by default: the official one.
pub const DEFAULT_IMAGE: &str = "haproxy:2.6";
/// Most callers that may wait for one table.
const MOST_WAITING: usize = 10_000;

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
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    engine: Arc<AsyncMutex<Engine>>,
    waiting: Mutex<Waiting>,
}

/// The latest table asked for, and who waits for it.
#[derive(Debug, Default)]
struct Waiting {
    table: Option<RoutingTable>,
    callers: Vec<oneshot::Sender<Result<Applied>>>,
    /// Whether a task is about to serve them.
    served: bool,
}

impl HaproxyBalancer {
    /// A balancer whose files and sockets lie in `directory`: an absolute path of at most 75 bytes, made
    /// if absent, of this balancer alone.
    pub fn builder(directory: impl Into<PathBuf>) -> HaproxyBalancerBuilder {
        HaproxyBalancerBuilder::new(directory.into())
    }

    fn new(engine: Engine) -> Self {
        let engine = Arc::new(AsyncMutex::new(engine));
        Self { shared: Arc::new(Shared { engine, waiting: Mutex::default() }) }
    }

    /// Runs a call to its end on a task of its own, behind those before it.
    async fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl for<'e> FnOnce(&'e mut Engine) -> Work<'e, T> + Send + 'static,
    ) -> Result<T> {
        let engine = self.shared.engine.clone();
        let task = tokio::spawn(async move {
            let mut engine = engine.lock().await;
            work(&mut engine).await.map_err(|failure| failure.during(operation))
        });
        task.await.map_err(|e| ended_early(operation).with_source(e))?
    }
}

type Work<'e, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'e>>;

#[async_trait]
impl LoadBalancer for HaproxyBalancer {
    async fn describe(&self) -> Result<BalancerInfo> {
        self.call("describe", |engine| Box::pin(engine.describe())).await
    }

    async fn apply(&self, table: &RoutingTable) -> Result<Applied> {
        let (sender, receiver) = oneshot::channel();
        if self.shared.enqueue(table.clone(), sender)? {
            let shared = self.shared.clone();
            tokio::spawn(async move {
                let server = shared.clone();
                if tokio::spawn(async move { server.serve().await }).await.is_err() {
                    shared.give_up();
                }
            });
        }
        receiver.await.map_err(|e| ended_early("apply").with_source(e))?
    }

    async fn traffic(&self) -> Result<Traffic> {
        self.call("read traffic of", |engine| Box::pin(engine.traffic())).await
    }

    async fn files(&self) -> Result<BTreeMap<FileName, String>> {
        self.call("read files of", |engine| Box::pin(engine.files())).await
    }

    async fn shutdown(&self) -> Result<()> {
        self.call("shut down", |engine| Box::pin(engine.shutdown())).await
    }
}

impl Shared {
    /// Puts the table in place of one that waits. Whether a task must be started to serve it.
    fn enqueue(
        &self,
        table: RoutingTable,
        caller: oneshot::Sender<Result<Applied>>,
    ) -> Result<bool> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.callers.retain(|caller| !caller.is_closed());
        if waiting.callers.len() >= MOST_WAITING {
            let message = format!("{MOST_WAITING} callers wait already");
            return Err(Error::new(ErrorKind::Exhausted, "apply", "haproxy", message));
        }
        waiting.table = Some(table);
        waiting.callers.push(caller);
        Ok(!std::mem::replace(&mut waiting.served, true))
    }

    /// Serves the latest table until none waits. Between two reloads the engine is free for other calls.
    async fn serve(&self) {
        loop {
            let mut engine = self.engine.lock().await;
            let Some((table, callers)) = self.take() else { return };
            let pause = match engine.apply(&table).await {
                Ok(Outcome::Wait(time)) => {
                    self.put_back(table, callers);
                    time
                }
                Ok(Outcome::Applied(applied)) => {
                    answer(callers, &Ok(applied));
                    continue;
                }
                Err(failure) => {
                    answer(callers, &Err(failure.during("apply")));
                    continue;
                }
            };
            drop(engine);
            sleep(pause).await;
        }
    }

    /// After a panic: callers hear of it, and the next one starts anew.
    fn give_up(&self) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Waiting::default();
    }

    fn take(&self) -> Option<(RoutingTable, Vec<oneshot::Sender<Result<Applied>>>)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let table = waiting.table.take();
        waiting.served = table.is_some();
        table.map(|table| (table, std::mem::take(&mut waiting.callers)))
    }

    /// A later table has come meanwhile, or this one is still the latest.
    fn put_back(&self, table: RoutingTable, callers: Vec<oneshot::Sender<Result<Applied>>>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.table.get_or_insert(table);
        waiting.callers.splice(0..0, callers);
    }
}

fn answer(callers: Vec<oneshot::Sender<Result<Applied>>>, result: &Result<Applied>) {
    for caller in callers {
        // Nobody waits any more: the work is done all the same.
        let _ = caller.send(result.clone());
    }
}

fn ended_early(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unexpected, operation, "haproxy", "the task ended early")
}
