//! The one owner of a HAProxy: finds out what runs, and brings it to the table asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lb_core::balancer::{
    Aside, ConfigDirectory, Failure, Held, LONGEST_RELOAD_INTERVAL, Owner, Refused, TableEngine,
    Totals, Turn, named_by, reasons, reduced, reload_interval,
};
use lb_core::{
    Applied, BalancerInfo, ConfigRenderer, FileName, Membership, RoutingTable, TableHash,
};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::compose::{
    ADMIN_SOCKET, Composed, GlobalSettings, Ground, MASTER_SOCKET, PEERS_SOCKET, standard_shapes,
};
use super::filed::Filed;
use super::launch::Launch;
use super::limits::Resources;
use super::loaded::Shapes;
use super::look::{InForce, Met};
use super::reload::Tried;
use crate::control::{Master, Socket};
use crate::{Abilities, Version};

/// Most times one call tries again with parts set aside.
const MOST_TRIES: u32 = 6;
/// How long a port may still be held by a HAProxy of ours that just ended.
const PORT_PATIENCE: Duration = Duration::from_secs(1);

/// What a balancer is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub directory: ConfigDirectory,
    pub master_socket: std::path::PathBuf,
    pub renderer: Arc<dyn ConfigRenderer>,
    pub launch: Box<dyn Launch>,
    pub settings: GlobalSettings,
    /// Most old workers beside the current one.
    pub max_old_workers: u32,
    pub resources: Resources,
}

/// The one owner.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(super) parts: Parts,
    pub(super) master: Master,
    pub(super) admin: Socket,
    /// What the running HAProxy is known to have in force.
    pub(super) force: Option<InForce>,
    pub(super) totals: Totals,
    pub(super) reloads: u64,
    pub(super) last_attempt: Option<Instant>,
    /// Connections of old workers that were shut to make room.
    pub(super) cut: u64,
    /// Of the HAProxy that runs or will be started, once it is known.
    told: Option<Told>,
    refused: Refused,
    /// What most backends are made from.
    shapes: Shapes,
}

/// A version, read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    text: String,
    abilities: Abilities,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Self {
        let shapes = standard_shapes(&*parts.renderer);
        Self {
            master: Master::new(Socket::new(&parts.master_socket)),
            admin: Socket::new(parts.directory.path().join(ADMIN_SOCKET)),
            parts,
            force: None,
            totals: Totals::default(),
            reloads: 0,
            last_attempt: None,
            cut: 0,
            told: None,
            refused: Refused::default(),
            shapes,
        }
    }

    async fn bring(&mut self, table: &RoutingTable) -> Result<Turn, Failure> {
        table.check()?;
        let asked = table.hash();
        let mut met = self.meet_expected().await?;
        self.remember(&met).await?;
        self.look_for_edits().await?;
        // A container that tells its version has it mounted.
        let directory = self.parts.directory.clone();
        blocking(move || Ok(directory.make(directory.path(), 0o755)?)).await?;
        self.parts.settings.abilities = self.told(&met).await?.abilities;
        let mut aside = self.refused.still(table, Instant::now());
        let (mut held, mut failure) = (Held::default(), None);
        for _ in 0..MOST_TRIES {
            let reduced = reduced(table, &aside);
            if reduced.backends.is_empty() && !table.backends.is_empty() {
                return Err(failure.unwrap_or_else(|| none_left(&aside)));
            }
            let composed = match self.compose(&reduced, asked, &met) {
                Ok(composed) => composed,
                Err(Failure::Other(error)) => {
                    let part = named_by(&error, table).filter(|p| !aside.contains_key(p));
                    let Some(part) = part else { return Err(error.into()) };
                    aside.insert(part, error.to_string());
                    failure = Some(error.into());
                    continue;
                }
                Err(other) => return Err(other),
            };
            if let Some(change) = self.without_reload(&composed, asked, &mut met).await? {
                return Ok(Turn::Applied(Applied { table: asked, change, set_aside: aside }));
            }
            let taken = self.hold_ports(&composed, &met, &mut held).await;
            if !taken.is_empty() {
                aside.extend(taken);
                continue;
            }
            if let Some(wait) = self.too_early(&met).await? {
                return Ok(Turn::Wait(wait));
            }
            match self.reload(&composed, asked, &met).await? {
                Tried::Changed(change) => {
                    drop(held);
                    return Ok(Turn::Applied(Applied { table: asked, change, set_aside: aside }));
                }
                Tried::Refused(parts, reason) => {
                    self.refused.remember(table, &parts, Instant::now());
                    aside.extend(parts);
                    failure = Some(reason);
                }
                Tried::Again => {}
            }
            // A check that set something aside is part of this attempt, not the next.
            self.last_attempt = None;
        }
        Err(failure.unwrap_or_else(|| none_left(&aside)))
    }

    /// The files people may look at.
    pub(crate) async fn files(&mut self) -> Result<BTreeMap<FileName, String>, Failure> {
        let directory = self.parts.directory.clone();
        blocking(move || match filed(&directory)? {
            Some(filed) => Ok(directory.shown(filed.files)?),
            None => Ok(BTreeMap::new()),
        })
        .await
    }

    /// What it is.
    pub(crate) async fn describe(&mut self) -> Result<BalancerInfo, Failure> {
        let met = self.meet().await?;
        // Nothing is run before the first table.
        let is_begun = matches!(met, Met::Up(..)) || self.parts.directory.path().exists();
        let told = if is_begun { Some(self.told(&met).await) } else { None };
        let (version, abilities) = match told {
            None => Default::default(),
            Some(Ok(told)) => (told.text.clone(), told.abilities.shown()),
            Some(Err(error)) if matches!(met, Met::Up(..)) => return Err(error),
            Some(Err(error)) => {
                tracing::debug!(%error, "version not known yet");
                Default::default()
            }
        };
        Ok(BalancerInfo {
            name: "haproxy".to_owned(),
            version,
            servers_without_reload: true,
            membership: Membership::RunTime,
            abilities,
            reloads: self.reloads,
            cut: self.cut,
        })
    }

    /// What runs tells; where nothing does, the program that will, once.
    async fn told(&mut self, met: &Met) -> Result<&Told, Failure> {
        let text = match (met, self.told.take()) {
            (Met::Up(_, info), Some(told)) if told.text == info.version => {
                return Ok(self.told.insert(told));
            }
            (Met::Down | Met::Foreign, Some(told)) => return Ok(self.told.insert(told)),
            (Met::Up(_, info), _) => info.version.clone(),
            (Met::Down | Met::Foreign, None) => self.parts.launch.version().await?,
        };
        let abilities = text.parse::<Version>()?.abilities();
        Ok(self.told.insert(Told { text, abilities }))
    }

    /// Ends it and removes what it made.
    pub(crate) async fn shutdown(&mut self) -> Result<(), Failure> {
        if self.parts.launch.owner() == Owner::Platform {
            return self.leave().await;
        }
        let master = self.master.processes().await.ok().map(|p| p.master);
        self.parts.launch.stop(master).await?;
        self.force = None;
        let directory = self.parts.directory.clone();
        blocking(move || {
            let files = filed(&directory)?.map(|filed| filed.files).unwrap_or_default();
            let ours = files.iter().map(FileName::as_str);
            Ok(directory.clear(ours.chain([MASTER_SOCKET, ADMIN_SOCKET, PEERS_SOCKET]))?)
        })
        .await
    }

    /// A HAProxy of the platform goes on, with nothing of ours.
    async fn leave(&mut self) -> Result<(), Failure> {
        while let Turn::Wait(time) = match self.meet().await? {
            Met::Down => return Ok(()),
            Met::Foreign | Met::Up(..) => self.bring(&RoutingTable::default()).await?,
        } {
            sleep(time).await;
        }
        self.force = None;
        Ok(())
    }

    /// Holds the ports HAProxy does not listen on yet; gives those that cannot be had. Where it runs
    /// something unknown, none can be told.
    async fn hold_ports(&self, composed: &Composed, met: &Met, held: &mut Held) -> Aside {
        let none = BTreeSet::new();
        let known = match (met, &self.force) {
            (Met::Down | Met::Foreign, _) => &none,
            (Met::Up(_, info), Some(force)) if force.loaded.mark == info.mark => {
                &force.filed.listeners
            }
            (Met::Up(_, info), _) if info.mark.is_empty() => &none,
            (Met::Up(..), _) => return Aside::new(),
        };
        let mut ports = composed.binds();
        ports.retain(|port, _| !known.contains(port));
        // A HAProxy of ours that has just ended may hold its ports a moment longer.
        let patience = if matches!(met, Met::Down) { PORT_PATIENCE } else { Duration::ZERO };
        held.take(&ports, self.parts.launch.owner(), patience).await
    }

    fn compose(
        &self,
        table: &RoutingTable,
        asked: TableHash,
        met: &Met,
    ) -> Result<Composed, Failure> {
        let rendered = self.parts.renderer.render(table)?;
        let servers = table.backends.values().map(|b| b.servers.len()).sum();
        let running = match (met, &self.force) {
            (Met::Up(_, info), Some(force))
                if force.loaded.mark == info.mark && !self.parts.directory.is_edited() =>
            {
                Some(&force.loaded)
            }
            _ => None,
        };
        let ground = Ground {
            dir: self.parts.directory.path(),
            settings: &self.parts.settings,
            limits: self.parts.resources.limits(servers),
            running,
            shapes: &self.shapes,
        };
        Composed::new(table, asked, rendered, ground)
    }

    /// How long the next reload has to wait: the longer, the more old workers hold connections.
    async fn too_early(&self, met: &Met) -> Result<Option<Duration>, Failure> {
        let Some(since) = self.last_attempt.map(|at| at.elapsed()) else { return Ok(None) };
        if since >= LONGEST_RELOAD_INTERVAL {
            return Ok(None);
        }
        let old = match met {
            Met::Up(..) if self.force.as_ref().is_some_and(|force| force.old_workers) => {
                self.processes().await?.old.len() as u32
            }
            _ => 0,
        };
        Ok(reload_interval(old).checked_sub(since).filter(|wait| !wait.is_zero()))
    }
}

#[async_trait]
impl TableEngine for Engine {
    type Failure = Failure;
    const NAME: &'static str = "haproxy";

    async fn apply(&mut self, table: &RoutingTable) -> Result<Turn, Failure> {
        self.bring(table).await
    }

    fn error(failure: Failure, operation: &'static str) -> lb_core::Error {
        failure.during(operation, super::PROGRAM)
    }
}

/// What the file in force says; `None`: there is none of ours.
pub(super) fn filed(directory: &ConfigDirectory) -> Result<Option<Filed>, Failure> {
    Ok(directory.read_config()?.and_then(|text| Filed::parse(&text)))
}

fn none_left(aside: &Aside) -> Failure {
    Failure::Configuration { message: reasons(aside) }
}

/// Runs file work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let ended = |e: tokio::task::JoinError| Failure::Start { message: e.to_string() };
    spawn_blocking(work).await.map_err(ended)?
}
