//! Hints from the engine: subscribed first, then `Resync`; again after every gap.
//!
//! A subscription that falls silent is renewed from the last event on: the engine replays what it still
//! holds, so a half-open connection costs a repeat at most, and a quiet host is not listed again for it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error as BollardError;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::stream::{self, BoxStream, StreamExt};
use lb_core::{Result, RuntimeEvent};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::Host;
use crate::convert;
use crate::error::Failure;

/// A subscription this long without an event is renewed, lest it be half open.
const SILENCE: Duration = Duration::from_secs(8);

/// Waits between attempts to subscribe: doubled from the first to the last, each shortened by up to half.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(5);

/// The events asked for: those that change what `list` says.
const ACTIONS: [&str; 3] = ["start", "die", "destroy"];

type Messages = BoxStream<'static, Result<EventMessage, BollardError>>;

pub(super) fn events(host: Arc<Host>) -> BoxStream<'static, Result<RuntimeEvent>> {
    let watch = Watch { host, open: None, mark: None, failures: 0, told: false };
    stream::unfold(watch, |mut watch| async move { Some((watch.next().await, watch)) }).boxed()
}

struct Watch {
    host: Arc<Host>,
    open: Option<Messages>,
    /// Just after the last event, by the engine's clock, in nanoseconds since 1970.
    mark: Option<i128>,
    /// Attempts and subscriptions that ended since the last sign of life.
    failures: u32,
    /// Whether the row of failures has been told.
    told: bool,
}

impl Watch {
    async fn next(&mut self) -> Result<RuntimeEvent> {
        loop {
            match self.open.take() {
                Some(messages) => {
                    if let Some(event) = self.listen(messages).await {
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
    async fn listen(&mut self, mut messages: Messages) -> Option<RuntimeEvent> {
        match timeout(shortened(SILENCE), messages.next()).await {
            Ok(Some(Ok(message))) => {
                self.open = Some(messages);
                self.failures = 0;
                self.mark = message.time_nano.map(|t| i128::from(t) + 1).or(self.mark);
                convert::event(&message)
            }
            Ok(ended) => {
                tracing::info!(endpoint = %self.host.endpoint, error = ?ended, "engine events ended");
                self.failures += 1;
                self.host.engine.forget_version();
                None
            }
            Err(_) => {
                // The old one is held until the new one stands; if that fails, it is a gap.
                match self.subscribe(self.mark).await {
                    Ok(renewed) => {
                        self.open = Some(renewed);
                        self.failures = 0;
                    }
                    Err(_) => self.failures += 1,
                }
                drop(messages);
                None
            }
        }
    }

    /// Subscribes anew: `Resync`, or the first failure of a row.
    async fn begin(&mut self) -> Option<Result<RuntimeEvent>> {
        if self.failures > 0 {
            sleep(wait_after(self.failures)).await;
        }
        self.mark = None;
        match self.subscribe(None).await {
            Ok(messages) => {
                (self.open, self.told) = (Some(messages), false);
                Some(Ok(RuntimeEvent::Resync))
            }
            Err(failure) => {
                self.failures += 1;
                let engine = format!("engine {}", self.host.endpoint);
                let told = std::mem::replace(&mut self.told, true);
                (!told).then(|| Err(failure.into_error("watch", engine)))
            }
        }
    }

    /// Returns once the engine has taken the subscription.
    async fn subscribe(&mut self, since: Option<i128>) -> Result<Messages, Failure> {
        let deadline = self.host.deadlines.read;
        match timeout(deadline, self.subscribe_unbounded(since)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Late(deadline)),
        }
    }

    async fn subscribe_unbounded(&mut self, since: Option<i128>) -> Result<Messages, Failure> {
        let (taken, mut heard) = mpsc::channel(1);
        let docker = self.host.engine.listener(taken).await?;
        let mut filters: HashMap<String, Vec<String>> = convert::owned_by(&self.host.cluster);
        filters.insert("type".into(), vec!["container".into()]);
        filters.insert("event".into(), ACTIONS.map(str::to_owned).to_vec());
        let options = EventsOptionsBuilder::new().filters(&filters);
        let options = match since {
            Some(mark) => options.since(&unix_time(mark)),
            None => options,
        };
        let mut messages = docker.events(Some(options.build())).boxed();
        tokio::select! {
            biased;
            Some(taken) = heard.recv() => {
                // A second back: the head's date has no fractions.
                let begun = taken.at.map(|at| at.as_nanosecond() - 1_000_000_000);
                self.mark = self.mark.or(begun);
                Ok(messages)
            }
            first = messages.next() => match first {
                Some(Ok(message)) => {
                    Ok(stream::once(std::future::ready(Ok(message))).chain(messages).boxed())
                }
                Some(Err(error)) => Err(error.into()),
                None => Err(BollardError::from(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)).into()),
            },
        }
    }
}

/// As the engine takes a time: `seconds.nanoseconds`.
fn unix_time(nanoseconds: i128) -> String {
    const SECOND: i128 = 1_000_000_000;
    format!("{}.{:09}", nanoseconds.div_euclid(SECOND), nanoseconds.rem_euclid(SECOND))
}

fn wait_after(failures: u32) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(16));
    shortened(doubled.min(LAST_WAIT))
}

/// Between half of it and all of it, so that a fleet does not move in step.
fn shortened(time: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % 1024;
    time / 2 + (time / 2).mul_f64(random as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_are_never_nothing() {
        for (failures, least, most) in
            [(1, 50, 100), (3, 200, 400), (7, 2500, 5000), (u32::MAX, 2500, 5000)]
        {
            for _ in 0..100 {
                let wait = wait_after(failures).as_millis();
                assert!((least..=most).contains(&wait), "after {failures}: {wait} ms");
            }
        }
    }

    #[test]
    fn times_are_written_with_all_nine_digits() {
        assert_eq!(unix_time(1_700_000_000_000_000_001), "1700000000.000000001");
    }
}
