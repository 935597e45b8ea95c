//! Faults a test asks an in-memory backend for.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;

use super::lock;
use crate::error::{Error, ErrorKind, Result};
use crate::watched::Watched;

/// A call of a contract, to aim a fault at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Op {
    Announce,
    Withdraw,
    Describe,
    EnsureImage,
    EnsureNetwork,
    RemoveNetwork,
    Run,
    RunToEnd,
    Stop,
    List,
    Usage,
    Logs,
    Apply,
    Traffic,
    Probe,
    Files,
    Shutdown,
    Put,
    Remove,
    Load,
    Save,
    Append,
    Recent,
}

/// Failures and delays to come, and the calls so far. A clone is a handle to the same.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// How long calls wait while nothing goes on.
    stalled: Watched<Option<Duration>>,
}

#[derive(Debug, Default)]
struct State {
    failures: BTreeMap<Op, VecDeque<Failure>>,
    lasting: BTreeMap<Op, ErrorKind>,
    delays: BTreeMap<Op, Duration>,
    once: BTreeMap<Op, VecDeque<Duration>>,
    paces: BTreeMap<Op, Duration>,
    calls: BTreeMap<Op, u64>,
}

#[derive(Debug, Clone, Copy)]
enum Failure {
    Before(ErrorKind),
    After(ErrorKind),
}

impl Faults {
    /// The next such call fails and does nothing. Repeated, so many calls fail in turn.
    pub fn fail_next(&self, op: Op, kind: ErrorKind) {
        lock(&self.0.state).failures.entry(op).or_default().push_back(Failure::Before(kind));
    }

    /// Each such call fails and does nothing from now on, once those asked for one by one have failed.
    pub fn fail(&self, op: Op, kind: ErrorKind) {
        lock(&self.0.state).lasting.insert(op, kind);
    }

    /// The next such call does its work and then fails with `Timeout`: the answer was lost.
    pub fn lose_next_answer(&self, op: Op) {
        let lost = Failure::After(ErrorKind::Timeout);
        lock(&self.0.state).failures.entry(op).or_default().push_back(lost);
    }

    /// Each such call takes so long from now on; zero ends that.
    pub fn delay(&self, op: Op, delay: Duration) {
        lock(&self.0.state).delays.insert(op, delay);
    }

    /// The next such call takes so long. Repeated, so many calls do in turn.
    pub fn delay_next(&self, op: Op, delay: Duration) {
        lock(&self.0.state).once.entry(op).or_default().push_back(delay);
    }

    /// Each such call takes so long where no fault says otherwise, its work done half-way through: what a
    /// sound backend takes. Stays when faults are [cleared](Self::clear).
    pub fn pace(&self, op: Op, pace: Duration) {
        lock(&self.0.state).paces.insert(op, pace);
    }

    /// Nothing goes on from now on: calls wait for [`go_on`](Self::go_on), and those that wait longer than this
    /// fail with `Timeout` and do nothing.
    pub fn stall(&self, deadline: Duration) {
        self.0.stalled.put(Some(deadline));
    }

    /// Ends [`stall`](Self::stall).
    pub fn go_on(&self) {
        self.0.stalled.put(None);
    }

    /// From now on calls go well; those that have begun take as long as they were to.
    pub fn clear(&self) {
        let mut state = lock(&self.0.state);
        state.failures.clear();
        state.lasting.clear();
        state.delays.clear();
        state.once.clear();
        drop(state);
        self.go_on();
    }

    /// Such calls begun so far.
    pub fn calls(&self, op: Op) -> u64 {
        lock(&self.0.state).calls.get(&op).copied().unwrap_or_default()
    }

    /// Does `work` as call `op` on `subject`, with the faults asked for.
    pub(super) async fn call<T>(
        &self,
        op: Op,
        subject: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.around(op, subject, std::future::ready(()).map(|()| work())).await
    }

    /// The same around another backend's call.
    pub(crate) async fn around<T>(
        &self,
        op: Op,
        subject: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let Begun { before, after, failure } = self.begin(op);
        rest(before).await;
        let failed = |kind, what| Err(Error::new(kind, format!("{op:?}"), subject, what));
        if self.is_stuck().await {
            return failed(ErrorKind::Timeout, "nothing went on, as asked for");
        }
        let result = match failure {
            None => work.await,
            Some(Failure::Before(kind)) => failed(kind, "a fault was asked for"),
            Some(Failure::After(kind)) => {
                work.await?;
                failed(kind, "the answer was lost, as asked for")
            }
        };
        rest(after).await;
        result
    }

    /// Waits while nothing goes on; whether that took too long.
    async fn is_stuck(&self) -> bool {
        let Some(deadline) = self.0.stalled.read(|stalled| *stalled) else { return false };
        tokio::time::timeout(deadline, self.0.stalled.wait_for(Option::is_none)).await.is_err()
    }

    fn begin(&self, op: Op) -> Begun {
        let mut state = lock(&self.0.state);
        *state.calls.entry(op).or_default() += 1;
        let next = state.failures.get_mut(&op).and_then(VecDeque::pop_front);
        let failure = next.or_else(|| state.lasting.get(&op).copied().map(Failure::Before));
        let once = state.once.get_mut(&op).and_then(VecDeque::pop_front);
        let delay = once.or_else(|| state.delays.get(&op).copied());
        let half = state.paces.get(&op).copied().unwrap_or_default() / 2;
        let (before, after) = delay.map_or((half, half), |delay| (delay, Duration::ZERO));
        Begun { before, after, failure }
    }
}

/// A call that has begun.
struct Begun {
    /// Time until its work,
    before: Duration,
    /// and until its answer.
    after: Duration,
    failure: Option<Failure>,
}

async fn rest(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
