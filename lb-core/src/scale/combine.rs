//! Policies made of policies.

use std::sync::Arc;

use super::{Decision, LoadView, PolicyMemory, ScalePolicy};
use crate::time::Now;

/// The highest of what several policies want. One that holds wants the count there is, so that the count
/// falls only when all agree.
#[derive(Debug, Clone)]
pub struct Highest(Vec<Arc<dyn ScalePolicy>>);

impl Highest {
    /// Of these; of none: holds.
    pub fn new(policies: Vec<Arc<dyn ScalePolicy>>) -> Self {
        Self(policies)
    }
}

impl ScalePolicy for Highest {
    fn decide(
        &self,
        load: &LoadView<'_>,
        memory: &PolicyMemory,
        now: Now,
    ) -> (Decision, PolicyMemory) {
        let remembered = |i| memory.0.get(i).cloned().unwrap_or_default();
        let mut highest: Option<(u32, Decision)> = None;
        let mut memories = Vec::with_capacity(self.0.len());
        for (i, policy) in self.0.iter().enumerate() {
            let (decision, memory) = policy.decide(load, &PolicyMemory(remembered(i)), now);
            memories.push(memory.0);
            let count = decision.count(load.wanted);
            if highest.as_ref().is_none_or(|(most, _)| count > *most) {
                highest = Some((count, decision));
            }
        }
        let nothing = || Decision::Hold("no target is set".to_owned());
        let decision = highest.map_or_else(nothing, |(_, decision)| decision);
        (decision, PolicyMemory(memories.into()))
    }
}

/// The app's own least count, whatever the load: what a schedule alone stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Least;

impl ScalePolicy for Least {
    fn decide(
        &self,
        load: &LoadView<'_>,
        memory: &PolicyMemory,
        _now: Now,
    ) -> (Decision, PolicyMemory) {
        let reason = "the least count is enough outside its schedule".to_owned();
        let decision = match load.app.replicas.min {
            count if count == load.wanted => Decision::Hold(reason),
            count => Decision::Want { count, reason },
        };
        (decision, memory.clone())
    }
}
