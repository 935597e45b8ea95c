//! Who answers, and whether it runs what is remembered.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::engine::{Engine, blocking, filed};
use super::filed::Filed;
use super::loaded::Loaded;
use super::members::Member;
use crate::control::{self, Processes, Session, WorkerInfo};
use lb_core::balancer::Failure;

/// How long a HAProxy that should run may take to come back by itself.
const RESTART_PATIENCE: Duration = Duration::from_millis(1_500);
/// How long an old worker may go on accepting after a reload.
const STOPPING_PATIENCE: Duration = Duration::from_secs(2);
/// Time between two looks.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The table in force, shown by the balancer itself.
#[derive(Debug)]
pub(crate) struct InForce {
    /// As in the file.
    pub filed: Filed,
    /// What the worker has.
    pub loaded: Loaded,
    /// The run of the worker that carries it.
    pub run: u64,
    /// Servers that left but could not be forgotten yet; they take no requests.
    pub lingering: Vec<Member>,
    /// How far it is known to be as the files say.
    pub known: Known,
    /// Whether there may be old workers.
    pub old_workers: bool,
}

/// What is known of what changes without a reload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Whether the worker's servers are the file's.
    pub servers: bool,
    /// Whether its maps are the directory's.
    pub maps: bool,
    /// Whether its certificates are.
    pub certificates: bool,
}

impl InForce {
    /// Whether all the worker has is known to be as the files say.
    pub(super) fn is_known(&self) -> bool {
        let Known { servers, maps, certificates } = self.known;
        let all = servers && maps && certificates;
        all && !self.filed.unfinished && self.lingering.is_empty()
    }
}

/// What answers.
#[derive(Debug)]
pub(crate) enum Met {
    /// Nobody.
    Down,
    /// A master, but no worker with our sockets: of a configuration that is not ours.
    Foreign,
    /// A worker.
    Up(Session, WorkerInfo),
}

impl Engine {
    /// The processes of a HAProxy that answers. Its master is away for a moment when it has just started or
    /// reloaded: it executes itself again.
    pub(super) async fn processes(&self) -> Result<Processes, Failure> {
        let patience = Instant::now() + STOPPING_PATIENCE;
        loop {
            match self.master.processes().await {
                Err(Failure::Connect { .. } | Failure::Cut { .. }) if Instant::now() < patience => {
                    sleep(LOOK_AGAIN).await;
                }
                processes => return processes,
            }
        }
    }

    /// Who answers now. An old worker that still accepts is waited for.
    pub(crate) async fn meet(&self) -> Result<Met, Failure> {
        let patience = Instant::now() + STOPPING_PATIENCE;
        loop {
            match control::meet(&self.admin).await {
                Ok((session, info)) if !info.stopping => return Ok(Met::Up(session, info)),
                Ok(_) => {}
                Err(Failure::Connect { .. } | Failure::Cut { .. }) => {
                    match self.master.processes().await {
                        Err(Failure::Connect { .. }) => return Ok(Met::Down),
                        Ok(p) if p.worker().is_none() && p.old.is_empty() => {
                            return Ok(Met::Foreign);
                        }
                        Ok(_) | Err(Failure::Cut { .. }) => {}
                        Err(other) => return Err(other),
                    }
                }
                Err(other) => return Err(other),
            }
            if Instant::now() > patience {
                return Ok(Met::Foreign);
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// As [`meet`](Self::meet); one that should run is given the time its restart takes.
    pub(super) async fn meet_expected(&self) -> Result<Met, Failure> {
        let patience = Instant::now() + RESTART_PATIENCE;
        let mut expected = self.force.is_some();
        loop {
            match self.meet().await? {
                Met::Down if expected && Instant::now() < patience => sleep(LOOK_AGAIN).await,
                Met::Down if !expected && Instant::now() < patience => {
                    let directory = self.parts.directory.clone();
                    expected = blocking(move || filed(&directory)).await?.is_some();
                    if !expected {
                        return Ok(Met::Down);
                    }
                }
                met => return Ok(met),
            }
        }
    }

    /// Brings what is remembered in line with who answers; takes over a HAProxy that runs our file.
    pub(super) async fn remember(&mut self, met: &Met) -> Result<(), Failure> {
        let Met::Up(_, info) = met else {
            if let Some(force) = &mut self.force {
                force.known.servers = false;
            }
            return Ok(());
        };
        match &mut self.force {
            Some(force) if force.loaded.mark == info.mark => {
                if force.run != info.run() {
                    tracing::info!(worker = info.pid, "another worker");
                    force.run = info.run();
                    force.known = Known::default();
                    force.old_workers = true;
                    force.lingering.clear();
                }
            }
            _ => {
                let directory = self.parts.directory.clone();
                let filed = blocking(move || filed(&directory)).await?;
                self.force = filed.filter(|f| f.loaded.mark == info.mark).map(|filed| InForce {
                    loaded: filed.loaded.clone(),
                    filed,
                    run: info.run(),
                    lingering: Vec::new(),
                    known: Known::default(),
                    old_workers: true,
                });
                let adopted = self.force.is_some();
                tracing::info!(worker = info.pid, mark = %info.mark, adopted, "haproxy runs");
            }
        }
        Ok(())
    }

    /// Whether somebody edited the files. What runs may have been loaded with them: the next table reloads it.
    pub(super) async fn look_for_edits(&self) -> Result<bool, Failure> {
        let directory = self.parts.directory.clone();
        blocking(move || Ok(directory.look_for_edits()?)).await
    }
}
