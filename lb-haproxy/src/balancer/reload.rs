//! A new shape: checked, put in place, started or reloaded, and seen running; or everything put back.

use lb_core::balancer::{Aside, Failure, Owner, reasons, shortened};
use lb_core::{Change, TableHash};
use tokio::time::Instant;

use super::compose::Composed;
use super::culprits::culprits;
use super::engine::{Engine, blocking, filed};
use super::filed::Filed;
use super::launch::Checked;
use super::log::complaints;
use super::look::{InForce, Known, Met};
use super::members::Member;
use super::totals::readings;
use crate::control::WorkerInfo;

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
        self.make_room().await;
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

    /// The files are the last good ones again: what now?
    async fn after_failure(&mut self, error: Failure, met: &Met) -> Result<Tried, Failure> {
        if let Some(force) = &mut self.force {
            force.known = Known::default();
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
        tracing::info!(worker = worker.pid, mark = %filed.loaded.mark, ?change, "configuration in force");
        self.parts.directory.loaded();
        self.force = Some(InForce {
            loaded: filed.loaded.clone(),
            filed,
            run: worker.run(),
            lingering: Vec::new(),
            known: Known { servers: true, maps: true, certificates: true },
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
