//! Never below the floor: an app that was at full strength and meets no fault keeps as many ready instances
//! at every balancer as its rollout must leave.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::cluster::Cluster;
use super::super::deploy::{CHECK_WITHIN, Deployment, web};
use super::super::host::Ailment;
use super::truth::{HostTruth, State, Truth};
use super::{Changes, Invariant, Verdicts};
use crate::model::{AppName, HostId};
use crate::routing::{Server, ServerState};

#[derive(Debug, Default)]
pub(super) struct Floors(BTreeMap<AppName, Watch>);

/// An app as it is watched.
#[derive(Debug)]
struct Watch {
    /// The strength it had at each balancer with nothing in its way, since it was last disturbed.
    armed: BTreeMap<HostId, u32>,
    /// Most instances that its deployments since then allow to be missing.
    slack: u32,
    /// Ready instances that take requests, at each balancer that leads to the app.
    strengths: BTreeMap<HostId, u32>,
    /// Containers.
    all: u32,
    /// Hosts that run or serve it.
    involved: BTreeSet<HostId>,
    /// Until then one that has come back may still be taken for one that answers nobody.
    doubted: Duration,
    /// Whether a fault may be felt.
    excused: bool,
    /// When it was deployed as it is wanted now.
    deployed: Duration,
    looked: Duration,
}

impl Floors {
    pub(super) fn look(
        &mut self,
        truth: &Truth,
        cluster: &Cluster,
        Changes { changed, deployed }: Changes<'_>,
        verdicts: &mut Verdicts,
    ) {
        self.0.retain(|name, _| cluster.wanted.contains_key(name));
        for (name, deployment) in &cluster.wanted {
            let watch = self.0.entry(name.clone()).or_insert_with(|| Watch::new(deployment));
            let mut is_new = false;
            for deployment in deployed.iter().filter(|d| d.app.name == *name) {
                watch.take_deployment(deployment, cluster.now());
                is_new = true;
            }
            if changed {
                watch.count(truth, cluster, name);
            }
            if watch.excuse(cluster, name) || changed || is_new {
                watch.judge(deployment, cluster, verdicts);
            }
        }
    }
}

impl Watch {
    fn new(deployment: &Deployment) -> Self {
        Self {
            armed: BTreeMap::new(),
            slack: deployment.staged.unavailable,
            strengths: BTreeMap::new(),
            all: 0,
            involved: BTreeSet::new(),
            doubted: Duration::ZERO,
            excused: true,
            deployed: Duration::ZERO,
            looked: Duration::ZERO,
        }
    }

    /// Takes in another deployment.
    fn take_deployment(&mut self, deployment: &Deployment, now: Duration) {
        self.deployed = now;
        self.armed.values_mut().for_each(|armed| *armed = deployment.staged.count.min(*armed));
        self.slack = self.slack.max(deployment.staged.unavailable);
    }

    fn count(&mut self, truth: &Truth, cluster: &Cluster, name: &AppName) {
        let of_app = || truth.living().filter(|(.., life)| life.app == *name);
        self.all = of_app().count() as u32;
        let returned = of_app().map(|(.., life)| life.returned).max().unwrap_or_default();
        if !returned.is_zero() {
            self.doubted = returned + CHECK_WITHIN + cluster.known_within();
        }
        let up = truth.hosts.iter().filter(|(id, _)| !cluster.hosts[*id].is(Ailment::is_down));
        let strengths = up.filter_map(|(id, h)| Some((id.clone(), strength(truth, h, name)?)));
        self.strengths = strengths.collect();
        let involved = truth.hosts.iter().filter(|(_, host)| {
            let serves = host.table.as_ref().is_some_and(|t| t.backends.contains_key(&web(name)));
            serves || host.lives.values().any(|l| l.app == *name && l.state != State::Gone)
        });
        self.involved = involved.map(|(id, _)| id.clone()).collect();
    }

    /// Notes whether an instance, a host of the app or the platform has met a fault. Whether that changed.
    fn excuse(&mut self, cluster: &Cluster, name: &AppName) -> bool {
        let (now, before) = (cluster.now(), self.excused);
        let disturbed = cluster.disturbed.get(name).is_some_and(|at| *at >= self.looked);
        let felt = |id: &HostId| cluster.hosts.get(id).is_some_and(|h| h.excused >= now);
        self.looked = now;
        self.excused = disturbed
            || self.doubted >= now
            || cluster.excuses.platform >= now
            || self.involved.iter().any(felt);
        if self.excused {
            self.armed.clear();
        }
        before != self.excused
    }

    fn judge(&mut self, deployment: &Deployment, cluster: &Cluster, verdicts: &mut Verdicts) {
        if self.excused {
            return;
        }
        let Deployment { app, staged, .. } = deployment;
        let count = &staged.count;
        // What a balancer was told before the deployment may come in force after it.
        if cluster.now() > self.deployed + cluster.known_within() {
            let led_to = self.strengths.iter().filter(|(_, s)| **s >= *count);
            self.armed.extend(led_to.map(|(host, _)| (host.clone(), *count)));
        }
        if self.all == *count && self.strengths.values().all(|s| s >= count) {
            self.slack = staged.unavailable;
        }
        // A host may stop leading to the app, as long as another one leads to it.
        if !self.strengths.is_empty() {
            self.armed.retain(|host, _| self.strengths.contains_key(host));
        }
        for (host, armed) in std::mem::take(&mut self.armed) {
            let strength = self.strengths.get(&host).copied().unwrap_or(0);
            let floor = armed.saturating_sub(self.slack);
            verdicts.judge(Invariant::Floor, strength >= floor, || {
                let name = &app.name;
                format!("{host} leads to {strength} ready instances of {name}, and must to {floor}")
            });
            if strength >= floor {
                self.armed.insert(host, armed);
            }
        }
    }
}

/// Ready instances of the app that take requests there; `None`: it is not served there.
fn strength(truth: &Truth, host: &HostTruth, name: &AppName) -> Option<u32> {
    let backend = host.table.as_ref()?.backends.get(&web(name))?;
    let serves = |(server, s): &(&crate::model::ServerName, &Server)| {
        let life = s.host.as_ref().and_then(|on| truth.life(on, server.as_str()));
        s.state == ServerState::Active && life.is_some_and(|l| l.state == State::Ready)
    };
    Some(backend.servers.iter().filter(serves).count() as u32)
}
