//! A new shape: checked, put in place, started or reloaded, and seen running; or everything put back.

use std::time::Duration;

use lb_core::balancer::{Aside, Failure, Owner, reasons, shortened};
use lb_core::{Change, TableHash};
use tokio::time::{Instant, sleep};

use super::compose::Composed;
use super::culprits::culprits;
use super::engine::{Engine, blocking, filed};
use super::filed::Filed;
use super::launch::{Checked, complaints};
use super::look::{InForce, LOOK_AGAIN, Met};
use super::members::Member;
use super::totals::readings;
use crate::control::{Processes, Reloaded, WorkerInfo};

/// Longest time from the reload until the new worker shows its mark and the old one has stopped to accept...
const SEEN_WITHIN: Duration = Duration::from_secs(2);
/// ... and more for each so many bytes of configuration, which take time to read.
const BYTES_A_SECOND: usize = 4 * 1024 * 1024;

/// How often the log is read while HAProxy does not come up: it may say what to do otherwise.
const LOG_AGAIN: Duration = Duration::from_millis(500);

/// How a try ended, when it did not fail for good.
#[derive(Debug)]
pub(crate) enum Tried {
    /// In force.
    Changed(Change),
    /// HAProxy refuses these parts; without them it may come up.
    Refused(Aside, Failure),
    /// Something was learnt: compose again.
    Again,
}

impl Engine {
    /// Tries a new shape.
    pub(super) async fn reload(
        &mut self,
        composed: &Composed,
        asked: TableHash,
        met: &Met,
    ) -> Result<Tried, Failure> {
        self.last_attempt = Some(Instant::now());
        let (directory, staged) = (self.parts.directory.clone(), composed.clone());
        blocking(move || Ok(directory.stage(staged.contents())?)).await?;
        if let Some(refused) = self.check(composed).await? {
            return Ok(refused);
        }
        self.count_before_reload(met).await;
        let directory = self.parts.directory.clone();
        let snapshot = {
            let (directory, staged) = (directory.clone(), composed.clone());
            blocking(move || Ok(directory.snapshot(staged.names())?)).await?
        };
        let placed = {
            let (directory, staged) = (directory.clone(), composed.clone());
            blocking(move || Ok(directory.promote(staged.names())?)).await
        };
        let seen = match placed {
            Ok(()) => self.bring_up(composed, met).await,
            Err(error) => Err(error),
        };
        let worker = match seen {
            Ok(worker) => worker,
            Err(Failure::Start { message }) if self.parts.launch.owner() == Owner::Platform => {
                // It has passed the check, and the platform cannot start HAProxy without it.
                return Err(Failure::Start { message });
            }
            Err(error) => {
                tracing::warn!(%error, "rolling back");
                blocking(move || Ok(directory.restore(&snapshot)?)).await?;
                return self.after_failure(error, met).await;
            }
        };
        let change = match met {
            Met::Down => Change::Start,
            Met::Foreign | Met::Up(..) => Change::Reload,
        };
        self.in_force(Filed::of(composed, asked), &worker, change).await;
        Ok(Tried::Changed(change))
    }

    /// HAProxy's own opinion of the staged files.
    async fn check(&mut self, composed: &Composed) -> Result<Option<Tried>, Failure> {
        let staged = self.parts.directory.staged_config();
        let Checked::Invalid(output) = self.parts.launch.check(&staged).await? else {
            return Ok(None);
        };
        let parts = culprits(&output, composed, &staged);
        let message = match parts.is_empty() {
            true => shortened(&output),
            false => reasons(&parts),
        };
        tracing::warn!(%message, "configuration refused");
        let failure = Failure::Configuration { message };
        match parts.is_empty() {
            true => Err(failure),
            false => Ok(Some(Tried::Refused(parts, failure))),
        }
    }

    /// The counters of a worker that is about to become an old one, while they are easily read.
    async fn count_before_reload(&mut self, met: &Met) {
        let Met::Up(_, info) = met else { return };
        if let Ok(stat) = self.master.stat(info.pid).await {
            self.totals.add(info.run(), readings(&stat));
        }
    }

    /// Starts or reloads, and waits until the new worker is seen.
    async fn bring_up(&self, composed: &Composed, met: &Met) -> Result<WorkerInfo, Failure> {
        let size = Duration::from_secs((composed.text.len() / BYTES_A_SECOND) as u64);
        if matches!(met, Met::Down) {
            self.parts.launch.start().await?;
            let deadline = Instant::now() + self.parts.launch.start_deadline() + size;
            return self.seen(&composed.mark, None, deadline).await;
        }
        let before = self.processes().await?;
        match self.master.reload().await? {
            Reloaded::Refused(log) => Err(Failure::NotSeen { message: complaints(&log) }),
            Reloaded::Done | Reloaded::Unknown => {
                let deadline = Instant::now() + SEEN_WITHIN + size;
                self.seen(&composed.mark, Some(&before), deadline).await
            }
        }
    }

    /// Waits for a worker that is new, carries the mark and accepts, while no earlier one does.
    async fn seen(
        &self,
        mark: &str,
        before: Option<&Processes>,
        deadline: Instant,
    ) -> Result<WorkerInfo, Failure> {
        let mut read = Instant::now();
        loop {
            if let Some(worker) = self.look(mark, before).await? {
                return Ok(worker);
            }
            let late = Instant::now() >= deadline;
            if late || (before.is_none() && read.elapsed() >= LOG_AGAIN) {
                read = Instant::now();
                let log = complaints(&self.parts.launch.log().await);
                if late || self.parts.resources.would_learn(&log) {
                    let message = format!("no worker with mark {mark} in time; {log}");
                    return Err(Failure::NotSeen { message });
                }
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn look(
        &self,
        mark: &str,
        before: Option<&Processes>,
    ) -> Result<Option<WorkerInfo>, Failure> {
        // The master is itself replaced during a reload, and may not be there yet after a start.
        let Ok(now) = self.master.processes().await else { return Ok(None) };
        if before.is_some_and(|b| now.reloads > b.reloads) && now.failed > 0 {
            let message = complaints(&self.parts.launch.log().await);
            return Err(Failure::NotSeen { message });
        }
        let earlier = before.and_then(Processes::worker);
        let Some(worker) = now.worker().filter(|w| Some(*w) != earlier) else { return Ok(None) };
        let Ok(info) = self.master.info(worker).await else { return Ok(None) };
        if info.mark != mark || info.stopping {
            return Ok(None);
        }
        let accepts = match earlier.filter(|worker| now.old.contains(worker)) {
            // One that does not say so may still accept; one that ended is not among the old next time.
            Some(old) => !self.master.info(old).await.is_ok_and(|info| info.stopping),
            None => false,
        };
        Ok((!accepts).then_some(info))
    }

    /// The files are the last good ones again: what now?
    async fn after_failure(&mut self, error: Failure, met: &Met) -> Result<Tried, Failure> {
        if let Some(force) = &mut self.force {
            (force.settled, force.certified) = (false, false);
        }
        let learnt = self.parts.resources.learn(&error.to_string()) || {
            let log = self.parts.launch.log().await;
            self.parts.resources.learn(&complaints(&log))
        };
        match (met, self.meet().await) {
            // It did not come up at all: it must not try for ever with files that are gone.
            (Met::Down, Ok(Met::Down | Met::Foreign) | Err(_)) => {
                let master = self.master.processes().await.ok().map(|p| p.master);
                self.parts.launch.stop(master).await?;
                let directory = self.parts.directory.clone();
                // It was down by accident: back up as it ran before, unless the next try follows at once.
                if !learnt && blocking(move || filed(&directory)).await?.is_some() {
                    self.parts.launch.start().await?;
                }
            }
            // It ran before and does not any more: back up with the files it ran with.
            (_, Ok(Met::Down)) => self.parts.launch.start().await?,
            _ => {}
        }
        if learnt {
            tracing::info!(limit = ?self.parts.resources.descriptors, "file descriptors");
            return Ok(Tried::Again);
        }
        Err(error)
    }

    async fn in_force(&mut self, filed: Filed, worker: &WorkerInfo, change: Change) {
        let before = self.force.take();
        let directory = self.parts.directory.clone();
        let gone: Vec<Member> = match &before {
            Some(before) => left(&before.filed, &filed),
            None => Vec::new(),
        };
        if let Some(before) = before {
            let (old, new) = (before.filed.files, filed.files.clone());
            let tidy = move || {
                directory.tidy(&old, &new);
                Ok(())
            };
            let _ = blocking(tidy).await;
        }
        if change == Change::Reload {
            self.reloads += 1;
        }
        tracing::info!(worker = worker.pid, mark = %filed.mark, ?change, "configuration in force");
        self.force = Some(InForce {
            filed,
            run: worker.run(),
            lingering: Vec::new(),
            settled: true,
            certified: true,
            old_workers: change == Change::Reload,
        });
        self.shut_on_old_workers(&gone).await;
    }
}

/// Servers that were in one table and are not in the next.
fn left(before: &Filed, now: &Filed) -> Vec<Member> {
    let mut left = Vec::new();
    for (backend, entries) in &before.servers {
        let stay = now.servers.get(backend).map(|b| &b.servers);
        for (server, entry) in &entries.servers {
            if stay.is_none_or(|stay| !stay.contains_key(server)) {
                let (backend, server) = (backend.clone(), server.clone());
                left.push(Member { backend, server, id: entry.id });
            }
        }
    }
    left
}
