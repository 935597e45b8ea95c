//! The apps of the simulation, and how their versions behave.

use std::sync::Arc;
use std::time::Duration;

use super::dice::Dice;
use crate::error::valid;
use crate::memory::Behaviour;
use crate::model::{App, AppName, BackendName};
use crate::staged::{Staged, web_port};

/// Apps are numbered below this.
const APPS: u64 = 3;
/// Most instances of an app.
const MOST_INSTANCES: u32 = 4;

/// What an app was deployed as.
#[derive(Debug, Clone)]
pub(super) struct Deployment {
    pub(super) app: Arc<App>,
    pub(super) staged: Staged,
    pub(super) behaviour: Behaviour,
}

impl Deployment {
    /// Whether its version becomes ready before its rollout fails.
    pub(super) const fn serves(&self) -> bool {
        matches!(self.behaviour, Behaviour::ReadyAfter(_))
    }

    /// What is deployed next of an app: its first version serves, later ones may not.
    pub(super) fn draw(dice: &mut Dice, name: &AppName, before: Option<&Self>) -> Self {
        let (version, behaviour) = match before {
            None => (1, serving(dice)),
            Some(same) if dice.chance(40) => (same.staged.version, same.behaviour),
            Some(before) => (before.staged.version + 1, any_behaviour(dice)),
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
        Self::of(staged, behaviour)
    }

    /// The same app in a version that serves.
    pub(super) fn mended(&self, dice: &mut Dice) -> Self {
        let staged = Staged { version: self.staged.version + 1, surge: 1, ..self.staged.clone() };
        Self::of(staged, serving(dice))
    }

    fn of(staged: Staged, behaviour: Behaviour) -> Self {
        Self { app: Arc::new(staged.clone().app()), staged, behaviour }
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
        _ => Behaviour::ExitsAfter(dice.millis(500, 8000)),
    }
}
