//! Never a route to a dead or unready instance beyond its detection time.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::super::cluster::{Cluster, LEASE};
use super::super::deploy::UNREADY_KNOWN;
use super::super::host::{Ailment, Host};
use super::truth::{State, Truth};
use super::{Invariant, Verdicts, excused};
use crate::model::{BackendName, HostId, ServerName};
use crate::routing::{Backend, Server, ServerState};

/// Hosts lost within this time may be too many to be believed.
const TOGETHER: Duration = Duration::from_secs(75);

/// Routes that lead nowhere, and since when.
#[derive(Debug, Default)]
pub(super) struct Routes {
    bad: BTreeMap<(HostId, BackendName, ServerName), Bad>,
}

#[derive(Debug, Clone)]
struct Bad {
    on: HostId,
    why: Why,
    since: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Dead,
    Unready,
}

impl Why {
    /// How long tables may be wrong about it.
    fn known_within(self, cluster: &Cluster) -> Duration {
        let checks = if self == Self::Unready { UNREADY_KNOWN } else { Duration::ZERO };
        checks + cluster.known_within()
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dead => "dead",
            Self::Unready => "unready",
        })
    }
}

impl Routes {
    /// Something changed: which routes lead nowhere now.
    pub(super) fn compare(&mut self, truth: &Truth, cluster: &Cluster, verdicts: &mut Verdicts) {
        let before = std::mem::take(&mut self.bad);
        for (at, host) in &truth.hosts {
            let backends = host.table.iter().flat_map(|t| &t.backends);
            for (name, backend) in backends {
                for (server, s) in &backend.servers {
                    let Some(on) = s.host.as_ref().filter(|_| s.state == ServerState::Active)
                    else {
                        continue;
                    };
                    let Some((why, since)) = fault(truth, cluster, backend, server, on) else {
                        if excuse(cluster, at, on) < cluster.now() {
                            verdicts.judge(Invariant::Route, true, String::new);
                        }
                        continue;
                    };
                    let key = (at.clone(), name.clone(), server.clone());
                    let since = match before.get(&key) {
                        Some(known) if known.why == why => known.since,
                        _ => since.max(cluster.now()),
                    };
                    self.bad.insert(key, Bad { on: on.clone(), why, since });
                    too_early(truth, cluster, [at, on], server, verdicts);
                }
            }
        }
    }

    /// Which of them should be gone by now.
    pub(super) fn look(&self, cluster: &Cluster, verdicts: &mut Verdicts) {
        let now = cluster.now();
        for ((at, backend, server), bad) in &self.bad {
            let from = excuse(cluster, at, &bad.on).max(bad.since);
            if now > from {
                let soon = now <= from.saturating_add(bad.why.known_within(cluster));
                verdicts.judge(Invariant::Route, soon, || {
                    let (on, why, since) = (&bad.on, bad.why, bad.since.as_secs_f64());
                    format!("{at} routes {backend} to {server} on {on}, {why} since {since:.1} s")
                });
            }
        }
    }
}

/// Until when a fault may be to blame for a route.
fn excuse(cluster: &Cluster, at: &HostId, on: &HostId) -> Duration {
    excused(cluster, [Some(at), None]).max(of_instance(cluster, on))
}

/// What is wrong with a server that takes requests, and since when. Where no server of a backend is ready,
/// those that served are kept: failing checks alone never empty a backend. One that cannot be asked is not
/// known to be ready.
fn fault(
    truth: &Truth,
    cluster: &Cluster,
    backend: &Backend,
    server: &ServerName,
    on: &HostId,
) -> Option<(Why, Duration)> {
    let Some(life) = truth.life(on, server.as_str()) else {
        return Some((Why::Dead, Duration::ZERO));
    };
    match life.state {
        State::Ready => None,
        State::Ended | State::Gone => Some((Why::Dead, life.since)),
        State::Created | State::Unready => {
            let ready = |(name, s): (&ServerName, &Server)| {
                let on = s.host.as_ref().filter(|on| cluster.hosts[*on].excused < cluster.now());
                let life = on.and_then(|on| truth.life(on, name.as_str()));
                s.state == ServerState::Active && life.is_some_and(|l| l.state == State::Ready)
            };
            backend.servers.iter().any(ready).then_some((Why::Unready, life.since))
        }
    }
}

/// A route to an instance that never was ready has no detection time: it takes traffic only when ready.
fn too_early(
    truth: &Truth,
    cluster: &Cluster,
    [at, on]: [&HostId; 2],
    server: &ServerName,
    verdicts: &mut Verdicts,
) {
    let was_ready = truth.life(on, server.as_str()).is_some_and(|life| life.was_ready);
    if cluster.now() > cluster.excuses.platform {
        verdicts.judge(Invariant::Route, was_ready, || {
            format!("{at} routes to {server} on {on}, which never was ready")
        });
    }
}

/// An instance on a lost host need not be given up while the host may come back: its lease has to end, and
/// not too many others with it.
fn of_instance(cluster: &Cluster, on: &HostId) -> Duration {
    let Some(host) = cluster.hosts.get(on) else { return Duration::ZERO };
    if !host.is(Ailment::is_down) {
        return host.excused;
    }
    let now = cluster.now();
    let lately = |h: &&Host| h.silent.is_some_and(|at| at + TOGETHER > now);
    let alone = cluster.hosts.values().filter(lately).count() == 1;
    match alone && cluster.excuses.registry < now {
        true => host.down.map_or(now, |down| down + LEASE + cluster.known_within()),
        false => now,
    }
}
