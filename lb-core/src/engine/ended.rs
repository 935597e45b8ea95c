//! Containers the engine told to have ended, whose place in its list is doubted until they were looked at.
//!
//! Docker tells of an end before its list knows (moby 20.10, `daemon/monitor.go`: the event, then
//! `CheckpointTo`). A look at the one container waits for both.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::ContainerName;
use crate::runtime::RuntimeEvent;

/// Names, and how many ends of each were told.
type Doubted = BTreeMap<ContainerName, u64>;

/// The ends told of containers that were not looked at since.
#[derive(Debug, Default)]
pub(super) struct Ended(Mutex<Doubted>);

impl Ended {
    /// An event was heard.
    pub(super) fn hear(&self, event: &RuntimeEvent) {
        match event {
            RuntimeEvent::Exited(name) => *self.doubted().entry(name.clone()).or_default() += 1,
            RuntimeEvent::Removed(name) => drop(self.doubted().remove(name)),
            _ => {}
        }
    }

    /// The doubted ones, before a list is asked for.
    pub(super) fn now(&self) -> Doubted {
        self.doubted().clone()
    }

    /// These were doubted before a list was asked for and looked at since. One that ended again stays doubted.
    pub(super) fn settle(&self, looked_at: &Doubted) {
        self.doubted().retain(|name, ends| looked_at.get(name) != Some(ends));
    }

    fn doubted(&self) -> MutexGuard<'_, Doubted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_ended_again_is_doubted_again() {
        let (ended, name) = (Ended::default(), ContainerName::new("shop.a").unwrap());
        let exited = RuntimeEvent::Exited(name.clone());
        ended.hear(&exited);
        let before = ended.now();
        ended.hear(&exited);
        ended.settle(&before);
        assert!(ended.now().contains_key(&name));
        ended.settle(&ended.now());
        assert!(ended.now().is_empty());
    }

    #[test]
    fn a_removed_one_is_not_doubted() {
        let (ended, name) = (Ended::default(), ContainerName::new("shop.a").unwrap());
        ended.hear(&RuntimeEvent::Exited(name.clone()));
        ended.hear(&RuntimeEvent::Removed(name));
        assert!(ended.now().is_empty());
    }
}
