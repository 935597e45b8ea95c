//! What goes wrong.

use std::fmt;
use std::time::Duration;

use super::{Actor, Story};
use crate::apps::{Kind, Name, Wanted};

/// Instances of one version that end by themselves wait longer each time; beyond so many it is left alone.
const MOST_DEATHS: u32 = 3;

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// By SIGKILL, and started again after a while.
    PlatformKilled {
        down: Duration,
    },
    /// A second platform on the same cluster follows; the first is killed.
    PlatformReplaced,
    /// Instances of an app, one or all; it is the version's death number so many.
    Killed {
        app: Name,
        all: bool,
        deaths: u32,
    },
    /// An instance hangs.
    Paused {
        app: Name,
    },
    /// An instance takes more memory than it may.
    OutOfMemory {
        app: Name,
        deaths: u32,
    },
    BalancerKilled,
    BalancerPaused {
        time: Duration,
    },
    /// With the instances in it.
    NetworkRemoved,
    EngineRestarted,
    DiskFull {
        time: Duration,
    },
    /// While the platform is down, or by hand while it runs.
    Damaged {
        file: File,
        damage: Damage,
    },
    /// Somebody else listens on the port that a new app claims.
    PortTaken {
        time: Duration,
        wanted: Wanted,
    },
    /// Somebody else's container in the cluster's network.
    ForeignContainer,
}

/// A file of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    Apps,
    Ledger,
    /// The balancer's configuration, while it runs.
    Balancer,
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    Emptied,
    Halved,
    Garbled,
}

impl Fault {
    /// Each as [`kind`](Self::kind) names it.
    pub const KINDS: [&str; 13] = [
        "platform killed",
        "platform replaced",
        "instance killed",
        "instance paused",
        "out of memory",
        "balancer killed",
        "balancer paused",
        "network removed",
        "engine restarted",
        "disk full",
        "file damaged",
        "port taken",
        "foreign container",
    ];

    pub const fn kind(&self) -> &'static str {
        Self::KINDS[match self {
            Self::PlatformKilled { .. } => 0,
            Self::PlatformReplaced => 1,
            Self::Killed { .. } => 2,
            Self::Paused { .. } => 3,
            Self::OutOfMemory { .. } => 4,
            Self::BalancerKilled => 5,
            Self::BalancerPaused { .. } => 6,
            Self::NetworkRemoved => 7,
            Self::EngineRestarted => 8,
            Self::DiskFull { .. } => 9,
            Self::Damaged { .. } => 10,
            Self::PortTaken { .. } => 11,
            Self::ForeignContainer => 12,
        }]
    }

    /// How much longer the next one waits: what takes everything down is not to hide all that follows.
    pub(super) const fn rest(&self) -> Duration {
        Duration::from_secs(match self {
            Self::EngineRestarted | Self::NetworkRemoved => 40,
            Self::BalancerKilled | Self::PlatformReplaced | Self::DiskFull { .. } => 10,
            _ => 0,
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Self::PlatformKilled { down } => write!(f, "{kind}, down for {down:.1?}"),
            Self::Killed { app, all: true, .. } => write!(f, "{kind}: all of {app}"),
            Self::Killed { app, .. } | Self::Paused { app } | Self::OutOfMemory { app, .. } => {
                write!(f, "{kind}: one of {app}")
            }
            Self::BalancerPaused { time } | Self::DiskFull { time } => {
                write!(f, "{kind} for {time:.1?}")
            }
            Self::PortTaken { time, wanted } => {
                write!(f, "{kind} for {time:.1?}, then deployed: {}", wanted.name)
            }
            Self::Damaged { file, damage } => write!(f, "{kind}: {file:?} {damage:?}"),
            _ => f.write_str(kind),
        }
    }
}

impl Story {
    /// None where what was drawn cannot be done.
    pub(super) fn fault(&mut self) -> Option<Fault> {
        let engine = u64::from(self.powers.containers);
        let balancer = u64::from(self.powers.own_balancer);
        let index = self.dice.pick(&[
            (6, 0),
            (3, 1),
            (10, 2),
            (5, 3),
            (4 * engine, 4),
            (3 * balancer, 5),
            (3 * balancer, 6),
            (engine, 7),
            (u64::from(self.powers.engine_restart), 8),
            (3 * u64::from(self.powers.full_disk), 9),
            (5, 10),
            (4, 11),
            (2 * engine, 12),
        ])?;
        let time = |dice: &mut crate::dice::Dice, least, most| {
            Duration::from_millis(dice.between(least, most))
        };
        Some(match index {
            0 => Fault::PlatformKilled { down: time(&mut self.dice, 0, 6_000) },
            1 => Fault::PlatformReplaced,
            2 => {
                let all = self.dice.below(4) == 0;
                let (app, deaths) = self.victim(|_| true)?;
                Fault::Killed { app, all, deaths }
            }
            // The kernel accepts connections for a process that hangs, and no more is asked of a raw port.
            3 => Fault::Paused { app: self.victim(|a| a.wanted.kind != Kind::Raw)?.0 },
            4 => {
                let (app, deaths) = self.victim(|_| true)?;
                Fault::OutOfMemory { app, deaths }
            }
            5 => Fault::BalancerKilled,
            6 => Fault::BalancerPaused { time: time(&mut self.dice, 200, 4_000) },
            7 => self.everybody(Fault::NetworkRemoved),
            8 => self.everybody(Fault::EngineRestarted),
            9 => Fault::DiskFull { time: time(&mut self.dice, 2_000, 12_000) },
            10 => self.damage()?,
            11 => {
                let time = time(&mut self.dice, 1_000, 8_000);
                let may = self.guests().len() < super::MOST_GUESTS;
                Fault::PortTaken { time, wanted: may.then(|| self.enter(Kind::Raw, 1))? }
            }
            _ => Fault::ForeignContainer,
        })
    }

    /// An app that loses an instance, and how often it has by then.
    fn victim(&mut self, fit: impl Fn(&Actor) -> bool) -> Option<(Name, u32)> {
        let name = self.choose(|a| a.wanted.flaw.is_none() && a.deaths < MOST_DEATHS && fit(a))?;
        let actor = self.actors.get_mut(&name)?;
        actor.deaths += 1;
        Some((name, actor.deaths))
    }

    fn everybody(&mut self, fault: Fault) -> Fault {
        for actor in self.actors.values_mut() {
            actor.deaths += 1;
        }
        fault
    }

    fn damage(&mut self) -> Option<Fault> {
        let balancer = u64::from(self.powers.own_balancer);
        let file = self.dice.pick(&[
            (2, File::Apps),
            (3, File::Ledger),
            (2 * balancer, File::Balancer),
        ])?;
        let damage = [(1, Damage::Emptied), (1, Damage::Halved), (1, Damage::Garbled)];
        Some(Fault::Damaged { file, damage: self.dice.pick(&damage)? })
    }
}
