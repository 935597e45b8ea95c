//! The apps of the simulation, and how their versions behave.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use super::dice::Dice;
use crate::error::valid;
use crate::memory::Behaviour;
use crate::model::{
    App, AppName, AppSpec, BackendName, Count, DomainName, Exposure, ImageRef, Port, PortName,
    Replicas,
};

/// Apps are numbered below this.
const APPS: u64 = 3;
/// Most instances of an app.
const MOST_INSTANCES: u32 = 4;
/// A version that is not ready within this fails its rollout.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// What an app was deployed as.
#[derive(Debug, Clone)]
pub(super) struct Deployment {
    pub(super) app: Arc<App>,
    /// The image's tag; another one is a rollout.
    pub(super) version: u32,
    pub(super) count: u32,
    pub(super) unavailable: u32,
    pub(super) drain: Duration,
    pub(super) everywhere: bool,
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
            Some(same) if dice.chance(40) => (same.version, same.behaviour),
            Some(before) => (before.version + 1, any_behaviour(dice)),
        };
        let everywhere = before.map_or_else(|| dice.chance(30), |b| b.everywhere);
        let few = u32::from(before.is_none());
        let plan = Numbers {
            count: dice.within(few, MOST_INSTANCES),
            surge: dice.within(0, 2),
            unavailable: dice.within(0, 1),
            drain: Duration::from_secs(dice.within(2, 40).into()),
        };
        Self::made(name, version, behaviour, everywhere, plan)
    }

    /// The same app in a version that serves.
    pub(super) fn mended(&self, dice: &mut Dice) -> Self {
        let numbers = Numbers {
            count: self.count,
            surge: 1,
            unavailable: self.unavailable,
            drain: self.drain,
        };
        let version = self.version + 1;
        Self::made(&self.app.name, version, serving(dice), self.everywhere, numbers)
    }

    fn made(
        name: &AppName,
        version: u32,
        behaviour: Behaviour,
        everywhere: bool,
        numbers: Numbers,
    ) -> Self {
        let Numbers { count, surge, unavailable, drain } = numbers;
        let mut spec = AppSpec::new(name.clone(), image(name, version));
        let host = valid(DomainName::new(format!("{name}.example.org")));
        let port = |number| NonZeroU16::MIN.saturating_add(number - 1);
        let web = Port { outside: Some(port(80)), hosts: [host].into(), ..Port::http(port(8080)) };
        let number = name.as_str().bytes().last().unwrap_or_default();
        let outside = Some(port(9000 + u16::from(number)));
        let raw = Port { outside, ..Port::tcp(port(9000)) };
        spec.ports = [(web_port(), web), (valid(PortName::new("raw")), raw)].into();
        spec.replicas = Replicas::fixed(count);
        spec.stop.drain = drain;
        spec.rollout.max_surge = Count::Exactly(surge.max(u32::from(unavailable == 0)));
        spec.rollout.max_unavailable = Count::Exactly(unavailable);
        spec.rollout.ready_within = READY_WITHIN;
        if everywhere {
            spec.placement.exposure = Exposure::EveryHost;
        }
        let app = Arc::new(valid(App::new(spec)));
        Self { app, version, count, unavailable, drain, everywhere, behaviour }
    }
}

#[derive(Clone, Copy)]
struct Numbers {
    count: u32,
    surge: u32,
    unavailable: u32,
    drain: Duration,
}

/// One of the simulation's apps.
pub(super) fn draw_name(dice: &mut Dice) -> AppName {
    valid(AppName::new(format!("app{}", dice.below(APPS))))
}

/// The backend by which an app's instances are counted.
pub(super) fn web(app: &AppName) -> BackendName {
    BackendName::of(app, &web_port())
}

fn web_port() -> PortName {
    valid(PortName::new("web"))
}

fn image(app: &AppName, version: u32) -> ImageRef {
    valid(ImageRef::new(format!("registry.example.org/{app}:{version}")))
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
