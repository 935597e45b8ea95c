//! From election to election: the loop acts for as long as this process leads one term.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::events::Happened;
use super::link::bounded_store;
use super::pass::Reign;
use super::watch::{follow, renew};
use super::{Request, Shared, Snapshot};
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::Ledger;
use crate::store::{Standing, Term};

/// Least rest after a pass, which also rests as long as it took: a thousand changes a second are a few
/// passes, and passes take at most half of the time.
const PASS_GAP: Duration = Duration::from_millis(5);
/// The planner's own wishes to be asked again are heeded no faster.
const AGAIN_GAP: Duration = Duration::from_millis(20);
/// How long the first pass waits for the hosts' first observations: what runs is known before it decides.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// Tries to read a ledger from a store that does not answer, before going on without: losing it is safe.
const LOAD_TRIES: u32 = 5;

type Campaign = BoxStream<'static, Result<Standing>>;

/// Why a term ended.
enum Over {
    Stopped,
    /// Another standing; `None`: the election has to be entered again.
    Deposed(Option<Standing>),
}

/// Stands for election until stopped, and rules each term won.
pub(super) async fn run(shared: Arc<Shared>, mut requests: mpsc::Receiver<Request>) {
    let parts = &shared.parts;
    let renewal = renew(parts.registry.clone(), parts.statics.clone(), parts.settings.lease);
    let renewal = tokio::spawn(shared.stop.clone().run_until_cancelled_owned(renewal));
    let mut backoff = Backoff::new("leadership");
    while !shared.stop.is_cancelled() {
        let mut campaign = parts.leadership.campaign();
        let stands = shared.stand(&mut campaign, &mut requests, &mut backoff);
        stands.await;
        drop(campaign);
        let pause = tokio::time::sleep(backoff.next());
        let _ = shared.stop.run_until_cancelled(pause).await;
    }
    renewal.abort();
}

impl Shared {
    /// One candidacy: returns when stopped, fenced, or when the election fails.
    async fn stand(
        self: &Arc<Self>,
        campaign: &mut Campaign,
        requests: &mut mpsc::Receiver<Request>,
        backoff: &mut Backoff,
    ) {
        let mut known = None;
        loop {
            let standing = match known.take() {
                Some(standing) => Ok(standing),
                None => match self.next_standing(campaign, requests).await {
                    Some(standing) => standing,
                    None => return,
                },
            };
            match standing {
                Ok(Standing::Leader(term)) => {
                    let standing = match self.lead(term, campaign, requests).await {
                        Over::Stopped => return,
                        Over::Deposed(standing) => standing,
                    };
                    self.follow();
                    match standing {
                        Some(standing) => known = Some(standing),
                        None => return,
                    }
                    backoff.reset();
                }
                Ok(Standing::Follower) => backoff.reset(),
                Err(error) => {
                    self.tell(Happened::Trouble { part: "leadership", error });
                    let stopped = self.stop.cancelled();
                    if tokio::time::timeout(backoff.next(), stopped).await.is_ok() {
                        return;
                    }
                }
            }
        }
    }

    /// `None`: stopped, or the stream ended.
    async fn next_standing(
        &self,
        campaign: &mut Campaign,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Option<Result<Standing>> {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                standing = campaign.next() => return standing,
                Some(request) = requests.recv() => refuse(request),
            }
        }
    }

    async fn lead(
        self: &Arc<Self>,
        term: Term,
        campaign: &mut Campaign,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Over {
        let ledger = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Over::Stopped,
            standing = campaign.next() => return Over::Deposed(standing.and_then(Result::ok)),
            ledger = self.load() => ledger,
        };
        self.tell(Happened::Leads(term));
        let scope = self.stop.child_token();
        let mut reign = Reign::new(self.clone(), term, ledger, scope.clone());
        spawn_watchers(self, &reign, &scope);
        let over = self.rule(term, &mut reign, campaign, requests).await;
        scope.cancel();
        reign.end().await;
        over
    }

    /// The loop itself.
    async fn rule(
        &self,
        term: Term,
        reign: &mut Reign,
        campaign: &mut Campaign,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Over {
        let inbox = reign.inbox().clone();
        let began = self.time.now().monotonic;
        let mut next = Duration::MAX;
        loop {
            let wait = self.time.until(next).min(self.parts.settings.resync);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Over::Stopped,
                standing = campaign.next() => match standing {
                    Some(Ok(standing)) if standing == Standing::Leader(term) => {}
                    Some(Ok(standing)) => return Over::Deposed(Some(standing)),
                    Some(Err(error)) => self.tell(Happened::Trouble { part: "leadership", error }),
                    None => return Over::Deposed(None),
                },
                Some(request) = requests.recv() => reign.serve(request),
                () = inbox.woken() => {}
                () = tokio::time::sleep(wait) => {}
            }
            if let Err(error) = reign.absorb() {
                self.tell(Happened::Trouble { part: "leadership", error });
                return Over::Deposed(None);
            }
            let now = self.time.now().monotonic;
            let patience = began + FIRST_LOOK;
            if !reign.is_ready(now >= patience) {
                next = patience.max(now + PASS_GAP);
                continue;
            }
            let took = reign.pass();
            next = reign.again().max(now + AGAIN_GAP);
            tokio::time::sleep(PASS_GAP.max(took)).await;
        }
    }

    /// The saved ledger. A newer schema is waited out, never guessed; a corrupt one is done without.
    async fn load(&self) -> Ledger {
        let mut backoff = Backoff::new("ledger");
        let mut tries = 0;
        loop {
            let load = self.parts.ledger.load();
            let deadline = self.parts.settings.deadlines.store;
            match bounded_store("load", "ledger", deadline, load).await {
                Ok(Some(ledger)) => return ledger.rebased(self.time.now().monotonic),
                Ok(None) => return Ledger::default(),
                Err(error) => {
                    tries += 1;
                    let refused = error.kind() == ErrorKind::Unsupported;
                    let corrupt = error.kind() == ErrorKind::Corrupt;
                    self.tell(Happened::Trouble { part: "ledger", error });
                    if corrupt || (!refused && tries >= LOAD_TRIES) {
                        return Ledger::default();
                    }
                }
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    fn follow(&self) {
        self.tell(Happened::Follows);
        let before = self.snapshot.borrow().passes;
        let empty = Snapshot::empty(&self.parts.cluster, &self.time);
        self.snapshot.send_replace(Arc::new(Snapshot { passes: before, ..empty }));
    }

    pub(super) fn tell(&self, what: Happened) {
        self.events.tell(self.time.now().wall, what);
    }
}

fn spawn_watchers(shared: &Arc<Shared>, reign: &Reign, scope: &CancellationToken) {
    let registry = shared.parts.registry.clone();
    let hosts = follow(
        "registry",
        move || registry.watch(),
        reign.inbox().clone(),
        |news, item| news.registry = Some(item),
    );
    let apps = shared.parts.apps.clone();
    let apps = follow(
        "apps",
        move || apps.watch(),
        reign.inbox().clone(),
        |news, item| news.apps = Some(item),
    );
    let both = async move { tokio::join!(hosts, apps) };
    tokio::spawn(scope.clone().run_until_cancelled_owned(both));
}

/// A follower has nothing to plan with.
fn refuse(request: Request) {
    let error = |operation: &'static str| {
        Error::new(ErrorKind::Unavailable, operation, "orchestrator", "this process must lead")
    };
    // Whoever asked may have gone.
    match request {
        Request::Preview(reply) => drop(reply.send(Err(error("preview")))),
        Request::ConfirmGone(_, reply) => drop(reply.send(Err(error("confirm")))),
    }
}
