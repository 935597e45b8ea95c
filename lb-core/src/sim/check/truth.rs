//! What is really there: each container as it lives, each balancer's table in force.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::super::cluster::Cluster;
use super::super::host::{Ailment, Host};
use crate::memory::Held;
use crate::model::{AppName, ClusterId, HostId, InstanceId};
use crate::routing::RoutingTable;
use crate::runtime::Attachment;

#[derive(Debug, Default)]
pub(in crate::sim) struct Truth {
    pub(in crate::sim) hosts: BTreeMap<HostId, HostTruth>,
}

#[derive(Debug, Default)]
pub(in crate::sim) struct HostTruth {
    /// By container name: those there, and those there were.
    pub(in crate::sim) lives: BTreeMap<Arc<str>, Life>,
    /// In force; none while the host is down.
    pub(in crate::sim) table: Option<Arc<RoutingTable>>,
    changes: (u64, u64),
}

/// A container.
#[derive(Debug)]
pub(in crate::sim) struct Life {
    pub(in crate::sim) app: AppName,
    pub(in crate::sim) address: Ipv4Addr,
    /// Ports of its host that lead to it.
    pub(in crate::sim) published: Vec<u16>,
    pub(in crate::sim) tag: String,
    pub(in crate::sim) state: State,
    /// Whether it ever was ready.
    pub(in crate::sim) was_ready: bool,
    /// Since when it is in this state.
    pub(in crate::sim) since: Duration,
    /// When it was ready again after it had not been; zero: never.
    pub(in crate::sim) returned: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum State {
    Created,
    Unready,
    Ready,
    Ended,
    /// No container of the name is there any more.
    Gone,
}

impl State {
    /// Whether it has its address.
    pub(in crate::sim) const fn holds(self) -> bool {
        matches!(self, Self::Created | Self::Unready | Self::Ready)
    }
}

impl Truth {
    /// Looks again. Whether anything is another way now.
    pub(super) fn update(&mut self, cluster: &Cluster) -> bool {
        let (now, id) = (cluster.now(), &cluster.spec.id);
        let mut changed = false;
        for (host_id, host) in &cluster.hosts {
            changed |= self.hosts.entry(host_id.clone()).or_default().update(host, id, now);
        }
        changed
    }

    pub(in crate::sim) fn life(&self, host: &HostId, name: &str) -> Option<&Life> {
        self.hosts.get(host)?.lives.get(name)
    }

    /// All containers that are there.
    pub(in crate::sim) fn living(&self) -> impl Iterator<Item = (&HostId, &str, &Life)> {
        let all = self
            .hosts
            .iter()
            .flat_map(|(id, host)| host.lives.iter().map(move |(name, life)| (id, &**name, life)));
        all.filter(|(_, _, life)| life.state != State::Gone)
    }
}

impl HostTruth {
    fn update(&mut self, host: &Host, cluster: &ClusterId, now: Duration) -> bool {
        let table = host.balancer.table().filter(|_| !host.is(Ailment::is_down));
        let same = match (&table, &self.table) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        self.table = table;
        let changes = (host.engines, host.engine.changes());
        if changes == self.changes {
            return !same;
        }
        self.changes = changes;
        let mut there = Vec::new();
        host.engine.each(|held| {
            let key = match self.lives.get_key_value(held.name.as_str()) {
                Some((key, _)) => key.clone(),
                None => held.name.as_str().into(),
            };
            there.push(key.clone());
            let before = self.lives.get_mut(&key);
            match before {
                Some(life) if life.state != State::Gone => life.turn(State::of(&held), now),
                // A name that comes back, on an engine that forgot it, is another container.
                _ => drop(Life::of(&held, cluster, now).map(|life| self.lives.insert(key, life))),
            }
        });
        for (name, life) in &mut self.lives {
            if there.binary_search(name).is_err() {
                life.turn(State::Gone, now);
            }
        }
        true
    }
}

impl Life {
    fn of(held: &Held<'_>, cluster: &ClusterId, now: Duration) -> Option<Self> {
        let id = InstanceId::from_container_name(cluster, held.name)?;
        let Attachment::Network { address, .. } = &held.spec.network else { return None };
        let state = State::of(held);
        Some(Self {
            app: id.app,
            address: *address,
            published: held.spec.publish.iter().map(|p| p.host).collect(),
            tag: held.spec.image.tag().unwrap_or_default().to_owned(),
            state,
            was_ready: state == State::Ready,
            since: now,
            returned: Duration::ZERO,
        })
    }

    fn turn(&mut self, state: State, now: Duration) {
        if self.state != state {
            if state == State::Ready && self.was_ready {
                self.returned = now;
            }
            (self.state, self.since) = (state, now);
            self.was_ready |= state == State::Ready;
        }
    }
}

impl State {
    const fn of(held: &Held<'_>) -> Self {
        match (held.ready, held.running, held.holds) {
            (true, ..) => Self::Ready,
            (_, true, _) => Self::Unready,
            (.., true) => Self::Created,
            _ => Self::Ended,
        }
    }
}
