//! Hints from the engine: subscribed first, then `Resync`; again after every gap.
//!
//! A subscription that falls silent is renewed from the last event on: the engine replays what it still
//! holds, so a half-open connection costs a repeat at most, and a quiet host is not listed again for it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::{sleep, timeout};

use super::calls::within;
use super::runtime::Host;
use super::{EngineApi, Failure, Hint, Subscription};
use crate::backoff::Backoff;
use crate::error::Result;
use crate::random::Random;
use crate::runtime::RuntimeEvent;

/// A subscription this long without an event is renewed, lest it be half open.
const SILENCE: Duration = Duration::from_secs(8);

/// Longest wait between attempts to subscribe.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

type Hints = BoxStream<'static, Result<Hint, Failure>>;

pub(super) fn events<A: EngineApi>(host: Arc<Host<A>>) -> BoxStream<'static, Result<RuntimeEvent>> {
    let seed = format!("{} {}", host.cluster, host.subject());
    let watch = Watch {
        backoff: Backoff::new(&seed).up_to(LONGEST_WAIT),
        jitter: Random::named(&seed),
        host,
        open: None,
        mark: None,
        failed: false,
        told: false,
    };
    stream::unfold(watch, |mut watch| async move { Some((watch.next().await, watch)) }).boxed()
}

struct Watch<A> {
    host: Arc<Host<A>>,
    open: Option<Hints>,
    /// Just after the last event, by the engine's clock, in nanoseconds since 1970.
    mark: Option<i128>,
    backoff: Backoff,
    jitter: Random,
    /// Whether an attempt or a subscription ended since the last sign of life.
    failed: bool,
    /// Whether the row of failures has been told.
    told: bool,
}

impl<A: EngineApi> Watch<A> {
    async fn next(&mut self) -> Result<RuntimeEvent> {
        loop {
            match self.open.take() {
                Some(hints) => {
                    if let Some(event) = self.listen(hints).await {
                        return Ok(event);
                    }
                }
                None => {
                    if let Some(outcome) = self.begin().await {
                        return outcome;
                    }
                }
            }
        }
    }

    /// The next event of the subscription, if it is one of ours and the subscription lasts.
    async fn listen(&mut self, mut hints: Hints) -> Option<RuntimeEvent> {
        match timeout(self.jitter.between(SILENCE / 2, SILENCE), hints.next()).await {
            Ok(Some(Ok(hint))) => {
                self.open = Some(hints);
                self.alive();
                self.mark = hint.at.map(|at| at + 1).or(self.mark);
                hint.event.inspect(|event| self.host.ended.hear(event))
            }
            Ok(ended) => {
                tracing::info!(engine = self.host.subject(), error = ?ended, "engine events ended");
                self.failed = true;
                self.host.api.lost();
                None
            }
            Err(_) => {
                // The old one is held until the new one stands; if that fails, it is a gap.
                match self.subscribe(self.mark).await {
                    Ok(renewed) => {
                        self.open = Some(renewed);
                        self.alive();
                    }
                    Err(_) => self.failed = true,
                }
                drop(hints);
                None
            }
        }
    }

    const fn alive(&mut self) {
        self.failed = false;
        self.backoff.reset();
    }

    /// Subscribes anew: `Resync`, or the first failure of a row.
    async fn begin(&mut self) -> Option<Result<RuntimeEvent>> {
        if self.failed {
            sleep(self.backoff.next()).await;
        }
        self.mark = None;
        match self.subscribe(None).await {
            Ok(hints) => {
                (self.open, self.told) = (Some(hints), false);
                Some(Ok(RuntimeEvent::Resync))
            }
            Err(failure) => {
                self.failed = true;
                let told = std::mem::replace(&mut self.told, true);
                (!told).then(|| Err(failure.into_error("watch", self.host.subject())))
            }
        }
    }

    async fn subscribe(&mut self, since: Option<i128>) -> Result<Hints, Failure> {
        let asked = self.host.api.subscribe(&self.host.cluster, since);
        let Subscription { hints, begun } = within(self.host.calls.deadlines.read, asked).await?;
        self.mark = self.mark.or(begun);
        Ok(hints)
    }
}
