//! Who answers, and whether it runs what is remembered.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::engine::{Engine, blocking};
use super::filed::Filed;
use crate::control::{self, Processes, Status};
use lb_core::balancer::Failure;

/// How long an NGINX that should run may take to come back by itself.
const RESTART_PATIENCE: Duration = Duration::from_millis(1_500);
/// Time between two looks.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What answers.
#[derive(Debug)]
pub(crate) enum Met {
    /// Nobody.
    Down,
    /// A worker.
    Up(Status),
}

impl Engine {
    /// Who answers now.
    pub(super) async fn meet(&self) -> Result<Met, Failure> {
        match self.socket.status().await {
            // Workers whose master was killed still answer, and nobody can tell them anything.
            Ok(_) if self.parts.launch.sees_processes() && self.processes().await?.is_none() => {
                Ok(Met::Down)
            }
            Ok(status) => Ok(Met::Up(status)),
            Err(Failure::Connect { .. }) => Ok(Met::Down),
            Err(other) => Err(other),
        }
    }

    /// As [`meet`](Self::meet); one that should run is given the time its restart takes.
    pub(super) async fn meet_expected(&self) -> Result<Met, Failure> {
        let patience = Instant::now() + RESTART_PATIENCE;
        let mut expected = self.force.is_some();
        loop {
            match self.meet().await {
                Ok(Met::Down) if expected && Instant::now() < patience => sleep(LOOK_AGAIN).await,
                Ok(Met::Down) if !expected && Instant::now() < patience => {
                    let directory = self.parts.directory.clone();
                    expected = blocking(move || Filed::read(&directory)).await?.is_some();
                    if !expected {
                        return Ok(Met::Down);
                    }
                }
                Err(Failure::Cut { .. }) if Instant::now() < patience => sleep(LOOK_AGAIN).await,
                met => return met,
            }
        }
    }

    /// Brings what is remembered in line with who answers; takes over an NGINX that runs our files.
    pub(super) async fn remember(&mut self, met: &Met) -> Result<(), Failure> {
        let Met::Up(status) = met else { return Ok(()) };
        if self.force.as_ref().is_none_or(|force| force.mark != status.mark) {
            let directory = self.parts.directory.clone();
            let filed = blocking(move || Filed::read(&directory)).await?;
            self.force = filed.filter(|filed| filed.mark == status.mark);
            let adopted = self.force.is_some();
            tracing::info!(worker = status.pid, mark = %status.mark, adopted, "nginx runs");
        }
        Ok(())
    }

    /// The processes, where they can be seen.
    pub(super) async fn processes(&self) -> Result<Option<Processes>, Failure> {
        let config = self.parts.directory.config();
        blocking(move || Ok(Processes::find(&config))).await
    }

    /// How many workers of earlier configurations live; where nobody can tell, none.
    pub(super) async fn old_workers(&self) -> Result<u32, Failure> {
        Ok(self.count_old(self.processes().await?.as_ref()).await)
    }

    async fn count_old(&self, seen: Option<&Processes>) -> u32 {
        match seen {
            Some(processes) => processes.old.len() as u32,
            None => self.parts.launch.old_workers().await.unwrap_or_default(),
        }
    }

    /// Before a reload makes more old workers than there may be, the oldest end, with what they hold.
    pub(super) async fn make_room(&mut self) -> Result<(), Failure> {
        let workers = self.parts.settings.workers;
        let most = self.parts.max_old_workers.saturating_mul(workers);
        let seen = self.processes().await?;
        let old = self.count_old(seen.as_ref()).await;
        let too_many = old.saturating_add(workers).saturating_sub(most).min(old);
        if too_many == 0 {
            return Ok(());
        }
        let ports = self.force.iter().flat_map(|f| f.listeners.keys().copied()).collect();
        let seen = seen.map(|processes| processes.old).unwrap_or_default();
        let oldest: Vec<u32> = seen.into_iter().take(too_many as usize).collect();
        let cut = blocking(move || {
            Ok(oldest.into_iter().map(|worker| control::clients_of(worker, &ports)).sum::<u64>())
        })
        .await?;
        tracing::warn!(old, most, ended = too_many, cut, "the oldest workers have to end");
        self.parts.launch.end_oldest(too_many).await?;
        self.cut += cut;
        Ok(())
    }

    /// Whether somebody edited the files. What runs may have been loaded with them: the next table reloads it.
    pub(super) async fn look_for_edits(&self) -> Result<bool, Failure> {
        let directory = self.parts.directory.clone();
        blocking(move || Ok(directory.look_for_edits()?)).await
    }
}
