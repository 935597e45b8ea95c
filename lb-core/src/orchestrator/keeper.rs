//! Saves the ledger: the latest version, one save at a time, while the loop goes on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::events::{Events, Happened};
use super::inbox::Inbox;
use super::link::bounded_store;
use super::ticker::Ticker;
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind};
use crate::ledger::Ledger;
use crate::store::{LedgerStore, Term};
use crate::watched::Watched;

/// Longest wait before a save that failed is tried again. The loop goes on meanwhile, and what it does then is lost to
/// the next process if this one is killed: a disk that has room again must not wait for a back-off that has grown.
const LONGEST_RETRY: Duration = Duration::from_secs(1);

/// The loop's end of the saving task.
#[derive(Debug)]
pub(super) struct Keeper {
    wanted: watch::Sender<Version>,
    kept: Arc<Watched<Kept>>,
    deadline: Duration,
}

#[derive(Debug, Clone, Default)]
struct Version {
    number: u64,
    ledger: Arc<Ledger>,
}

/// How far saving is.
#[derive(Debug, Clone, Default)]
struct Kept {
    number: u64,
    failure: Option<Error>,
}

/// What an action waits for before it may begin: that what must be remembered about it is saved.
#[derive(Debug, Clone)]
pub(super) struct Remembered {
    number: u64,
    kept: Arc<Watched<Kept>>,
    deadline: Duration,
}

/// What the saving task works with.
pub(super) struct Desk {
    pub(super) store: Arc<dyn LedgerStore>,
    pub(super) term: Term,
    pub(super) inbox: Arc<Inbox>,
    pub(super) events: Events,
    pub(super) time: Arc<Ticker>,
    pub(super) deadline: Duration,
}

impl Keeper {
    /// Starts the task; it ends once this is dropped and the latest version is saved or has failed.
    pub(super) fn start(desk: Desk, loaded: Arc<Ledger>) -> Self {
        let deadline = desk.deadline;
        let (wanted, wanted_here) = watch::channel(Version { number: 0, ledger: loaded });
        let kept = Arc::new(Watched::<Kept>::default());
        tokio::spawn(desk.run(wanted_here, kept.clone()));
        Self { wanted, kept, deadline }
    }

    /// Hands a ledger over to be saved, if it says anything new.
    pub(super) fn save(&self, ledger: &Ledger) {
        self.wanted.send_if_modified(|version| {
            let news = ledger.seq != version.ledger.seq;
            if news {
                let ledger = Arc::new(ledger.clone());
                *version = Version { number: version.number + 1, ledger };
            }
            news
        });
    }

    /// Why the ledger cannot be saved, if it cannot.
    pub(super) fn failure(&self) -> Option<Error> {
        self.kept.read(|kept| kept.failure.clone())
    }

    /// For an action planned with the latest ledger.
    pub(super) fn remembered(&self) -> Remembered {
        let number = self.wanted.borrow().number;
        Remembered { number, kept: self.kept.clone(), deadline: self.deadline }
    }
}

impl Remembered {
    /// Returns once the ledger is saved. A store that fails or hangs is not waited for: losing the ledger
    /// costs delay, never safety.
    pub(super) async fn wait(self) {
        let number = self.number;
        let saved = self.kept.wait_for(|kept| kept.number >= number || kept.failure.is_some());
        // Late: the action goes on without.
        let _ = tokio::time::timeout(self.deadline, saved).await;
    }
}

impl Desk {
    async fn run(self, mut wanted: watch::Receiver<Version>, kept: Arc<Watched<Kept>>) {
        let mut backoff = Backoff::new("ledger");
        while wanted.changed().await.is_ok() {
            loop {
                let version = wanted.borrow_and_update().clone();
                if self.save(&version, &kept).await {
                    backoff.reset();
                    break;
                }
                if wanted.has_changed().is_err() {
                    return;
                }
                tokio::time::sleep(backoff.next().min(LONGEST_RETRY)).await;
            }
        }
    }

    async fn save(&self, version: &Version, kept: &Watched<Kept>) -> bool {
        let save = self.store.save(&version.ledger, self.term);
        match bounded_store("save", "ledger", self.deadline, save).await {
            Ok(()) => {
                kept.put(Kept { number: version.number, failure: None });
                true
            }
            Err(error) if error.kind() == ErrorKind::Fenced => {
                self.inbox.put(|news| news.fenced = Some(error));
                true
            }
            Err(error) => {
                if kept.read(|kept| kept.failure.is_none()) {
                    let error = error.clone();
                    self.events
                        .tell(self.time.now().wall, Happened::Trouble { part: "ledger", error });
                }
                kept.change(|kept| {
                    kept.failure = Some(error);
                    true
                });
                false
            }
        }
    }
}
