//! What moves an app's count: its targets, or a policy the platform registered.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::link::panic_text;
use crate::model::{App, PolicyName, Scaling};
use crate::plan::{Reason, What};
use crate::scale::{Decision, Floors, LoadView, PolicyMemory, ScalePolicy, from_scaling};
use crate::time::Now;

/// The app's policy under its schedule's floors; an unknown name is a reason on that app only.
pub(super) fn policy_of(
    app: &App,
    registered: &BTreeMap<PolicyName, Arc<dyn ScalePolicy>>,
) -> Result<Option<Arc<dyn ScalePolicy>>, Reason> {
    let Some(scaling) = &app.scaling else { return Ok(None) };
    let Some(name) = &scaling.policy else { return Ok(from_scaling(scaling)) };
    match registered.get(name) {
        Some(policy) => Ok(Some(with_floors(scaling, Arc::new(Guarded(policy.clone()))))),
        None => Err(Reason {
            app: Some(app.name.clone()),
            host: None,
            what: What::Scale,
            text: format!("policy \"{name}\" must be registered; the count rests"),
        }),
    }
}

/// The app's schedule holds under a policy of the platform's too.
fn with_floors(scaling: &Scaling, policy: Arc<dyn ScalePolicy>) -> Arc<dyn ScalePolicy> {
    match scaling.schedule.is_empty() {
        true => policy,
        false => Arc::new(Floors::new(&scaling.schedule, policy)),
    }
}

/// A foreign policy: if it panics, it holds.
#[derive(Debug)]
struct Guarded(Arc<dyn ScalePolicy>);

impl ScalePolicy for Guarded {
    fn decide(
        &self,
        load: &LoadView<'_>,
        memory: &PolicyMemory,
        now: Now,
    ) -> (Decision, PolicyMemory) {
        let decide = AssertUnwindSafe(|| self.0.decide(load, memory, now));
        catch_unwind(decide).unwrap_or_else(|panic| {
            let text = format!("the policy panicked: {}", panic_text(&*panic));
            (Decision::Hold(text), memory.clone())
        })
    }
}
