//! What an embedding platform can show of what goes on.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use serde::Serialize;
use tokio::sync::broadcast;

use crate::balancer::{Applied, Change};
use crate::error::Error;
use crate::model::{AppName, HostId, ImageDigest, InstanceId};
use crate::plan::{ActionKey, Reason};
use crate::routing::TableHash;
use crate::runtime::{Exit, ProgressStep};
use crate::store::Term;

/// Events kept for a reader that is behind; it is told how many it missed.
pub(super) const EVENTS_KEPT: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// When, by the wall clock.
    pub at: jiff::Timestamp,
    /// What.
    pub what: Happened,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Happened {
    /// This process leads from now on.
    Leads(Term),
    /// This process no longer leads.
    Follows,
    /// A host registered.
    HostJoined(HostId),
    /// A host's lease ended, and it is believed.
    HostLeft(HostId),
    /// A host answers.
    HostAnswers(HostId),
    /// A host does not answer; what runs there is left alone.
    HostSilent {
        /// Which.
        host: HostId,
        /// Why.
        error: Error,
    },
    /// The registry is not believed: nobody is replaced.
    RegistryDoubted(String),
    /// The registry is believed again.
    RegistryBelieved,
    /// An app was added or changed.
    AppChanged(AppName),
    /// An app was removed.
    AppRemoved(AppName),
    /// A long step of fetching an image.
    Fetching {
        /// Where.
        host: HostId,
        /// How far it is.
        step: ProgressStep,
    },
    /// An app's image was resolved.
    Resolved {
        /// Whose.
        app: AppName,
        /// To what.
        digest: ImageDigest,
    },
    /// An instance was started.
    Started {
        /// Which.
        id: InstanceId,
        /// Where.
        host: HostId,
    },
    /// An instance may take traffic.
    Ready {
        /// Which.
        id: InstanceId,
        /// Where.
        host: HostId,
    },
    /// An instance may no longer take traffic.
    Unready {
        /// Which.
        id: InstanceId,
        /// Where.
        host: HostId,
        /// What the check said.
        reason: String,
    },
    /// An instance ended by itself.
    Died {
        /// Which.
        id: InstanceId,
        /// Where.
        host: HostId,
        /// How.
        exit: Exit,
    },
    /// An instance was stopped and removed.
    Stopped {
        /// Which.
        id: InstanceId,
        /// Where.
        host: HostId,
    },
    /// A host's balancer has a table in force.
    Applied {
        /// Where.
        host: HostId,
        /// Which.
        table: TableHash,
        /// How.
        change: Change,
        /// What was left out, and why, in words.
        set_aside: Vec<String>,
    },
    /// A host has nothing left of this cluster.
    Cleared(HostId),
    /// An action failed.
    Failed {
        /// Where.
        host: HostId,
        /// What.
        action: ActionKey,
        /// Why.
        error: Error,
    },
    /// The planner decided something, or something stands in its way. Told once while it lasts.
    Decided(Reason),
    /// A store or the registry fails; the loop goes on without it.
    Trouble {
        /// Which: `apps`, `ledger`, `load`, `leadership`, `planner`.
        part: &'static str,
        /// Why.
        error: Error,
    },
    /// This reader was too slow and missed so many events.
    Missed(u64),
}

impl Happened {
    pub(super) fn applied(host: &HostId, applied: &Applied) -> Self {
        let aside = applied.set_aside.iter();
        Self::Applied {
            host: host.clone(),
            table: applied.table,
            change: applied.change,
            set_aside: aside
                .map(|(part, why)| format!("{}: {why}", String::from(part.clone())))
                .collect(),
        }
    }
}

/// Hands events to whoever listens; nobody need.
#[derive(Debug, Clone)]
pub(super) struct Events {
    sender: broadcast::Sender<Event>,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { sender: broadcast::Sender::new(EVENTS_KEPT) }
    }

    pub(super) fn tell(&self, at: jiff::Timestamp, what: Happened) {
        tracing::debug!(?what, "event");
        // An error says that nobody listens.
        let _ = self.sender.send(Event { at, what });
    }

    /// Events from now on. A reader that falls [`EVENTS_KEPT`] behind hears [`Happened::Missed`].
    pub(super) fn listen(&self) -> BoxStream<'static, Event> {
        use broadcast::error::RecvError;
        let start = (self.sender.subscribe(), jiff::Timestamp::UNIX_EPOCH);
        stream::unfold(start, |(mut receiver, latest)| async move {
            let event = match receiver.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(n)) => Event { at: latest, what: Happened::Missed(n) },
                Err(RecvError::Closed) => return None,
            };
            let at = event.at;
            Some((event, (receiver, at)))
        })
        .boxed()
    }
}

/// Shortest time between two [`Happened::Fetching`] events of one image on one host.
pub(super) const FETCH_EVENT_GAP: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_hears_how_much_it_missed_and_goes_on() {
        let events = Events::new();
        let mut reader = events.listen();
        for n in 0..EVENTS_KEPT as u64 + 10 {
            events.tell(jiff::Timestamp::UNIX_EPOCH, Happened::Leads(Term(n)));
        }
        assert_eq!(reader.next().await.unwrap().what, Happened::Missed(10));
        assert_eq!(reader.next().await.unwrap().what, Happened::Leads(Term(10)));
        drop(events);
        assert_eq!(reader.count().await, EVENTS_KEPT - 1);
    }
}
