//! Calls of a balancer, one at a time on tasks of their own; of tables that wait, the latest wins.

use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, oneshot};
use tokio::time::sleep;

use super::Applied;
use crate::error::{Error, ErrorKind, Result};
use crate::keyed::place_in_line;
use crate::routing::RoutingTable;

/// Most callers that may wait for one table.
const MOST_WAITING: usize = 10_000;

/// What a [`TableQueue`] drives: the one owner of a running balancer.
#[async_trait]
pub trait TableEngine: Debug + Send + 'static {
    /// What goes wrong in it.
    type Failure: Send;
    /// What it is called in messages.
    const NAME: &'static str;

    /// Brings the balancer to the table, or says how long that must wait.
    async fn apply(&mut self, table: &RoutingTable) -> Result<Turn, Self::Failure>;

    /// The contract's error, while doing `operation`.
    fn error(failure: Self::Failure, operation: &'static str) -> Error;
}

/// How a turn of [`TableEngine::apply`] ended.
#[derive(Debug)]
pub enum Turn {
    /// In force.
    Applied(Applied),
    /// Too early for another reload: try again after this time. Meanwhile other calls have their turn.
    Wait(Duration),
}

/// The calls of [`LoadBalancer`](super::LoadBalancer), as its contract wants them: each runs to its end on a
/// task of its own, behind those before it; dropping its future abandons the wait only.
#[derive(Debug)]
pub struct TableQueue<E> {
    shared: Arc<Shared<E>>,
}

impl<E> Clone for TableQueue<E> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

#[derive(Debug)]
struct Shared<E> {
    engine: Arc<AsyncMutex<E>>,
    waiting: Mutex<Waiting>,
}

type Caller = oneshot::Sender<Result<Applied>>;

/// The latest table asked for, and who waits for it.
#[derive(Debug, Default)]
struct Waiting {
    table: Option<RoutingTable>,
    callers: Vec<Caller>,
    /// Whether a task is about to serve them.
    served: bool,
}

impl<E: TableEngine> TableQueue<E> {
    /// A queue before this engine.
    pub fn new(engine: E) -> Self {
        let engine = Arc::new(AsyncMutex::new(engine));
        Self { shared: Arc::new(Shared { engine, waiting: Mutex::default() }) }
    }

    /// Runs a call other than `apply`.
    ///
    /// # Errors
    /// The work's; `Unexpected` when its task ended early.
    pub async fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl for<'e> FnOnce(&'e mut E) -> BoxFuture<'e, Result<T, E::Failure>> + Send + 'static,
    ) -> Result<T> {
        let turn = place_in_line(&self.shared.engine);
        let task = tokio::spawn(async move {
            let mut engine = turn.await;
            work(&mut engine).await.map_err(|failure| E::error(failure, operation))
        });
        task.await.map_err(|e| ended_early::<E>(operation).with_source(e))?
    }

    /// Puts the table in force, or a later one asked for meanwhile.
    ///
    /// # Errors
    /// The engine's; `Exhausted` when too many wait; `Unexpected` when the task ended early.
    pub async fn apply(&self, table: &RoutingTable) -> Result<Applied> {
        let (sender, receiver) = oneshot::channel();
        if self.shared.enqueue(table.clone(), sender)? {
            let (shared, turn) = (self.shared.clone(), place_in_line(&self.shared.engine));
            tokio::spawn(async move {
                let server = shared.clone();
                if tokio::spawn(async move { server.serve(turn).await }).await.is_err() {
                    shared.give_up();
                }
            });
        }
        receiver.await.map_err(|e| ended_early::<E>("apply").with_source(e))?
    }
}

impl<E: TableEngine> Shared<E> {
    /// Puts the table in place of one that waits. Whether a task must be started to serve it.
    fn enqueue(&self, table: RoutingTable, caller: Caller) -> Result<bool> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.callers.retain(|caller| !caller.is_closed());
        if waiting.callers.len() >= MOST_WAITING {
            let message = format!("{MOST_WAITING} callers wait already");
            return Err(Error::new(ErrorKind::Exhausted, "apply", E::NAME, message));
        }
        waiting.table = Some(table);
        waiting.callers.push(caller);
        Ok(!std::mem::replace(&mut waiting.served, true))
    }

    /// Serves the latest table until none waits. While one must wait the engine is free for other calls.
    async fn serve(&self, turn: impl Future<Output = OwnedMutexGuard<E>>) {
        let mut engine = turn.await;
        loop {
            let Some((table, callers)) = self.take() else { return };
            let pause = match engine.apply(&table).await {
                Ok(Turn::Wait(time)) => {
                    self.put_back(table, callers);
                    time
                }
                Ok(Turn::Applied(applied)) => {
                    answer(callers, &Ok(applied));
                    Duration::ZERO
                }
                Err(failure) => {
                    answer(callers, &Err(E::error(failure, "apply")));
                    Duration::ZERO
                }
            };
            // Other calls have their turn between two tables.
            drop(engine);
            sleep(pause).await;
            engine = self.engine.clone().lock_owned().await;
        }
    }

    /// After a panic: callers hear of it, and the next one starts anew.
    fn give_up(&self) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Waiting::default();
    }

    fn take(&self) -> Option<(RoutingTable, Vec<Caller>)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let table = waiting.table.take();
        waiting.served = table.is_some();
        table.map(|table| (table, std::mem::take(&mut waiting.callers)))
    }

    /// A later table has come meanwhile, or this one is still the latest.
    fn put_back(&self, table: RoutingTable, callers: Vec<Caller>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.table.get_or_insert(table);
        waiting.callers.splice(0..0, callers);
    }
}

fn answer(callers: Vec<Caller>, result: &Result<Applied>) {
    for caller in callers {
        // Nobody waits any more: the work is done all the same.
        let _ = caller.send(result.clone());
    }
}

fn ended_early<E: TableEngine>(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unexpected, operation, E::NAME, "the task ended early")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::balancer::Change;

    /// Puts up to one table a turn in force, after one wait each.
    #[derive(Debug, Default)]
    struct Slow {
        waited: bool,
        applied: Vec<RoutingTable>,
    }

    #[async_trait]
    impl TableEngine for Slow {
        type Failure = Error;
        const NAME: &'static str = "slow";

        async fn apply(&mut self, table: &RoutingTable) -> Result<Turn> {
            if !std::mem::replace(&mut self.waited, true) {
                return Ok(Turn::Wait(Duration::from_secs(1)));
            }
            self.waited = false;
            self.applied.push(table.clone());
            let (table, set_aside) = (table.hash(), BTreeMap::new());
            Ok(Turn::Applied(Applied { table, change: Change::Reload, set_aside }))
        }

        fn error(failure: Error, operation: &'static str) -> Error {
            failure.during(operation)
        }
    }

    fn table(port: u16) -> RoutingTable {
        let listener =
            crate::Listener::Http { routes: [].into(), certificates: BTreeMap::default() };
        RoutingTable { listeners: [(port, listener)].into(), ..RoutingTable::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn of_tables_that_wait_the_latest_wins_and_every_caller_hears() {
        let queue = TableQueue::new(Slow::default());
        let tables: Vec<_> = (1..=50).map(table).collect();
        let answers = futures_util::future::join_all(tables.iter().map(|t| queue.apply(t))).await;
        assert!(answers.iter().all(|a| a.as_ref().unwrap().table == tables[49].hash()));
        let applied = queue.call("look", |e| Box::pin(async { Ok(e.applied.clone()) })).await;
        assert_eq!(applied.unwrap(), [tables[49].clone()]);
    }

    /// Broke once: their tasks began in any order on several threads, and an abandoned call before a table came
    /// after it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn abandoned_calls_are_done_in_the_order_they_were_made() {
        for round in 0..200 {
            let queue = TableQueue::new(Slow { waited: true, ..Slow::default() });
            let abandoned = queue.call("empty", |e| {
                e.applied.clear();
                Box::pin(std::future::ready(Ok(())))
            });
            drop(futures_util::poll!(Box::pin(abandoned)));
            queue.apply(&table(1)).await.unwrap();
            let applied = queue.call("look", |e| Box::pin(async { Ok(e.applied.len()) })).await;
            assert_eq!(applied.unwrap(), 1, "round {round}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_call_still_ends() {
        let queue = TableQueue::new(Slow::default());
        let first = tokio::time::timeout(Duration::from_millis(1), queue.apply(&table(1))).await;
        assert!(first.is_err());
        sleep(Duration::from_secs(2)).await;
        let applied = queue.call("look", |e| Box::pin(async { Ok(e.applied.len()) })).await;
        assert_eq!(applied.unwrap(), 1);
    }
}
