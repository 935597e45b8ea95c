//! A value others wait on. They are woken in the order in which they began to wait: tokio's own watch channel
//! wakes in an order it draws from the operating system's randomness, and one seed would not give one run.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// A value and the number of its changes. Shared in an `Arc`.
#[derive(Debug, Default)]
pub(crate) struct Watched<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State<T> {
    changes: u64,
    value: T,
}

impl<T> Watched<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { state: Mutex::new(State { changes: 0, value }), changed: Notify::new() }
    }

    pub(crate) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner).value)
    }

    /// Changes the value; whoever waits is woken if `change` says that it did.
    pub(crate) fn change(&self, change: impl FnOnce(&mut T) -> bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if change(&mut state.value) {
            state.changes += 1;
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// Puts another value in its place and wakes whoever waits.
    pub(crate) fn put(&self, value: T) {
        self.change(|before| {
            *before = value;
            true
        });
    }

    /// Changes so far.
    pub(crate) fn changes(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).changes
    }

    /// Waits until there were more changes than `seen`, and gives their number.
    pub(crate) async fn changed_since(&self, seen: u64) -> u64 {
        loop {
            // Made before the look, so that a change between the two is not missed.
            let woken = self.changed.notified();
            let changes = self.changes();
            if changes > seen {
                return changes;
            }
            woken.await;
        }
    }

    /// Waits until the value is as asked.
    pub(crate) async fn wait_for(&self, until: impl Fn(&T) -> bool) {
        loop {
            let woken = self.changed.notified();
            if self.read(&until) {
                return;
            }
            woken.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// What broke: with tokio's watch channel this order is another one in each process.
    #[tokio::test]
    async fn waiters_are_woken_in_the_order_in_which_they_came() {
        let (watched, woken) = (Arc::new(Watched::new(0)), Arc::new(Mutex::new(Vec::new())));
        let tasks: Vec<_> = (0..32)
            .map(|n| {
                let (watched, woken) = (watched.clone(), woken.clone());
                tokio::spawn(async move {
                    watched.wait_for(|value| *value > 0).await;
                    woken.lock().unwrap().push(n);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        watched.put(1);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*woken.lock().unwrap(), (0..32).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_change_before_the_wait_is_not_missed() {
        let watched = Watched::new("a");
        let seen = watched.changes();
        watched.change(|_| false);
        assert_eq!(watched.changes(), seen, "nothing changed");
        watched.put("b");
        assert_eq!(watched.changed_since(seen).await, seen + 1);
        watched.wait_for(|value| *value == "b").await;
    }
}
