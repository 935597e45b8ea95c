//! The app that histories of the conformance suites and the simulation deploy.

use std::num::NonZeroU16;
use std::time::Duration;

use crate::error::valid;
use crate::model::{
    App, AppName, AppSpec, Count, DomainName, Exposure, ImageRef, Port, PortName, Replicas,
};

/// A new instance that is not ready within this fails its rollout.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(20);

/// One HTTP port, `web`, under a host name of its own, and one TCP port, `raw`.
#[derive(Debug, Clone)]
pub(crate) struct Staged {
    pub name: AppName,
    /// The image's tag; another one is a rollout.
    pub version: u32,
    /// Tells the outside ports of `raw` apart, from 9000 up.
    pub number: u8,
    pub count: u32,
    /// 0 counts as 1 where `unavailable` is 0.
    pub surge: u32,
    pub unavailable: u32,
    pub drain: Duration,
    /// Whether every host has its listeners.
    pub everywhere: bool,
}

impl Staged {
    pub fn app(self) -> App {
        let Self { name, .. } = self;
        let image = ImageRef::new(format!("registry.example.org/{name}:{}", self.version));
        let mut spec = AppSpec::new(name.clone(), valid(image));
        let host = valid(DomainName::new(format!("{name}.example.org")));
        let port = |number| NonZeroU16::MIN.saturating_add(number - 1);
        let web = Port { outside: Some(port(80)), hosts: [host].into(), ..Port::http(port(8080)) };
        let outside = Some(port(9000 + u16::from(self.number)));
        let raw = Port { outside, ..Port::tcp(port(9000)) };
        spec.ports = [(web_port(), web), (valid(PortName::new("raw")), raw)].into();
        spec.replicas = Replicas::fixed(self.count);
        spec.stop.drain = self.drain;
        spec.rollout.max_surge = Some(Count::Exactly(surge(self.surge, self.unavailable)));
        spec.rollout.max_unavailable = Some(Count::Exactly(self.unavailable));
        spec.rollout.ready_within = READY_WITHIN;
        if self.everywhere {
            spec.placement.exposure = Exposure::EveryHost;
        }
        valid(App::new(spec))
    }
}

/// A surge of 0 counts as 1 where nothing may be unavailable: no rollout could begin.
pub(crate) fn surge(surge: u32, unavailable: u32) -> u32 {
    surge.max(u32::from(unavailable == 0))
}

/// The HTTP port.
pub(crate) fn web_port() -> PortName {
    valid(PortName::new("web"))
}
