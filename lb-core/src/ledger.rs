//! What the planner remembers between passes. Losing it costs delay, never safety.

mod app;
mod host;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use self::app::default_drain;
pub use self::app::{
    AppLedger, Closing, Ending, InstanceLedger, LastEnd, Phase, ResolvedImage, Resolving,
    SlotLedger, Version,
};
pub use self::host::{HostLedger, Lost, NetworkLedger, Resting, Retry, Said, TableLedger};
use crate::model::{AppName, HostId};
use crate::plan::Memo;

/// The planner's memory. Times are monotonic readings of the process that saved it; see
/// [`rebased`](Ledger::rebased).
///
/// Copy on write: what did not change is shared with the ledger before, and `seq` tells whether anything
/// did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ledger {
    /// Counts the passes that changed something: an equal `seq` needs no saving.
    pub seq: u64,
    /// When it last changed.
    pub at: Duration,
    /// When this process began with it; `None` before the first pass.
    pub began: Option<Duration>,
    /// Before this time nothing is given out by which balancers of other hosts reach an instance: set when a
    /// ledger was lost, because they may still hold servers nobody remembers.
    pub quarantine: Duration,
    /// By host, as long as it is registered or may come back.
    pub hosts: BTreeMap<HostId, Arc<HostLedger>>,
    /// By app, as long as it is wanted or anything of it is left.
    pub apps: BTreeMap<AppName, Arc<AppLedger>>,
    /// Derived values, worth keeping but never needed.
    #[serde(skip)]
    pub(crate) memo: Memo,
}

impl Ledger {
    /// The same ledger for a process whose clock reads `now`: every wait in it starts again there, which
    /// delays what waits and never hastens it.
    #[must_use]
    pub fn rebased(self, now: Duration) -> Self {
        let shift = Shift { from: self.at, now };
        Self {
            seq: self.seq,
            at: now,
            began: Some(now),
            quarantine: shift.until(self.quarantine),
            hosts: self
                .hosts
                .into_iter()
                .map(|(id, host)| (id, Arc::new(Arc::unwrap_or_clone(host).rebased(shift))))
                .collect(),
            apps: self
                .apps
                .into_iter()
                .map(|(name, app)| (name, Arc::new(Arc::unwrap_or_clone(app).rebased(shift))))
                .collect(),
            memo: Memo::default(),
        }
    }
}

/// From the clock of a ledger saved at `from` to one that reads `now`.
#[derive(Debug, Clone, Copy)]
struct Shift {
    from: Duration,
    now: Duration,
}

impl Shift {
    /// What was left of a wait is left from now on.
    const fn until(self, until: Duration) -> Duration {
        self.now.saturating_add(until.saturating_sub(self.from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rebasing_keeps_what_was_left_of_a_wait() {
        let s = Duration::from_secs;
        let ledger = Ledger { at: s(100), quarantine: s(130), ..Ledger::default() };
        assert_eq!(ledger.clone().rebased(s(5)).quarantine, s(35));
        let over = Ledger { quarantine: s(90), ..ledger };
        assert_eq!(over.rebased(s(5)).quarantine, s(5));
    }
}
