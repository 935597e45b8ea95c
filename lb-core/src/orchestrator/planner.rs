//! What plans a pass.

use std::fmt;
use std::sync::Arc;

use crate::ledger::Ledger;
use crate::plan::{Plan, World, plan};
use crate::time::Now;

type Brain = dyn Fn(&World, &Ledger, Now) -> Plan + Send + Sync;

/// [`plan`], or what the simulation puts in its place.
#[derive(Clone)]
pub(crate) struct Planner(Arc<Brain>);

impl Default for Planner {
    fn default() -> Self {
        Self(Arc::new(plan))
    }
}

impl Planner {
    /// Another one.
    #[cfg(feature = "sim")]
    pub(crate) fn new(
        brain: impl Fn(&World, &Ledger, Now) -> Plan + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(brain))
    }

    pub(super) fn plan(&self, world: &World, ledger: &Ledger, now: Now) -> Plan {
        (self.0)(world, ledger, now)
    }
}

impl fmt::Debug for Planner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Planner")
    }
}
