//! From a table asked for to a table in force.

use std::collections::BTreeMap;
use std::time::Duration;

use lb_core::balancer::{
    Aside, Failure, Held, LONGEST_RELOAD_INTERVAL, Turn, named_by, reasons, reduced,
    reload_interval,
};
use lb_core::{Applied, Change, Protocol, RoutingTable, SetAside, TableHash};
use tokio::time::Instant;

use super::compose::{Composed, Ground};
use super::engine::{Engine, Found};
use super::look::Met;
use super::reload::Tried;

/// Most times one call tries again with parts set aside.
const MOST_TRIES: u32 = 6;
/// How long a port may still be held by an NGINX of ours that just ended.
const PORT_PATIENCE: Duration = Duration::from_secs(1);

impl Engine {
    /// Brings NGINX to the table.
    pub(super) async fn bring(&mut self, table: &RoutingTable) -> Result<Turn, Failure> {
        table.check()?;
        let asked = table.hash();
        let found = self.ground().await?;
        self.listen().await?;
        let met = self.meet_expected().await?;
        self.remember(&met).await?;
        self.look_for_edits().await?;
        let mut aside = self.refused.still(table, Instant::now());
        aside.extend(impossible(table, &found));
        let (mut held, mut failure) = (Held::default(), None);
        for _ in 0..MOST_TRIES {
            let rest = reduced(table, &aside);
            if rest.backends.is_empty() && !table.backends.is_empty() {
                return Err(failure.unwrap_or_else(|| none_left(&aside)));
            }
            let composed = match self.compose(&rest, asked, &found) {
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
            if self.in_force_already(&composed, asked, &met).await? {
                return Ok(applied(asked, Change::None, aside));
            }
            let taken = self.hold_ports(&composed, &met, &mut held).await;
            if !taken.is_empty() {
                aside.extend(taken);
                continue;
            }
            if let Some(wait) = self.too_early().await? {
                return Ok(Turn::Wait(wait));
            }
            match self.reload(&composed, asked, &met).await? {
                Tried::Changed(change) => return Ok(applied(asked, change, aside)),
                Tried::Refused(parts, reason) => {
                    self.refused.remember(table, &parts, Instant::now());
                    aside.extend(parts);
                    failure = Some(reason);
                }
            }
            // A check that set something aside is part of this attempt, not the next.
            self.last_attempt = None;
        }
        Err(failure.unwrap_or_else(|| none_left(&aside)))
    }

    fn compose(
        &self,
        table: &RoutingTable,
        asked: TableHash,
        found: &Found,
    ) -> Result<Composed, Failure> {
        let rendered = self.parts.renderer.render(table)?;
        let ground = Ground {
            dir: self.parts.directory.path(),
            settings: &self.parts.settings,
            abilities: &found.abilities,
            user: found.worker.as_ref().map(|w| w.names.as_str()),
        };
        Composed::new(table, asked, rendered, ground)
    }

    /// Holds the ports NGINX does not listen on yet; gives those that cannot be had. Where it runs something
    /// unknown, none can be told.
    async fn hold_ports(&self, composed: &Composed, met: &Met, held: &mut Held) -> Aside {
        let none = BTreeMap::new();
        let known = match (met, &self.force) {
            (Met::Down, _) => &none,
            (Met::Up(status), Some(force)) if force.mark == status.mark => &force.listeners,
            (Met::Up(_), _) => return Aside::new(),
        };
        let mut ports = composed.binds();
        ports.retain(|port, _| !known.contains_key(port));
        // An NGINX of ours that has just ended may hold its ports a moment longer.
        let patience = if matches!(met, Met::Down) { PORT_PATIENCE } else { Duration::ZERO };
        held.take(&ports, self.parts.launch.owner(), patience).await
    }

    /// How long the next reload has to wait: the longer, the more configurations have workers that hold connections.
    async fn too_early(&self) -> Result<Option<Duration>, Failure> {
        let Some(since) = self.last_attempt.map(|at| at.elapsed()) else { return Ok(None) };
        if since >= LONGEST_RELOAD_INTERVAL {
            return Ok(None);
        }
        let old = self.old_workers().await?.div_ceil(self.parts.settings.workers);
        Ok(reload_interval(old).checked_sub(since).filter(|wait| !wait.is_zero()))
    }
}

/// What this binary can do in no case.
fn impossible(table: &RoutingTable, found: &Found) -> Aside {
    if found.abilities.streams {
        return Aside::new();
    }
    let tcp = table.backends.iter().filter(|(_, b)| b.protocol == Protocol::Tcp);
    let why = "this NGINX has no stream module: TCP cannot be passed on";
    tcp.map(|(name, _)| (SetAside::Backend(name.clone()), why.to_owned())).collect()
}

fn applied(table: TableHash, change: Change, set_aside: Aside) -> Turn {
    Turn::Applied(Applied { table, change, set_aside })
}

fn none_left(aside: &Aside) -> Failure {
    Failure::Configuration { message: reasons(aside) }
}
