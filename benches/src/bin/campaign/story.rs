//! What happens, drawn from a seed: changes and faults, each at its time. Nothing that happens in the run has a say in it.

mod changes;
mod faults;

use std::collections::BTreeMap;
use std::time::Duration;

use super::apps::{Kind, Name, Wanted};
use super::dice::Dice;

pub use self::changes::{Change, How};
pub use self::faults::{Damage, Fault, File};

/// Least and most time between two changes, in milliseconds: about as fast as a busy platform's people.
const BETWEEN_CHANGES: (u64, u64) = (400, 3_200);
/// The same of faults.
const BETWEEN_FAULTS: (u64, u64) = (3_000, 9_000);
/// The first fault waits until the apps are there.
const FIRST_FAULT: Duration = Duration::from_secs(6);
/// Apps that come and go beside those that stay.
const MOST_GUESTS: usize = 3;

/// What the engine, the balancer and this machine let a story do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each says what may be drawn, apart from the others"
)]
pub struct Powers {
    /// Apps are containers: they have a network and a bound on their memory.
    pub containers: bool,
    /// The balancer is a process of its own.
    pub own_balancer: bool,
    /// There is a command that restarts the engine.
    pub engine_restart: bool,
    /// The platform's files can lie on a disk that is full.
    pub full_disk: bool,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Change(Change),
    Fault(Fault),
}

/// What is known of an app as the story goes.
#[derive(Debug, Clone)]
struct Actor {
    wanted: Wanted,
    /// Times its instances ended since its version last changed.
    deaths: u32,
}

/// Draws what happens.
#[derive(Debug)]
pub struct Story {
    dice: Dice,
    powers: Powers,
    actors: BTreeMap<Name, Actor>,
    /// Apps below this number stay.
    regulars: u32,
    next_name: u32,
    next_port: u16,
    next_change: Duration,
    next_fault: Duration,
}

impl Story {
    pub fn new(seed: u64, regulars: u32, powers: Powers) -> Self {
        let mut story = Self {
            dice: Dice::new(seed),
            powers,
            actors: BTreeMap::new(),
            regulars,
            next_name: 0,
            next_port: 1,
            next_change: Duration::from_millis(BETWEEN_CHANGES.1),
            next_fault: FIRST_FAULT,
        };
        for number in 0..regulars {
            let kind = match number {
                2 => Kind::Raw,
                3 if powers.own_balancer => Kind::Tls,
                _ => Kind::Web,
            };
            // One of them has nothing to spare.
            let replicas = if number == 1 { 1 } else { story.dice.between(2, 3) as u32 };
            story.enter(kind, replicas);
        }
        story
    }

    /// What is asked for before the story begins.
    pub fn opening(&self) -> Vec<Wanted> {
        self.actors.values().map(|actor| actor.wanted.clone()).collect()
    }

    /// What happens next, and when.
    pub fn draw(&mut self) -> (Duration, Act) {
        loop {
            if self.next_change <= self.next_fault {
                let at = self.next_change;
                let (least, most) = BETWEEN_CHANGES;
                self.next_change += Duration::from_millis(self.dice.between(least, most));
                if let Some(change) = self.change() {
                    return (at, Act::Change(change));
                }
            } else {
                let at = self.next_fault;
                let (least, most) = BETWEEN_FAULTS;
                self.next_fault += Duration::from_millis(self.dice.between(least, most));
                if let Some(fault) = self.fault() {
                    self.next_fault += fault.rest();
                    return (at, Act::Fault(fault));
                }
            }
        }
    }

    fn enter(&mut self, kind: Kind, replicas: u32) -> Wanted {
        let name = Name(self.next_name);
        self.next_name += 1;
        let port = match kind {
            Kind::Web => 0,
            Kind::Raw | Kind::Tls => self.free_port(),
        };
        let wanted = Wanted {
            name,
            kind,
            version: 1,
            flaw: None,
            replicas,
            trial: false,
            route: 0,
            certificate: 0,
            port,
        };
        self.actors.insert(name, Actor { wanted: wanted.clone(), deaths: 0 });
        wanted
    }

    /// A port that no app has. They are taken by turns: what was freed rests for a while.
    fn free_port(&mut self) -> u16 {
        loop {
            let port = self.next_port;
            self.next_port = 1 + port % super::ground::OWN_PORTS;
            if self.actors.values().all(|actor| actor.wanted.port != port) {
                return port;
            }
        }
    }

    fn guests(&self) -> Vec<Name> {
        self.actors.keys().copied().filter(|name| name.0 >= self.regulars).collect()
    }

    /// One of the apps for which it holds.
    fn choose(&mut self, holds: impl Fn(&Actor) -> bool) -> Option<Name> {
        let names: Vec<(u64, Name)> =
            self.actors.iter().filter(|(_, a)| holds(a)).map(|(name, _)| (1, *name)).collect();
        self.dice.pick(&names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Powers =
        Powers { containers: true, own_balancer: true, engine_restart: true, full_disk: true };
    const LEAST: Powers =
        Powers { containers: false, own_balancer: false, engine_restart: false, full_disk: false };

    fn told(seed: u64, powers: Powers) -> Vec<(Duration, Act)> {
        let mut story = Story::new(seed, 5, powers);
        (0..2_000).map(|_| story.draw()).collect()
    }

    #[test]
    fn one_seed_is_one_story() {
        assert_eq!(told(7, ALL), told(7, ALL));
        assert_ne!(told(7, ALL), told(8, ALL));
    }

    #[test]
    fn no_two_apps_have_one_port() {
        let mut story = Story::new(5, 5, ALL);
        for _ in 0..2_000 {
            story.draw();
            let mut own: Vec<u16> = story.actors.values().map(|actor| actor.wanted.port).collect();
            own.retain(|port| *port != 0);
            own.sort_unstable();
            assert!(own.windows(2).all(|two| two[0] != two[1]), "{own:?}");
        }
    }

    #[test]
    fn time_never_goes_back() {
        let story = told(3, ALL);
        assert!(story.windows(2).all(|two| two[0].0 <= two[1].0));
    }

    #[test]
    fn every_change_and_fault_comes_up_and_none_that_cannot_be_done() {
        let names = |powers| {
            let mut names: Vec<String> = told(1, powers)
                .into_iter()
                .map(|(_, act)| match act {
                    Act::Change(change) => change.how.to_string(),
                    Act::Fault(fault) => fault.kind().to_owned(),
                })
                .collect();
            names.sort();
            names.dedup();
            names
        };
        let (all, least) = (names(ALL), names(LEAST));
        for kind in Fault::KINDS {
            assert!(all.iter().any(|name| name == kind), "{kind} never comes up: {all:?}");
        }
        for kind in ["balancer killed", "network removed", "engine restarted", "disk full"] {
            assert!(!least.iter().any(|name| name == kind), "{kind} cannot be done");
        }
        assert!(
            all.iter().any(|name| name == "certificate") && all.iter().any(|name| name == "route")
        );
    }

    #[test]
    fn an_app_with_a_flaw_or_on_trial_gets_what_ends_it_next() {
        let mut open = BTreeMap::new();
        for (_, act) in told(5, ALL) {
            let Act::Change(change) = act else { continue };
            let name = change.wanted.name;
            match open.remove(&name) {
                _ if change.how == How::Removed => {}
                Some(How::Flawed) => assert_eq!(change.how, How::Mended),
                Some(How::Trial) => assert!(matches!(change.how, How::Promoted | How::Withdrawn)),
                _ => {}
            }
            if matches!(change.how, How::Flawed | How::Trial) {
                open.insert(name, change.how);
            }
        }
    }
}
