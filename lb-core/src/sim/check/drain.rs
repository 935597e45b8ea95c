//! Never a request cut before its app's drain time is over, counted from when its server took no new ones.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::cluster::Cluster;
use super::super::host::Ailment;
use super::super::traffic::{Request, Traffic, leads_to};
use super::truth::{State, Truth};
use super::{Invariant, Verdicts, excused};
use crate::model::{AppName, BackendName, HostId, ServerName};
use crate::routing::ServerState;

/// Between two steps.
const TOLERANCE: Duration = Duration::from_secs(1);

type Key = (HostId, BackendName, ServerName);

/// Servers that take no new requests, and since when.
#[derive(Debug, Default)]
pub(super) struct Drains(BTreeMap<Key, Duration>);

impl Drains {
    /// Something changed: which requests were cut, and which servers are quiet now.
    pub(super) fn compare(
        &mut self,
        truth: &Truth,
        cluster: &Cluster,
        traffic: &mut Traffic,
        verdicts: &mut Verdicts,
    ) {
        let (open, cut): (Vec<_>, Vec<_>) =
            traffic.open.drain(..).partition(|request| is_served(truth, request));
        traffic.open = open;
        for request in &cut {
            self.judge(truth, cluster, request, verdicts);
        }
        let before = std::mem::take(&mut self.0);
        for (at, host) in &truth.hosts {
            let Some(table) = &host.table else { continue };
            for (name, backend) in &table.backends {
                let is_led_to = leads_to(table, name);
                for (server, s) in &backend.servers {
                    if s.state == ServerState::Active && is_led_to {
                        continue;
                    }
                    let key = (at.clone(), name.clone(), server.clone());
                    let known = before.get(&key).copied();
                    self.0.insert(key, known.unwrap_or_else(|| cluster.now()));
                }
            }
        }
    }

    /// A request was cut. That is right when its instance or a host of it is in trouble, or its time was over.
    fn judge(&self, truth: &Truth, cluster: &Cluster, request: &Request, verdicts: &mut Verdicts) {
        let Request { at, backend, server, on, .. } = request;
        let now = cluster.now();
        let life = truth.life(on, server.as_str());
        // One that hung or was busy until now may have been given up before.
        let settled = |at: Duration| at.is_zero() || at + cluster.known_within() < now;
        let Some(life) = life.filter(|l| l.state == State::Ready && settled(l.returned)) else {
            return;
        };
        let down = cluster.hosts.get(at).is_none_or(|h| h.is(Ailment::is_down));
        if down || excused(cluster, [Some(at), Some(on)]) >= now {
            return;
        }
        let quiet = self.0.get(&(at.clone(), backend.clone(), server.clone())).copied();
        let lasted = quiet.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        // What was decided while a balancer was busy with one table is in the next one.
        let tolerance = TOLERANCE + 2 * cluster.apply;
        let decided = now.saturating_sub(lasted + tolerance);
        let drain = shortest(cluster, &life.app, decided);
        verdicts.judge(Invariant::Drain, lasted + tolerance >= drain, || {
            let lasted = lasted.as_secs_f64();
            format!("{at} cut a request to {server} after {lasted:.1} s of a drain of {drain:?}")
        });
    }
}

fn is_served(truth: &Truth, request: &Request) -> bool {
    let table = truth.hosts.get(&request.at).and_then(|h| h.table.as_ref());
    let backend = table.and_then(|t| t.backends.get(&request.backend));
    backend.is_some_and(|b| b.servers.contains_key(&request.server))
}

/// The drain time an app had then, or the shortest since.
fn shortest(cluster: &Cluster, app: &AppName, since: Duration) -> Duration {
    let drains = cluster.drains.get(app).map_or(&[][..], Vec::as_slice);
    let first = drains.partition_point(|(at, _)| *at <= since).saturating_sub(1);
    drains[first..].iter().map(|(_, drain)| *drain).min().unwrap_or_default()
}
