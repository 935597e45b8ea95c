//! The one owner of an NGINX.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use lb_core::balancer::{ConfigDirectory, Failure, Refused, TableEngine, Totals, Turn};
use lb_core::{BalancerInfo, ConfigRenderer, FileName, RoutingTable};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::abilities::Abilities;
use super::compose::{LOG_SOCKET, NONE_SOCKET, ORDERS, PRIVATE, STATUS_SOCKET, TEMPORARY};
use super::filed::Filed;
use super::launch::{Launch, Worker};
use super::main_lines::MainSettings;
use super::traffic::Times;
use crate::control::{Receiver, StatusSocket};

/// What a balancer is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub directory: ConfigDirectory,
    pub renderer: Arc<dyn ConfigRenderer>,
    pub launch: Box<dyn Launch>,
    pub settings: MainSettings,
    /// Most old workers beside each current one.
    pub max_old_workers: u32,
}

/// The one owner.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(super) parts: Parts,
    pub(super) socket: StatusSocket,
    /// What the binary can do, once that was found out.
    ground: Option<Found>,
    /// What the running NGINX is known to have in force.
    pub(super) force: Option<Filed>,
    pub(super) totals: Totals,
    pub(super) times: Times,
    pub(super) log: Option<Receiver>,
    pub(super) reloads: u64,
    /// Connections of old workers that were cut to make room.
    pub(super) cut: u64,
    pub(super) last_attempt: Option<Instant>,
    /// When its workers were replaced last; before that this process did not know it.
    pub(super) replaced: Instant,
    pub(super) refused: Refused,
}

/// What was found out about the binary.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub abilities: Arc<Abilities>,
    pub worker: Option<Worker>,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            socket: StatusSocket::new(parts.directory.path().join(STATUS_SOCKET)),
            parts,
            ground: None,
            force: None,
            totals: Totals::default(),
            times: Times::default(),
            log: None,
            reloads: 0,
            cut: 0,
            last_attempt: None,
            replaced: Instant::now(),
            refused: Refused::default(),
        }
    }

    /// What the binary can do; the directory is then ready for it.
    pub(super) async fn ground(&mut self) -> Result<Found, Failure> {
        if let Some(found) = &self.ground {
            return Ok(found.clone());
        }
        let worker = {
            self.prepare(None).await?;
            self.parts.launch.worker().await?
        };
        self.prepare(worker.clone()).await?;
        let abilities = Abilities::find(&self.parts, worker.as_ref()).await?;
        let found = Found { abilities: Arc::new(abilities), worker };
        self.ground = Some(found.clone());
        Ok(found)
    }

    /// Makes the directories. Workers search the first and write temporary files; the rest is the owner's.
    async fn prepare(&self, worker: Option<Worker>) -> Result<(), Failure> {
        let directory = self.parts.directory.clone();
        blocking(move || {
            let path = directory.path();
            directory.make(path, 0o755)?;
            directory.allow(path, 0o711)?;
            directory.make(&path.join(PRIVATE), 0o700)?;
            let temporary = path.join(TEMPORARY);
            directory.make(&temporary, 0o711)?;
            for kind in ["body", "proxy", "fastcgi", "uwsgi", "scgi"] {
                let path = temporary.join(kind);
                directory.make(&path, 0o700)?;
                if let Some(Worker { uid, gid, .. }) = worker {
                    directory.give(&path, uid, gid)?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Listens for log lines, if nobody does yet.
    pub(super) async fn listen(&mut self) -> Result<(), Failure> {
        if self.log.is_none() {
            let uid = self.ground().await?.worker.map(|w| w.uid);
            self.log = Some(Receiver::bind(&self.parts.directory.path().join(LOG_SOCKET), uid)?);
        }
        Ok(())
    }

    /// The files people may look at.
    pub(crate) async fn files(&mut self) -> Result<BTreeMap<FileName, String>, Failure> {
        let directory = self.parts.directory.clone();
        blocking(move || match Filed::read(&directory)? {
            Some(filed) => Ok(directory.shown(filed.files)?),
            None => Ok(BTreeMap::new()),
        })
        .await
    }

    /// What it is.
    pub(crate) async fn describe(&mut self) -> Result<BalancerInfo, Failure> {
        let abilities = self.ground().await?.abilities;
        Ok(BalancerInfo {
            name: "nginx".to_owned(),
            version: abilities.said.clone(),
            servers_without_reload: false,
            membership: abilities.version.membership(),
            abilities: BTreeSet::new(),
            reloads: self.reloads,
            cut: self.cut,
        })
    }

    /// Ends it and removes what it made.
    pub(crate) async fn shutdown(&mut self) -> Result<(), Failure> {
        self.parts.launch.stop().await?;
        (self.force, self.log, self.ground) = (None, None, None);
        let directory = self.parts.directory.clone();
        blocking(move || {
            let files = Filed::read(&directory)?.map(|filed| filed.files).unwrap_or_default();
            let ours = files.iter().map(FileName::as_str);
            let sockets = [STATUS_SOCKET, NONE_SOCKET, LOG_SOCKET, ORDERS, "nginx.pid"];
            for path in [PRIVATE, TEMPORARY].map(|name| directory.path().join(name)) {
                remove_all(&path)?;
            }
            Ok(directory.clear(ours.chain(sockets))?)
        })
        .await
    }
}

fn remove_all(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            let subject = path.display().to_string();
            let kind = lb_core::ErrorKind::Unavailable;
            Err(lb_core::Error::new(kind, "", subject, format!("cannot be removed: {e}")).into())
        }
        _ => Ok(()),
    }
}

#[async_trait]
impl TableEngine for Engine {
    type Failure = Failure;
    const NAME: &'static str = "nginx";

    async fn apply(&mut self, table: &RoutingTable) -> Result<Turn, Failure> {
        self.bring(table).await
    }

    fn error(failure: Failure, operation: &'static str) -> lb_core::Error {
        failure.during(operation, super::PROGRAM)
    }
}

/// Runs file work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let ended = |e: tokio::task::JoinError| Failure::Start { message: e.to_string() };
    spawn_blocking(work).await.map_err(ended)?
}
