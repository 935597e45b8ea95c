//! Mutating calls that outlive their callers, one at a time for each key.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::error::{Error, ErrorKind, Result};

/// Runs each piece of work on a task of its own, one per key at a time, each bounded by a deadline.
///
/// Dropping the future that [`run`](Self::run) returns abandons the wait, not the work; the next call on
/// the key waits behind it. This is how backends keep the third invariant.
#[derive(Debug, Clone)]
pub struct Keyed<K> {
    locks: Arc<Mutex<BTreeMap<K, Arc<AsyncMutex<()>>>>>,
}

impl<K> Default for Keyed<K> {
    fn default() -> Self {
        Self { locks: Arc::default() }
    }
}

impl<K: Ord + Clone + Debug + Send + 'static> Keyed<K> {
    /// Runs `work` once earlier work on `key` has ended. `deadline` counts from its start.
    ///
    /// # Errors
    /// What `work` gives; `Timeout` naming `operation` and the key at the deadline.
    pub async fn run<T, F>(
        &self,
        key: K,
        operation: &'static str,
        deadline: Duration,
        work: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let locks = self.locks.clone();
        let subject = format!("{key:?}");
        let lock = lock_of(&locks, &key);
        let place = place_in_line(&lock);
        let task = tokio::spawn(async move {
            let turn = place.await;
            let result = tokio::time::timeout(deadline, work).await;
            drop(turn);
            forget(&locks, &key, lock);
            result
        });
        let late = |_| {
            Error::new(
                ErrorKind::Timeout,
                operation,
                subject.clone(),
                format!("not done within {deadline:?}"),
            )
        };
        match task.await {
            Ok(result) => result.map_err(late)?,
            Err(e) => {
                Err(Error::new(ErrorKind::Unexpected, operation, subject, "the task ended early")
                    .with_source(e))
            }
        }
    }
}

/// Gives the lock in its turn. The place in the line is taken now, not when a task begins to wait: tasks may
/// begin in another order than they were made.
pub(crate) fn place_in_line<T>(
    lock: &Arc<AsyncMutex<T>>,
) -> impl Future<Output = OwnedMutexGuard<T>> + use<T> {
    let mut place = Box::pin(lock.clone().lock_owned());
    let at_once = (&mut place).now_or_never();
    async move {
        match at_once {
            Some(turn) => turn,
            None => place.await,
        }
    }
}

type Locks<K> = Mutex<BTreeMap<K, Arc<AsyncMutex<()>>>>;

fn lock_of<K: Ord + Clone>(locks: &Locks<K>, key: &K) -> Arc<AsyncMutex<()>> {
    let mut locks = locks.lock().unwrap_or_else(PoisonError::into_inner);
    locks.entry(key.clone()).or_default().clone()
}

/// Drops the key's lock once nobody waits for it: the map holds keys in use only.
fn forget<K: Ord>(locks: &Locks<K>, key: &K, lock: Arc<AsyncMutex<()>>) {
    let mut locks = locks.lock().unwrap_or_else(PoisonError::into_inner);
    drop(lock);
    if locks.get(key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
        locks.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broke once: the place was taken by the tasks, which begin in any order on several threads.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn abandoned_calls_are_done_in_the_order_they_were_made() {
        for _ in 0..200 {
            let (keyed, done) = (Keyed::default(), Arc::new(Mutex::new(Vec::new())));
            let call = |n: u32| {
                let done = done.clone();
                let work = async move {
                    done.lock().unwrap().push(n);
                    Ok(())
                };
                keyed.run("key", "count", Duration::from_secs(10), work)
            };
            for n in 0..8 {
                drop(futures_util::poll!(Box::pin(call(n))));
            }
            call(8).await.unwrap();
            assert_eq!(*done.lock().unwrap(), (0..9).collect::<Vec<_>>());
            assert!(lock_of(&keyed.locks, &"key").try_lock().is_ok());
        }
    }
}
