//! Looks after what no parent waits for: ends of adopted processes, changes by others, logs that grow.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::sync::{Arc, Weak};
use std::time::Duration;

use lb_core::{ContainerName, ContainerState, RuntimeEvent};

use super::{Shared, blocking};
use crate::logs::{self, LOG_SIZE};

/// Time between sweeps: how late the end of an adopted process can be noticed.
const SWEEP: Duration = Duration::from_millis(500);

type Seen = BTreeMap<ContainerName, ContainerState>;

impl Shared {
    /// Once for each value, when it is first used: then there is a runtime to run on.
    pub(super) fn start_sweeper(self: Arc<Self>) {
        self.sweeper.get_or_init(|| {
            tokio::spawn(sweep(Arc::downgrade(&self)));
        });
    }

    fn look(&self, seen: &Seen) -> Seen {
        let Ok(records) = self.own() else { return seen.clone() };
        for record in &records {
            // A log that is not there yet, or a full disk: the next sweep tries again.
            let _ = logs::rotate(&self.records.container_dir(&record.name), LOG_SIZE);
        }
        let now: Seen = records.iter().map(|r| (r.name.clone(), self.state(r))).collect();
        for event in changes(seen, &now) {
            self.tell(event);
        }
        now
    }
}

/// Ends with the runtime.
async fn sweep(shared: Weak<Shared>) {
    let Some(mut seen) = look(&shared, Seen::new()).await else { return };
    loop {
        tokio::time::sleep(SWEEP).await;
        match look(&shared, seen).await {
            Some(now) => seen = now,
            None => return,
        }
    }
}

async fn look(shared: &Weak<Shared>, seen: Seen) -> Option<Seen> {
    let shared = shared.upgrade()?;
    blocking(move || Ok(shared.look(&seen))).await.ok()
}

/// What tells `now` from `seen`. What we did ourselves is told twice: hints may repeat.
fn changes(seen: &Seen, now: &Seen) -> Vec<RuntimeEvent> {
    let gone = seen.keys().filter(|name| !now.contains_key(*name));
    let gone = gone.map(|name| RuntimeEvent::Removed(name.clone()));
    let changed = now.iter().filter_map(|(name, state)| {
        let same = seen.get(name).is_some_and(|s| discriminant(s) == discriminant(state));
        match state {
            _ if same => None,
            ContainerState::Running => Some(RuntimeEvent::Started(name.clone())),
            ContainerState::Exited(_) => Some(RuntimeEvent::Exited(name.clone())),
            ContainerState::Created => None,
        }
    });
    gone.chain(changed).collect()
}
