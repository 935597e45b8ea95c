//! Enough instances for the requests in the queue, and one more. It passes the suite of its contract.

use lb_core::{Decision, LoadView, Now, PolicyMemory, ScalePolicy};

/// In flight and queued requests one instance is meant to hold.
const PER_INSTANCE: f64 = 8.0;

/// Its targets are requests in flight, not a load.
#[derive(Debug)]
pub(crate) struct Queue;

impl ScalePolicy for Queue {
    fn decide(
        &self,
        load: &LoadView<'_>,
        memory: &PolicyMemory,
        now: Now,
    ) -> (Decision, PolicyMemory) {
        // Missing, stale and absurd measurements hold: the contract asks for it.
        let Some(concurrency) = load.measured(now, |sample| sample.concurrency) else {
            return (Decision::Hold("concurrency is not measured".into()), memory.clone());
        };
        let count = (concurrency / PER_INSTANCE).ceil() as u32 + 1;
        let reason = format!(
            "{concurrency:.0} requests in flight, {PER_INSTANCE} an instance, and one spare"
        );
        (Decision::Want { count, reason }, memory.clone())
    }
}
