//! Bringing a configuration up that is in place: started or reloaded, and seen running.

use std::time::Duration;

use lb_core::balancer::Failure;
use tokio::time::{Instant, sleep};

use super::compose::Composed;
use super::engine::Engine;
use super::log::complaints;
use super::look::{LOOK_AGAIN, Met};
use crate::control::{Processes, Reloaded, WorkerInfo};

/// Longest time a master may take to read a small configuration...
const LOADED_WITHIN: Duration = Duration::from_secs(15);
/// ... and from then on until the new worker shows its mark and the old one has stopped to accept...
const SEEN_WITHIN: Duration = Duration::from_secs(2);
/// ... and more for each so many bytes of configuration. Of 9 MB, 3.4 reads some 6 MB a second, and 0.8 MB where the
/// CPUs are busy.
const BYTES_A_SECOND: usize = 512 * 1024;

/// How often the log is read while HAProxy does not come up: it may say what to do otherwise.
const LOG_AGAIN: Duration = Duration::from_millis(500);

/// What is seen of a new worker.
#[derive(Debug)]
enum Seen {
    /// Nothing yet: the configuration is still read.
    Loading,
    /// It has been read.
    Loaded,
    /// It serves, and no earlier one accepts.
    Serving(WorkerInfo),
}

impl Engine {
    /// Starts or reloads, and waits until the new worker is seen.
    pub(super) async fn bring_up(
        &self,
        composed: &Composed,
        met: &Met,
    ) -> Result<WorkerInfo, Failure> {
        let reading = Duration::from_secs((composed.text.len() / BYTES_A_SECOND) as u64);
        if matches!(met, Met::Down) {
            self.parts.launch.start().await?;
            let deadline = Instant::now() + self.parts.launch.start_deadline() + reading;
            return self.started(composed.mark(), deadline).await;
        }
        let before = self.processes().await?;
        let deadline = Instant::now() + LOADED_WITHIN + reading;
        loop {
            match self.master.reload(deadline.saturating_duration_since(Instant::now())).await? {
                Reloaded::Refused(log) => return Err(not_seen(complaints(&log))),
                Reloaded::Busy if Instant::now() < deadline => sleep(LOOK_AGAIN).await,
                Reloaded::Busy => return Err(not_seen("an earlier reload does not end")),
                Reloaded::Done | Reloaded::Unknown => {
                    return self.reloaded(composed.mark(), &before, deadline, reading).await;
                }
            }
        }
    }

    /// Waits for a worker that carries the mark and accepts.
    async fn started(&self, mark: &str, deadline: Instant) -> Result<WorkerInfo, Failure> {
        let mut read = Instant::now();
        loop {
            if let Seen::Serving(worker) = self.look(mark, None).await? {
                return Ok(worker);
            }
            let late = Instant::now() >= deadline;
            if late || read.elapsed() >= LOG_AGAIN {
                read = Instant::now();
                let log = complaints(&self.parts.launch.log().await);
                if late || self.parts.resources.would_learn(&log) {
                    return Err(late_of(mark, &log));
                }
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits for one that is new as well, until no earlier one accepts. A master that still reads is no failure: put
    /// back now, the files would be the old ones for a HAProxy that comes up with the new.
    async fn reloaded(
        &self,
        mark: &str,
        before: &Processes,
        mut deadline: Instant,
        reading: Duration,
    ) -> Result<WorkerInfo, Failure> {
        let mut loaded = false;
        loop {
            match self.look(mark, Some(before)).await? {
                Seen::Serving(worker) => return Ok(worker),
                Seen::Loaded if !loaded => {
                    loaded = true;
                    deadline = Instant::now() + SEEN_WITHIN + reading;
                }
                Seen::Loaded | Seen::Loading => {}
            }
            if Instant::now() >= deadline {
                return Err(late_of(mark, &complaints(&self.parts.launch.log().await)));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn look(&self, mark: &str, before: Option<&Processes>) -> Result<Seen, Failure> {
        // The master is itself replaced during a reload, and may not be there yet after a start.
        let Ok(now) = self.master.processes().await else { return Ok(Seen::Loading) };
        if before.is_some_and(|b| now.master == b.master && now.reloads <= b.reloads) {
            return Ok(Seen::Loading);
        }
        if before.is_some() && now.failed > 0 {
            return Err(not_seen(complaints(&self.parts.launch.log().await)));
        }
        let earlier = before.and_then(Processes::worker);
        let worker = now.worker().filter(|w| Some(*w) != earlier);
        let Some(worker) = worker else { return Ok(Seen::Loaded) };
        let Ok(info) = self.master.info(worker).await else { return Ok(Seen::Loaded) };
        if info.mark != mark || info.stopping {
            return Ok(Seen::Loaded);
        }
        let accepts = match earlier.filter(|worker| now.old.contains(worker)) {
            // One that does not say so may still accept; one that ended is not among the old next time.
            Some(old) => !self.master.info(old).await.is_ok_and(|info| info.stopping),
            None => false,
        };
        Ok(if accepts { Seen::Loaded } else { Seen::Serving(info) })
    }
}

fn not_seen(message: impl Into<String>) -> Failure {
    Failure::NotSeen { message: message.into() }
}

fn late_of(mark: &str, log: &str) -> Failure {
    not_seen(format!("no worker with mark {mark} in time; {log}"))
}
