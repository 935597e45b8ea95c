//! What happens to the cluster, drawn from the seed: deployments, and faults in every part.

mod climate;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::climate::Happening::{
    self, Ail, AppsFail, Crowd, DamageLedger, Deploy, Depose, EditTable, Flip, Hang, Join, Jump,
    Kill, LedgerFails, LedgerHangs, LoseLedger, LoseNetworks, LoseTable, OutOfMemory,
    RegistryFails, Remove, Restart, Undo, Unready,
};
use super::cluster::{Cluster, MOST_HOSTS, Part};
use super::deploy::{Deployment, draw_name};
use super::dice::Dice;
use super::host::Ailment;
use crate::error::ErrorKind;
use crate::memory::Op;
use crate::model::{AppName, ContainerName, HostId};
use crate::runtime::Exit;

/// So long the loss of a host's networks can be felt: its instances are known to be unreachable, are given the
/// time in which they might come back, and are replaced one after the other.
const NETWORKS_FELT: Duration = Duration::from_secs(120);

/// The simulation's fate.
#[derive(Debug)]
pub(super) struct Weather {
    dice: Dice,
    table: Vec<(u32, Happening)>,
    /// Containers whose checks fail, and until when.
    unready: Vec<(Duration, HostId, ContainerName)>,
    /// Containers that hang, and until when.
    hanging: Vec<(Duration, HostId, ContainerName)>,
    /// Changes to come; `None`: the app is removed.
    later: Vec<(Duration, AppName, Option<Deployment>)>,
    /// Whether there were many at once.
    crowded: bool,
    /// What fails beside the hosts, and until when.
    failing: BTreeMap<Part, Duration>,
    pub(super) faults: u64,
}

impl Weather {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "weather");
        let table = climate::draw(&mut dice);
        Self {
            dice,
            table,
            unready: Vec::new(),
            hanging: Vec::new(),
            later: Vec::new(),
            crowded: false,
            failing: BTreeMap::new(),
            faults: 0,
        }
    }

    /// How long balancers take over a table: little, as long as a reload, or as long as one of a busy balancer.
    pub(super) fn apply(&mut self) -> Duration {
        match self.dice.below(10) {
            0..=3 => self.dice.millis(10, 200),
            4..=7 => self.dice.millis(200, 1000),
            _ => self.dice.millis(1000, 3000),
        }
    }

    /// How many hosts there are at first.
    pub(super) fn hosts(&mut self) -> u8 {
        self.dice.within(2, 4) as u8
    }

    /// How many processes stand for election: some clusters have a second one that waits.
    pub(super) fn processes(&mut self) -> u32 {
        self.dice.within(1, 2)
    }

    /// How long nothing happens now: often too short for the last thing to end, sometimes long enough.
    pub(super) fn rest(&mut self) -> Duration {
        match self.dice.below(10) {
            0..=4 => self.dice.millis(100, 4000),
            5..=7 => self.dice.millis(2000, 15_000),
            _ => self.dice.millis(15_000, 60_000),
        }
    }

    /// One thing happens.
    pub(super) async fn strike(&mut self, cluster: &mut Cluster) {
        let what = self.dice.weighted(&self.table);
        self.faults += u64::from(!matches!(what, Deploy | Remove | Join | Undo | Flip | Crowd));
        match what {
            Deploy => self.deploy(cluster).await,
            Remove => {
                let name = draw_name(&mut self.dice);
                cluster.remove(&name).await;
            }
            Undo => self.undo(cluster).await,
            Flip => self.flip(cluster),
            Crowd => self.crowd(cluster),
            Join if cluster.hosts.len() < MOST_HOSTS => {
                cluster.say("hosts", "one more");
                cluster.add_host();
            }
            Join => {}
            Kill => self.kill(cluster, Death::Killed),
            OutOfMemory => self.kill(cluster, Death::OutOfMemory),
            Unready => self.unready(cluster),
            Hang => self.hang(cluster),
            LoseNetworks => self.lose_networks(cluster),
            EditTable => self.edit_table(cluster),
            Ail(ailment) => self.ail(cluster, ailment),
            LoseTable => self.lose_table(cluster),
            _ => self.strike_platform(cluster, what).await,
        }
    }

    /// What an app is deployed as next.
    pub(super) async fn deploy(&mut self, cluster: &mut Cluster) {
        let name = draw_name(&mut self.dice);
        let next = self.draw(cluster, &name);
        cluster.deploy(next).await;
    }

    fn draw(&mut self, cluster: &Cluster, name: &AppName) -> Deployment {
        let (before, next) = (cluster.wanted.get(name), cluster.next_version(name));
        Deployment::draw(&mut self.dice, name, before, next)
    }

    /// A deployment that is taken back soon: often while its table is on its way.
    async fn undo(&mut self, cluster: &mut Cluster) {
        let name = draw_name(&mut self.dice);
        let before = cluster.wanted.get(&name).cloned();
        let next = self.draw(cluster, &name);
        cluster.deploy(next).await;
        let back = cluster.now() + self.dice.millis(100, 1500);
        self.later.push((back, name, before));
    }

    /// A route that comes and goes.
    fn flip(&mut self, cluster: &Cluster) {
        let name = draw_name(&mut self.dice);
        let (mut at, Some(mut app)) = (cluster.now(), cluster.wanted.get(&name).cloned()) else {
            return;
        };
        for _ in 0..self.dice.within(2, 6) {
            (at, app) = (at + self.dice.millis(100, 900), app.flipped());
            self.later.push((at, name.clone(), Some(app.clone())));
        }
    }

    /// Many apps one after the other, and later they go as they came. Once in a story: they cost much.
    fn crowd(&mut self, cluster: &Cluster) {
        if std::mem::replace(&mut self.crowded, true) {
            return;
        }
        let mut at = cluster.now();
        let stays = self.dice.millis(5_000, 20_000);
        for n in 0..self.dice.within(33, 40) as u8 {
            let app = Deployment::small(&mut self.dice, n);
            let name = app.app.name.clone();
            at += self.dice.millis(20, 200);
            self.later.push((at, name.clone(), Some(app)));
            self.later.push((at + stays, name, None));
        }
    }

    /// What was to come now comes about.
    pub(super) async fn go_on(&mut self, cluster: &mut Cluster) {
        let now = cluster.now();
        let (mut due, later): (Vec<_>, Vec<_>) =
            self.later.drain(..).partition(|(at, ..)| *at <= now);
        self.later = later;
        due.sort_by_key(|(at, ..)| *at);
        for (_, name, app) in due {
            match app {
                Some(app) => cluster.deploy(app).await,
                None => cluster.remove(&name).await,
            }
        }
    }

    /// All that was to come comes about.
    pub(super) async fn conclude(&mut self, cluster: &mut Cluster) {
        for (at, ..) in &mut self.later {
            *at = cluster.now().min(*at);
        }
        self.go_on(cluster).await;
    }

    /// A version that serves, of an app that has none to go back to.
    pub(super) async fn mend_app(&mut self, cluster: &mut Cluster, name: &AppName) {
        let Some(before) = cluster.wanted.get(name) else { return };
        let mended = before.mended(&mut self.dice, cluster.next_version(name));
        cluster.deploy(mended).await;
    }

    fn any_host(
        &mut self,
        cluster: &Cluster,
        of: impl Fn(&super::host::Host) -> bool,
    ) -> Option<HostId> {
        let among: Vec<HostId> =
            cluster.hosts.values().filter(|h| of(h)).map(|h| h.id().clone()).collect();
        self.dice.pick(&among).cloned()
    }

    fn any_running(&mut self, cluster: &Cluster) -> Option<(HostId, ContainerName)> {
        let mut among = Vec::new();
        for (id, host) in &cluster.hosts {
            host.engine.each(|c| {
                if c.running {
                    among.push((id.clone(), c.name.clone()));
                }
            });
        }
        self.dice.pick(&among).cloned()
    }

    fn kill(&mut self, cluster: &mut Cluster, death: Death) {
        let Some((id, name)) = self.any_running(cluster) else { return };
        let host = &cluster.hosts[&id];
        let out_of_memory = death == Death::OutOfMemory;
        let exit = Exit { code: 137, out_of_memory, output: String::new() };
        // It ran a moment ago.
        drop(host.engine.end(&name, &exit));
        cluster.disturb(&name);
        cluster.say(id, format!("{name} {death:?}"));
    }

    fn unready(&mut self, cluster: &mut Cluster) {
        let Some((id, name)) = self.any_running(cluster) else { return };
        let until = cluster.now() + self.dice.millis(1000, 30_000);
        cluster.say(&id, format!("{name} is unready until {:.1}", until.as_secs_f64()));
        cluster.unready(&id, &name, until);
        self.unready.push((until, id, name));
    }

    fn hang(&mut self, cluster: &mut Cluster) {
        let Some((id, name)) = self.any_running(cluster) else { return };
        let until = cluster.now() + self.dice.millis(1000, 180_000);
        cluster.say(&id, format!("{name} hangs until {:.1}", until.as_secs_f64()));
        cluster.hang(&id, &name);
        self.hanging.push((until, id, name));
    }

    fn lose_networks(&mut self, cluster: &mut Cluster) {
        let Some(id) = self.any_host(cluster, |h| !h.is(Ailment::is_down)) else { return };
        cluster.say(&id, "its networks are removed");
        cluster.disturb_all(&id);
        let until = cluster.now() + NETWORKS_FELT;
        if let Some(host) = cluster.hosts.get_mut(&id) {
            host.engine.lose_networks();
            host.excuse(until);
        }
    }

    fn edit_table(&mut self, cluster: &mut Cluster) {
        let Some(id) = self.any_host(cluster, |h| !h.is(Ailment::is_down)) else { return };
        let until = cluster.now() + Duration::from_secs(40);
        let listeners = self.dice.chance(50);
        if let Some(host) = cluster.hosts.get_mut(&id) {
            host.balancer.edit_by_hand(|table| match listeners {
                true => drop(table.listeners.pop_first()),
                false => {
                    for backend in table.backends.values_mut() {
                        Arc::make_mut(backend).servers.clear();
                    }
                }
            });
            host.excuse(until);
        }
        cluster.say(id, "somebody edits what its balancer serves");
    }

    fn ail(&mut self, cluster: &mut Cluster, ailment: Ailment) {
        let Some(id) = self.any_host(cluster, |h| h.ailment.is_none()) else { return };
        let until = cluster.now() + self.dice.millis(1000, 60_000);
        cluster.ail(&id, ailment, until, &mut self.dice);
    }

    fn lose_table(&mut self, cluster: &mut Cluster) {
        let Some(id) = self.any_host(cluster, |h| !h.is(Ailment::is_down)) else { return };
        let until = cluster.now() + Duration::from_secs(40);
        if let Some(host) = cluster.hosts.get_mut(&id) {
            host.balancer.lose_table();
            host.excuse(until);
        }
        cluster.say(id, "the balancer restarts without its table");
    }

    async fn strike_platform(&mut self, cluster: &mut Cluster, what: Happening) {
        let now = cluster.now();
        let until = now + self.dice.millis(1000, 40_000);
        cluster.say("platform", format!("{what:?}"));
        match what {
            RegistryFails => {
                cluster.registry.faults().fail(Op::Announce, ErrorKind::Unavailable);
                cluster.registry.fail(ErrorKind::Unavailable);
                self.fails(Part::Registry, until);
                let felt = until + Duration::from_secs(75);
                cluster.excuses.registry = cluster.excuses.registry.max(felt);
                cluster.hosts.values_mut().for_each(|h| h.excuse(until + Duration::from_secs(40)));
            }
            AppsFail => {
                let kinds = [ErrorKind::Unavailable, ErrorKind::Corrupt];
                cluster.apps.fail(self.dice.pick(&kinds).copied().unwrap_or(kinds[0]));
                self.fails(Part::Apps, until);
                let waits = cluster.excuses.apps > now && cluster.excuses.platform > now;
                cluster.excuses.apps = cluster.excuses.apps.max(until);
                if waits {
                    new_leader(cluster);
                }
            }
            LedgerFails | LedgerHangs => {
                let hangs = matches!(what, LedgerHangs);
                cluster.fail_ledger(hangs.then(|| self.dice.millis(500, 20_000)));
                self.fails(Part::Ledger, until);
                let felt = until + Duration::from_secs(30);
                cluster.excuses.platform = cluster.excuses.platform.max(felt);
                cluster.excuses.unsaved = cluster.excuses.unsaved.max(felt);
            }
            LoseLedger | DamageLedger => {
                match what {
                    DamageLedger => cluster.ledger.damage(),
                    _ => cluster.ledger.lose(),
                }
                cluster.doubt_addresses();
                cluster.restart().await;
                new_leader(cluster);
            }
            Depose => {
                if cluster.excuses.unsaved > now {
                    cluster.doubt_addresses();
                }
                cluster.leadership.depose();
                new_leader(cluster);
            }
            Restart => {
                cluster.restart().await;
                new_leader(cluster);
            }
            Jump => {
                let most = 36 * 3600;
                cluster.clock.jump(i64::from(self.dice.within(0, 2 * most)) - i64::from(most));
            }
            _ => {}
        }
    }

    fn fails(&mut self, part: Part, until: Duration) {
        let known = self.failing.entry(part).or_default();
        *known = until.max(*known);
    }

    /// Ends what is over.
    pub(super) fn clear_up(&mut self, cluster: &mut Cluster) {
        let now = cluster.now();
        let (over, still) = self.unready.drain(..).partition(|(until, ..)| *until <= now);
        self.unready = still;
        for (_, id, name) in Vec::<(Duration, HostId, ContainerName)>::from_iter(over) {
            if let Some(host) = cluster.hosts.get(&id) {
                host.engine.unset_ready(&name);
            }
        }
        let (over, still) = self.hanging.drain(..).partition(|(until, ..)| *until <= now);
        self.hanging = still;
        for (_, id, name) in Vec::<(Duration, HostId, ContainerName)>::from_iter(over) {
            if let Some(host) = cluster.hosts.get(&id) {
                host.engine.resume(&name);
            }
        }
        for part in [Part::Registry, Part::Apps, Part::Ledger] {
            if self.failing.get(&part).is_some_and(|until| *until <= now) {
                self.failing.remove(&part);
                cluster.mend(part);
                cluster.say("platform", format!("{part:?} is well"));
            }
        }
    }

    /// Everything ends: from now on all is well.
    pub(super) fn calm(&mut self, cluster: &mut Cluster) {
        for (until, ..) in self.unready.iter_mut().chain(&mut self.hanging) {
            *until = Duration::ZERO;
        }
        self.failing.values_mut().for_each(|until| *until = Duration::ZERO);
        self.clear_up(cluster);
        let ailing = cluster.hosts.values().filter(|h| h.ailment.is_some());
        let ailing: Vec<HostId> = ailing.map(|h| h.id().clone()).collect();
        for id in ailing {
            cluster.recover(&id);
        }
    }
}

/// Whoever leads next begins with what it sees.
fn new_leader(cluster: &mut Cluster) {
    let begins = cluster.now().max(cluster.excuses.apps);
    let felt = begins + Duration::from_secs(20);
    cluster.excuses.platform = cluster.excuses.platform.max(felt);
}

/// How a container dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    Killed,
    OutOfMemory,
}
