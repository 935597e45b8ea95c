//! The apps of the simulation, and how their versions behave.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::dice::Dice;
use crate::error::valid;
use crate::memory::Behaviour;
use crate::model::{App, AppName, AppSpec, BackendName, Health, PathPrefix, Protocol};
use crate::staged::{Staged, web_port};

/// Apps are numbered below this.
const APPS: u64 = 3;
/// Most instances of an app.
const MOST_INSTANCES: u32 = 4;

/// Time between two checks of an instance,
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// the time an answer may take,
pub(super) const CHECK_WITHIN: Duration = Duration::from_secs(1);
/// and the bad answers in a row that make it unready.
const FALL: u32 = 2;
/// So long after it stopped answering an instance is known to be unready, at most.
pub(super) const UNREADY_KNOWN: Duration = Duration::from_secs(6);

/// What an app was deployed as.
#[derive(Debug, Clone)]
pub(super) struct Deployment {
    pub(super) app: Arc<App>,
    pub(super) staged: Staged,
    pub(super) behaviour: Behaviour,
    /// Whether its route is another one than at first.
    pub(super) elsewhere: bool,
}

impl Deployment {
    /// Whether its version becomes ready before its rollout fails.
    pub(super) const fn serves(&self) -> bool {
        matches!(self.behaviour, Behaviour::ReadyAfter(_))
    }

    /// What is deployed next of an app: its first version serves, later ones may not.
    pub(super) fn draw(dice: &mut Dice, name: &AppName, before: Option<&Self>, next: u32) -> Self {
        let (version, behaviour) = match before {
            None => (next, serving(dice)),
            Some(same) if dice.chance(40) => (same.staged.version, same.behaviour),
            Some(_) => (next, any_behaviour(dice)),
        };
        let everywhere = before.map_or_else(|| dice.chance(30), |b| b.staged.everywhere);
        let few = u32::from(before.is_none());
        let staged = Staged {
            name: name.clone(),
            version,
            number: name.as_str().bytes().last().unwrap_or_default(),
            count: dice.within(few, MOST_INSTANCES),
            surge: dice.within(0, 2),
            unavailable: dice.within(0, 1),
            drain: Duration::from_secs(dice.within(2, 40).into()),
            everywhere,
        };
        Self::of(staged, behaviour, before.is_some_and(|b| b.elsewhere))
    }

    /// The same app in a version that serves.
    pub(super) fn mended(&self, dice: &mut Dice, next: u32) -> Self {
        let staged = Staged { version: next, surge: 1, ..self.staged.clone() };
        Self::of(staged, serving(dice), self.elsewhere)
    }

    /// The same app at another route, or back at the first.
    pub(super) fn flipped(&self) -> Self {
        Self::of(self.staged.clone(), self.behaviour, !self.elsewhere)
    }

    /// One of many small apps.
    pub(super) fn small(dice: &mut Dice, n: u8) -> Self {
        let staged = Staged {
            name: valid(AppName::new(format!("crowd{n}"))),
            version: 1,
            number: 100 + n,
            count: 1,
            surge: 1,
            unavailable: 0,
            drain: Duration::from_secs(dice.within(2, 10).into()),
            everywhere: false,
        };
        Self::of(staged, serving(dice), false)
    }

    fn of(staged: Staged, behaviour: Behaviour, elsewhere: bool) -> Self {
        let mut spec = AppSpec::from(staged.clone().app());
        for port in spec.ports.values_mut() {
            port.health = health();
            if elsewhere && port.protocol == Protocol::Http {
                port.path = valid(PathPrefix::new("/elsewhere"));
            }
        }
        Self { app: Arc::new(valid(App::new(spec))), staged, behaviour, elsewhere }
    }
}

/// Checks that cost less than the default's, and notice as surely.
fn health() -> Health {
    Health {
        interval: CHECK_EVERY,
        timeout: CHECK_WITHIN,
        fall: NonZeroU32::MIN.saturating_add(FALL - 1),
        ..Health::default()
    }
}

/// One of the simulation's apps.
pub(super) fn draw_name(dice: &mut Dice) -> AppName {
    valid(AppName::new(format!("app{}", dice.below(APPS))))
}

/// The backend by which an app's instances are counted.
pub(super) fn web(app: &AppName) -> BackendName {
    BackendName::of(app, &web_port())
}

fn serving(dice: &mut Dice) -> Behaviour {
    Behaviour::ReadyAfter(dice.millis(0, 3000))
}

fn any_behaviour(dice: &mut Dice) -> Behaviour {
    match dice.below(20) {
        0..=13 => serving(dice),
        14 | 15 => Behaviour::ReadyAfter(dice.millis(5000, 15_000)),
        16 | 17 => Behaviour::NeverReady,
        18 => Behaviour::ExitsAfter(dice.millis(0, 60)),
        _ => Behaviour::ExitsAfter(dice.millis(200, 8000)),
    }
}
